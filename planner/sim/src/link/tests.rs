use super::*;
use crate::agenda::{Agenda, SECOND, nanos, seconds};
use proptest::prelude::*;
use thalweg_wire::{Attempt, HostId, Release, RequestId};

/// Links with an agenda of their own.
#[derive(Default)]
struct Rig {
    links: Links,
    agenda: Option<Agenda<Due>>,
    arrived: Vec<(Nanos, u64)>,
}

/// A frame with a number.
fn parcel(counter: u64) -> Parcel {
    let request = RequestId { gateway: HostId(1), incarnation: 1, counter };
    Parcel::Release(Release { request, attempt: Attempt(0) })
}

impl Rig {
    fn put(&mut self, now: Nanos, link: LinkId, class: Class, bytes: f64, number: u64) {
        self.run(now);
        self.links.put(now, link, class, bytes, parcel(number));
        self.follow();
    }

    fn follow(&mut self) {
        let agenda = self.agenda.get_or_insert_with(Agenda::new);
        self.links.drain_due().for_each(|(at, due)| agenda.put(at, due));
    }

    /// Lets time pass; notes what arrives.
    fn run(&mut self, until: Nanos) {
        self.follow();
        while let Some(agenda) = self.agenda.as_mut().filter(|it| it.next_at() <= Some(until)) {
            let Some((at, due)) = agenda.take() else { break };
            match due {
                Due::Sent { link, turn } => self.links.sent(at, link, turn),
                Due::Arrived { link } => {
                    let Parcel::Release(release) = self.links.take(link) else { continue };
                    self.arrived.push((at, release.request.counter));
                }
            }
            self.follow();
        }
    }

    fn times(&mut self) -> Vec<(u64, f64)> {
        self.run(Nanos::MAX);
        self.arrived.iter().map(|it| (it.1, seconds(it.0))).collect()
    }
}

/// Whether times are those expected, to a microsecond.
fn assert_times(found: &[(u64, f64)], expected: &[(u64, f64)]) {
    let near = |a: &(u64, f64), b: &(u64, f64)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
    let same =
        found.len() == expected.len() && found.iter().zip(expected).all(|it| near(it.0, it.1));
    assert!(same, "{found:?} instead of {expected:?}");
}

#[test]
fn a_frame_takes_its_bytes_and_then_the_delay() {
    let mut rig = Rig::default();
    let link = rig.links.add(1e6, nanos(0.1), vec![]);
    rig.put(0, link, Class::Decode, 5e5, 1);
    rig.put(0, link, Class::Decode, 5e5, 2);
    assert_times(&rig.times(), &[(1, 0.6), (2, 1.1)]);
    let carried = rig.links.carried(link, 2 * SECOND);
    assert_eq!(carried.frames[Class::Decode as usize], 2);
    assert_eq!(carried.busy, SECOND);
}

#[test]
fn a_higher_class_goes_first_even_in_the_middle_of_a_frame() {
    let mut rig = Rig::default();
    let link = rig.links.add(1e6, 0, vec![]);
    rig.put(0, link, Class::Prefill, 1e6, 1);
    rig.put(0, link, Class::Prefill, 1e6, 2);
    rig.put(nanos(0.5), link, Class::Token, 1e5, 3);
    assert_times(&rig.times(), &[(3, 0.6), (1, 1.1), (2, 2.1)]);
}

/// Four hosts send over one sea cable of 8 MB/s, three on links of 4 MB/s and one on a link of
/// 1 MB/s: that one gets what it can take, and the others a third of the rest each.
#[test]
fn four_flows_share_a_region_line_by_the_fair_share_formula() {
    let mut rig = Rig::default();
    let cable = rig.links.add_line(8e6);
    let rates = [4e6, 4e6, 4e6, 1e6];
    let links = rates.map(|rate| rig.links.add(rate, 0, vec![cable]));
    for (number, link) in (0..).zip(links) {
        // Many small frames, as the rows of a prompt are, for 20 s at the fair share.
        let fair = if number < 3 { 7e6 / 3.0 } else { 1e6 };
        for _ in 0..1000 {
            rig.put(0, link, Class::Prefill, fair * 20.0 / 1000.0, number);
        }
    }
    rig.run(10 * SECOND);
    for (link, fair) in links.into_iter().zip([7e6 / 3.0, 7e6 / 3.0, 7e6 / 3.0, 1e6]) {
        let bytes = rig.links.carried(link, 10 * SECOND).bytes[Class::Prefill as usize];
        assert!((bytes / (10.0 * fair) - 1.0).abs() < 0.05, "{bytes} instead of {}", 10.0 * fair);
    }
    rig.run(Nanos::MAX);
    let last = |number| rig.arrived.iter().filter(|it| it.1 == number).map(|it| it.0).max();
    for number in 0..4 {
        let ends = seconds(last(number).expect("all arrive"));
        assert!((ends - 20.0).abs() < 0.05 * 20.0, "flow {number} ends at {ends}");
    }
}

