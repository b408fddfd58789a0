//! Progress and cancelling while HiGHS runs; the one place that speaks to its C interface.

use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use highs::{Model, SolvedModel};
use highs_sys::{
    Highs_setCallback, Highs_startCallback, HighsCallbackDataIn, HighsCallbackDataOut,
    kHighsCallbackMipImprovingSolution, kHighsCallbackMipInterrupt, kHighsCallbackSimplexInterrupt,
};

use super::Step;

/// Where HiGHS tells how far it is. At improving solutions it does not listen; it does at the
/// other two, between nodes and between simplex iterations.
const KINDS: [c_int; 3] = [
    kHighsCallbackSimplexInterrupt,
    kHighsCallbackMipImprovingSolution,
    kHighsCallbackMipInterrupt,
];

/// What the callback works on.
struct Watched<'a> {
    watch: &'a mut dyn FnMut(Step) -> ControlFlow<()>,
    /// Once told to stop, HiGHS is told so at every later occasion, and `watch` is left alone.
    stopped: bool,
    panic: Option<Box<dyn std::any::Any + Send>>,
}

/// Solves `model`, calling `watch` now and then. After `Break` the solver stops at its next
/// occasion, which may be seconds away in a large program. `None` if the model is incoherent.
pub(super) fn solve(
    mut model: Model,
    watch: &mut dyn FnMut(Step) -> ControlFlow<()>,
) -> Option<SolvedModel> {
    let mut watched = Watched { watch, stopped: false, panic: None };
    let context = (&raw mut watched).cast::<c_void>();
    let highs = model.as_mut_ptr();
    // JUSTIFICATION: the safe interface has no callbacks, and without them a search of minutes
    // shows nothing and cannot be stopped. Nothing is to be gained in speed.
    // SAFETY: `highs` is the live object owned by `model`. `watched` outlives every run: the only
    // one is below, and the callback is taken off again before this function returns.
    #[expect(unsafe_code)]
    unsafe {
        Highs_setCallback(highs, Some(report), context);
        for kind in KINDS {
            Highs_startCallback(highs, kind);
        }
    }
    let mut solved = model.try_solve().ok();
    if let Some(solved) = &mut solved {
        // JUSTIFICATION: as above.
        // SAFETY: the pointer is that of the live object owned by `solved`; no callback means that
        // `context` is never read again. Where there is no `solved`, the object is gone already.
        #[expect(unsafe_code)]
        unsafe {
            Highs_setCallback(solved.as_mut_ptr(), None, std::ptr::null_mut());
        }
    }
    if let Some(panic) = watched.panic {
        resume_unwind(panic);
    }
    solved
}

/// Called by HiGHS, on the thread that runs it. A panic of `watch` is kept until C++ has returned.
extern "C" fn report(
    kind: c_int,
    _: *const c_char,
    out: *const HighsCallbackDataOut,
    answer: *mut HighsCallbackDataIn,
    context: *mut c_void,
) {
    // JUSTIFICATION: HiGHS hands over plain pointers.
    // SAFETY: `context` is the `Watched` of `solve`, which waits for HiGHS meanwhile and holds no
    // reference that is in use; HiGHS runs one thread, so that no second call is under way. `out`
    // and `answer` are members of the running HiGHS object, checked for null nevertheless.
    #[expect(unsafe_code)]
    let (watched, out, answer) = unsafe {
        match (context.cast::<Watched<'_>>().as_mut(), out.as_ref(), answer.as_mut()) {
            (Some(watched), Some(out), Some(answer)) => (watched, out, answer),
            _ => return,
        }
    };
    if !watched.stopped {
        let step = step(kind, out);
        match catch_unwind(AssertUnwindSafe(|| (watched.watch)(step))) {
            Ok(next) => watched.stopped = next.is_break(),
            Err(panic) => {
                watched.stopped = true;
                watched.panic = Some(panic);
            }
        }
    }
    if kind != kHighsCallbackMipImprovingSolution {
        answer.user_interrupt = c_int::from(watched.stopped);
    }
}

fn step(kind: c_int, out: &HighsCallbackDataOut) -> Step {
    if kind == kHighsCallbackSimplexInterrupt {
        let iterations = u64::try_from(out.simplex_iteration_count).unwrap_or(0);
        return Step { objective: f64::NEG_INFINITY, bound: f64::INFINITY, iterations };
    }
    let known = |value: f64, otherwise: f64| if value.is_finite() { value } else { otherwise };
    Step {
        objective: known(out.mip_primal_bound, f64::NEG_INFINITY),
        bound: known(out.mip_dual_bound, f64::INFINITY),
        iterations: u64::try_from(out.mip_total_lp_iterations).unwrap_or(0),
    }
}
