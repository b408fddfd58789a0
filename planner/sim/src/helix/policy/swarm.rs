//! To whoever was fast lately: SWARM parallelism, appendix C, as the artifact has it.

use super::{Policy, Transmission, send_over_free_links};
use crate::helix::world::World;

/// What a link is taken to cost before anything is known of it, in seconds.
const SECONDS_AT_FIRST: f64 = 0.05;

/// Weight of the newest measurement.
const NEWEST: f64 = 0.8;

/// Smallest sum of expected seconds first.
#[derive(Debug)]
pub(in crate::helix) struct Swarm {
    lanes: Vec<Lane>,
}

/// A link as its sender sees it.
#[derive(Clone, Debug)]
struct Lane {
    /// Seconds from the start of a transmission until its query has left the receiver's last layer,
    /// smoothed.
    seconds: f64,
    /// The sum of these over all choices so far.
    turn: f64,
}

impl Swarm {
    pub fn new(links: usize) -> Self {
        let lane = Lane { seconds: SECONDS_AT_FIRST, turn: SECONDS_AT_FIRST };
        Self { lanes: vec![lane; links] }
    }

    /// The link whose turn it is, the first of equals.
    fn choose(&mut self, links: &[u32]) -> Option<u32> {
        let turn = |it: &u32| self.lanes[*it as usize].turn;
        let link = links.iter().copied().min_by(|a, b| turn(a).total_cmp(&turn(b)))?;
        let lane = &mut self.lanes[link as usize];
        lane.turn += lane.seconds;
        Some(link)
    }
}

impl Policy for Swarm {
    fn transmit(
        &mut self,
        world: &mut World,
        sender: u32,
        sends: &mut Vec<Transmission>,
        again: &mut Vec<u32>,
    ) {
        let mut fresh = std::mem::take(&mut world.network.ports[sender as usize].fresh);
        // What has come through this host tells those before it how fast it was.
        for &query in &fresh {
            let query = &world.queries[query as usize];
            let Some(link) = query.last_link() else { continue };
            let lane = &mut self.lanes[link as usize];
            let seconds = world.now - query.sent_seconds;
            lane.seconds = NEWEST * seconds + (1.0 - NEWEST) * lane.seconds;
            let before = world.network.lines[link as usize].from;
            if !again.contains(&before) {
                again.push(before);
            }
        }
        for query in fresh.drain(..) {
            let known = world.queries[query as usize].next_link();
            let link = known.or_else(|| self.choose(&world.network.ports[sender as usize].lines));
            let link = link.expect("a scenario without dead ends was checked for");
            if known.is_none() {
                world.queries[query as usize].route.push(link);
            }
            world.network.wait(link, query);
        }
        world.network.ports[sender as usize].fresh = fresh;
        send_over_free_links(world, sender, sends);
    }
}
