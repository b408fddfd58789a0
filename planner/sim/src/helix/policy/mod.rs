//! The artifact's schedulers.

mod helix;
mod random;
mod swarm;

pub(super) use helix::Helix;
pub(super) use random::Random;
pub(super) use swarm::Swarm;

use super::HelixError;
use super::world::World;

/// A transmission to start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Transmission {
    pub link: u32,
    pub query: u32,
    /// Bytes/s.
    pub share: f64,
}

/// Sends what waits longest for each free link, in the order of links.
fn send_over_free_links(world: &mut World, sender: u32, sends: &mut Vec<Transmission>) {
    let network = &mut world.network;
    for at in 0..network.ports[sender as usize].lines.len() {
        let link = network.ports[sender as usize].lines[at];
        if network.lines[link as usize].waiting.is_empty() {
            continue;
        }
        if let Some(share) = network.equal_share(link)
            && let Some((_, query)) = network.lines[link as usize].waiting.pop_front()
        {
            sends.push(Transmission { link, query, share });
        }
    }
}

/// Who decides where queries go.
pub(super) trait Policy {
    /// An iteration begins. Returns whether it may; only prompts are ever rejected.
    fn begin(&mut self, _world: &mut World, _query: u32) -> Result<bool, HelixError> {
        Ok(true)
    }

    /// A sender looks what it can send, and to which senders this is a reason to look again.
    fn transmit(
        &mut self,
        world: &mut World,
        sender: u32,
        sends: &mut Vec<Transmission>,
        again: &mut Vec<u32>,
    );

    /// A query has ended.
    fn end(&mut self, _world: &World, _query: u32) {}

    /// Whether another query may come in, now that a prompt or a whole query has ended.
    fn wants_more(&self, query_ended: bool) -> bool {
        query_ended
    }
}
