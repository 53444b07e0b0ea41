//! Every bench case of every op, on the CPU and, if there is one, on the GPU: median time of a step, its rates, and its fraction of
//! what the device can do.
//!
//! `cargo bench --bench ops -- matmul` runs the cases whose name contains a word. A software adapter is timed only when
//! `WGPU_ADAPTER_NAME` names it. Without `--bench`, as under `cargo test --benches`, every case is run once.
//!
//! `--gpu` leaves the CPU out, and cases that would take a device half a second at its roofs are left out too.
//!
//! `kernels` runs the same cases under Criterion.

mod backends;

use embedding_compressor::Result;
use embedding_compressor::case::Case;
use embedding_compressor::op::ErasedOp;
use embedding_compressor::ops::TABLE;
use embedding_compressor::plan::Limits;
use embedding_compressor::roofline::{Roofline, TOO_LONG, cost, runner};

fn main() -> Result<()> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let timed = flags.iter().any(|flag| flag == "--bench");
    let gpu_only = flags.iter().any(|flag| flag == "--gpu");
    for backend in backends::all(gpu_only) {
        println!("{}", backend.describe());
        if !timed {
            each_case(
                &words,
                backend.limits(),
                |_, case| if cost(case).flops < LARGE { runner(&*backend, case)?(1) } else { Ok(()) },
            )?;
            continue;
        }
        let mut roofline = Roofline::new(&*backend)?;
        each_case(&words, backend.limits(), |op, case| {
            let least = roofline.least_seconds(case);
            if least < TOO_LONG {
                println!("{}", roofline.measure(op, case)?);
            } else {
                println!("{} {}: left out, it takes {least:.1} s at the roofs below", op.name(), case.name);
            }
            Ok(())
        })?;
        println!("roofs at best: {}", roofline.best);
    }
    Ok(())
}

/// Flops of cases that are not run just to see that they do.
const LARGE: u64 = 10_000_000_000;

/// Visits the cases that a backend with these limits has what it takes for and whose name, with the op's, contains all the words.
fn each_case(words: &[String], limits: Limits, mut visit: impl FnMut(&dyn ErasedOp, &Case) -> Result<()>) -> Result<()> {
    for op in TABLE {
        for case in op.bench_cases().into_iter().filter(|case| case.runs_on(limits)) {
            let name = format!("{} {}", op.name(), case.name);
            if words.iter().all(|word| name.contains(word)) {
                visit(*op, &case)?;
            }
        }
    }
    Ok(())
}
