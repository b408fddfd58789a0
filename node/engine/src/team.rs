//! Threads that run the same work together, and stay awake between two pieces of it.
//!
//! A step is hundreds of pieces of some ten microseconds each, and waking a thread takes longer than
//! that. So threads that find nothing to do look for more for a while before they park, and nobody waits
//! for a thread that has not begun: on a busy machine it may be long in coming.

use std::any::Any;
use std::hint::spin_loop;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::thread::{self, JoinHandle};

/// Looks for work before a thread lets others have its processor between two looks: a microsecond or two.
const LOOKS_IN_A_ROW: u32 = 1 << 6;

/// Looks for work before a thread parks: half a millisecond, longer than what lies between the pieces of
/// a step.
const LOOKS: u32 = 1 << 10;

/// What all threads run.
type Work<'a> = dyn Fn() + Sync + 'a;
type Panic = Box<dyn Any + Send>;

/// A caller and some threads that help it.
#[derive(Debug)]
pub(crate) struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// Held by the caller whom the threads help.
    turn: Mutex<()>,
}

struct Shared {
    gate: Gate,
    /// Read by threads that entered the gate; written while it is shut and nobody is inside.
    work: RwLock<Option<&'static Work<'static>>>,
    /// What a thread that helped panicked with.
    panic: Mutex<Option<Panic>>,
    stops: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Team {
    /// Starts `helpers` threads.
    pub(crate) fn new(helpers: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            gate: Gate::default(),
            work: RwLock::default(),
            panic: Mutex::default(),
            stops: AtomicBool::new(false),
        });
        let mut team = Self { shared, helpers: Vec::new(), turn: Mutex::default() };
        for index in 0..helpers {
            let shared = Arc::clone(&team.shared);
            let builder = thread::Builder::new().name(format!("tensor-{}", index + 1));
            team.helpers.push(builder.spawn(move || shared.help())?);
        }
        Ok(team)
    }

    /// Threads that work together, the caller's included.
    pub(crate) fn size(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `work` on this thread and, while it runs, on each of the others that is free: once or not at
    /// all. Whoever calls it from inside, or while the others help somebody else, works alone.
    pub(crate) fn run(&self, work: &Work<'_>) {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            // Somebody's work panicked, which left nothing behind.
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return work(),
        };
        // JUSTIFICATION: threads that outlive the call cannot borrow from it in any safe way but by
        // starting them anew, which takes longer than the work.
        // SAFETY: only threads inside the gate use the reference; it is opened below, and `Opened` shuts
        // it and waits until nobody is inside before this function returns or unwinds.
        #[expect(unsafe_code)]
        let work_of_all = unsafe { std::mem::transmute::<&Work<'_>, &'static Work<'static>>(work) };
        *self.shared.work.write().unwrap_or_else(PoisonError::into_inner) = Some(work_of_all);
        *self.shared.panic() = None;
        let opened = Opened::new(&self.shared.gate);
        // It costs nothing to unpark those that are awake.
        self.helpers.iter().for_each(|it| it.thread().unpark());
        work();
        drop(opened);
        if let Some(panic) = self.shared.panic().take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Release);
        for it in self.helpers.drain(..) {
            it.thread().unpark();
            // Panics of work were passed on to its caller; there are no others.
            let _ = it.join();
        }
    }
}

impl Shared {
    fn panic(&self) -> MutexGuard<'_, Option<Panic>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works whenever there is something to do.
    fn help(&self) {
        let mut last = 0;
        let mut looks = 0;
        while !self.stops.load(Ordering::Acquire) {
            match self.gate.enter(last) {
                Some(opening) => {
                    last = opening;
                    let work = *self.work.read().unwrap_or_else(PoisonError::into_inner);
                    let done = catch_unwind(AssertUnwindSafe(|| work.map(|it| it())));
                    if let Err(panic) = done {
                        *self.panic() = Some(panic);
                    }
                    self.gate.leave();
                    looks = 0;
                }
                None if looks < LOOKS => {
                    pause(looks);
                    looks += 1;
                }
                None => thread::park(),
            }
        }
    }
}

/// Lets some time pass between two looks. Who is waited for may need this processor.
fn pause(looks: u32) {
    if looks < LOOKS_IN_A_ROW { spin_loop() } else { thread::yield_now() }
}

/// Lets threads in while it is open, each once per opening.
///
/// Bits of the state: the number of the opening (48), whether it is open (1), threads inside (15).
#[derive(Debug, Default)]
struct Gate(AtomicU64);

const OPEN: u64 = 1 << 15;
const OPENING: u64 = 1 << 16;

impl Gate {
    fn open(&self) {
        self.0.fetch_add(OPENING + OPEN, Ordering::Release);
    }

    /// Shuts, and waits until nobody is inside.
    fn shut(&self) {
        self.0.fetch_sub(OPEN, Ordering::Relaxed);
        let mut looks = 0_u32;
        while !self.0.load(Ordering::Acquire).is_multiple_of(OPEN) {
            // Whoever is inside may need this processor.
            if looks < LOOKS {
                spin_loop()
            } else {
                thread::yield_now()
            }
            looks = looks.saturating_add(1);
        }
    }

    /// Enters, and returns the number of the opening, if that is open and not the `last`.
    fn enter(&self, last: u64) -> Option<u64> {
        let state = self.0.load(Ordering::Relaxed);
        let opening = state / OPENING;
        if opening == last || state & OPEN == 0 {
            return None;
        }
        // If it changed meanwhile, the next look tells.
        let entered =
            self.0.compare_exchange(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
        entered.ok().map(|_| opening)
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// A gate that is shut in the end, come what may.
struct Opened<'a>(&'a Gate);

impl<'a> Opened<'a> {
    fn new(gate: &'a Gate) -> Self {
        gate.open();
        Self(gate)
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        self.0.shut();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn all_threads_help() {
        let team = Team::new(3).expect("threads start");
        assert_eq!(team.size(), 4);
        for _ in 0..100 {
            // Nobody passes before all four are here.
            let (barrier, calls) = (Barrier::new(4), AtomicUsize::new(0));
            team.run(&|| {
                barrier.wait();
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), 4);
        }
    }

    #[test]
    fn nothing_is_run_after_its_caller_returned() {
        let team = Team::new(3).expect("threads start");
        for round in 0..20_000 {
            let (claimed, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            team.run(&|| {
                while claimed.fetch_add(1, Ordering::Relaxed) < 5 {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(done.into_inner(), 5, "round {round}");
        }
    }

    #[test]
    fn work_inside_of_work_is_done_alone() {
        let team = Team::new(1).expect("threads start");
        let calls = AtomicUsize::new(0);
        team.run(&|| {
            team.run(&|| {
                calls.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!((1..=2).contains(&calls.into_inner()), "once for each thread that helped");
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(1).expect("threads start");
        for helper in [true, false] {
            let caller = thread::current().id();
            let barrier = Barrier::new(2);
            let run = catch_unwind(AssertUnwindSafe(|| {
                team.run(&|| {
                    barrier.wait();
                    assert!((thread::current().id() == caller) == helper, "as told");
                });
            }));
            let panic = run.expect_err("it panicked");
            assert_eq!(panic.downcast_ref(), Some(&"as told"));
        }
        let calls = AtomicUsize::new(0);
        team.run(&|| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
        assert!(calls.into_inner() >= 1);
    }
}
