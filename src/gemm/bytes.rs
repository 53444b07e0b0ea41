//! Products of 8-bit integers, which processors with AVX-512 and VNNI make four at a time: each row is scaled such that its largest number
//! is 127. One factor is without signs there, so that 128 is added to its integers, and what that adds to sums is taken away again.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Matrix;
use super::buffer::Buffer;
use super::integers::{CHUNK, nearest, scale};

/// Magnitude of a row's largest integer.
pub(crate) const LARGEST: f32 = 127.0;

/// Longest rows whose sums of products, of up to 255 x 127 each, are exact in 32 bits.
pub(super) const MAX_COLS: usize = 1 << 16;

/// A matrix of contiguous rows of 8-bit integers, four of which are an element.
pub(super) struct Bytes {
    bits: Buffer,
    width: usize,
    /// What 1 stands for in each row.
    pub(super) units: Vec<f32>,
    /// The sum of each row's integers.
    pub(super) sums: Vec<i32>,
}

/// What is added to integers.
#[derive(Clone, Copy)]
pub(super) enum Offset {
    Zero,
    /// 128: bytes are without signs.
    Half,
}

impl Bytes {
    /// Rounds a matrix of contiguous rows; columns that are no multiple of four come beside what stands for zeros. What is not finite
    /// makes its row NaN.
    pub(super) fn of(matrix: Matrix<'_>, rows: usize, cols: usize, offset: Offset) -> Self {
        let width = cols.div_ceil(4);
        let (mut bits, mut units, mut sums) = (Buffer::of(rows * width), vec![0.0; rows], vec![0; rows]);
        let lines = bits.par_chunks_mut(width).zip(&mut units).zip(&mut sums).enumerate().with_min_len(CHUNK.div_ceil(cols));
        lines.for_each(|(row, ((bits, unit), sum))| {
            let numbers = &matrix.data[row * matrix.row_step..][..cols];
            (*unit, *sum) = Arch::new().dispatch(Round { numbers, bits, offset });
        });
        Self { bits, width, units, sums }
    }

    /// Four integers each as elements.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix::by_rows(&self.bits, self.width)
    }
}

/// Rounds a row: the unit, and the sum of the integers. A type, which is inlined where it is compiled for wide vectors.
struct Round<'a> {
    numbers: &'a [f32],
    bits: &'a mut [f32],
    offset: Offset,
}

impl WithSimd for Round<'_> {
    type Output = (f32, i32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f32, i32) {
        let Self { numbers, bits, offset } = self;
        // Magnitudes are ordered as their bits are, and NaN comes last.
        let largest = f32::from_bits(numbers.iter().fold(0, |largest, x| largest.max(x.abs().to_bits())));
        let unit = largest / LARGEST;
        let scale = scale(unit);
        let flip = match offset {
            Offset::Zero => 0,
            Offset::Half => 0x80,
        };
        let (integers, rest) = bytemuck::cast_slice_mut::<f32, u8>(bits).split_at_mut(numbers.len());
        integers.iter_mut().zip(numbers).for_each(|(integer, x)| *integer = nearest(x * scale).to_bits() as u8 ^ flip);
        rest.fill(flip);
        let sum = integers.iter().map(|integer| i32::from((integer ^ flip).cast_signed())).sum();
        (unit, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Offset};
    use crate::gemm::Matrix;

    #[test]
    fn the_largest_number_is_127() {
        let rows = [0.5, -1.0, 0.25, 0.0, 1.0, /* */ 0.0, 0.0, 0.0, 0.0, 0.0];
        let bytes = |offset| Bytes::of(Matrix::by_rows(&rows, 5), 2, 5, offset);
        let signed = bytes(Offset::Zero);
        assert_eq!(signed.units, [1.0 / 127.0, 0.0]);
        assert_eq!(signed.sums, [64 - 127 + 32 + 127, 0]);
        assert_eq!(bytemuck::cast_slice::<f32, i8>(&signed.bits)[..8], [64, -127, 32, 0, 127, 0, 0, 0]);
        let unsigned = bytes(Offset::Half);
        assert_eq!(unsigned.sums, signed.sums);
        assert_eq!(bytemuck::cast_slice::<f32, u8>(&unsigned.bits)[..8], [192, 1, 160, 128, 255, 128, 128, 128]);
    }

    #[test]
    fn what_is_not_finite_has_no_finite_unit() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let bytes = Bytes::of(Matrix::by_rows(&[1.0, bad, 2.0, 0.0], 4), 1, 4, Offset::Zero);
            assert!(!bytes.units[0].is_finite() && bytes.sums[0] == 0, "{bad}");
        }
    }
}
