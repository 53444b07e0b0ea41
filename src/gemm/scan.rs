//! Products that are looked at while they are in cache, and not kept.

use pulp::{Arch, Simd, WithSimd};

use super::buffer::Buffer;
use super::integers::Integers;
use super::kernel::{Arithmetic, Float32, Target};
use super::packed::Packed;
use super::{BLOCK_DEPTH, BLOCK_ROWS, Job, Matrix};

/// Hands every row of A `[m, k]` B `[k, n]` to `see`, with its number, on this thread alone; compiled with what it calls for the widest
/// vectors (`see` is to be `#[inline(always)]`). With `integers`, elements of A and B are pairs or fours of them,
/// and products are 32-bit integers in the place of float32 numbers.
///
/// # Panics
/// If a slice is shorter than its shape, or a length is 0.
pub(crate) fn scan(
    [m, n, k]: [usize; 3],
    a: Matrix<'_>,
    b: Matrix<'_>,
    integers: Option<Integers>,
    see: impl FnMut(usize, &mut [f32]),
) {
    a.check("A", m, k);
    b.check("B", k, n);
    // Rows of one pass are seen at once, those of several after the last.
    let kept = if k <= BLOCK_DEPTH { BLOCK_ROWS.min(m) } else { m };
    let mut products = Buffer::of(kept * n);
    let scan = Scan { shape: [m, n, k], a, b, products: &mut products, see };
    match integers {
        None => Arch::new().dispatch(scan),
        Some(integers) => integers.run(scan),
    }
}

struct Scan<'a, F> {
    shape: [usize; 3],
    a: Matrix<'a>,
    b: Matrix<'a>,
    products: &'a mut [f32],
    see: F,
}

impl<F: FnMut(usize, &mut [f32])> WithSimd for Scan<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run::<S, Float32>(simd);
    }
}

impl<F: FnMut(usize, &mut [f32])> Job for Scan<'_, F> {
    #[inline(always)]
    fn run<S: Simd, E: Arithmetic<S>>(self, simd: S) {
        let Self { shape: [m, n, k], a, b, products, mut see } = self;
        let mut packed = Packed::new::<S>(b, 0..n, k, true);
        for indices in packed.passes() {
            packed.pack(indices.clone());
            for row in (0..m).step_by(BLOCK_ROWS) {
                let rows = row..(row + BLOCK_ROWS).min(m);
                let at = if indices.len() == k { 0 } else { row };
                let products = &mut products[at * n..][..rows.len() * n];
                #[expect(unsafe_code, reason = "the kernel writes through pointers")]
                // SAFETY: the slice, which is borrowed for as long, is so many rows of so many columns.
                unsafe {
                    packed.multiply::<S, E>(simd, a, rows.clone(), Target::of([rows.len(), n], products, n), indices.start > 0);
                }
                if indices.end == k {
                    for (row, products) in rows.zip(products.chunks_exact_mut(n)) {
                        see(row, products);
                    }
                }
            }
        }
    }
}
