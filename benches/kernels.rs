//! Every bench case of every op under Criterion, which compares a change with what was before it; `ops` compares with the roofs.
//!
//!     cargo bench --bench kernels -- matmul --save-baseline before
//!     cargo bench --bench kernels -- matmul --baseline before
//!
//! A name is device, op and case. Rates count flops as elements. A software adapter takes part only where `WGPU_ADAPTER_NAME` names it.

mod backends;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use embedding_compressor::ops::TABLE;
use embedding_compressor::roofline::{cost, runner};

/// Cases of more work are for large GPUs.
const MOST_FLOPS: u64 = 10_000_000_000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    for backend in backends::all(false) {
        let device = backend.describe();
        for op in TABLE {
            let mut group = criterion.benchmark_group(format!("{device}/{}", op.name()));
            for case in op.bench_cases().into_iter().filter(|case| case.runs_on(backend.limits())) {
                let flops = cost(&case).flops;
                if flops > MOST_FLOPS {
                    continue;
                }
                group.throughput(Throughput::Elements(flops));
                // Prepared only where the case is picked.
                let mut run = None;
                group.bench_function(&case.name, |bencher| {
                    let run = run.get_or_insert_with(|| runner(&*backend, &case).expect("the device takes the case"));
                    bencher.iter_custom(|times| {
                        let start = Instant::now();
                        run(times as u32).expect("the device works");
                        start.elapsed()
                    });
                });
            }
        }
    }
    criterion.final_summary();
}
