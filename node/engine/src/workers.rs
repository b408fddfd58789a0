//! The threads of one shard.
//!
//! Work is split over outputs, never inside a sum, so the number of threads changes no bit of any
//! result.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::team::Team;

/// Pieces each thread should get, so that one slow thread does not hold up all others.
const PIECES_PER_THREAD: usize = 4;

/// Multiply-adds below which telling another thread costs more than it saves: a few microseconds of
/// work.
const SPLIT_WORK_MIN: usize = 1 << 15;

/// The threads a shard computes with; with one, everything runs on the calling thread.
#[derive(Debug)]
pub(crate) struct Workers {
    team: Option<Team>,
}

impl Workers {
    /// Starts all but one of `threads` threads; the caller's is the last.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let helpers = threads.saturating_sub(1);
        Ok(Self { team: if helpers > 0 { Some(Team::new(helpers)?) } else { None } })
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.team.as_ref().map_or(1, Team::size)
    }

    /// How many of `pieces` pieces to give out together: all if there are fewer than some
    /// `multiply_adds` to do.
    pub(crate) fn run_of(&self, pieces: usize, multiply_adds: usize) -> usize {
        match self.team_for(multiply_adds) {
            None => pieces.max(1),
            Some(team) => pieces.div_ceil(team.size() * PIECES_PER_THREAD).max(1),
        }
    }

    /// Calls `work(first, pieces)` for runs of consecutive pieces of `out`, each `piece` values
    /// long; `first` numbers the first piece of the run. Runs are disjoint and cover `out`.
    pub(crate) fn split<T: Send>(
        &self,
        out: &mut [T],
        piece: usize,
        multiply_adds: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let run = self.run_of(out.len().div_ceil(piece), multiply_adds);
        let runs = out.chunks_mut(run * piece).enumerate().collect();
        self.each(runs, multiply_adds, |(index, out): (usize, &mut [T])| work(index * run, out));
    }

    /// Calls `work` for each of `tasks`; returns what it returns, in order.
    pub(crate) fn each<T: Send, R: Send>(
        &self,
        tasks: Vec<T>,
        multiply_adds: usize,
        work: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        let Some(team) = self.team_for(multiply_adds).filter(|_| tasks.len() > 1) else {
            return tasks.into_iter().map(work).collect();
        };
        let slots: Vec<_> = tasks.into_iter().map(|it| Mutex::new(Slot::Task(it))).collect();
        let next = AtomicUsize::new(0);
        team.run(&|| {
            while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                if let Slot::Task(task) = std::mem::replace(&mut *slot, Slot::Taken) {
                    *slot = Slot::Done(work(task));
                }
            }
        });
        let done = |it: Mutex<_>| match it.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Slot::Done(answer) => answer,
            Slot::Task(_) | Slot::Taken => unreachable!("every task is done"),
        };
        slots.into_iter().map(done).collect()
    }

    fn team_for(&self, multiply_adds: usize) -> Option<&Team> {
        self.team.as_ref().filter(|_| multiply_adds >= SPLIT_WORK_MIN)
    }
}

/// A task on its way.
enum Slot<T, R> {
    Task(T),
    Taken,
    Done(R),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_every_piece_once() {
        for threads in [1, 2, 3] {
            let workers = Workers::new(threads).expect("threads start");
            for pieces in [1, 2, 7, 64] {
                let mut out = vec![0.0; pieces * 3];
                workers.split(&mut out, 3, SPLIT_WORK_MIN, |first, run| {
                    for (index, piece) in run.chunks_mut(3).enumerate() {
                        piece.iter_mut().for_each(|it| *it += (first + index) as f32);
                    }
                });
                let expected: Vec<f32> = (0..pieces).flat_map(|it| [it as f32; 3]).collect();
                assert_eq!(out, expected, "{threads} threads, {pieces} pieces");
            }
        }
    }

    #[test]
    fn answers_come_in_the_order_of_the_tasks() {
        for threads in [1, 3] {
            let workers = Workers::new(threads).expect("threads start");
            let found = workers.each((0..100).collect(), SPLIT_WORK_MIN, |it: usize| 2 * it);
            assert_eq!(found, (0..200).step_by(2).collect::<Vec<_>>());
        }
    }
}
