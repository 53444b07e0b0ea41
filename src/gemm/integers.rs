//! Products of 16-bit integers, which processors of 16-bit and 32-bit integer vectors make two at a time: rows are scaled such that sums
//! of products are exact in 32 bits, and are off by rounding alone, a few ten-thousandths of their lengths. Those of [`bytes`](super::bytes)
//! are multiplied here too.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Matrix;
use super::buffer::Buffer;
use crate::simd::vectorized;

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Integers;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::Integers;

/// Length of a row of integers: no element is above 2^15 - 1, and by the inequality of Cauchy and Schwarz no sum above 2^31, with what
/// rounding adds to lengths.
pub(crate) const LENGTH: f32 = 32_760.0;

/// Elements that a thread rounds at least.
pub(super) const CHUNK: usize = 1 << 15;

/// A matrix of 16-bit integers, in pairs that are neighbours in a row.
pub(crate) struct Quantized {
    bits: Buffer,
    row_step: usize,
    col_step: usize,
    /// What 1 stands for in each row: its length is [`LENGTH`] times that.
    pub(crate) units: Vec<f32>,
}

impl Quantized {
    /// Rounds a matrix; an odd column comes beside zeros. What was contiguous stays so. What is not finite makes its row NaN.
    pub(super) fn of(matrix: Matrix<'_>, rows: usize, cols: usize) -> Self {
        if matrix.col_step == 1 { Self::of_rows(matrix, rows, cols, false).0 } else { Self::of_columns(matrix, rows, cols) }
    }

    /// Rounds a matrix of contiguous rows, and measures in each the length of what that takes from it.
    pub(crate) fn measured(matrix: Matrix<'_>, rows: usize, cols: usize) -> (Self, Vec<f32>) {
        Self::of_rows(matrix, rows, cols, true)
    }

    fn of_rows(matrix: Matrix<'_>, rows: usize, cols: usize, measures: bool) -> (Self, Vec<f32>) {
        let width = cols.div_ceil(2);
        let (mut bits, mut units, mut rests) = (Buffer::of(rows * width), vec![0.0; rows], vec![0.0; rows]);
        let lines = bits.par_chunks_mut(width).zip(&mut units).zip(&mut rests).enumerate().with_min_len(CHUNK.div_ceil(cols));
        lines.for_each(|(row, ((bits, unit), rest))| {
            let numbers = &matrix.data[row * matrix.row_step..][..cols];
            (*unit, *rest) = Arch::new().dispatch(Round { numbers, bits, measures });
        });
        (Self { bits, row_step: width, col_step: 1, units }, rests)
    }

    fn of_columns(matrix: Matrix<'_>, rows: usize, cols: usize) -> Self {
        /// Columns that a thread measures at a time.
        const MEASURED: usize = 128;
        let column = |col: usize| &matrix.data[col * matrix.col_step..][..rows];
        // As they lie in memory; in parts that do not depend on the number of threads.
        let parts: Vec<usize> = (0..cols).step_by(MEASURED).collect();
        let sums = parts.into_par_iter().map(|first| {
            let mut sums = vec![0.0; rows];
            vectorized(
                #[inline(always)]
                || {
                    for col in first..(first + MEASURED).min(cols) {
                        sums.iter_mut().zip(column(col)).for_each(|(sum, x)| *sum += x * x);
                    }
                },
            );
            sums
        });
        let mut units = vec![0.0; rows];
        for sums in sums.collect::<Vec<_>>() {
            units.iter_mut().zip(sums).for_each(|(unit, sum)| *unit += sum);
        }
        units.iter_mut().for_each(|unit| *unit = unit.sqrt() / LENGTH);
        let scales: Vec<f32> = units.iter().map(|unit| scale(*unit)).collect();
        let mut bits = Buffer::of(rows * cols.div_ceil(2));
        let lines = bits.par_chunks_mut(rows).enumerate().with_min_len(CHUNK.div_ceil(rows));
        lines.for_each(|(line, bits)| {
            let first = column(2 * line);
            let second = (2 * line + 1 < cols).then(|| column(2 * line + 1));
            vectorized(
                #[inline(always)]
                || match second {
                    Some(second) => {
                        for ((bits, scale), (first, second)) in bits.iter_mut().zip(&scales).zip(first.iter().zip(second)) {
                            *bits = pair(nearest(first * scale), nearest(second * scale));
                        }
                    }
                    None => bits
                        .iter_mut()
                        .zip(&scales)
                        .zip(first)
                        .for_each(|((bits, scale), x)| *bits = pair(nearest(x * scale), nearest(0.0))),
                },
            );
        });
        Self { bits, row_step: 1, col_step: rows, units }
    }

