//! Exact top-k of every row of a score matrix, continued over blocks of columns.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{table_row, table_step};
use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::select::{self, Best};
use crate::simd::vectorized;
use crate::tensor::Tensor;

pub use crate::select::{MAX_K, MISSING};

/// What the columns of the scores stand for, and what results call them.
#[derive(Clone, Copy, Debug)]
pub enum Columns {
    /// A block of a database of `rows` rows: column j at a step is row `first + step * per_step + j`, and results hold that
    /// number. Columns beyond the last row are skipped.
    Block {
        /// Row of column 0 at step 0.
        first: u32,
        /// Rows from a step to the next.
        per_step: u32,
        /// Rows of the database.
        rows: u32,
    },
    /// The items of a table `[steps or 1, N]`; results hold the column.
    List(Tensor),
}

/// What is searched, and with what it is merged.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the columns stand for.
    pub columns: Columns,
    /// Row or item that each row of scores must not find, itself mostly: a table `[steps or 1, M]`.
    pub excluded: Option<Tensor>,
    /// First step at which the previous content of the results takes part: 0 at all steps, 1 where step 0 starts a search over
    /// blocks, `u32::MAX` at none.
    pub carry_from: u32,
}

/// The k best columns of each row of `scores` `[M, N]`: their scores in `best_scores` `[M, k]`, their numbers in `best_ids`
/// `[M, k]`, best first.
///
/// Higher scores come first, smaller ids first where scores are equal (-0 equals 0), NaN after all numbers. Places for which
/// there is no column hold [`MISSING`] and `f32::MIN`. Every backend returns the same bits: scores are compared as the unsigned
/// integers whose order is theirs.
///
/// # Panics
/// If the shapes do not fit together, or k is above [`MAX_K`].
pub fn top_k(plan: &mut Plan, scores: Tensor, best_scores: Tensor, best_ids: Tensor, config: Config) {
    let k = best_scores.cols();
    assert!(best_scores.shape == best_ids.shape, "top_k: shapes differ: {best_scores} and {best_ids}");
    assert!(best_scores.rows() == scores.rows(), "top_k: rows differ: {scores} and {best_scores}");
    assert!(k <= MAX_K, "top_k: {best_scores} asks for more than {MAX_K}");
    // Bound in place of tables that there are not; never read.
    let none = plan.scratch_indices("no table", [1, 1]);
    let excluded = config.excluded.unwrap_or(none);
    let excluded_step = config.excluded.map_or(0, |table| table_step("top_k", table, scores.rows()));
    let (columns, columns_step, [first, per_step, end]) = match config.columns {
        Columns::Block { first, per_step, rows } => (none, 0, [first, per_step, rows]),
        Columns::List(table) => (table, table_step("top_k", table, scores.cols()), [0, 0, scores.cols()]),
    };
    let exclude = match (config.excluded, config.columns) {
        (None, _) => EXCLUDE_NONE,
        (_, Columns::Block { .. }) => EXCLUDE_ID,
        (_, Columns::List(_)) => EXCLUDE_ITEM,
    };
    let params = Params {
        step: 0,
        rows: scores.rows(),
        cols: scores.cols(),
        k,
        first,
        per_step,
        end,
        exclude,
        excluded_step,
        columns_step,
        carry_from: config.carry_from,
    };
    plan.push::<TopK>(params, &[scores, excluded, columns], &[best_scores, best_ids]);
}

const EXCLUDE_NONE: u32 = 0;
const EXCLUDE_ID: u32 = 1;
const EXCLUDE_ITEM: u32 = 2;

/// The op; [`top_k`] records it.
pub struct TopK;

/// Parameters of [`TopK`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    k: u32,
    /// Id of column 0 at step 0, and from a step to the next.
    first: u32,
    per_step: u32,
    /// Columns from this id on are skipped.
    end: u32,
    /// Which columns are skipped: none, the one with the id in `excluded`, or those with that item.
    exclude: u32,
    /// Elements from a step's row of the table to the next.
    excluded_step: u32,
    columns_step: u32,
    carry_from: u32,
}

