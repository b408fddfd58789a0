//! The layers this host holds or loads, by the plans that want them.

use std::collections::BTreeMap;

use thalweg_wire::{Assignment, Epoch, LayerRange};

use super::Effect;
use crate::stage::Pace;

/// What is held for which plan.
#[derive(Debug, Default)]
pub(super) struct Holding {
    plans: BTreeMap<Epoch, Held>,
}

#[derive(Debug)]
struct Held {
    layers: LayerRange,
    pace: Pace,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Loading,
    /// The same layers are loading for another plan.
    Shares(Epoch),
    Loaded,
}

impl Holding {
    /// Takes on what a plan assigns. Layers already held are kept, not loaded again.
    pub(super) fn take(
        &mut self,
        epoch: Epoch,
        assignment: Assignment,
        model_layers: u32,
    ) -> Option<Effect> {
        if self.knows(epoch) {
            return None;
        }
        let (layers, pace) = (assignment.layers, Pace::from(&assignment));
        let same = |(_, held): &(&Epoch, &Held)| held.layers == layers;
        let from = self.plans.iter().rev().find(same).map(|(&epoch, held)| (epoch, held.state));
        let (state, effect) = match from {
            Some((from, State::Loaded)) => {
                (State::Loaded, Some(Effect::Keep { epoch, from, pace }))
            }
            Some((from, State::Loading)) => (State::Shares(from), None),
            Some((_, State::Shares(from))) => (State::Shares(from), None),
            None => {
                let load = Effect::Load { epoch, assignment, layers: model_layers };
                (State::Loading, Some(load))
            }
        };
        self.plans.insert(epoch, Held { layers, pace, state });
        effect
    }

    /// Notes that layers are loaded, for their plan and all that share them.
    pub(super) fn loaded(&mut self, epoch: Epoch) -> Vec<Effect> {
        let Some(held) = self.plans.get_mut(&epoch) else { return Vec::new() };
        held.state = State::Loaded;
        let mut effects = Vec::new();
        for (&sharer, held) in &mut self.plans {
            if held.state == State::Shares(epoch) {
                held.state = State::Loaded;
                let pace = held.pace;
                effects.push(Effect::Keep { epoch: sharer, from: epoch, pace });
            }
        }
        effects
    }

    /// Gives up the layers of all other than the `wanted` plans. What still loads is given up
    /// once it is loaded: a load cannot be called back.
    pub(super) fn drop_unwanted(&mut self, wanted: &[Epoch]) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.plans.retain(|epoch, held| {
            if wanted.contains(epoch) || held.state == State::Loading {
                return true;
            }
            if held.state == State::Loaded {
                effects.push(Effect::Retire { epoch: *epoch });
            }
            false
        });
        effects
    }

    /// Whether the plan's layers are held, or will be.
    pub(super) fn knows(&self, epoch: Epoch) -> bool {
        self.plans.contains_key(&epoch)
    }

    /// Whether the plan's layers are held.
    pub(super) fn is_loaded(&self, epoch: Epoch) -> bool {
        self.plans.get(&epoch).is_some_and(|held| held.state == State::Loaded)
    }
}
