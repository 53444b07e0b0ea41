//! How much of the time that rows take to get onto a GPU is hidden behind what it computes on those before: search of rows that are
//! streamed, by two blocks in turns, for more and more queries, which take more computing for the same upload.
//!
//! `cargo bench --bench streaming` takes 4096 dimensions, `-- 384` others. For each number of queries it prints the medians of uploading alone,
//! computing alone and both, and what share of the shorter of the first two has vanished in the third: 1 where all of it is hidden, 0
//! where they take turns. A software adapter, which computes where the host copies, is timed only when `WGPU_ADAPTER_NAME` names it.

mod backends;

use embedding_compressor::Result;
use embedding_compressor::backend::{Backend, Program};
use embedding_compressor::metric::Metric;
use embedding_compressor::ops::matmul::matmul;
use embedding_compressor::ops::top_k::{Columns, Config, top_k};
use embedding_compressor::plan::{Plan, Routine};
use embedding_compressor::roofline::{Timed, medians};
use embedding_compressor::similarity::similarities;
use embedding_compressor::tensor::Tensor;

/// Rows of a block, as in the library's search.
const BLOCK: u32 = 4096;

/// Neighbours of a query.
const K: u32 = 50;

/// Numbers of queries that are searched together.
const QUERIES: [u32; 4] = [16, 64, 256, 1024];

/// How many times the upload computing may take, or computing the upload, to see what of the shorter is hidden.
const FAR_APART: f64 = 10.0;

fn main() -> Result<()> {
    let (flags, numbers): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let timed = flags.iter().any(|flag| flag == "--bench");
    let dim = numbers.first().map_or(4096, |number| number.parse().expect("the argument is a number of dimensions"));
    for backend in backends::all(true) {
        println!("{}, blocks of {BLOCK} x {dim}", backend.describe());
        // More queries than those whose search takes far longer than the upload show nothing more.
        for queries in QUERIES {
            if timed && measure(&*backend, queries, dim)? > FAR_APART {
                break;
            }
        }
    }
    Ok(())
}

/// A search whose blocks of rows take turns.
struct Search {
    program: Box<dyn Program>,
    blocks: [(Tensor, Routine); 2],
    found: Tensor,
}

impl Search {
    fn new(backend: &dyn Backend, count: u32, dim: u32) -> Result<Self> {
        let mut plan = Plan::new(backend.limits());
        let queries = plan.input("queries", [count, dim]);
        let scores = plan.scratch("scores", [count, BLOCK]);
        let (found, ids) = (plan.state("best scores", [count, K]), plan.state_indices("best rows", [count, K]));
        let blocks = [(); 2].map(|()| {
            let routine = plan.routine();
            let block = plan.input("database block", [BLOCK, dim]);
            similarities(&mut plan, Metric::Dot, queries, block, scores, matmul);
            let columns = Columns::Block { first: 0, per_step: BLOCK, rows: u32::MAX };
            top_k(&mut plan, scores, found, ids, Config { columns, excluded: None, carry_from: 1 });
            (block, routine)
        });
        let mut program = backend.compile(plan)?;
        program.write(queries, &noise(count, dim)[..])?;
        Ok(Self { program, blocks, found })
    }

    /// Writes so many blocks, or searches as many, or each after the other, and waits for the end.
    fn run(&mut self, blocks: u32, rows: Option<&[f32]>, search: bool) -> Result<()> {
        for (step, (block, routine)) in (0..blocks).zip(self.blocks.iter().cycle()) {
            if let Some(rows) = rows {
                self.program.write_rows(*block, 0, rows.into())?;
            }
            if search {
                self.program.run(*routine, step..step + 1)?;
            }
        }
        self.program.read(self.found).map(drop)
    }
}

/// Different numbers from -1 to 1: devices run faster on zeros.
fn noise(rows: u32, cols: u32) -> Vec<f32> {
    (0..rows as usize * cols as usize).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// Prints a line, and returns how many times the upload computing takes.
fn measure(backend: &dyn Backend, queries: u32, dim: u32) -> Result<f64> {
    let rows = noise(BLOCK, dim);
    let [mut uploading, mut computing, mut streaming] =
        [Search::new(backend, queries, dim)?, Search::new(backend, queries, dim)?, Search::new(backend, queries, dim)?];
    // Rows that are computed on are the same in all three.
    computing.run(2, Some(&rows), false)?;
    let mut upload = Timed::new(|blocks| uploading.run(blocks, Some(&rows), false))?;
    let mut compute = Timed::new(|blocks| computing.run(blocks, None, true))?;
    let mut both = Timed::new(|blocks| streaming.run(blocks, Some(&rows), true))?;
    let [upload, compute, both] = medians([&mut upload, &mut compute, &mut both])?;
    let far_apart = upload.max(compute) > FAR_APART * upload.min(compute);
    let hidden = if far_apart { "-".to_owned() } else { format!("{:.2}", (upload + compute - both) / upload.min(compute)) };
    let [upload_ms, compute_ms, both_ms] = [upload, compute, both].map(|seconds| seconds * 1e3);
    let gbyte_per_second = rows.len() as f64 * 4e-9 / upload;
    println!(
        "{queries:>5} queries: upload {upload_ms:.2} ms a block ({gbyte_per_second:.1} GB/s), compute {compute_ms:.2} ms, both \
         {both_ms:.2} ms, hidden {hidden}"
    );
    Ok(compute / upload)
}
