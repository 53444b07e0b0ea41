//! Products of factors that are rounded on the way, to numbers that the processor multiplies faster than float32.

use super::amx::Amx;
use super::bfloat16::{Bfloat16, Pairs};
use super::bytes::{self, Bytes, Offset};
use super::integers::{Integers, Quantized};
use super::kernel::Target;
use super::{Matrix, Numbers, Product, Scale, gemm};

/// Rows and columns of C from which on vectors of rounded numbers are faster: below, rounding takes longer than they save.
const VECTORS_SIDE: usize = 128;

/// How rounded factors are multiplied.
#[derive(Clone, Copy)]
pub(super) enum Rounded {
    /// In tiles of bfloat16.
    Amx(Amx),
    /// In pairs of bfloat16.
    Bfloat16(Bfloat16),
    /// In pairs of 16-bit integers, of each row of A and column of B.
    Integers(Integers),
    /// In fours of 8-bit integers, likewise; both contiguous, of up to [`bytes::MAX_COLS`] contraction indices.
    Bytes(Integers),
}

impl Rounded {
    /// What this processor has, the best first, of numbers with at least 8 significant bits.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        let integers = Integers::detect().map(Self::Integers);
        [Amx::detect().map(Self::Amx), Bfloat16::detect().map(Self::Bfloat16), integers].into_iter().flatten()
    }

    /// C = A B, or += where `add`, as [`gemm`].
    fn multiply(self, [m, n, k]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_step: usize, add: bool) {
        a.check("A", m, k);
        b.check("B", k, n);
        let target = Target::of([m, n], c, c_step);
        let product = |a: Matrix<'_>, b: Matrix<'_>, k, numbers| {
            Product { shape: [m, n, k], a, b: b.transposed(), target, add, numbers }.spread(rayon::current_num_threads());
        };
        match self {
            Self::Amx(amx) => amx.multiply::<1>([m, n, k], a, b, target, add),
            Self::Bfloat16(bfloat16) => {
                let [a, b] = [Pairs::round(bfloat16, a, m, k), Pairs::round(bfloat16, b.transposed(), n, k)];
                product(a.matrix(), b.matrix(), k.div_ceil(2), Numbers::Bfloat16(bfloat16));
            }
            Self::Integers(integers) => {
                let [a, b] = [Quantized::of(a, m, k), Quantized::of(b.transposed(), n, k)];
                let scale = Scale { of_rows: &a.units, of_cols: &b.units, zeros: &vec![0; n] };
                product(a.matrix(), b.matrix(), k.div_ceil(2), Numbers::Integers(integers, scale));
            }
            Self::Bytes(integers) => {
                let [a, b] = [Bytes::of(a, m, k, Offset::Half), Bytes::of(b.transposed(), n, k, Offset::Zero)];
                let zeros: Vec<i32> = b.sums.iter().map(|sum| 128 * sum).collect();
                let scale = Scale { of_rows: &a.units, of_cols: &b.units, zeros: &zeros };
                product(a.matrix(), b.matrix(), k.div_ceil(4), Numbers::Integers(integers, scale));
            }
        }
    }
}

/// [`gemm`] of factors that are rounded to bfloat16, or in each row of A and column of B to 16-bit integers, where the processor multiplies
/// such numbers and that is faster; sums are in float32.
pub(crate) fn gemm_rounded(shape: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_step: usize, add: bool) {
    let [m, n, _] = shape;
    let rounded = Rounded::available().next();
    match rounded.filter(|rounded| matches!(rounded, Rounded::Amx(_)) || m.min(n) >= VECTORS_SIDE) {
        None => gemm(shape, a, b, c, c_step, add),
        Some(rounded) => rounded.multiply(shape, a, b, c, c_step, add),
    }
}

/// [`gemm`] of factors that are rounded to 8-bit integers, in each row of A and column of B, where the processor multiplies such numbers
/// faster than others and both are contiguous; elsewhere it is [`gemm_rounded`].
pub(crate) fn gemm_coarse(shape: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_step: usize, add: bool) {
    match coarse() {
        Some(integers) if a.col_step == 1 && b.row_step == 1 && shape[2] <= bytes::MAX_COLS => {
            Rounded::Bytes(integers).multiply(shape, a, b, c, c_step, add);
        }
        _ => gemm_rounded(shape, a, b, c, c_step, add),
    }
}

/// Products of 8-bit integers, where nothing better is as fast.
pub(super) fn coarse() -> Option<Integers> {
    if Amx::detect().is_some() { None } else { Integers::detect_bytes() }
}

/// Whether [`gemm_coarse`] multiplies 8-bit integers.
#[cfg(test)]
pub(crate) fn is_coarse() -> bool {
    coarse().is_some()
}

#[cfg(test)]
mod tests {
    use super::{Rounded, gemm};
    use crate::gemm::{Integers, Matrix};

    /// Those that come first elsewhere too; with rows and columns that are contiguous or not, of whole tiles and others.
    #[test]
    fn every_way_of_this_processor_multiplies() {
        let bytes = Integers::detect_bytes().map(Rounded::Bytes);
        for rounded in Rounded::available().chain(bytes) {
            let shapes = [
                [1, 1, 1],
                [1, 300, 40],
                [300, 1, 40],
                [33, 65, 31],
                [32, 96, 64],
                [130, 70, 100],
                [600, 40, 1100],
                [3, 4200, 17],
            ];
            for shape in shapes {
                for (a_turned, b_turned) in [(false, false), (false, true), (true, false), (true, true)] {
                    if !matches!(rounded, Rounded::Bytes(_)) || !a_turned && b_turned {
                        check(rounded, shape, a_turned, b_turned);
                    }
                }
            }
        }
    }

    fn check(rounded: Rounded, [m, n, k]: [usize; 3], a_turned: bool, b_turned: bool) {
        let numbers = |len, step: f32| -> Vec<f32> { (0..len).map(|i| (i as f32 * step).sin()).collect() };
        let c_step = n + 3;
        let (a, b, start) = (numbers(m * k, 1.1), numbers(k * n, 1.7), numbers(m * c_step, 2.3));
        let a = if a_turned { Matrix::by_rows(&a, m).transposed() } else { Matrix::by_rows(&a, k) };
        let b = if b_turned { Matrix::by_rows(&b, k).transposed() } else { Matrix::by_rows(&b, n) };
        for add in [false, true] {
            let [mut exact, mut found] = [start.clone(), start.clone()];
            gemm([m, n, k], a, b, &mut exact, c_step, add);
            rounded.multiply([m, n, k], a, b, &mut found, c_step, add);
            let largest = exact.iter().zip(&found).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            // Sums of k products of up to 1, each off by a hundredth at most, and by chance.
            assert!(largest <= 0.02 * (k as f32).sqrt(), "{m} x {n} x {k}, {a_turned}, {b_turned}, {add}: {largest}");
        }
    }
}
