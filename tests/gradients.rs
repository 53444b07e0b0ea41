//! Every derivative that an op claims, against central differences on the f64 oracle.
//!
//! Parity covers the rest: native code and shaders against the oracle's derivative.

use std::process::ExitCode;
use std::sync::Arc;

use embedding_compressor::Result;
use embedding_compressor::backend::{Oracle, Program};
use embedding_compressor::case::{Case, GradientCheck};
use embedding_compressor::ops::TABLE;
use libtest_mimic::{Arguments, Failed, Trial};

#[path = "common/prepare.rs"]
mod prepare;

/// Elements that are varied in each tensor.
const SAMPLE: usize = 64;

/// Step of the differences, relative to the element or to the median: their error is about its square, 1e-10.
const STEP: f64 = 1e-5;

/// Distance that is accepted, relative to the largest derivative, beyond [`NOISE`].
const TOLERANCE: f64 = 1e-6;

/// What differences cannot tell from zero.
const NOISE: f64 = 1e-9;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for op in TABLE {
        for case in op.cases() {
            let case = Arc::new(case);
            for check in case.gradients.clone() {
                let name = format!("{}::{}::d {}/d {}", op.name(), case.name, check.output.name, check.wrt.name);
                let case = Arc::clone(&case);
                trials.push(Trial::test(name, move || differentiate(&case, &check)));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn differentiate(case: &Case, check: &GradientCheck) -> Result<(), Failed> {
    let mut program = Oracle::new().compile_host(case.plan.clone())?;
    prepare::prepare(&mut program, case)?;
    program.run(case.routine, 0..case.steps)?;
    let claimed = program.read_real(check.gradient);
    prepare::prepare(&mut program, case)?;
    let values = program.read_real(check.wrt);
    let upstream = check.upstream.map_or_else(|| vec![1.0; check.output.shape.len()], |tensor| program.read_real(tensor));
    assert_eq!(claimed.len(), values.len(), "{} is not shaped as {}", check.gradient, check.wrt);

    let mut objective = |at: usize, value: f64| -> Result<f64> {
        prepare::prepare(&mut program, case)?;
        let mut varied = values.clone();
        varied[at] = value;
        program.write_real(check.wrt, &varied);
        program.run(case.routine, 0..case.steps)?;
        Ok(program.read_real(check.output).iter().zip(&upstream).map(|(y, g)| y * g).sum())
    };
    let largest = claimed.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let scale = median_magnitude(&values);
    for at in sample(values.len()) {
        let step = STEP * values[at].abs().max(scale);
        let difference = (objective(at, values[at] + step)? - objective(at, values[at] - step)?) / (2.0 * step);
        // NaN does not agree.
        let agrees = (claimed[at] - difference).abs() <= NOISE + TOLERANCE * largest;
        if !agrees {
            let text =
                format!("d {}/d {}, element {at}: {} claimed, {difference} measured", check.output, check.wrt, claimed[at]);
            return Err(text.into());
        }
    }
    Ok(())
}

/// The median of the magnitudes, or one where that is zero: the scale of most elements, however large a few are.
fn median_magnitude(values: &[f64]) -> f64 {
    let mut magnitudes: Vec<f64> = values.iter().map(|x| x.abs()).collect();
    magnitudes.sort_by(f64::total_cmp);
    let median = magnitudes[magnitudes.len() / 2];
    if median > 0.0 { median } else { 1.0 }
}

/// All elements, or [`SAMPLE`] of them, spread by the golden ratio so that they share no row or column by construction.
fn sample(len: usize) -> Vec<usize> {
    if len <= SAMPLE {
        return (0..len).collect();
    }
    (0..SAMPLE).map(|i| ((i as f64 * 0.618_033_988_749_895).fract() * len as f64) as usize).collect()
}
