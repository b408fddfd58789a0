//! Linear and mixed-integer programs, solved by HiGHS. No other module of the new planner knows it.
//!
//! One thread, and limits in iterations and nodes, so that the same program gives the same answer.

mod callback;

use std::num::NonZeroU32;
use std::ops::ControlFlow;

use highs::{HighsModelStatus, RowProblem, Sense};

/// What HiGHS calls a feasible point (`kHighsSolutionStatusFeasible`).
const FEASIBLE: i64 = 2;

/// A variable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// Its worth in the objective.
    pub cost: f64,
    /// Least value; may be infinite.
    pub lower: f64,
    /// Largest value; may be infinite.
    pub upper: f64,
    /// Whether it takes whole numbers only.
    pub integer: bool,
}

/// A constraint `lower <= sum of factor · column <= upper`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Least value of the sum; may be infinite.
    pub lower: f64,
    /// Largest value of the sum; may be infinite.
    pub upper: f64,
    /// Columns by index, each at most once, with their factors.
    pub entries: Vec<(usize, f64)>,
}

/// A program: maximise the worth of its columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// Variables.
    pub columns: Vec<Column>,
    /// Constraints.
    pub rows: Vec<Row>,
}

/// When to stop, and where to begin.
#[derive(Clone, Debug, Default)]
pub struct Effort {
    /// Simplex iterations at most.
    pub iterations_max: Option<i32>,
    /// Nodes of branch and bound at most.
    pub nodes_max: Option<i32>,
    /// Relative gap at which a mixed-integer program counts as solved.
    pub gap: Option<f64>,
    /// A value for each column to begin with (mixed-integer programs).
    pub start: Option<Vec<f64>>,
    /// Where the solver's own random choices begin.
    pub seed: Option<u32>,
}

/// How far the solver is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Worth of the best point so far; minus infinity if there is none.
    pub objective: f64,
    /// No point is worth more; infinite if nothing is known.
    pub bound: f64,
    /// Simplex iterations so far.
    pub iterations: u64,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Solved to the end (for integers: to the gap asked for).
    Optimal(Point),
    /// Stopped at a limit with a feasible point.
    Feasible(Point),
    /// No values satisfy all rows.
    Infeasible,
    /// The solver stopped without a point, or the program is unbounded or malformed.
    Unknown,
}

/// A feasible point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Worth of the point.
    pub objective: f64,
    /// No point is worth more; equals `objective` for a solved linear program.
    pub bound: f64,
    /// Value of each column.
    pub values: Vec<f64>,
    /// Dual value of each row (linear programs): what one more unit of it would bring.
    pub duals: Vec<f64>,
}

impl Program {
    /// Adds a continuous variable of at least zero and returns its index.
    pub fn add(&mut self, cost: f64, upper: f64) -> usize {
        self.columns.push(Column { cost, lower: 0.0, upper, integer: false });
        self.columns.len() - 1
    }

    /// Adds a variable of whole numbers from zero to `upper` and returns its index.
    pub fn add_integer(&mut self, cost: f64, upper: f64) -> usize {
        self.columns.push(Column { cost, lower: 0.0, upper, integer: true });
        self.columns.len() - 1
    }

    /// Adds a constraint and returns its index.
    pub fn constrain(&mut self, lower: f64, entries: Vec<(usize, f64)>, upper: f64) -> usize {
        self.rows.push(Row { lower, upper, entries });
        self.rows.len() - 1
    }

    /// Solves the program.
    pub fn maximise(&self, effort: &Effort) -> Answer {
        let solved = self.model(effort).and_then(|model| model.try_solve().ok());
        solved.map_or(Answer::Unknown, |solved| self.read(&solved))
    }

    /// Solves the program and calls `watch` often with how far it is. After `Break` it ends soon
    /// with the best point known. Where optima are many, it may be another one than that of
    /// [`maximise`](Self::maximise).
    pub fn maximise_watched(
        &self,
        effort: &Effort,
        watch: &mut dyn FnMut(Step) -> ControlFlow<()>,
    ) -> Answer {
        let solved = self.model(effort).and_then(|model| callback::solve(model, watch));
        solved.map_or(Answer::Unknown, |solved| self.read(&solved))
    }

