//! Every bench case of every op, on the CPU and, if there is one, on the GPU: median time of a step, and its rates.
//!
//! `cargo bench --bench ops -- matmul` runs the cases whose name contains a word. A software adapter is timed only when
//! `WGPU_ADAPTER_NAME` names it. Without `--bench`, as under `cargo test --benches`, every case is run once.
//!
//! No Criterion: its dependencies would change the features of others (serde, either) and build gemm and faer a second time.

use std::time::{Duration, Instant};

use embedding_compressor::Result;
use embedding_compressor::backend::{AdapterChoice, Backend, Cpu, Gpu};
use embedding_compressor::case::{Case, Values};
use embedding_compressor::ops::TABLE;

/// Shortest sample: the clock and the wait for the device do not count against it.
const SAMPLE: Duration = Duration::from_millis(100);

/// Samples of which the median is taken.
const SAMPLES: usize = 7;

fn main() -> Result<()> {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let once = !flags.iter().any(|flag| flag == "--bench");
    let backends = backends();
    for op in TABLE {
        for case in op.bench_cases() {
            let name = format!("{} {}", op.name(), case.name);
            if !words.iter().all(|word| name.contains(word)) {
                continue;
            }
            for (device, backend) in &backends {
                report(&name, device, &case, time(&**backend, &case, once)?);
            }
        }
    }
    Ok(())
}

fn backends() -> Vec<(&'static str, Box<dyn Backend>)> {
    let mut backends: Vec<(&str, Box<dyn Backend>)> = vec![("cpu", Box::new(Cpu::new()))];
    let asked = std::env::var_os("WGPU_ADAPTER_NAME").is_some();
    match Gpu::new(if asked { AdapterChoice::Any } else { AdapterChoice::Hardware }) {
        Ok(gpu) => backends.push(("gpu", Box::new(gpu))),
        Err(error) => println!("cpu only: {error}"),
    }
    for (device, backend) in &backends {
        println!("{device}: {}", backend.describe());
    }
    backends
}

/// Time of one step: the median of samples, each of as many steps as make it long enough.
fn time(backend: &dyn Backend, case: &Case, once: bool) -> Result<Duration> {
    let mut plan = case.plan.clone();
    let last = plan.state("last", [1, 1]);
    let mut program = backend.compile(plan)?;
    for (tensor, values) in &case.values {
        match values {
            Values::F32(x) => program.write(*tensor, x.as_slice())?,
            Values::U32(x) => program.write(*tensor, x.as_slice())?,
        }
    }
    let mut sample = |steps: u32| -> Result<Duration> {
        let start = Instant::now();
        program.run(case.routine, 0..steps)?;
        // A read waits for everything before it.
        program.read(last)?;
        Ok(start.elapsed() / steps)
    };
    // The first step compiles, or brings the tensors into the caches.
    let mut step = sample(1)?;
    if once {
        return Ok(step);
    }
    let mut steps = 1;
    while step * steps < SAMPLE {
        steps *= 2;
        step = sample(steps)?;
    }
    let mut samples = (0..SAMPLES).map(|_| sample(steps)).collect::<Result<Vec<_>>>()?;
    samples.sort();
    Ok(samples[SAMPLES / 2])
}

fn report(name: &str, device: &str, case: &Case, step: Duration) {
    let costs = case.plan.routines().iter().flatten().map(|node| node.op.cost(&node.params));
    let (flops, bytes) = costs.fold((0, 0), |(flops, bytes), cost| (flops + cost.flops, bytes + cost.bytes));
    let giga = |count: u64| count as f64 / step.as_secs_f64() / 1e9;
    let micros = step.as_secs_f64() * 1e6;
    println!("{name:<40} {device} {micros:>11.1} us {:>9.1} GFLOP/s {:>8.1} GB/s", giga(flops), giga(bytes));
}
