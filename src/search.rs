//! Exact nearest neighbours, in blocks: no matrix of all scores is ever held.

use crate::backend::{Backend, Program};
use crate::error::Result;
use crate::metric::{Metric, select_rows};
use crate::ops::l2_offset::l2_offset;
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
    let mut search: Option<Search> = None;
    let fused = backend.limits().fuses_search(dim, k);
    for queries in queries.chunks(if fused { FUSED_QUERY_BLOCK } else { QUERY_BLOCK }) {
        // The last block may be shorter and takes a plan of its own.
        let search = match &mut search {
            Some(search) if search.queries.rows() as usize == queries.len() => search,
            other => other.insert(Search::new(backend, metric, queries.len(), rows, dim, k)?),
        };
        search.run(database, dim, queries, &mut found)?;
    }
    Ok(found)
}

struct Search {
    program: Box<dyn Program>,
    routine: Routine,
    queries: Tensor,
    own: Tensor,
    block: Tensor,
    scores: Tensor,
    ids: Tensor,
}

impl Search {
    fn new(backend: &dyn Backend, metric: Metric, queries: usize, rows: usize, dim: usize, k: usize) -> Result<Self> {
        let fused = backend.limits().fuses_search(dim, k);
        let block_rows = if fused { (FUSED_BLOCK / dim).max(SCORED_BLOCK) } else { SCORED_BLOCK }.min(rows) as u32;
        let (count, dim, k, rows) = (queries as u32, dim as u32, k as u32, rows as u32);
        let mut plan = Plan::new(backend.limits());
        let routine = plan.routine();
        let queries = plan.input("queries", [count, dim]);
        let own = plan.indices("own rows", [1, count]);
        let block = plan.input("database block", [block_rows, dim]);
        let scores = plan.state("best scores", [count, k]);
        let ids = plan.state_indices("best rows", [count, k]);
        if fused {
            let offset = (metric == Metric::L2).then(|| plan.scratch("l2 offset", [1, block_rows]));
            if let Some(offset) = offset {
                l2_offset(&mut plan, block, offset);
            }
            let config = nearest::Config { first: 0, per_step: block_rows, rows, offset, excluded: Some(own), carry_from: 1 };
            nearest::nearest(&mut plan, queries, block, scores, ids, config);
        } else {
            let all = plan.scratch("scores", [count, block_rows]);
            similarities(&mut plan, metric, queries, block, all);
            let columns = Columns::Block { first: 0, per_step: block_rows, rows };
            top_k(&mut plan, all, scores, ids, Config { columns, excluded: Some(own), carry_from: 1 });
        }
        Ok(Self { program: backend.compile(plan)?, routine, queries, own, block, scores, ids })
    }

    fn run(&mut self, database: &[f32], dim: usize, queries: &[u32], found: &mut Neighbours) -> Result<()> {
        let rows = select_rows(database, dim, queries.iter().copied())?;
        self.program.write(self.queries, &rows[..])?;
        self.program.write(self.own, queries)?;
        // Nothing waits between blocks: the next one is staged while the device works on those before.
        let blocks = database.chunks(self.block.shape.len());
        for (step, block) in (0..).zip(blocks) {
            self.program.write_rows(self.block, 0, block.into())?;
            self.program.run(self.routine, step..step + 1)?;
        }
        found.ids.extend(self.program.read_indices(self.ids)?);
        found.scores.extend(self.program.read(self.scores)?);
        Ok(())
    }
}
