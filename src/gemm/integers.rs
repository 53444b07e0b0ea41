//! Products of 16-bit integers, which processors of 16-bit and 32-bit integer vectors make two at a time: rows are scaled such that sums
//! of products are exact in 32 bits, and are off by rounding alone, a few ten-thousandths of their lengths.

use rayon::prelude::*;

use super::Matrix;
use crate::simd::vectorized;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Integers;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::Integers;

/// Length of a row of integers: no element is above 2^15 - 1, and by the inequality of Cauchy and Schwarz no sum above 2^31, with what
/// rounding adds to lengths.
const LENGTH: f32 = 32_760.0;

/// Elements that a thread rounds at least.
const CHUNK: usize = 1 << 15;

/// Rows of 16-bit integers, in pairs, and what they stand for.
pub(crate) struct Quantized {
    bits: Vec<f32>,
    width: usize,
    /// Of each row.
    pub(crate) rows: Vec<Row>,
}

/// What a row of integers stands for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Row {
    /// Length of the row that was rounded.
    pub(crate) norm: f32,
    /// Length of what rounding took from it.
    pub(crate) rest: f32,
    /// What 1 stands for.
    pub(crate) unit: f32,
}

impl Quantized {
    /// Rounds `rows [n, dim]`; an odd column comes beside zeros.
    pub(crate) fn new(rows: &[f32], dim: usize) -> Self {
        let (count, width) = (rows.len() / dim, dim.div_ceil(2));
        let (mut bits, mut of_rows) = (vec![0.0; count * width], vec![Row::default(); count]);
        let lines = bits.par_chunks_mut(width).zip(&mut of_rows).zip(rows.par_chunks(dim)).with_min_len(CHUNK.div_ceil(dim));
        lines.for_each(|((bits, of_row), row)| *of_row = vectorized(|| quantize(row, bits)));
        Self { bits, width, rows: of_rows }
    }

    /// The pairs `[n, dim / 2]`, rounded up. The sum of products of two rows is a 32-bit integer in the place of a float32 number; it
    /// stands for as much as the product of their units, times itself.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix::by_rows(&self.bits, self.width)
    }
}

/// Rounds a row to pairs of integers.
#[inline(always)]
fn quantize(row: &[f32], bits: &mut [f32]) -> Row {
    let norm = square(row, |x| x).sqrt();
    let unit = norm / LENGTH;
    // Of a row of zeros, or of numbers so small that they had better be zeros.
    let scale = if unit >= f32::MIN_POSITIVE { unit.recip() } else { 0.0 };
    let (pairs, last) = row.as_chunks();
    bits.iter_mut().zip(pairs).for_each(|(bits, &[first, second])| *bits = pair(nearest(first * scale), nearest(second * scale)));
    if let (Some(bits), [last]) = (bits.last_mut(), last) {
        *bits = pair(nearest(last * scale), nearest(0.0));
    }
    let rest = square(row, |x| x - (nearest(x * scale) - ROUND) * unit).sqrt();
    Row { norm, rest, unit }
}

/// Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn nearest(x: f32) -> f32 {
    x + ROUND
}

#[inline(always)]
fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(first.to_bits() & 0xffff | second.to_bits() << 16)
}

/// Sum of the squares of what `f` makes of numbers.
#[inline(always)]
fn square(numbers: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    /// Sums that are kept at a time: four vectors.
    const LANES: usize = 64;
    let (whole, rest) = numbers.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for numbers in whole {
        sums.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += f(*x) * f(*x));
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| f(*x) * f(*x)).sum::<f32>()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, __m512i};

    use pulp::x86::{V3, V4};

    use crate::gemm::Job;
    use crate::gemm::kernel::Arithmetic;

    /// Proof that the processor has AVX2, or the AVX-512 instructions for 16-bit integers.
    #[derive(Clone, Copy)]
    pub(crate) enum Integers {
        Avx2(V3),
        Avx512(V4),
    }

    impl Integers {
        pub(crate) fn detect() -> Option<Self> {
            V4::try_new().map(Self::Avx512).or_else(|| V3::try_new().map(Self::Avx2))
        }

        pub(in crate::gemm) fn run(self, job: impl Job) {
            match self {
                Self::Avx2(simd) => simd.vectorize(
                    #[inline(always)]
                    || job.run::<V3, Self>(simd),
                ),
                Self::Avx512(simd) => simd.vectorize(
                    #[inline(always)]
                    || job.run::<V4, Self>(simd),
                ),
            }
        }
    }

    impl Arithmetic<V3> for Integers {
        type Vector = __m256i;

        #[inline(always)]
        fn splat(simd: V3, pair: f32) -> __m256i {
            simd.avx._mm256_set1_epi32(pair.to_bits().cast_signed())
        }

        #[inline(always)]
        fn multiply_add(simd: V3, a: __m256i, b: __m256i, sums: __m256i) -> __m256i {
            simd.avx2._mm256_add_epi32(simd.avx2._mm256_madd_epi16(a, b), sums)
        }

        #[inline(always)]
        fn add(simd: V3, a: __m256i, b: __m256i) -> __m256i {
            simd.avx2._mm256_add_epi32(a, b)
        }
    }

    impl Arithmetic<V4> for Integers {
        type Vector = __m512i;

        #[inline(always)]
        fn splat(simd: V4, pair: f32) -> __m512i {
            simd.avx512f._mm512_set1_epi32(pair.to_bits().cast_signed())
        }

        #[inline(always)]
        fn multiply_add(simd: V4, a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
            simd.avx512f._mm512_add_epi32(simd.avx512bw._mm512_madd_epi16(a, b), sums)
        }

        #[inline(always)]
        fn add(simd: V4, a: __m512i, b: __m512i) -> __m512i {
            simd.avx512f._mm512_add_epi32(a, b)
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use std::convert::Infallible;

    use crate::gemm::Job;

    /// Of no other processor it is known that such products are faster.
    #[derive(Clone, Copy)]
    pub(crate) struct Integers(Infallible);

    impl Integers {
        pub(crate) fn detect() -> Option<Self> {
            None
        }

        pub(in crate::gemm) fn run(self, _: impl Job) {
            match self.0 {}
        }
    }
}
