//! Exact nearest rows of a block of a database: products and selection in one, so that scores are never stored.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{table_row, table_step};
use crate::case::{Case, Fill};
use crate::gemm::{Matrix, gemm_here};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::select::{self, Best, MAX_K};
use crate::simd::vectorized;
use crate::tensor::Tensor;

/// What is searched, and with what it is merged.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Row of the database that is row 0 of the block at step 0.
    pub first: u32,
    /// Rows from a step to the next.
    pub per_step: u32,
    /// Rows of the database; those of the block beyond the last are skipped.
    pub rows: u32,
    /// What is added to the scores of each row of the block, `[1, N]`.
    pub offset: Option<Tensor>,
    /// Row that each query must not find, itself mostly: a table `[steps or 1, M]`.
    pub excluded: Option<Tensor>,
    /// First step at which the previous content of the results takes part: 0 at all steps, 1 where step 0 starts a search over
    /// blocks, `u32::MAX` at none.
    pub carry_from: u32,
}

/// The k rows y of `block [N, dim]` with the highest scores x . y + offset for each row x of `queries [M, dim]`: their scores in
/// `best_scores` `[M, k]`, their rows of the database in `best_ids` `[M, k]`, best first.
///
/// The order, the places for which there is no row, and the carrying over blocks are those of
/// [`top_k`](super::top_k::top_k) over `Columns::Block`. Meant for small dimensions, where writing and reading scores would take
/// longer than computing them.
///
/// # Panics
/// If the shapes do not fit together, or k is above [`MAX_K`].
pub fn nearest(plan: &mut Plan, queries: Tensor, block: Tensor, best_scores: Tensor, best_ids: Tensor, config: Config) {
    let (rows, cols, k) = (queries.rows(), block.rows(), best_scores.cols());
    assert!(queries.cols() == block.cols(), "nearest: dimensions differ: {queries} and {block}");
    assert!(best_scores.shape == best_ids.shape, "nearest: shapes differ: {best_scores} and {best_ids}");
    assert!(best_scores.rows() == rows, "nearest: rows differ: {queries} and {best_scores}");
    assert!(k <= MAX_K, "nearest: {best_scores} asks for more than {MAX_K}");
    if let Some(offset) = config.offset {
        assert!(offset.shape == [1, cols].into(), "nearest: {offset} is not one number for each row of {block}");
    }
    let (parts, part_cols) = split(rows, cols, k);
    let part_scores = plan.scratch("scores of parts", [parts * rows, k]);
    let part_ids = plan.scratch_indices("rows of parts", [parts * rows, k]);
    // Bound in place of tables that there are not; never read.
    let offset = config.offset.unwrap_or_else(|| plan.scratch("no offset", [1, 1]));
    let excluded = config.excluded.unwrap_or_else(|| plan.scratch_indices("no table", [1, 1]));
    let params = Params {
        step: 0,
        rows,
        cols,
        dim: queries.cols(),
        k,
        first: config.first,
        per_step: config.per_step,
        end: config.rows,
        exclude: u32::from(config.excluded.is_some()),
        excluded_step: config.excluded.map_or(0, |table| table_step("nearest", table, rows)),
        carry_from: config.carry_from,
        offset: u32::from(config.offset.is_some()),
        parts,
        part_cols,
    };
    plan.push::<Nearest>(params, &[queries, block, offset, excluded], &[best_scores, best_ids, part_scores, part_ids]);
}

/// Queries and rows of the database of one tile of the shader.
const TILE: [u32; 2] = [64, 128];

/// Into how many parts a block is split, and the rows of each.
///
/// 64 queries are too few for a workgroup of their own on each of some hundred processors, so that several share their block: up to
/// 512 workgroups, of at least 512 rows each, which are to be worth their start. The lists of all parts together are at most a
/// quarter as long as the scores that are not written. From the occupancy of such a GPU, not from measurements on one.
fn split(rows: u32, cols: u32, k: u32) -> (u32, u32) {
    let wanted = 512u32.div_ceil(rows.div_ceil(TILE[0]));
    let parts = wanted.min(cols.div_ceil(512)).min(cols / (4 * k)).max(1);
    let part_cols = cols.div_ceil(parts).next_multiple_of(TILE[1]);
    (cols.div_ceil(part_cols), part_cols)
}

/// The op; [`nearest`] records it.
pub struct Nearest;

/// Parameters of [`Nearest`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    dim: u32,
    k: u32,
    /// Id of the block's row 0 at step 0, and from a step to the next.
    first: u32,
    per_step: u32,
    /// Rows from this id on are skipped.
    end: u32,
    /// Whether there are rows in `excluded`, and elements from a step's row of that table to the next.
    exclude: u32,
    excluded_step: u32,
    carry_from: u32,
    /// Whether there is an offset.
    offset: u32,
    /// Parts of the block, and the rows of each.
    parts: u32,
    part_cols: u32,
}

