//! Matrix product that may round its factors: for scores, activations and gradients in training, whose own noise is larger.

use super::cases::{bench_case, rounded_case};
use super::{Layout, Matmul, Params, Product, TIMES, Variant, code, multiply, record, record_by};
use crate::case::{Case, Fill};
use crate::gemm::{gemm_rounded, gemm_rounded_peak};
use crate::op::{Cost, Io, Op, Pass, Peak, Tolerance, Write};
use crate::plan::{Limits, MatrixUnits, Plan};
use crate::tensor::Tensor;

/// [`matmul`](super::matmul) of factors that are rounded where the device makes products of such numbers and this size faster: to bfloat16,
/// of 8 significant bits, or to 16-bit integers, of which the lengths of rows and columns are 32,760 times the unit. Elsewhere it is the same.
///
/// # Panics
/// If the shapes do not fit together.
pub fn matmul_rounded(plan: &mut Plan, layout: Layout, a: Tensor, b: Tensor, c: Tensor, write: Write) {
    record::<MatmulRounded>(plan, layout, [a, b, c], code(write));
}

/// C *= A B, element by element, of factors that are rounded as [`matmul_rounded`] does: the derivative by what went into a function of each
/// element, C being the function's, in one pass. The factors whose rows are contraction indices (B in NN, both in TN) are taken whole.
///
/// # Panics
/// If the shapes do not fit together.
pub fn times_matmul_rounded(plan: &mut Plan, layout: Layout, a: Tensor, b: Tensor, c: Tensor) {
    record::<MatmulRounded>(plan, layout, [a, b, c], TIMES);
}

/// [`matmul_rounded`] of factors that float16 can hold, whose magnitudes end at 65,504: on the matrix units of a device where the limits
/// name them and the layout is NT, with 11 significant bits.
///
/// # Panics
/// If the shapes do not fit together.
pub fn matmul_halves(plan: &mut Plan, layout: Layout, a: Tensor, b: Tensor, c: Tensor, write: Write) {
    let units = plan.limits().matrix_units.filter(|_| layout == Layout::NT);
    let choose = |shape: [u32; 4]| units.map_or_else(|| Variant::choose(shape), |units| Variant::units(units, shape[3]));
    record_by::<MatmulRounded>(plan, layout, [a, b, c], code(write), choose);
}

/// Standard deviation of what rounding to bfloat16, the coarser, adds to the inner product of two of the `rows [n, dim]`, estimated from a
/// thousand of them.
///
/// The error of a number between 2^e and 2^(e+1) that is rounded to 8 significant bits is evenly spread over 2^(e-7). Where logarithms of
/// numbers are evenly spread too, its variance is on average 2^-16 / (8 ln 2) of the number's square; that of a product is twice that.
pub fn rounding_error(rows: &[f32], dim: usize) -> f32 {
    let variance = 2.0 * f32::exp2(-16.0) / (8.0 * std::f32::consts::LN_2);
    let sampled = rows.chunks(dim).step_by((rows.len() / dim / 1000).max(1));
    let count = sampled.len() as f32;
    let mut squares = vec![0.0; dim];
    sampled.for_each(|row| squares.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x / count));
    (variance * squares.iter().map(|square| square * square).sum::<f32>()).sqrt()
}

/// The op; [`matmul_rounded`] and [`matmul_halves`] record it.
pub struct MatmulRounded;

impl Op for MatmulRounded {
    const NAME: &'static str = "matmul_rounded";
    type Params = Params;
    /// Both factors are off by up to 2^-8 of themselves; the errors of a sum cancel for the most part.
    const TOLERANCE: Tolerance = Tolerance::Relative(4e-3);

    fn passes(p: &Params) -> Vec<Pass> {
        Matmul::passes(p)
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        multiply(p, io, gemm_rounded);
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        Matmul::oracle(p, io);
    }

    fn cost(p: &Params) -> Cost {
        Matmul::cost(p)
    }

    fn cases() -> Vec<Case> {
        use Layout::{NN, NT, TN};
        let mut cases = Vec::new();
        for layout in [NN, NT, TN] {
            for [batch, m, n, k] in [[1, 1, 1, 1], [1, 33, 65, 31], [1, 130, 70, 100], [2, 17, 300, 9], [1, 64, 48, 800], [1, 140, 132, 101]] {
                let name = format!("{layout:?} {batch} {m}x{n}x{k}");
                cases.push(rounded_case(matmul_rounded, name, Limits::NONE, layout, [batch, m, n, k], Fill::Normal, Write::Set));
            }
            let name = format!("{layout:?} add 40x24x47");
            cases.push(rounded_case(matmul_rounded, name, Limits::NONE, layout, [1, 40, 24, 47], Fill::Normal, Write::Add));
            let name = format!("{layout:?} heavy-tailed");
            cases.push(rounded_case(matmul_rounded, name, Limits::NONE, layout, [1, 30, 30, 50], Fill::HeavyTailed, Write::Set));
        }
        let limits = Limits { binding_bytes: 4 * 64 * 80, ..Limits::NONE };
        cases.push(rounded_case(matmul_rounded, "NT row windows".to_owned(), limits, NT, [1, 160, 130, 70], Fill::Normal, Write::Set));
        for layout in [NN, NT, TN] {
            // By all shaders: vectors or not, a large tile, a contraction in parts.
            for [batch, m, n, k] in [[1, 33, 65, 31], [1, 130, 70, 100], [2, 20, 28, 36], [1, 512, 520, 20], [1, 32, 96, 2000]] {
                cases.push(times_case(format!("{layout:?} times {batch} {m}x{n}x{k}"), Limits::NONE, layout, [batch, m, n, k]));
            }
        }
        cases.push(times_case("NT times, row windows".to_owned(), limits, NT, [1, 160, 130, 70]));
        for units in UNITS {
            let limits = Limits { matrix_units: Some(units), ..Limits::NONE };
            for shape @ [batch, m, n, k] in [[1, 1, 1, 1], [1, 64, 128, 96], [1, 33, 65, 31], [2, 70, 36, 100], [1, 130, 20, 260]] {
                let name = format!("NT {batch} {m}x{n}x{k} on {units}");
                cases.push(rounded_case(matmul_halves, name, limits, NT, shape, Fill::Normal, Write::Set));
            }
            let name = format!("NT add 40x24x47 on {units}");
            cases.push(rounded_case(matmul_halves, name, limits, NT, [1, 40, 24, 47], Fill::Normal, Write::Add));
        }
        cases
    }

