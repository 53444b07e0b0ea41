//! Products of bfloat16 numbers, on processors that multiply and add two pairs of them in one instruction: matrices whose elements are
//! such pairs go the way of all others.

use rayon::prelude::*;

use super::Matrix;
use super::buffer::Buffer;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Bfloat16;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use x86::has_matrix_units;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use elsewhere::Bfloat16;

/// Pairs that a thread rounds at least.
const CHUNK: usize = 1 << 14;

/// A matrix whose elements are the bits of two bfloat16 numbers, which are neighbours in a row.
pub(super) struct Pairs {
    bits: Buffer,
    row_step: usize,
    col_step: usize,
}

impl Pairs {
    /// Rounds a matrix; an odd column comes beside zeros. What was contiguous stays so.
    pub(super) fn round(bfloat16: Bfloat16, matrix: Matrix<'_>, rows: usize, cols: usize) -> Self {
        let Matrix { data, row_step, col_step } = matrix;
        let width = cols.div_ceil(2);
        let mut bits = Buffer::of(rows * width);
        if col_step == 1 {
            let lines = bits.par_chunks_mut(width).with_min_len(CHUNK.div_ceil(width)).enumerate();
            lines.for_each(|(row, bits)| bfloat16.round(Numbers::Alternate(&data[row * row_step..][..cols]), bits));
            return Self { bits, row_step: width, col_step: 1 };
        }
        let column = |col: usize| &data[col * col_step..][..rows];
        let lines = bits.par_chunks_mut(rows).with_min_len(CHUNK.div_ceil(rows)).enumerate();
        lines.for_each(|(pair, bits)| {
            let [first, second] = [2 * pair, 2 * pair + 1];
            let numbers =
                if second < cols { Numbers::Beside(column(first), column(second)) } else { Numbers::Alone(column(first)) };
            bfloat16.round(numbers, bits);
        });
        Self { bits, row_step: 1, col_step: rows }
    }

    /// The pairs as elements.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix { data: &self.bits, row_step: self.row_step, col_step: self.col_step }
    }
}

/// Where the two numbers of each pair are.
#[derive(Clone, Copy)]
enum Numbers<'a> {
    /// One after the other; the last may lack its second.
    Alternate(&'a [f32]),
    /// In two slices.
    Beside(&'a [f32], &'a [f32]),
    /// The second is 0.
    Alone(&'a [f32]),
}

impl Numbers<'_> {
    #[inline(always)]
    fn round(self, bits: &mut [f32]) {
        match self {
            Self::Alternate(numbers) => {
                let (pairs, rest) = numbers.as_chunks();
                bits.iter_mut().zip(pairs).for_each(|(bits, &[first, second])| *bits = pair(first, second));
                if let (Some(bits), [first]) = (bits.last_mut(), rest) {
                    *bits = pair(*first, 0.0);
                }
            }
            Self::Beside(first, second) => {
                bits.iter_mut().zip(first.iter().zip(second)).for_each(|(bits, (first, second))| *bits = pair(*first, *second));
            }
            Self::Alone(first) => bits.iter_mut().zip(first).for_each(|(bits, first)| *bits = pair(*first, 0.0)),
        }
    }
}