#[test]
fn who_stays_gets_what_others_leave() {
    let mut rig = Rig::default();
    let card = rig.links.add_line(2e6);
    let [a, b] = [0, 1].map(|_| rig.links.add(2e6, 0, vec![card]));
    // Alone for a second, shared until b is through at 3 s, alone for the last 1e6 bytes.
    rig.put(0, a, Class::Decode, 6e6, 1);
    rig.put(SECOND, b, Class::Decode, 2e6, 2);
    assert_times(&rig.times(), &[(2, 3.0), (1, 4.0)]);
}

#[test]
fn a_line_in_the_middle_of_two_groups_joins_them() {
    let mut rig = Rig::default();
    let (left, right) = (rig.links.add_line(3e6), rig.links.add_line(1e6));
    let a = rig.links.add(1e9, 0, vec![left]);
    let both = rig.links.add(1e9, 0, vec![left, right]);
    let c = rig.links.add(1e9, 0, vec![right]);
    // Right is the fuller: 0.5 each for `both` and `c`; what `both` leaves on the left is for `a`.
    rig.put(0, a, Class::Decode, 25e5, 1);
    rig.put(0, both, Class::Decode, 5e5, 2);
    rig.put(0, c, Class::Decode, 5e5, 3);
    let mut times = rig.times();
    times.sort_by_key(|it| it.0);
    assert_times(&times, &[(1, 1.0), (2, 1.0), (3, 1.0)]);
}

#[test]
fn bandwidth_that_falls_is_felt_at_once() {
    let mut rig = Rig::default();
    let link = rig.links.add(1e6, 0, vec![]);
    rig.put(0, link, Class::Decode, 1e6, 1);
    rig.run(nanos(0.5));
    rig.links.set_rate(nanos(0.5), link, 1e5);
    rig.follow();
    assert_times(&rig.times(), &[(1, 5.5)]);
    let line = rig.links.add_line(1e6);
    let link = rig.links.add(1e6, 0, vec![line]);
    rig.put(10 * SECOND, link, Class::Decode, 1e6, 2);
    rig.links.set_line(10 * SECOND, line, 5e5);
    rig.follow();
    assert_times(&rig.times()[1..], &[(2, 12.0)]);
}

#[test]
fn a_cut_link_forgets_what_was_not_sent() {
    let mut rig = Rig::default();
    let line = rig.links.add_line(1e6);
    let [a, b] = [0, 1].map(|_| rig.links.add(1e6, nanos(0.1), vec![line]));
    rig.put(0, a, Class::Decode, 1e6, 1);
    rig.put(0, b, Class::Decode, 1e6, 2);
    rig.run(SECOND);
    rig.links.cut(SECOND, a);
    rig.follow();
    assert_times(&rig.times(), &[(2, 1.6)]);
}

proptest! {
    /// Every frame arrives once, in order inside its class and link; no line carries more than it
    /// can; whatever is done early is done at no more than a link's own rate.
    #[test]
    fn frames_arrive_once_and_in_order(
        lines in prop::collection::vec(1_u32..20, 1..4),
        links in prop::collection::vec((1_u32..20, 0_u32..8), 1..6),
        frames in prop::collection::vec((0_u32..40, 0_usize..6, 0_usize..4, 1_u32..50), 0..60),
    ) {
        let mut rig = Rig::default();
        let line_ids: Vec<LineId> =
            lines.iter().map(|it| rig.links.add_line(f64::from(*it) * 1e5)).collect();
        let ids: Vec<LinkId> = links.iter().map(|&(rate, mask)| {
            let over = line_ids.iter().enumerate().filter(|it| mask >> it.0 & 1 == 1).map(|it| *it.1);
            rig.links.add(f64::from(rate) * 1e5, 0, over.collect())
        }).collect();
        let mut sorted = frames.clone();
        sorted.sort_by_key(|it| it.0);
        let classes = [Class::Control, Class::Token, Class::Decode, Class::Prefill];
        let mut sent = Vec::new();
        for (number, (at, link, class, size)) in (0..).zip(sorted) {
            let link = link % ids.len();
            rig.put(nanos(f64::from(at) / 20.0), ids[link], classes[class], f64::from(size) * 1e4, number);
            sent.push((link, class, f64::from(size) * 1e4));
        }
        rig.run(Nanos::MAX);
        prop_assert_eq!(rig.arrived.len(), sent.len());
        let end = rig.arrived.last().map_or(0, |it| it.0);
        for link in 0..ids.len() {
            for class in 0..4 {
                let order: Vec<u64> = rig.arrived.iter().map(|it| it.1)
                    .filter(|&it| sent[it as usize].0 == link && sent[it as usize].1 == class)
                    .collect();
                prop_assert!(order.is_sorted(), "{:?}", order);
            }
        }
        for (line, capacity) in lines.iter().enumerate() {
            let over = |link: usize| links[link].1 >> line & 1 == 1;
            let bytes: f64 = sent.iter().filter(|it| over(it.0)).map(|it| it.2).sum();
            prop_assert!(bytes <= seconds(end) * f64::from(*capacity) * 1e5 * 1.0001 + 1.0);
        }
    }
}
