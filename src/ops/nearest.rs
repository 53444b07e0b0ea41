//! Exact nearest rows of a block of a database: products and selection in one, so that scores are never stored.

mod cases;
mod search;

use bytemuck::{Pod, Zeroable};

use super::{table_row, table_step};
use crate::case::Case;
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::select::{self, MAX_K};
use crate::tensor::Tensor;
use search::{Block, Found};

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
        let (dim, (first, count)) = (p.dim as usize, p.block());
        let excluded = (p.exclude != 0).then(|| table_row(excluded.index(), p.excluded_step, p.step, p.rows));
        let block = Block {
            rows: &block.real()[..count * dim],
            dim,
            offset: (p.offset != 0).then(|| &offset.real()[..count]),
            first,
            carries: p.step >= p.carry_from,
        };
        let found = Found { scores: best_scores.real(), ids: best_ids.index(), k: p.k as usize };
        block.search(queries.real(), excluded, found);
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