/// Two numbers, each rounded to the nearest bfloat16, the even one of two.
#[inline(always)]
fn pair(first: f32, second: f32) -> f32 {
    let round = |x: f32| {
        let bits = x.to_bits();
        // A NaN stays one: rounding could carry it over to infinity or zero.
        if x.is_nan() { bits | 1 << 22 } else { bits + (0x7fff + (bits >> 16 & 1)) }
    };
    f32::from_bits(round(first) >> 16 | round(second) & 0xffff_0000)
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that no safe wrapper offers")]
mod x86 {
    use std::arch::x86_64::{__cpuid_count, _mm512_dpbf16_ps, CpuidResult};
    use std::sync::OnceLock;

    use bytemuck::cast;
    use pulp::f32x16;
    use pulp::x86::V4;

    use super::Numbers;
    use crate::gemm::Job;
    use crate::gemm::kernel::{Arithmetic, Float32};

    /// Proof that the processor has AVX-512 with its bfloat16 instructions, and that they are faster than those for float32.
    #[derive(Clone, Copy)]
    pub(in crate::gemm) struct Bfloat16(V4);

    impl Bfloat16 {
        pub(in crate::gemm) fn detect() -> Option<Self> {
            let simd = V4::try_new()?;
            // Processors with matrix units take twice as long for such vectors: on a Xeon (Granite Rapids) products reached .5 of
            // float32's roof.
            (is_x86_feature_detected!("avx512bf16") && !has_matrix_units()).then_some(Self(simd))
        }

        pub(in crate::gemm) fn run(self, job: impl Job) {
            // SAFETY: `V4` stands for all of these instructions but the last, and `detect` has seen that one.
            unsafe { run(self.0, job) }
        }

        pub(super) fn round(self, numbers: Numbers<'_>, bits: &mut [f32]) {
            // SAFETY: `V4` stands for these instructions.
            unsafe { round(numbers, bits) }
        }
    }

    /// Whether the processor has AMX for bfloat16; to be asked where there is AVX-512.
    pub(in crate::gemm) fn has_matrix_units() -> bool {
        const AMX_BF16: u32 = 1 << 22;
        const AMX_TILE: u32 = 1 << 24;
        /// A virtual machine's host answers, which takes a while.
        static FOUND: OnceLock<bool> = OnceLock::new();
        *FOUND.get_or_init(|| {
            // Unsafe for older compilers.
            let cpuid: unsafe fn(u32, u32) -> CpuidResult = __cpuid_count;
            // SAFETY: processors with AVX-512, which is named there too, know this leaf.
            let features = unsafe { cpuid(7, 0) }.edx;
            features & AMX_BF16 != 0 && features & AMX_TILE != 0
        })
    }

    /// Compiled as [`V4`] has it, with one instruction more.
    #[target_feature(enable = "avx512f,avx512cd,avx512vl,avx512dq,avx512bw,avx2,fma,avx512bf16")]
    fn run(simd: V4, job: impl Job) {
        job.run::<V4, Bfloat16>(simd);
    }

    #[target_feature(enable = "avx512f,avx512cd,avx512vl,avx512dq,avx512bw,avx2,fma")]
    fn round(numbers: Numbers<'_>, bits: &mut [f32]) {
        numbers.round(bits);
    }

    impl Arithmetic<V4> for Bfloat16 {
        type Vector = f32x16;

        #[inline(always)]
        fn splat(simd: V4, pair: f32) -> f32x16 {
            Float32::splat(simd, pair)
        }

        #[inline(always)]
        fn multiply_add(_: V4, a: f32x16, b: f32x16, sums: f32x16) -> f32x16 {
            // SAFETY: only `run` gets here, which a `Bfloat16` is needed for.
            cast(unsafe { _mm512_dpbf16_ps(cast(sums), cast(a), cast(b)) })
        }

        #[inline(always)]
        fn add(simd: V4, a: f32x16, b: f32x16) -> f32x16 {
            Float32::add(simd, a, b)
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use std::convert::Infallible;

    use super::Numbers;
    use crate::gemm::Job;

    /// No other processor's instructions are used.
    #[derive(Clone, Copy)]
    pub(in crate::gemm) struct Bfloat16(Infallible);

    impl Bfloat16 {
        pub(in crate::gemm) fn detect() -> Option<Self> {
            None
        }

        pub(in crate::gemm) fn run(self, _: impl Job) {
            match self.0 {}
        }

        pub(super) fn round(self, numbers: Numbers<'_>, bits: &mut [f32]) {
            numbers.round(bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Numbers, pair};

    fn numbers(pair: f32) -> [f32; 2] {
        [pair.to_bits() << 16, pair.to_bits() & 0xffff_0000].map(f32::from_bits)
    }

    /// Training that diverges must be seen to.
    #[test]
    fn rounding_is_to_the_nearest_even_and_keeps_what_is_not_finite() {
        let half = 1.0 / 256.0;
        assert_eq!(numbers(pair(1.0 + half, 1.0 + 3.0 * half)), [1.0, 1.0 + 4.0 * half], "ties go to the even one");
        assert_eq!(numbers(pair(-1.0 - 1.1 * half, 0.9 * half + 1.0)), [-1.0 - 2.0 * half, 1.0]);
        assert_eq!(numbers(pair(f32::INFINITY, f32::NEG_INFINITY)), [f32::INFINITY, f32::NEG_INFINITY]);
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff] {
            assert!(numbers(pair(f32::from_bits(bits), f32::from_bits(bits))).iter().all(|x| x.is_nan()), "{bits:x}");
        }
    }

    #[test]
    fn an_odd_number_is_beside_zero() {
        let mut bits = [f32::NAN; 2];
        Numbers::Alternate(&[1.0, 2.0, 3.0]).round(&mut bits);
        assert_eq!(bits.map(numbers), [[1.0, 2.0], [3.0, 0.0]]);
        Numbers::Alone(&[1.0, 2.0]).round(&mut bits);
        assert_eq!(bits.map(numbers), [[1.0, 0.0], [2.0, 0.0]]);
    }
}