    fn bench_cases() -> Vec<Case> {
        let shapes = [(Layout::NT, [512, 4096, 384]), (Layout::NT, [4096, 1024, 384]), (Layout::TN, [1024, 384, 4096])];
        let ordinary = shapes.map(|(layout, shape)| bench_case(matmul_rounded, Limits::NONE, layout, shape));
        let limits = Limits { matrix_units: Some(UNITS[0]), ..Limits::NONE };
        let on_units = [[512, 4096, 384], [512, 4096, 4096]].map(|shape| bench_case(matmul_halves, limits, Layout::NT, shape));
        ordinary.into_iter().chain(on_units).collect()
    }

    fn native_peak() -> Option<Peak> {
        gemm_rounded_peak()
    }
}

fn times_case(name: String, limits: Limits, layout: Layout, shape: [u32; 4]) -> Case {
    let times: Product = |plan, layout, a, b, c, _| times_matmul_rounded(plan, layout, a, b, c);
    rounded_case(times, name, limits, layout, shape, Fill::Normal, Write::Add)
}

/// Matrix units as NVIDIA's and Apple's GPUs and llvmpipe have them.
const UNITS: [MatrixUnits; 3] =
    [MatrixUnits { side: 16, subgroup: 32 }, MatrixUnits { side: 8, subgroup: 32 }, MatrixUnits { side: 8, subgroup: 8 }];

#[cfg(test)]
pub(super) mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::{Layout, rounding_error, times_matmul_rounded};
    use crate::gemm::{Gemm, Matrix, gemm, gemm_rounded};
    use crate::plan::{Limits, Plan};
    use crate::random::normal;

    /// Partial sums would be multiplied one after the other.
    #[test]
    fn a_contraction_in_windows_is_refused_where_c_is_multiplied() {
        for (layout, fits) in [(Layout::NT, true), (Layout::NN, false), (Layout::TN, false)] {
            let mut plan = Plan::new(Limits { binding_bytes: 4 * 64 * 80, ..Limits::NONE });
            plan.routine();
            // 160 contraction indices or columns of C, in windows of 64; 70 of the others.
            let [a, b] = match layout {
                Layout::NT => [[70, 70], [160, 70]],
                Layout::NN => [[70, 160], [160, 70]],
                Layout::TN => [[160, 70], [160, 70]],
            };
            let (a, b) = (plan.input("a", a), plan.input("b", b));
            let c = plan.state("c", [70, if layout == Layout::NT { 160 } else { 70 }]);
            times_matmul_rounded(&mut plan, layout, a, b, c);
            assert_eq!(plan.check().is_ok(), fits, "{layout:?}");
        }
    }

    #[test]
    fn the_error_of_bfloat16_is_as_estimated() {
        check_estimate(gemm_rounded, rounding_error);
    }

    /// Where this processor multiplies such numbers, the error of a product is what is estimated, and far below that elsewhere; with even
    /// coordinates and with one that is larger than all others.
    pub(in super::super) fn check_estimate(rounding: Gemm, estimate: fn(&[f32], usize) -> f32) {
        let (rows, dim) = (300, 64);
        for outlier in [1.0, 30.0] {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let size = |i: usize| if i % dim == 5 { outlier } else { 1.0 };
            let x: Vec<f32> = (0..rows * dim).map(|i| normal(&mut rng) * size(i)).collect();
            let [exact, rounded] = [gemm, rounding].map(|gemm| {
                let mut products = vec![0.0; rows * rows];
                let x = Matrix::by_rows(&x, dim);
                gemm([rows, rows, dim], x, x.transposed(), &mut products, rows, false);
                products
            });
            let squares: f32 = exact.iter().zip(&rounded).map(|(a, b)| (a - b) * (a - b)).sum();
            let error = (squares / (rows * rows) as f32).sqrt();
            let estimate = estimate(&x, dim);
            let ratio = error / estimate;
            assert!(ratio < 0.1 || (ratio - 1.0).abs() < 0.2, "{error} instead of {estimate}");
        }
    }
}
