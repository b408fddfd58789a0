//! The threads of one shard.
//!
//! Work is split over outputs, never inside a sum, so the number of threads changes no bit of any
//! result. Idle threads park: several processes may share the cores.

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// Pieces each thread should get, so that one slow thread does not hold up all others.
const PIECES_PER_THREAD: usize = 8;

/// Multiply-adds below which waking a thread costs more than it saves: about 30 microseconds of work.
const SPLIT_WORK_MIN: usize = 1 << 18;

/// The threads a shard computes with; with one, everything runs on the calling thread.
#[derive(Debug)]
pub(crate) struct Workers {
    pool: Option<ThreadPool>,
}

impl Workers {
    /// Starts `threads` threads, at least one.
    pub(crate) fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        if threads <= 1 {
            return Ok(Self { pool: None });
        }
        let builder = ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder.thread_name(|index| format!("tensor-{index}")).build()?;
        Ok(Self { pool: Some(pool) })
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Runs `work` on one of the threads, so that the splits inside need no hand-over.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            None => work(),
            Some(pool) => pool.install(work),
        }
    }

    /// How many of `pieces` pieces to give out together: all if there are fewer than some
    /// `multiply_adds` to do.
    pub(crate) fn run_of(&self, pieces: usize, multiply_adds: usize) -> usize {
        match self.pool_for(multiply_adds) {
            None => pieces.max(1),
            Some(pool) => pieces.div_ceil(pool.current_num_threads() * PIECES_PER_THREAD).max(1),
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
        let Some(pool) = self.pool_for(multiply_adds) else { return work(0, out) };
        let run = self.run_of(out.len().div_ceil(piece), multiply_adds);
        pool.install(|| {
            let runs = out.par_chunks_mut(run * piece).enumerate();
            runs.for_each(|(index, out)| work(index * run, out));
        });
    }

    /// Calls `work` for each of `tasks`; returns what it returns, in order.
    pub(crate) fn each<T: Send, R: Send>(
        &self,
        tasks: Vec<T>,
        multiply_adds: usize,
        work: impl Fn(T) -> R + Sync + Send,
    ) -> Vec<R> {
        match self.pool_for(multiply_adds) {
            None => tasks.into_iter().map(work).collect(),
            Some(pool) => pool.install(|| tasks.into_par_iter().map(work).collect()),
        }
    }

    fn pool_for(&self, multiply_adds: usize) -> Option<&ThreadPool> {
        self.pool.as_ref().filter(|_| multiply_adds >= SPLIT_WORK_MIN)
    }
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
