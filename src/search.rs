//! Exact nearest neighbours, in blocks: no matrix of all scores is ever held.

use crate::backend::{Backend, Program};
use crate::error::Result;
use crate::metric::{Metric, select_rows};
use crate::ops::l2_offset::l2_offset;
use crate::ops::matmul::matmul;
use crate::ops::nearest;
use crate::ops::top_k::{Columns, Config, top_k};
use crate::plan::{Plan, Routine};
use crate::similarity::similarities;
use crate::tensor::Tensor;

/// Queries that are searched together.
const QUERY_BLOCK: usize = 1024;
/// Database rows that are scored together: with a full block of queries, 16 MiB of scores.
const SCORED_BLOCK: usize = 4096;
/// Queries that are searched together where no scores are stored: the database is read once for all of them.
const FUSED_QUERY_BLOCK: usize = 4096;
/// Elements of a block of database rows whose scores are not stored: 8 MiB, enough rows to keep a GPU busy.
const FUSED_BLOCK: usize = 2 << 20;

/// Largest database that a device may keep.
const KEPT_BYTES: usize = 4 << 30;

/// Neighbours of queries, best first; ties go to the smaller row.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// Neighbours of each query.
    pub k: usize,
    /// Rows of the database `[queries, k]`.
    pub ids: Vec<u32>,
    /// Their [`similarities`] `[queries, k]`.
    pub scores: Vec<f32>,
}

/// The `k` rows of `database [n, dim]` that are most similar by `metric`, for each of `queries` rows of it, which are not their own
/// neighbours. Rows are of unit length for cosine; for L2 they should lie about the origin, for distances far below their lengths
/// are lost in float32.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) when the device fails.
///
/// # Panics
/// If `k` is 0, above 1,024 or not below n, or a query is no row of the database.
pub fn neighbours(
    backend: &dyn Backend,
    metric: Metric,
    database: &[f32],
    dim: usize,
    queries: &[u32],
    k: usize,
) -> Result<Neighbours> {
    let rows = database.len() / dim;
    assert!(k >= 1 && k < rows, "neighbours: k = {k} of {rows} rows");
    let mut found = Neighbours { k, ids: Vec::with_capacity(queries.len() * k), scores: Vec::with_capacity(queries.len() * k) };
    let fused = backend.limits().fuses_search(dim, k);
    let block = if fused { FUSED_QUERY_BLOCK } else { QUERY_BLOCK };
    // What is selected from where it is computed is small; else a device that searches more than once has the database at hand.
    let keeps = !fused && queries.len() > block && size_of_val(database) <= KEPT_BYTES;
    let mut search: Option<Search> = None;
    for queries in queries.chunks(block) {
        // The last block may be shorter and takes a plan of its own.
        let search = match &mut search {
            Some(search) if search.queries.rows() as usize == queries.len() => search,
            other => {
                // Its memory is free for the next.
                *other = None;
                let new = |blocks| Search::new(backend, metric, queries.len(), rows, dim, k, blocks);
                // Devices do not tell what they have room for.
                let kept = if keeps { new(Blocks::Kept).ok() } else { None };
                other.insert(kept.map_or_else(|| new(Blocks::Streamed), Ok)?)
            }
        };
        search.run(database, dim, queries, &mut found)?;
    }
    Ok(found)
}

/// Where the blocks of a database are while it is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocks {
    /// All on the device, written once: writing them anew for 1,024 queries takes longer than searching them.
    Kept,
    /// Written for every block of queries.
    Streamed,
}

struct Search {
    program: Box<dyn Program>,
    /// Tensors that take blocks in turns, each with what searches it.
    blocks: Vec<(Tensor, Routine)>,
    /// Whether the blocks are on the device.
    written: bool,
    keeps: bool,
    queries: Tensor,
    own: Tensor,
    scores: Tensor,
    ids: Tensor,
}

impl Search {
    fn new(
        backend: &dyn Backend,
        metric: Metric,
        queries: usize,
        rows: usize,
        dim: usize,
        k: usize,
        blocks: Blocks,
    ) -> Result<Self> {
        let fused = backend.limits().fuses_search(dim, k);
        let block_rows = if fused { (FUSED_BLOCK / dim).max(SCORED_BLOCK) } else { SCORED_BLOCK }.min(rows) as u32;
        let keeps = blocks == Blocks::Kept;
        // Of two that are streamed, one may be written while the other is searched.
        let count = if keeps { rows.div_ceil(block_rows as usize) } else { 2 - usize::from(fused) };
        let (query_count, dim, k, rows) = (queries as u32, dim as u32, k as u32, rows as u32);
        let mut plan = Plan::new(backend.limits());
        let queries = plan.input("queries", [query_count, dim]);
        let own = plan.indices("own rows", [1, query_count]);
        let scores = plan.state("best scores", [query_count, k]);
        let ids = plan.state_indices("best rows", [query_count, k]);
        let all = (!fused).then(|| plan.scratch("scores", [query_count, block_rows]));
        let mut block = || {
            let routine = plan.routine();
            let block = plan.input("database block", [block_rows, dim]);
            if let Some(all) = all {
                similarities(&mut plan, metric, queries, block, all, matmul);
                let columns = Columns::Block { first: 0, per_step: block_rows, rows };
                top_k(&mut plan, all, scores, ids, Config { columns, excluded: Some(own), carry_from: 1 });
            } else {
                let offset = (metric == Metric::L2).then(|| plan.scratch("l2 offset", [1, block_rows]));
                if let Some(offset) = offset {
                    l2_offset(&mut plan, block, offset);
                }
                let config = nearest::Config { first: 0, per_step: block_rows, rows, offset, excluded: Some(own), carry_from: 1 };
                nearest::nearest(&mut plan, queries, block, scores, ids, config);
            }
            (block, routine)
        };
        let blocks = (0..count).map(|_| block()).collect();
        Ok(Self { program: backend.compile(plan)?, blocks, written: false, keeps, queries, own, scores, ids })
    }

    fn run(&mut self, database: &[f32], dim: usize, queries: &[u32], found: &mut Neighbours) -> Result<()> {
        let rows = select_rows(database, dim, queries.iter().copied())?;
        self.program.write(self.queries, &rows[..])?;
        self.program.write(self.own, queries)?;
        // Nothing waits between blocks: the next one is staged while the device works on those before.
        let block_len = self.blocks[0].0.shape.len();
        let turns = self.blocks.iter().cycle();
        for ((step, values), (block, routine)) in (0..).zip(database.chunks(block_len)).zip(turns) {
            if !self.written {
                self.program.write_rows(*block, 0, values.into())?;
            }
            self.program.run(*routine, step..step + 1)?;
        }
        self.written = self.keeps;
        found.ids.extend(self.program.read_indices(self.ids)?);
        found.scores.extend(self.program.read(self.scores)?);
        Ok(())
    }
}