impl Params {
    /// Id of the block's first row, and how many of its rows there are before the end.
    fn block(&self) -> (u32, usize) {
        let first = self.first + self.step * self.per_step;
        (first, self.cols.min(self.end.saturating_sub(first)) as usize)
    }
}

impl Op for Nearest {
    const NAME: &'static str = "nearest";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        let constants = vec![("KEPT", select::kept(p.k))];
        let shader = if p.dim.is_multiple_of(4) {
            shader!("nearest", "nearest_params", "operands_vec4", "keys")
        } else {
            shader!("nearest", "nearest_params", "operands_scalar", "keys")
        };
        vec![
            Pass { shader, constants: constants.clone(), grid: [p.rows.div_ceil(TILE[0]), p.parts, 1] },
            Pass { shader: shader!("nearest_merge", "nearest_params", "grid", "keys", "selection"), constants, grid: flat_grid(p.rows) },
        ]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([queries, block, offset, excluded], [best_scores, best_ids, _, _]) = io.take();
        let (dim, k) = (p.dim as usize, p.k as usize);
        let (_, count) = p.block();
        let searched = Block {
            p,
            block: &block.real()[..count * dim],
            offset: (p.offset != 0).then(|| &offset.real()[..count]),
            excluded: (p.exclude != 0).then(|| table_row(excluded.index(), p.excluded_step, p.step, p.rows)),
        };
        // As many queries as there are for each thread: the block is packed for every share of them.
        let share = (p.rows as usize).div_ceil(rayon::current_num_threads()).min(MAX_SHARE);
        let best = best_scores.real().par_chunks_mut(share * k).zip(best_ids.index().par_chunks_mut(share * k));
        best.zip(queries.real().par_chunks(share * dim)).enumerate().for_each(|(part, ((best_scores, best_ids), queries))| {
            searched.search(part * share, queries, best_scores, best_ids);
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([queries, block, offset, excluded], [best_scores, best_ids, _, _]) = io.take();
        let (best_scores, best_ids) = (best_scores.real(), best_ids.index());
        let (dim, k) = (p.dim as usize, p.k as usize);
        let (first, count) = p.block();
        for (row, query) in queries.real().chunks_exact(dim).enumerate() {
            let range = row * k..(row + 1) * k;
            let (scores, ids) = (&mut best_scores[range.clone()], &mut best_ids[range]);
            let mut found: Vec<(f64, u32)> = Vec::new();
            if p.step >= p.carry_from {
                found.extend(scores.iter().copied().zip(ids.iter().copied()).filter(|(_, id)| *id != select::MISSING));
            }
            for (j, y) in block.real().chunks_exact(dim).enumerate().take(count) {
                let id = first + j as u32;
                let skipped = p.exclude != 0 && excluded.index()[(p.step * p.excluded_step) as usize + row] == id;
                if !skipped {
                    let score = query.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
                    found.push((if p.offset != 0 { score + offset.real()[j] } else { score }, id));
                }
            }
            select::definition(found, scores, ids);
        }
    }

    fn cost(p: &Params) -> Cost {
        let (rows, cols, dim, k) = (u64::from(p.rows), u64::from(p.cols), u64::from(p.dim), u64::from(p.k));
        Cost { flops: 2 * rows * cols * dim, bytes: 4 * (rows + cols) * dim + 8 * rows * k }
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }

    fn bench_cases() -> Vec<Case> {
        cases::bench()
    }
}

/// Most queries that a thread takes at once.
const MAX_SHARE: usize = 1024;

/// Rows of the block that a share of queries is compared with at once: half a megabyte of scores, which stay in the second-level
/// cache until they are selected from.
const COMPARED: usize = 128;

/// A block that is searched.
struct Block<'a> {
    p: &'a Params,
    block: &'a [f32],
    offset: Option<&'a [f32]>,
    excluded: Option<&'a [u32]>,
}

impl Block<'_> {
    /// Searches for `queries`, of which the first is query `row`.
    fn search(&self, row: usize, queries: &[f32], best_scores: &mut [f32], best_ids: &mut [u32]) {
        let Self { p, block, offset, excluded } = *self;
        let (dim, k, (first, _)) = (p.dim as usize, p.k as usize, p.block());
        let count = queries.len() / dim;
        let mut best: Vec<Best> = (0..count).map(|_| Best::new(k)).collect();
        if p.step >= p.carry_from {
            for (best, (scores, ids)) in best.iter_mut().zip(best_scores.chunks(k).zip(best_ids.chunks(k))) {
                best.carry(scores, ids);
            }
        }
        let mut scores = vec![0.0; count * COMPARED];
        for (at, rows) in (0..).step_by(COMPARED).zip(block.chunks(COMPARED * dim)) {
            let cols = rows.len() / dim;
            let scores = &mut scores[..count * cols];
            let [x, y] = [Matrix::by_rows(queries, dim), Matrix::by_rows(rows, dim).transposed()];
            gemm_here([count, cols, dim], x, y, scores, cols, false);
            let offset = offset.map(|offset| &offset[at..at + cols]);
            let first = first + at as u32;
            vectorized(|| {
                for (query, (best, scores)) in best.iter_mut().zip(scores.chunks_mut(cols)).enumerate() {
                    if let Some(offset) = offset {
                        scores.iter_mut().zip(offset).for_each(|(score, offset)| *score += offset);
                    }
                    let excluded = excluded.map(|table| table[row + query]);
                    best.scan(scores, first, |j| excluded == Some(first + j as u32));
                }
            });
        }
        for (best, (scores, ids)) in best.iter_mut().zip(best_scores.chunks_mut(k).zip(best_ids.chunks_mut(k))) {
            best.finish(scores, ids);
        }
    }
}

