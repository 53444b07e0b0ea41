//! Training and what it stands on: the gradient of the whole loss, exact search, principal axes, metrics, and runs from start to end, of
//! this crate's method and of its peers.

mod gradient;
mod metrics;
mod peers;
mod runs;
mod search;
mod spectral;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

#[path = "../common/gpu.rs"]
mod gpu;
#[path = "../common/rows.rs"]
mod rows;

/// Whether this build cannot read the bundled sample, which is a parquet file.
const WITHOUT_SAMPLE: bool = !cfg!(feature = "parquet");

/// A test that panics where it fails.
fn test(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

/// The same for one that reads the bundled sample.
fn test_on_sample(name: &str, run: fn()) -> Trial {
    test(name, run).with_ignored_flag(WITHOUT_SAMPLE)
}

fn main() -> ExitCode {
    let trials = [gradient::trials(), search::trials(), spectral::trials(), metrics::trials(), runs::trials(), peers::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
