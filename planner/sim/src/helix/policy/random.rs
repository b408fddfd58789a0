//! Over any free link, or any free link to the shortest queue.

use super::{Policy, Transmission, send_over_free_links};
use crate::helix::world::World;

/// Free links in drawn order.
#[derive(Debug)]
pub(in crate::helix) struct Random {
    shortest: bool,
    /// Links that were free when the sender looked, and whether they have been given away since.
    free: Vec<(u32, bool)>,
    drawn: Vec<usize>,
    /// Links that lead to the shortest queue.
    short: Vec<u32>,
}

impl Random {
    /// Any free link.
    pub fn any() -> Self {
        Self { shortest: false, free: Vec::new(), drawn: Vec::new(), short: Vec::new() }
    }

    /// Any free link to the host with the fewest in front of its first layer.
    pub fn shortest_queue() -> Self {
        Self { shortest: true, ..Self::any() }
    }

    /// Links to the shortest queue. The artifact takes the gateway for one, and looks no further.
    fn find_shortest(&mut self, world: &World, sender: u32) {
        let network = &world.network;
        let mut fewest = usize::MAX;
        self.short.clear();
        for &link in &network.ports[sender as usize].lines {
            let to = network.lines[link as usize].to;
            let Some(stage) = world.stages.get(to as usize) else {
                self.short.push(link);
                break;
            };
            let queue = stage.queues[0].list.len();
            if queue < fewest {
                fewest = queue;
                self.short.clear();
            }
            if queue == fewest {
                self.short.push(link);
            }
        }
    }

    /// A free link that may be taken, drawn. Every call draws once for each free link but one.
    fn draw(&mut self, world: &mut World) -> Option<u32> {
        self.drawn.clear();
        self.drawn.extend(0..self.free.len());
        world.draws.shuffle(&mut self.drawn);
        let may = |&at: &usize| {
            let (link, given) = self.free[at];
            !given && (!self.shortest || self.short.contains(&link))
        };
        let at = self.drawn.iter().copied().find(may)?;
        self.free[at].1 = true;
        Some(self.free[at].0)
    }
}

impl Policy for Random {
    fn transmit(
        &mut self,
        world: &mut World,
        sender: u32,
        sends: &mut Vec<Transmission>,
        _again: &mut Vec<u32>,
    ) {
        let mut fresh = std::mem::take(&mut world.network.ports[sender as usize].fresh);
        for query in fresh.drain(..) {
            match world.queries[query as usize].next_link() {
                Some(link) => world.network.wait(link, query),
                None => {
                    let place = world.network.place();
                    world.network.ports[sender as usize].undecided.push((place, query));
                }
            }
        }
        let mut undecided = std::mem::take(&mut world.network.ports[sender as usize].undecided);
        world.network.ports[sender as usize].fresh = fresh;
        if !undecided.is_empty() {
            self.decide(world, sender, &mut undecided);
        }
        world.network.ports[sender as usize].undecided = undecided;
        send_over_free_links(world, sender, sends);
    }
}

impl Random {
    /// Goes through prompts and those that know their link in order of arrival, until each link has
    /// one to send.
    fn decide(&mut self, world: &mut World, sender: u32, undecided: &mut Vec<(u64, u32)>) {
        self.free.clear();
        for &link in &world.network.ports[sender as usize].lines {
            if world.network.equal_share(link).is_some() {
                self.free.push((link, false));
            }
        }
        if self.shortest {
            self.find_shortest(world, sender);
        }
        undecided.retain(|&(place, query)| {
            for it in &mut self.free {
                let first = world.network.lines[it.0 as usize].waiting.front();
                it.1 |= first.is_some_and(|it| it.0 < place);
            }
            let Some(link) = self.draw(world) else { return true };
            world.queries[query as usize].route.push(link);
            world.network.lines[link as usize].waiting.push_front((place, query));
            false
        });
    }
}