    /// The pairs as elements. The sum of products of two rows is a 32-bit integer in the place of a float32 number; it stands for as much
    /// as the product of their units, times itself.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix { data: &self.bits, row_step: self.row_step, col_step: self.col_step }
    }
}

/// What numbers are multiplied by. That of a row of zeros, or of numbers so small that they had better be zeros, is 0, as it is of what
/// is not finite.
#[inline(always)]
pub(super) fn scale(unit: f32) -> f32 {
    if unit >= f32::MIN_POSITIVE { unit.recip() } else { 0.0 }
}

/// Rounds a row to pairs of integers: the unit, and if it `measures`, the length of what that takes from it, else 0. A type, which is
/// inlined where it is compiled for wide vectors.
struct Round<'a> {
    numbers: &'a [f32],
    bits: &'a mut [f32],
    measures: bool,
}

impl WithSimd for Round<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f32, f32) {
        let Self { numbers, bits, measures } = self;
        let unit = square(numbers, |x| x).sqrt() / LENGTH;
        let scale = scale(unit);
        // As they lie in memory, pairs are integers one after another, and a zero may be the last.
        let (integers, odd) = bytemuck::cast_slice_mut::<f32, i16>(bits).split_at_mut(numbers.len());
        integers.iter_mut().zip(numbers).for_each(|(integer, x)| *integer = nearest(x * scale).to_bits() as i16);
        odd.fill(0);
        let rest = if measures { square(numbers, |x| x - (nearest(x * scale) - ROUND) * unit).sqrt() } else { 0.0 };
        (unit, rest)
    }
}

/// Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
pub(super) fn nearest(x: f32) -> f32 {
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
#[expect(unsafe_code, reason = "an instruction set that no safe wrapper knows")]
mod x86 {
    use std::arch::x86_64::{__m256i, __m512i, _mm512_dpbusd_epi32};

    use pulp::x86::{V3, V4};

    use crate::gemm::Job;
    use crate::gemm::kernel::Arithmetic;

    /// Proof that the processor has AVX2, or AVX-512 with its instructions that multiply integers and add in one (VNNI); with two
    /// instructions, as in AVX2, wider vectors gain nothing over float32.
    #[derive(Clone, Copy)]
    pub(crate) enum Integers {
        Avx2(V3),
        Vnni(V4),
        /// Elements are four 8-bit integers, those of A without signs.
        Bytes(V4),
    }

    /// How four 8-bit integers are multiplied: only [`Integers::Bytes`] comes here.
    struct ByteProducts;

    impl Integers {
        pub(crate) fn detect() -> Option<Self> {
            match V4::try_new() {
                Some(simd) => is_x86_feature_detected!("avx512vnni").then_some(Self::Vnni(simd)),
                None => V3::try_new().map(Self::Avx2),
            }
        }

        pub(in crate::gemm) fn detect_bytes() -> Option<Self> {
            match Self::detect() {
                Some(Self::Vnni(simd)) => Some(Self::Bytes(simd)),
                _ => None,
            }
        }

        pub(in crate::gemm) fn run(self, job: impl Job) {
            match self {
                Self::Avx2(simd) => simd.vectorize(
                    #[inline(always)]
                    || job.run::<V3, Self>(simd),
                ),
                // SAFETY: `V4` stands for all of these instructions but the last, and `detect` has seen that one.
                Self::Vnni(simd) => unsafe { run::<Self>(simd, job) },
                // SAFETY: as above.
                Self::Bytes(simd) => unsafe { run::<ByteProducts>(simd, job) },
            }
        }
    }

    /// Compiled as [`V4`] has it, with one set more, in which the compiler finds the instruction for a product and a sum.
    #[target_feature(enable = "avx512f,avx512cd,avx512vl,avx512dq,avx512bw,avx2,fma,avx512vnni")]
    fn run<E: Arithmetic<V4>>(simd: V4, job: impl Job) {
        job.run::<V4, E>(simd);
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

    impl Arithmetic<V4> for ByteProducts {
        type Vector = __m512i;

        #[inline(always)]
        fn splat(simd: V4, four: f32) -> __m512i {
            <Integers as Arithmetic<V4>>::splat(simd, four)
        }

        #[inline(always)]
        fn multiply_add(_: V4, a: __m512i, b: __m512i, sums: __m512i) -> __m512i {
            // SAFETY: only `run` gets here, with this instruction.
            unsafe { _mm512_dpbusd_epi32(sums, a, b) }
        }

        #[inline(always)]
        fn add(simd: V4, a: __m512i, b: __m512i) -> __m512i {
            <Integers as Arithmetic<V4>>::add(simd, a, b)
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

        pub(in crate::gemm) fn detect_bytes() -> Option<Self> {
            None
        }

        pub(in crate::gemm) fn run(self, _: impl Job) {
            match self.0 {}
        }
    }
}
