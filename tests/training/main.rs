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

/// A test that panics where it fails.
fn test(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

fn main() -> ExitCode {
    let trials = [gradient::trials(), search::trials(), spectral::trials(), metrics::trials(), runs::trials(), peers::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