    fn model(&self, effort: &Effort) -> Option<highs::Model> {
        let mut problem = RowProblem::new();
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|it| problem.add_column_with_integrality(it.cost, it.lower..=it.upper, it.integer))
            .collect();
        for row in &self.rows {
            let entries = row.entries.iter().map(|&(at, factor)| (columns[at], factor));
            problem.add_row(row.lower..=row.upper, entries);
        }
        let mut model = problem.try_optimise(Sense::Maximise).ok()?;
        model.make_quiet();
        model.set_threads(NonZeroU32::MIN);
        if let Some(iterations) = effort.iterations_max {
            model.set_option("simplex_iteration_limit", iterations);
        }
        if let Some(nodes) = effort.nodes_max {
            model.set_option("mip_max_nodes", nodes);
        }
        if let Some(gap) = effort.gap {
            model.set_option("mip_rel_gap", gap);
        }
        if let Some(seed) = effort.seed {
            // HiGHS takes seeds of 31 bits.
            model.set_option("random_seed", (seed >> 1).cast_signed());
        }
        if let Some(start) = &effort.start {
            // A start that is refused only costs time.
            let _ = model.try_set_solution(Some(start), None, None, None);
        }
        Some(model)
    }

    fn read(&self, solved: &highs::SolvedModel) -> Answer {
        let solution = solved.get_solution();
        let objective = solved.objective_value();
        let integer = self.columns.iter().any(|it| it.integer);
        let proved = solved.double_info_value(c"mip_dual_bound").unwrap_or(f64::INFINITY);
        let point = |bound| Point {
            objective,
            bound,
            values: solution.columns().to_vec(),
            duals: solution.dual_rows().to_vec(),
        };
        match solved.status() {
            HighsModelStatus::Optimal => {
                Answer::Optimal(point(if integer { proved } else { objective }))
            }
            HighsModelStatus::Infeasible => Answer::Infeasible,
            // The typed getter panics where there is no information, as after an early stop.
            _ if solved.int_info_value(c"primal_solution_status") == Ok(FEASIBLE) => {
                Answer::Feasible(point(if integer { proved } else { f64::INFINITY }))
            }
            _ => Answer::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `max 3x + 2y, x + y <= 4, x + 3y <= 9, x <= 3`: 11 at (3, 1), duals 2 and 0.
    #[test]
    fn a_linear_program_with_its_duals() {
        let mut program = Program::default();
        let (x, y) = (program.add(3.0, 3.0), program.add(2.0, f64::INFINITY));
        program.constrain(f64::NEG_INFINITY, vec![(x, 1.0), (y, 1.0)], 4.0);
        program.constrain(f64::NEG_INFINITY, vec![(x, 1.0), (y, 3.0)], 9.0);
        let Answer::Optimal(point) = program.maximise(&Effort::default()) else {
            panic!("the program has an optimum")
        };
        assert!((point.objective - 11.0).abs() < 1e-9);
        assert!((point.duals[0] - 2.0).abs() < 1e-9 && point.duals[1].abs() < 1e-9);
    }

    #[test]
    fn a_program_without_columns_is_answered() {
        let answer = Program::default().maximise(&Effort::default());
        assert!(!matches!(answer, Answer::Infeasible), "{answer:?}");
    }

    #[test]
    fn an_integer_program_and_one_without_a_point() {
        let mut program = Program::default();
        let x = program.add_integer(1.0, 10.0);
        program.constrain(f64::NEG_INFINITY, vec![(x, 2.0)], 7.0);
        let Answer::Optimal(point) = program.maximise(&Effort::default()) else {
            panic!("the program has an optimum")
        };
        assert!((point.objective - 3.0).abs() < 1e-9 && point.bound < 3.5);
        program.constrain(4.0, vec![(x, 1.0)], f64::INFINITY);
        assert_eq!(program.maximise(&Effort::default()), Answer::Infeasible);
    }

    /// A knapsack with many near ties, which takes many nodes.
    fn knapsack() -> Program {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut program = Program::default();
        let weights: Vec<f64> = (0..60).map(|_| f64::from(rng.u32(1000..2000))).collect();
        let columns: Vec<_> =
            weights.iter().map(|it| program.add_integer(it + rng.f64(), 1.0)).collect();
        for _ in 0..5 {
            let entries = columns.iter().map(|&at| (at, f64::from(rng.u32(1000..2000))));
            program.constrain(f64::NEG_INFINITY, entries.collect(), 40_000.0);
        }
        program
    }

    #[test]
    fn a_watch_sees_progress_and_ends_the_search() {
        let mut steps = Vec::new();
        let answer = knapsack().maximise_watched(&Effort::default(), &mut |step| {
            steps.push(step);
            if step.objective.is_finite() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let last = steps.last().expect("the solver reports");
        assert!(last.objective <= last.bound);
        let Answer::Feasible(point) = answer else { panic!("stopped with a point: {answer:?}") };
        assert!(point.objective >= last.objective - 1e-6 && point.bound > point.objective);
    }

    #[test]
    fn a_panic_of_the_watch_crosses_the_solver_unharmed() {
        let outcome = std::panic::catch_unwind(|| {
            knapsack().maximise_watched(&Effort::default(), &mut |_| panic!("the watch panics"))
        });
        assert!(outcome.is_err());
    }
}