mod cases {
    use super::*;

    #[derive(Clone)]
    struct Setup {
        name: &'static str,
        /// Queries, rows of a block, dimensions.
        shape: [u32; 3],
        k: u32,
        queries: Fill,
        block: Fill,
        /// Blocks that are searched, one a step, and rows that the last one has.
        steps: u32,
        rest: u32,
        exclude: bool,
        offset: bool,
    }

    fn setup(name: &'static str, shape: [u32; 3], k: u32, fill: Fill) -> Setup {
        let [queries, block] = [fill.clone(), fill];
        Setup { name, shape, k, queries, block, steps: 1, rest: shape[1], exclude: false, offset: false }
    }

    pub(super) fn all() -> Vec<Case> {
        let mut setups = Vec::new();
        for (shape, k) in [([1, 1, 1], 1), ([3, 7, 5], 7), ([65, 129, 33], 10), ([64, 128, 8], 64), ([5, 1000, 16], 65)] {
            setups.push(setup("normal", shape, k, Fill::Normal));
        }
        // Products of few quarters are exact, and mostly equal.
        for (shape, k) in [([70, 300, 64], 50), ([2, 1300, 4], 257), ([3, 2049, 3], 1024), ([1, 5000, 2], 20), ([130, 4200, 4], 33)] {
            setups.push(setup("ties", shape, k, Fill::Ties));
        }
        setups.push(setup("all equal", [3, 3000, 4], 100, Fill::Constant(-0.5)));
        setups.push(setup("fewer than k", [3, 40, 6], 100, Fill::Normal));
        // Every score beats the bar, so that all queues overflow in every tile; and no score does.
        let one = Fill::Constant(1.0);
        let rising = Fill::Exact((0..700).map(|i| i as f32).collect());
        let falling = Fill::Exact((0..700).map(|i| -i as f32).collect());
        for (name, block) in [("rising", rising), ("falling", falling)] {
            for (rows, k) in [(67, 30), (3, 300)] {
                setups.push(Setup { block: block.clone(), ..setup(name, [rows, 700, 1], k, one.clone()) });
            }
        }
        setups.push(Setup { exclude: true, ..setup("excluded", [9, 30, 7], 6, Fill::Ties) });
        setups.push(Setup { offset: true, ..setup("offset", [9, 130, 12], 20, Fill::Ties) });
        let steps = Setup { steps: 3, rest: 17, exclude: true, ..setup("steps excluded", [9, 30, 8], 6, Fill::Normal) };
        setups.push(Setup { offset: true, ..steps.clone() });
        setups.push(steps);
        setups.push(Setup { steps: 4, rest: 1, ..setup("steps", [3, 300, 20], 280, Fill::Normal) });
        setups.push(Setup { steps: 3, rest: 1500, ..setup("steps ties", [2, 2000, 4], 60, Fill::Ties) });
        setups.into_iter().map(case).collect()
    }

    pub(super) fn bench() -> Vec<Case> {
        [[1024, 16_384, 64], [1024, 16_384, 128]].map(|shape| case(setup("normal", shape, 50, Fill::Normal))).into()
    }

    fn case(setup: Setup) -> Case {
        let Setup { name, shape: [rows, cols, dim], k, steps, rest, exclude, offset, .. } = setup;
        Case::new(format!("{name} {rows}x{cols}x{dim} k={k}{}", if offset { " offset" } else { "" }), |case| {
            let queries = case.input("queries", [rows, dim], setup.queries);
            let block = case.input("block", [cols, dim], setup.block);
            let best_scores = case.output("best_scores", [rows, k]);
            let best_ids = case.output_indices("best_ids", [rows, k]);
            let first = 5;
            let offset = offset.then(|| case.input("offset", [1, cols], Fill::Ties));
            let excluded = exclude.then(|| case.input("excluded", [1, rows], Fill::Below(first + steps * cols)));
            case.steps = steps;
            let end = first + (steps - 1) * cols + rest;
            let config = Config { first, per_step: cols, rows: end, offset, excluded, carry_from: 1 };
            nearest(&mut case.plan, queries, block, best_scores, best_ids, config);
        })
    }
}