impl Params {
    /// Id of column 0, and how many columns there are before the end.
    fn block(&self) -> (u32, u32) {
        let first = self.first + self.step * self.per_step;
        (first, self.cols.min(self.end.saturating_sub(first)))
    }
}

impl Op for TopK {
    const NAME: &'static str = "top_k";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Exact;

    fn passes(p: &Params) -> Vec<Pass> {
        let constants = vec![("KEPT", select::kept(p.k))];
        vec![Pass { shader: shader!("top_k", "grid", "keys", "selection"), constants, grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([scores, excluded, columns], [best_scores, best_ids]) = io.take();
        let (k, cols) = (p.k as usize, p.cols as usize);
        let (first, count) = p.block();
        let excluded = (p.exclude != EXCLUDE_NONE).then(|| table_row(excluded.index(), p.excluded_step, p.step, p.rows));
        let items = (p.exclude == EXCLUDE_ITEM).then(|| table_row(columns.index(), p.columns_step, p.step, p.cols));
        let best = best_scores.real().par_chunks_exact_mut(k).zip(best_ids.index().par_chunks_exact_mut(k));
        best.zip(scores.real().par_chunks_exact(cols)).enumerate().for_each_init(
            || Best::new(k),
            |best, (row, ((best_scores, best_ids), scores))| {
                let scores = &scores[..count as usize];
                best.start();
                let carries = p.step >= p.carry_from;
                if carries {
                    best.carry(best_scores, best_ids);
                }
                let skipped = |j: usize| match (excluded.map(|table| table[row]), items) {
                    (None, _) => false,
                    (Some(id), None) => first + j as u32 == id,
                    (Some(item), Some(items)) => items[j] == item,
                };
                vectorized(|| if carries { best.scan(scores, first, skipped) } else { best.scan_all(scores, first, skipped) });
                best.finish(best_scores, best_ids);
            },
        );
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([scores, excluded, columns], [best_scores, best_ids]) = io.take();
        let (best_scores, best_ids) = (best_scores.real(), best_ids.index());
        let (k, cols) = (p.k as usize, p.cols as usize);
        for row in 0..p.rows as usize {
            let mut found: Vec<(f64, u32)> = Vec::new();
            if p.step >= p.carry_from {
                let carried = (0..k).map(|i| (best_scores[row * k + i], best_ids[row * k + i]));
                found.extend(carried.filter(|(_, id)| *id != MISSING));
            }
            for j in 0..cols {
                let id = p.first + p.step * p.per_step + j as u32;
                let skip = || excluded.index()[(p.step * p.excluded_step) as usize + row];
                let skipped = match p.exclude {
                    EXCLUDE_NONE => false,
                    EXCLUDE_ID => skip() == id,
                    _ => skip() == columns.index()[(p.step * p.columns_step) as usize + j],
                };
                if id < p.end && !skipped {
                    found.push((scores.real()[row * cols + j], id));
                }
            }
            let range = row * k..(row + 1) * k;
            select::definition(found, &mut best_scores[range.clone()], &mut best_ids[range]);
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: elements, bytes: 4 * elements + 8 * u64::from(p.rows) * u64::from(p.k) }
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }

    fn bench_cases() -> Vec<Case> {
        cases::bench()
    }
}

mod cases {
    use super::*;

    #[derive(Clone)]
    struct Setup {
        name: &'static str,
        shape: [u32; 2],
        k: u32,
        fill: Fill,
        /// Blocks of a database, searched one a step, and columns that the last one has.
        steps: u32,
        rest: u32,
        exclude: u32,
    }

    fn setup(name: &'static str, shape: [u32; 2], k: u32, fill: Fill) -> Setup {
        Setup { name, shape, k, fill, steps: 1, rest: shape[1], exclude: EXCLUDE_NONE }
    }

    pub(super) fn all() -> Vec<Case> {
        let mut setups = Vec::new();
        let sizes = [[1, 1], [1, 3], [7, 7], [255, 10], [256, 64], [257, 65], [513, 256], [1024, 257], [1025, 1], [2049, 1024]];
        for [n, k] in sizes {
            setups.push(setup("normal", [3, n], k, Fill::Normal));
            setups.push(setup("ties", [2, n], k, Fill::Ties));
        }
        setups.push(setup("all equal", [2, 3000], 100, Fill::Constant(-0.5)));
        setups.push(setup("fewer than k", [3, 40], 100, Fill::Normal));
        setups.push(setup("extreme", [2, 700], 70, Fill::Extreme));
        setups.push(setup("rising", [2, 3000], 300, Fill::Exact((0..6000).map(|i| i as f32).collect())));
        setups.push(setup("falling", [2, 3000], 300, Fill::Exact((0..6000).map(|i| -i as f32).collect())));
        for k in [5, 11, 20] {
            setups.push(setup("special values", [2, 10], k, Fill::Exact(special())));
        }
        setups.push(setup("many rows", [65_537, 2], 1, Fill::Ties));
        for exclude in [EXCLUDE_ID, EXCLUDE_ITEM] {
            setups.push(Setup { exclude, ..setup("excluded", [9, 30], 6, Fill::Ties) });
            setups.push(Setup { exclude, steps: 3, rest: 17, ..setup("steps excluded", [9, 30], 6, Fill::Normal) });
        }
        setups.push(Setup { steps: 4, rest: 1, ..setup("steps", [3, 300], 280, Fill::Normal) });
        setups.push(Setup { steps: 3, rest: 200, ..setup("steps ties", [2, 300], 1024, Fill::Ties) });
        let special = setup("steps special values", [2, 10], 25, Fill::Exact(special()));
        setups.push(Setup { steps: 3, rest: 9, ..special });
        let mut cases: Vec<Case> = setups.into_iter().map(case).collect();
        cases.push(two_blocks());
        cases
    }

    pub(super) fn bench() -> Vec<Case> {
        let shapes = [([64, 100_000], 10), ([64, 100_000], 100), ([64, 100_000], 1000), ([512, 4096], 128)];
        shapes.map(|(shape, k)| case(setup("normal", shape, k, Fill::Normal))).into()
    }

    /// Two rows of what floats have beside numbers.
    fn special() -> Vec<f32> {
        let (nan, infinity, tiny) = (f32::NAN, f32::INFINITY, f32::from_bits(1));
        let row = [nan, -0.0, 0.0, -infinity, f32::MIN, infinity, -nan, tiny, -tiny, -0.0];
        [row, row.map(|x| -x)].concat()
    }

    fn case(setup: Setup) -> Case {
        let Setup { name, shape: [rows, cols], k, fill, steps, rest, exclude } = setup;
        let kind = ["", " id", " item"][exclude as usize];
        Case::new(format!("{name}{kind} {rows}x{cols} k={k}"), |case| {
            let scores = case.input("scores", [rows, cols], fill);
            let best_scores = case.output("best_scores", [rows, k]);
            let best_ids = case.output_indices("best_ids", [rows, k]);
            let first = 5;
            let columns = match exclude {
                EXCLUDE_ITEM => Columns::List(case.input("columns", [steps, cols], Fill::Below(4))),
                _ => Columns::Block { first, per_step: cols, rows: first + (steps - 1) * cols + rest },
            };
            let bound = if exclude == EXCLUDE_ITEM { 4 } else { first + steps * cols };
            let excluded = (exclude != EXCLUDE_NONE).then(|| case.input("excluded", [1, rows], Fill::Below(bound)));
            case.steps = steps;
            top_k(&mut case.plan, scores, best_scores, best_ids, Config { columns, excluded, carry_from: 1 });
        })
    }

    /// A database in two parts, the second of which comes first: ids that were carried may be greater.
    fn two_blocks() -> Case {
        Case::new("two blocks", |case| {
            let scores = [case.input("left", [4, 50], Fill::Ties), case.input("right", [4, 300], Fill::Ties)];
            let best_scores = case.output("best_scores", [4, 20]);
            let best_ids = case.output_indices("best_ids", [4, 20]);
            let parts = [(scores[1], 50, u32::MAX), (scores[0], 0, 0)];
            for (scores, first, carry_from) in parts {
                let columns = Columns::Block { first, per_step: 0, rows: 350 };
                top_k(&mut case.plan, scores, best_scores, best_ids, Config { columns, excluded: None, carry_from });
            }
        })
    }
}
