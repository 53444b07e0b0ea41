//! C = A B, in blocks of C whose sums are kept in tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::instructions::{Amx, Configured};
use super::tiles::{DEPTH, Order, SIDE, Tiles};
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::Target;
use crate::gemm::{Matrix, Numbers, Product, THREAD_WORK};

/// Rows and columns of C that are made together: two tiles each way, which load two of A and two of B for four products.
const BLOCK: usize = 2 * SIDE;
/// Elements of a block.
const BLOCK_LEN: usize = BLOCK * BLOCK;
/// Rows of A that are rounded at a time: where they are contiguous in columns, of lines of cache that are neighbours.
const ROWS: usize = 512;
/// Contraction indices of a pass, of whose numbers two strips of A stay in the core's first-level cache beside two of B: 32 KiB together, or 48
/// in three parts.
const fn pass(parts: usize) -> usize {
    if parts == 1 { 8 * DEPTH } else { 4 * DEPTH }
}

impl Amx {
    /// C = A B, or += where `add`, of a shape `[m, n, k]` that the matrices and C have been checked for: of factors that are rounded
    /// (`PARTS` 1) or about as exact as in float32 (`PARTS` 3; Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 artificial intelligence
    /// datatype for higher-precision computations", arXiv 1904.06376).
    pub(in crate::gemm) fn multiply<const PARTS: usize>(
        self,
        [m, n, k]: [usize; 3],
        a: Matrix<'_>,
        b: Matrix<'_>,
        target: Target<'_>,
        add: bool,
    ) {
        let task = |rows, cols| Task { a, b, rows, cols, depth: k, target, add, half: false };
        // No more than there are threads: each of them rounds all of one factor.
        let tasks = rayon::current_num_threads().min((m * n * k).div_ceil(THREAD_WORK));
        let shares = |len: usize| parallel(parts(0..len, len.div_ceil(tasks).next_multiple_of(BLOCK)));
        if m == n && !add && a.is_transpose_of(b) {
            let make = |rows: Range<usize>| Task { half: true, ..task(rows.clone(), rows.start..n) }.make::<PARTS>(self);
            parallel(triangle(n, tasks)).for_each(make);
            parallel(parts(0..n, BLOCK)).for_each(|rows| {
                #[expect(unsafe_code, reason = "tasks share C")]
                // SAFETY: within C, which is square; what lies left of the diagonal is written here alone.
                unsafe {
                    target.mirror(rows.clone(), rows.end..n);
                    // Parts are summed in another order on the other side of the diagonal.
                    rows.clone().for_each(|row| target.mirror(row..row + 1, row + 1..rows.end));
                }
            });
        } else if m >= n {
            // Along the longer side, for the other is rounded by every task.
            shares(m).for_each(|rows| task(rows, 0..n).make::<PARTS>(self));
        } else {
            shares(n).for_each(|cols| task(0..m, cols).make::<PARTS>(self));
        }
    }
}

/// Rows for each of some tasks, which have as much each of what lies on the diagonal of a square and right of it.
fn triangle(side: usize, tasks: usize) -> impl Iterator<Item = Range<usize>> {
    let first = move |task: usize| {
        let above = 1.0 - (1.0 - task as f64 / tasks as f64).sqrt();
        ((side as f64 * above) as usize).next_multiple_of(BLOCK).min(side)
    };
    (0..tasks).map(move |task| first(task)..first(task + 1)).filter(|rows| !rows.is_empty())
}

/// Rows and columns of C that one thread makes.
struct Task<'a> {
    a: Matrix<'a>,
    b: Matrix<'a>,
    rows: Range<usize>,
    cols: Range<usize>,
    depth: usize,
    target: Target<'a>,
    add: bool,
    /// Whether blocks left of the diagonal are left out.
    half: bool,
}

