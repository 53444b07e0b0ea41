//! Tensors above the binding limit of the device: split into row windows, each in its own buffer, and right all the same.

use std::process::ExitCode;

use embedding_compressor::Result;
use embedding_compressor::backend::{Backend, Gpu};
use embedding_compressor::op::Write;
use embedding_compressor::ops::matmul::{Layout, matmul};
use embedding_compressor::plan::Plan;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[path = "common/gpu.rs"]
mod gpu;

const COLS: u32 = 1000;

/// Above this limit the tensor would not fit the machines that run tests.
const LARGEST_LIMIT: u64 = 1 << 30;

fn main() -> ExitCode {
    let trials = vec![
        Trial::ignorable_test("transfers cross windows", || on_split_tensors(transfers_cross_windows)),
        Trial::ignorable_test("products span windows", || on_split_tensors(products_span_windows)),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs a test with the number of rows of [`COLS`] elements that makes two windows of a tensor.
fn on_split_tensors(test: impl Fn(&Gpu, u32) -> Result<()>) -> Result<Completion, Failed> {
    gpu::with_gpu(|gpu| {
        let limit = gpu.limits().binding_bytes;
        if limit > LARGEST_LIMIT {
            return Ok(Completion::ignored_with(format!("the device binds {limit} bytes at once")));
        }
        test(gpu, (limit / u64::from(4 * COLS) * 5 / 4) as u32)?;
        Ok(Completion::Completed)
    })
}

fn transfers_cross_windows(gpu: &Gpu, rows: u32) -> Result<()> {
    let mut plan = Plan::new(gpu.limits());
    let tensor = plan.indices("indices", [rows, COLS]);
    assert_eq!(plan.windows(tensor).count(), 2);
    let mut program = gpu.compile(plan)?;
    let values: Vec<u32> = (0..rows * COLS).collect();
    // The second write begins in the first window and ends in the second.
    let cut = rows / 2;
    let (head, tail) = values.split_at((cut * COLS) as usize);
    program.write_rows(tensor, 0, head.into())?;
    program.write_rows(tensor, cut, tail.into())?;
    assert!(program.read_indices(tensor)? == values, "what is read is not what was written");
    Ok(())
}

/// Small integers, whose sums are exact.
fn products_span_windows(gpu: &Gpu, rows: u32) -> Result<()> {
    let query: Vec<f32> = (0..COLS).map(|i| (i % 3) as f32 - 1.0).collect();
    let base: Vec<f32> = (0..rows * COLS).map(|i| (i / 5 % 7) as f32).collect();
    let expected: Vec<f32> = base.chunks(COLS as usize).map(|row| row.iter().zip(&query).map(|(x, y)| x * y).sum()).collect();

    let mut plan = Plan::new(gpu.limits());
    let a = plan.input("query", [1, COLS]);
    let b = plan.input("base", [rows, COLS]);
    let c = plan.state("scores", [1, rows]);
    let routine = plan.routine();
    matmul(&mut plan, Layout::NT, a, b, c, Write::Set);
    let mut program = gpu.compile(plan)?;
    program.write(a, query.as_slice())?;
    program.write(b, base.as_slice())?;
    program.run(routine, 0..1)?;
    assert!(program.read(c)? == expected, "the product over windows is not that of the whole");
    Ok(())
}
