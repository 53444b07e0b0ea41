//! Products that C is multiplied by.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::{Gemm, Matrix};
use crate::simd::vectorized;

/// Rows of C whose products stay in cache until C is multiplied by them, and are enough for rounded numbers to be multiplied faster.
const ROWS: usize = 128;

/// C `[m, n]` *= A `[m, k]` B `[k, n]`, element by element, of products by `gemm`; rows of `c` begin `c_step` elements apart.
///
/// # Panics
/// As [`gemm`](super::gemm).
pub(crate) fn times(gemm: Gemm, [m, n, k]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_step: usize) {
    c[..(m - 1) * c_step + n].par_chunks_mut(ROWS * c_step).enumerate().for_each(|(block, c)| {
        let rows = c.len().div_ceil(c_step);
        let mut products = Buffer::of(rows * n);
        gemm([rows, n, k], a.part(block * ROWS, 0), b, &mut products, n, false);
        vectorized(
            #[inline(always)]
            || {
                for (c, products) in c.chunks_mut(c_step).zip(products.chunks_exact(n)) {
                    c[..n].iter_mut().zip(products).for_each(|(c, product)| *c *= product);
                }
            },
        );
    });
}
