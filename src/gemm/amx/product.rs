//! C = A B, in blocks of C whose sums are kept in tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::instructions::{Amx, Configured};
use super::tiles::{DEPTH, Order, SIDE, Tiles};
use crate::gemm::kernel::Target;
use crate::gemm::{Matrix, THREAD_WORK};

/// Rows and columns of C that are made together: two tiles each way, which load two of A and two of B for four products.
pub(super) const BLOCK: usize = 2 * SIDE;
/// Contraction indices of a pass, in which two strips of A stay in the core's first-level cache: 32 KiB.
const PASS: usize = 16 * DEPTH;
/// Columns of B that are rounded for a pass: 1 MiB, which stay in the core's second-level cache.
const COLS: usize = 1024;
/// Rows of A that are rounded at a time: where they are contiguous in columns, of lines of cache that are neighbours.
const ROWS: usize = 512;

/// Sums of a block.
type Sums = [f32; BLOCK * BLOCK];

impl Amx {
    /// C = A B, or += where `add`, of a shape `[m, n, k]` that the matrices and C have been checked for; rounds A and B.
    pub(in crate::gemm) fn multiply(self, [m, n, k]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, target: Target<'_>, add: bool) {
        // No more than there are threads: each of them rounds all of one factor.
        let tasks = rayon::current_num_threads().min((m * n * k).div_ceil(THREAD_WORK));
        let shares = |len: usize| {
            let shares: Vec<Range<usize>> = parts(0..len, len.div_ceil(tasks).next_multiple_of(BLOCK)).collect();
            shares.into_par_iter()
        };
        let task = |rows, cols| Task { a, b, rows, cols, target, add }.make(self, k);
        // Along the longer side, for the other is rounded by every task.
        if m >= n { shares(m).for_each(|rows| task(rows, 0..n)) } else { shares(n).for_each(|cols| task(0..m, cols)) }
    }
}

/// Rows and columns of C that one thread makes.
struct Task<'a> {
    a: Matrix<'a>,
    b: Matrix<'a>,
    rows: Range<usize>,
    cols: Range<usize>,
    target: Target<'a>,
    add: bool,
}

impl Task<'_> {
    fn make(&self, amx: Amx, depth: usize) {
        let configured = Configured::new(amx);
        let pass = PASS.min(depth);
        let mut a = Tiles::new(ROWS.min(self.rows.len()), pass, Order::Rows);
        let mut b = Tiles::new(COLS.min(self.cols.len()), pass, Order::Pairs);
        for indices in parts(0..depth, pass) {
            let add = self.add || indices.start > 0;
            for cols in parts(self.cols.clone(), COLS) {
                b.round(amx, self.b.transposed(), cols.clone(), indices.clone());
                for rows in parts(self.rows.clone(), ROWS) {
                    a.round(amx, self.a, rows.clone(), indices.clone());
                    self.multiply(&configured, [&a, &b], rows, cols.clone(), add);
                }
            }
        }
    }

    /// The product of tiles, which are all of these rows and columns of C.
    fn multiply(&self, configured: &Configured, [a, b]: [&Tiles; 2], rows: Range<usize>, cols: Range<usize>, add: bool) {
        let mut sums = [0.0; BLOCK * BLOCK];
        for (i, rows) in parts(rows, BLOCK).enumerate() {
            for (j, cols) in parts(cols.clone(), BLOCK).enumerate() {
                let target = self.target.at(rows.start, cols.start);
                let [a, b] = [[0, 1].map(|k| a.strip(2 * i + k)), [0, 1].map(|k| b.strip(2 * j + k))];
                #[expect(unsafe_code, reason = "tasks share C")]
                // SAFETY: the caller has checked C, and the blocks of tasks have no element in common.
                unsafe {
                    if rows.len() == BLOCK && cols.len() == BLOCK {
                        configured.multiply(a, b, target, add);
                    } else {
                        configured.multiply(a, b, Target::of([BLOCK, BLOCK], &mut sums, BLOCK), false);
                        put(&sums, target, [rows.len(), cols.len()], add);
                    }
                }
            }
        }
    }
}

/// Puts the sums of a block, or adds them, into so many rows and columns of C.
///
/// # Safety
/// These lie within C, and nobody else reads or writes them.
#[expect(unsafe_code, reason = "tasks share C")]
unsafe fn put(sums: &Sums, target: Target<'_>, [rows, cols]: [usize; 2], add: bool) {
    for (row, sums) in sums.chunks_exact(BLOCK).take(rows).enumerate() {
        // SAFETY: as the caller promises.
        let c = unsafe { target.row(row, cols) };
        if add {
            c.iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
        } else {
            c.copy_from_slice(&sums[..cols]);
        }
    }
}

/// A range in parts of at most so many.
fn parts(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(step).map(move |first| first..(first + step).min(range.end))
}