impl Task<'_> {
    fn make<const PARTS: usize>(&self, amx: Amx) {
        let longest = if PARTS == 1 { 2 * pass(1) } else { pass(PARTS) };
        if self.depth <= longest { self.in_one_pass::<PARTS>(amx) } else { self.in_passes::<PARTS>(amx) }
    }

    /// Puts sums into C as they come out of tiles.
    fn in_one_pass<const PARTS: usize>(&self, amx: Amx) {
        /// Columns of B that are rounded: up to 1 MiB, which stay in the core's second-level cache.
        const COLS: usize = 1024;
        let configured = Configured::new(amx);
        let [mut a, mut b] = self.tiles::<PARTS>(COLS, self.depth);
        let mut sums = [0.0; BLOCK_LEN];
        for cols in parts(self.cols.clone(), COLS) {
            b.round(amx, self.b.transposed(), cols.clone(), 0..self.depth);
            for rows in parts(self.rows.clone(), ROWS) {
                a.round(amx, self.a, rows.clone(), 0..self.depth);
                if !(a.are_ordinary() && b.are_ordinary()) {
                    self.multiply_as_they_are(rows, cols.clone());
                    continue;
                }
                for (block, target) in self.blocks(rows, cols.clone()) {
                    let strips = block.strips(&a, &b);
                    #[expect(unsafe_code, reason = "tasks share C")]
                    // SAFETY: the caller has checked C, and the blocks of tasks have no element in common.
                    unsafe {
                        if block.shape == [BLOCK, BLOCK] {
                            configured.multiply::<PARTS>(strips, target, self.add);
                        } else {
                            configured.multiply::<PARTS>(strips, Target::of([BLOCK, BLOCK], &mut sums, BLOCK), false);
                            put(&sums, target, block.shape, self.add);
                        }
                    }
                }
            }
        }
    }

    /// Keeps sums in cache from pass to pass, for C is far away: rows of 4 KiB are in the same few sets of the caches.
    fn in_passes<const PARTS: usize>(&self, amx: Amx) {
        /// Columns of C whose sums are kept: with [`ROWS`] 1 MiB, half of the core's second-level cache.
        const COLS: usize = 512;
        let pass = pass(PARTS);
        let configured = Configured::new(amx);
        let [mut a, mut b] = self.tiles::<PARTS>(COLS, pass);
        let blocks = |len: usize, most: usize| len.min(most).div_ceil(BLOCK);
        let mut sums = Buffer::of(blocks(self.rows.len(), ROWS) * blocks(self.cols.len(), COLS) * BLOCK_LEN);
        for cols in parts(self.cols.clone(), COLS) {
            for rows in parts(self.rows.clone(), ROWS) {
                let blocks = || self.blocks(rows.clone(), cols.clone());
                let ordinary = parts(0..self.depth, pass).all(|indices| {
                    a.round(amx, self.a, rows.clone(), indices.clone());
                    b.round(amx, self.b.transposed(), cols.clone(), indices.clone());
                    for ((block, _), sums) in blocks().zip(sums.chunks_exact_mut(BLOCK_LEN)) {
                        let target = Target::of([BLOCK, BLOCK], sums, BLOCK);
                        #[expect(unsafe_code, reason = "tiles are read and written whole")]
                        // SAFETY: a whole block of sums.
                        unsafe {
                            configured.multiply::<PARTS>(block.strips(&a, &b), target, indices.start > 0);
                        }
                    }
                    a.are_ordinary() && b.are_ordinary()
                });
                if !ordinary {
                    self.multiply_as_they_are(rows.clone(), cols.clone());
                    continue;
                }
                for ((block, target), sums) in blocks().zip(sums.chunks_exact(BLOCK_LEN)) {
                    #[expect(unsafe_code, reason = "tasks share C")]
                    // SAFETY: the caller has checked C, and the blocks of tasks have no element in common.
                    unsafe {
                        put(sums, target, block.shape, self.add);
                    }
                }
            }
        }
    }

    /// Room for rows of A and columns of B, as many as there are up to [`ROWS`] and `cols`.
    fn tiles<const PARTS: usize>(&self, cols: usize, pass: usize) -> [Tiles<PARTS>; 2] {
        let pass = pass.min(self.depth);
        [Tiles::new(ROWS.min(self.rows.len()), pass, Order::Rows), Tiles::new(cols.min(self.cols.len()), pass, Order::Pairs)]
    }

    /// Blocks of these rows and columns, with their places in C.
    fn blocks(&self, rows: Range<usize>, cols: Range<usize>) -> impl Iterator<Item = (Block, Target<'_>)> {
        parts(rows, BLOCK).enumerate().flat_map(move |(i, rows)| {
            parts(cols.clone(), BLOCK).enumerate().filter_map(move |(j, cols)| {
                let block = Block { place: [i, j], shape: [rows.len(), cols.len()] };
                (!self.half || cols.start >= rows.start).then(|| (block, self.target.at(rows.start, cols.start)))
            })
        })
    }

    /// These rows and columns by ordinary arithmetic.
    fn multiply_as_they_are(&self, rows: Range<usize>, cols: Range<usize>) {
        let shape = [rows.len(), cols.len(), self.depth];
        let (a, b) = (self.a.part(rows.start, 0), self.b.part(0, cols.start));
        let target = self.target.at(rows.start, cols.start);
        let product = Product { shape, a, b, target, add: self.add, numbers: Numbers::Float32 };
        product.blocks(rows.len()).iter().for_each(|block| product.make(block));
    }
}

/// A block of C.
struct Block {
    /// Which one it is, by rows and columns of blocks.
    place: [usize; 2],
    shape: [usize; 2],
}

impl Block {
    /// Strips of A, and of B, that it is the product of.
    fn strips<'a, const PARTS: usize>(&self, a: &'a Tiles<PARTS>, b: &'a Tiles<PARTS>) -> [[&'a [f32]; 2]; 2] {
        let [i, j] = self.place;
        [[a.strip(2 * i), a.strip(2 * i + 1)], [b.strip(2 * j), b.strip(2 * j + 1)]]
    }
}

/// Puts the sums of a block, or adds them, into so many rows and columns of C.
///
/// # Safety
/// These lie within C, and nobody else reads or writes them.
#[expect(unsafe_code, reason = "tasks share C")]
unsafe fn put(sums: &[f32], target: Target<'_>, [rows, cols]: [usize; 2], add: bool) {
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

/// Ranges for as many tasks.
fn parallel(ranges: impl Iterator<Item = Range<usize>>) -> impl ParallelIterator<Item = Range<usize>> {
    ranges.collect::<Vec<_>>().into_par_iter()
}
