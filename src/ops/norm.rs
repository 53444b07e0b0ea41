//! Lengths of rows, for the ops that divide by them.

use crate::case::{Case, Fill};
use crate::metric::SMALLEST;
use crate::plan::Limits;

/// 1 / |x|, which is subnormal where |x| is above 8.5e37; 0 where all numbers are below [`SMALLEST`].
#[inline(always)]
pub(super) fn inverse_norm_of(x: &[f32]) -> f32 {
    let squares = sum_of_squares(x, 1.0);
    // Neither have squares overflown, nor do those that vanished count.
    if (1e-20..1e30).contains(&squares) {
        return 1.0 / squares.sqrt();
    }
    let largest = x.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    if largest < SMALLEST {
        return 0.0;
    }
    let scale = 1.0 / largest;
    scale / sum_of_squares(x, scale).sqrt()
}

/// Sum of the squares of `scale * x`: in as many sums as vectorise, which do not depend on the machine.
#[inline(always)]
fn sum_of_squares(x: &[f32], scale: f32) -> f32 {
    const SUMS: usize = 64;
    let mut sums = [0.0; SUMS];
    let (chunks, rest) = x.as_chunks::<SUMS>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += (x * scale) * (x * scale));
    }
    sums.iter_mut().zip(rest).for_each(|(sum, x)| *sum += (x * scale) * (x * scale));
    sums.iter().sum()
}

/// [`inverse_norm_of`] by its definition.
pub(super) fn inverse_norm_exactly(x: &[f64]) -> f64 {
    let largest = x.iter().fold(0.0f64, |a, b| a.max(b.abs()));
    if largest >= f64::from(SMALLEST) { 1.0 / x.iter().map(|x| x * x).sum::<f64>().sqrt() } else { 0.0 }
}

/// Cases of rows of all lengths, by what records an op on rows of a shape.
pub(super) fn lengths(case: fn(&str, Limits, [u32; 2], Fill) -> Case) -> Vec<Case> {
    vec![
        case("1x1", Limits::NONE, [1, 1], Fill::Normal),
        case("33x65", Limits::NONE, [33, 65], Fill::Normal),
        case("70x32", Limits::NONE, [70, 32], Fill::HeavyTailed),
        case("subnormal", Limits::NONE, [4, 8], Fill::Constant(1e-40)),
        case("zero rows", Limits::NONE, [4, 8], Fill::Constant(0.0)),
        case("extreme", Limits::NONE, [9, 5], Fill::Exact((0..45).map(|i| 1e30 * (i as f32 - 20.5)).collect())),
        case("tiny", Limits::NONE, [9, 5], Fill::Exact((0..45).map(|i| 1e-30 * (i as f32 - 20.5)).collect())),
        case("row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [150, 12], Fill::Normal),
    ]
}
