//! Matrix product whose factors may be rounded to 8-bit integers: for what [`matmul_rounded`](super::matmul_rounded) is for, where rows have
//! no numbers that are far larger than all others.

use super::cases::{bench_case, rounded_case};
use super::{Layout, Matmul, Params, code, multiply, record};
use crate::case::{Case, Fill};
use crate::gemm::{LARGEST, gemm_coarse, gemm_coarse_peak};
use crate::op::{Cost, Io, Op, Pass, Peak, Tolerance, Write};
use crate::plan::{Limits, Plan};
use crate::tensor::Tensor;

/// [`matmul_rounded`](super::matmul_rounded), and where the processor multiplies 8-bit integers faster still and the layout is NT, of factors
/// that are rounded to such: in each row to multiples of a 127th of its largest magnitude.
///
/// # Panics
/// If the shapes do not fit together.
pub fn matmul_coarse(plan: &mut Plan, layout: Layout, a: Tensor, b: Tensor, c: Tensor, write: Write) {
    record::<MatmulCoarse>(plan, layout, [a, b, c], code(write));
}

/// Standard deviation of what rounding to 8-bit integers adds to the inner product of two of the `rows [n, dim]`, from a thousand of them.
///
/// What a number loses is evenly spread over a unit, a 127th of the row's largest magnitude, so that its variance is a twelfth of the unit's
/// square; the largest itself loses nothing. The variance of a product is twice that of its terms, of a loss and a number each.
pub fn coarse_error(rows: &[f32], dim: usize) -> f32 {
    let products = mean_squares(rows, dim).into_iter().map(|[lost, square]| lost * square);
    (2.0 * products.sum::<f32>()).sqrt()
}

/// Root mean square of what rounding to 8-bit integers takes from the numbers of the `rows [n, dim]`, relative to that of the numbers.
pub fn coarse_loss(rows: &[f32], dim: usize) -> f32 {
    let (lost, square) = mean_squares(rows, dim).into_iter().fold((0.0, 0.0), |sums, means| (sums.0 + means[0], sums.1 + means[1]));
    if square > 0.0 { (lost / square).sqrt() } else { 0.0 }
}

/// Of each column, means of the squares of what its numbers lose and of the numbers.
fn mean_squares(rows: &[f32], dim: usize) -> Vec<[f32; 2]> {
    let sampled = rows.chunks(dim).step_by((rows.len() / dim / 1000).max(1));
    let count = sampled.len() as f32;
    let mut means = vec![[0.0; 2]; dim];
    for row in sampled {
        let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let loss = (largest / LARGEST).powi(2) / 12.0;
        for ([lost, square], x) in means.iter_mut().zip(row) {
            *lost += if x.abs() < largest { loss / count } else { 0.0 };
            *square += x * x / count;
        }
    }
    means
}

/// The op; [`matmul_coarse`] records it.
pub struct MatmulCoarse;

impl Op for MatmulCoarse {
    const NAME: &'static str = "matmul_coarse";
    type Params = Params;
    /// Both factors are off by up to 2^-8 of the largest of their rows; the errors of a sum cancel for the most part.
    const TOLERANCE: Tolerance = Tolerance::Relative(1.5e-2);

    fn passes(p: &Params) -> Vec<Pass> {
        Matmul::passes(p)
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        multiply(p, io, gemm_coarse);
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        Matmul::oracle(p, io);
    }

    fn cost(p: &Params) -> Cost {
        Matmul::cost(p)
    }

    fn cases() -> Vec<Case> {
        use Layout::{NN, NT, TN};
        let case = |name: String, limits, layout, shape, fill, write| rounded_case(matmul_coarse, name, limits, layout, shape, fill, write);
        let mut cases = Vec::new();
        for shape @ [batch, m, n, k] in [[1, 1, 1, 1], [1, 33, 65, 31], [1, 130, 70, 100], [2, 17, 300, 9], [1, 64, 48, 1600]] {
            cases.push(case(format!("NT {batch} {m}x{n}x{k}"), Limits::NONE, NT, shape, Fill::Normal, Write::Set));
        }
        for layout in [NN, TN] {
            cases.push(case(format!("{layout:?} 33x65x31"), Limits::NONE, layout, [1, 33, 65, 31], Fill::Normal, Write::Set));
        }
        cases.push(case("NT add 40x24x47".to_owned(), Limits::NONE, NT, [1, 40, 24, 47], Fill::Normal, Write::Add));
        cases.push(case("NT heavy-tailed".to_owned(), Limits::NONE, NT, [1, 30, 30, 50], Fill::HeavyTailed, Write::Set));
        let limits = Limits { binding_bytes: 4 * 64 * 80, ..Limits::NONE };
        cases.push(case("NT row windows".to_owned(), limits, NT, [1, 160, 130, 70], Fill::Normal, Write::Set));
        cases
    }

    fn bench_cases() -> Vec<Case> {
        [[512, 4096, 384], [4096, 1024, 384]].map(|shape| bench_case(matmul_coarse, Limits::NONE, Layout::NT, shape)).into()
    }

    fn native_peak() -> Option<Peak> {
        gemm_coarse_peak()
    }
}

#[cfg(test)]
mod tests {
    use super::super::rounded::rounding_error;
    use super::super::rounded::tests::check_estimate;
    use super::{coarse_error, coarse_loss};
    use crate::gemm::{gemm_coarse, is_coarse};

    /// Where they are not multiplied, it is that of bfloat16, which is larger where a coordinate is far larger than all others.
    #[test]
    fn the_error_of_8_bit_integers_is_as_estimated() {
        check_estimate(gemm_coarse, if is_coarse() { coarse_error } else { rounding_error });
    }

    #[test]
    fn losses_are_relative_to_numbers() {
        // A unit of 1, a twelfth of whose square is lost by one number of two, whose squares are 127^2 and 64^2; zeros lose nothing.
        let expected = (1.0f32 / 12.0 / (127.0 * 127.0 + 64.0 * 64.0)).sqrt();
        let loss = coarse_loss(&[127.0, -64.0, 64.0, -127.0], 2);
        assert!((loss / expected - 1.0).abs() < 1e-5, "{loss} instead of {expected}");
        assert_eq!(coarse_loss(&[0.0; 8], 4), 0.0);
    }
}
