//! What changes from step to step, as pure functions of the step.

use crate::ops::adamw::{BETA1, BETA2};

/// Share of the steps in which the learning rate rises.
const WARM_UP: f64 = 0.1;
/// The rate starts at this fraction of its peak.
const START: f64 = 1.0 / 25.0;
/// The rate ends at this fraction of its peak.
const END: f64 = 1e-4;

/// One cycle (Smith and Topin 2018, arXiv 1708.07120): the rate rises along a cosine to its peak, then falls along one to almost zero.
///
/// Returns the factor on the peak rate at `step` of `steps`.
pub fn one_cycle(step: u32, steps: u32) -> f64 {
    let (step, steps) = (f64::from(step), f64::from(steps.max(2)));
    let peak = WARM_UP * steps;
    let cosine = |from: f64, to: f64, progress: f64| to + (from - to) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
    if step < peak { cosine(START, 1.0, step / peak) } else { cosine(1.0, END, (step - peak) / (steps - peak)) }
}

/// The rows of [`adamw`](crate::ops::adamw::adamw)'s schedule `[steps of the range, 3]`, for one cycle up to `rate`.
pub fn adamw_rows(range: std::ops::Range<u32>, steps: u32, rate: f64) -> Vec<f32> {
    adamw_schedule(range, |step| rate * one_cycle(step, steps))
}

/// The rows of [`adamw`](crate::ops::adamw::adamw)'s schedule `[steps of the range, 3]`: rate, and the two bias corrections.
pub fn adamw_schedule(range: std::ops::Range<u32>, rate: impl Fn(u32) -> f64) -> Vec<f32> {
    let correction = |beta: f32, step: u32| (1.0 / (1.0 - f64::from(beta).powf(f64::from(step) + 1.0))) as f32;
    range.flat_map(|step| [rate(step) as f32, correction(BETA1, step), correction(BETA2, step)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_rises_to_its_peak_and_falls_to_nothing() {
        let rates: Vec<f64> = (0..1000).map(|s| one_cycle(s, 1000)).collect();
        assert!((rates[0] - START).abs() < 1e-12, "starts at {}", rates[0]);
        assert!(rates[..100].is_sorted() && rates[100..].iter().rev().is_sorted(), "one rise, one fall");
        assert!((rates[100] - 1.0).abs() < 1e-12, "peak {}", rates[100]);
        assert!(rates[999] < 2e-4, "ends at {}", rates[999]);
    }

    #[test]
    fn bias_corrections_are_those_of_the_first_steps() {
        let rows = adamw_rows(0..2, 10, 1.0);
        assert!((rows[1] - 10.0).abs() < 1e-4 && (rows[2] - 1000.0).abs() < 0.1, "first step {rows:?}");
        assert!((rows[4] - 1.0 / 0.19).abs() < 1e-4, "second step {rows:?}");
    }
}
