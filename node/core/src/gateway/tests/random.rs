use proptest::prelude::*;

use super::*;

/// Something that may happen, sensible or not.
#[derive(Clone, Debug)]
enum Act {
    Submit,
    Cancel(u64),
    /// A token `ahead` of the next position of a ticket, of an attempt `behind` the current one.
    Token {
        ticket: u64,
        ahead: i64,
        behind: u32,
        last: bool,
    },
    Refuse {
        ticket: u64,
        behind: u32,
        reason: Refusal,
    },
    Up(u64),
    Suspect(u64),
    Down(u64),
    Load(u64, u64),
    Plan,
    Wait(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let host = || 2_u64..4;
    let ticket = || 1_u64..8;
    let reason = prop::sample::select(vec![
        Refusal::NoRoom,
        Refusal::Gap,
        Refusal::StaleEpoch,
        Refusal::WrongLayers,
        Refusal::Preempted,
        Refusal::PrefixGone,
    ]);
    prop_oneof![
        4 => Just(Act::Submit),
        1 => ticket().prop_map(Act::Cancel),
        9 => (ticket(), -1_i64..2, 0_u32..2, prop::bool::weighted(0.2))
            .prop_map(|(ticket, ahead, behind, last)| Act::Token { ticket, ahead, behind, last }),
        3 => (ticket(), 0_u32..2, reason)
            .prop_map(|(ticket, behind, reason)| Act::Refuse { ticket, behind, reason }),
        3 => host().prop_map(Act::Up),
        1 => host().prop_map(Act::Suspect),
        1 => host().prop_map(Act::Down),
        2 => (host(), 0_u64..64).prop_map(|(host, free)| Act::Load(host, free)),
        1 => Just(Act::Plan),
        4 => (1_u64..40_000).prop_map(Act::Wait),
    ]
}

/// What the client of one ticket saw, and what the cluster was told.
#[derive(Default)]
struct Client {
    tokens: u32,
    over: bool,
    cancelled: bool,
    attempt: u32,
}

struct World {
    gateway: Gateway,
    clients: BTreeMap<u64, Client>,
    epoch: u64,
    ms: u64,
}

impl World {
    fn play(&mut self, act: Act) {
        let event = match act {
            Act::Submit => {
                let ticket = self.clients.len() as u64 + 1;
                self.clients.insert(ticket, Client::default());
                submit(ticket)
            }
            Act::Cancel(ticket) => {
                if let Some(client) = self.clients.get_mut(&ticket) {
                    client.cancelled = true;
                }
                Event::Cancel { ticket }
            }
            Act::Token { ticket, ahead, behind, last } => {
                let Some(client) = self.clients.get(&ticket) else { return };
                let position = u32::try_from(i64::from(client.tokens) + 2 + ahead);
                let position = position.expect("positions start at 2");
                let attempt = client.attempt.saturating_sub(behind);
                token(ticket, attempt, position, last.then_some(Finish::Length))
            }
            Act::Refuse { ticket, behind, reason } => {
                let attempt = self.clients.get(&ticket).map_or(0, |it| it.attempt);
                refuse(ticket, attempt.saturating_sub(behind), reason)
            }
            Act::Up(host) => Event::HostUp(HostId(host)),
            Act::Suspect(host) => Event::HostSuspect(HostId(host)),
            Act::Down(host) => Event::HostDown(HostId(host)),
            Act::Load(host, kv_free_tokens) => {
                Event::Load { host: HostId(host), kv_free_tokens, requests: 0, queue_us: 0 }
            }
            Act::Plan => {
                self.epoch += 1;
                halves(self.epoch)
            }
            Act::Wait(ms) => return self.wait_until(self.ms + ms),
        };
        let effects = on(&mut self.gateway, self.ms, event);
        self.observe(&effects);
    }

    fn wait_until(&mut self, ms: u64) {
        self.ms = ms;
        let now = Duration::from_millis(ms);
        while let Some(deadline) = self.gateway.next_timeout().filter(|&it| it <= now) {
            let effects = timeout(&mut self.gateway, deadline.as_millis() as u64);
            self.observe(&effects);
            assert!(self.gateway.next_timeout().is_none_or(|next| next > deadline));
        }
    }

    fn observe(&mut self, effects: &[Effect]) {
        for effect in effects {
            let (ticket, ends) = match effect {
                Effect::SendOpen { open, .. } => {
                    let client = self.clients.get_mut(&open.request.counter).expect("submitted");
                    assert!(open.attempt.0 == 0 || open.attempt.0 > client.attempt);
                    client.attempt = open.attempt.0;
                    continue;
                }
                Effect::SendRelease { .. } => continue,
                Effect::Emit { ticket, sampled, finish, .. } => {
                    let client = self.clients.get_mut(ticket).expect("submitted");
                    assert_eq!(sampled.token, (client.tokens + 2) * 10, "lost or told twice");
                    client.tokens += 1;
                    (ticket, finish.is_some())
                }
                Effect::Reject { ticket, .. } => (ticket, true),
            };
            let client = self.clients.get_mut(ticket).expect("submitted");
            assert!(!client.over && !client.cancelled, "ticket {ticket} was over");
            client.over = ends;
        }
    }
}

proptest! {
    /// Whatever the cluster does: clients get their tokens once and in order, nothing after the
    /// end, and an end.
    #[test]
    fn every_request_ends_and_no_token_is_lost_or_doubled(
        acts in prop::collection::vec(any_act(), 0..150),
    ) {
        let gateway = gateway();
        let mut world = World { gateway, clients: BTreeMap::new(), epoch: 1, ms: 0 };
        for act in acts {
            world.play(act);
        }
        // Hosts have room in the end: whatever was under way waits for that as long as it takes.
        for host in 1..4 {
            world.play(Act::Load(host, u64::MAX));
        }
        world.wait_until(u64::from(u32::MAX));
        prop_assert_eq!((world.gateway.waiting(), world.gateway.running()), (0, 0));
        for (ticket, client) in world.clients {
            prop_assert!(client.over || client.cancelled, "ticket {} never ended", ticket);
        }
    }
}
