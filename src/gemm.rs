//! Matrix products on the CPU: C = A B (or +=) in float32, on all cores, in the widest vectors of the machine.
//!
//! A block of columns of B is packed into panels as wide as a register tile and stays in the core's second-level cache, while rows
//! of A stream past it as they lie in memory (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication",
//! with the roles of A and B exchanged; A needs no packing where its rows are contiguous, for every element is a broadcast).

mod amx;
mod bfloat16;
mod buffer;
mod bytes;
mod integers;
#[expect(
    unsafe_code,
    reason = "register tiles read and write through pointers: checks of every element would cost more than the work"
)]
mod kernel;
mod pack;
#[expect(unsafe_code, reason = "hands parts of C on to the kernel")]
mod packed;
mod peak;
mod rounded;
mod scan;
mod times;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

pub(crate) use bytes::LARGEST;
pub(crate) use integers::{Integers, LENGTH, Quantized};
pub(crate) use peak::{gemm_coarse_peak, gemm_peak, gemm_rounded_peak};
#[cfg(test)]
pub(crate) use rounded::is_coarse;
pub(crate) use rounded::{gemm_coarse, gemm_rounded};
pub(crate) use scan::scan;
pub(crate) use times::times;

use amx::Amx;
use bfloat16::Bfloat16;
use kernel::{Arithmetic, Float32, Target};
use packed::Packed;

/// Contraction indices of a pass: with [`BLOCK_COLS`] 384 KiB of packed B. A longer sum visits C once for each pass.
const BLOCK_DEPTH: usize = 384;
/// Columns of C that a task makes, and in a pass of few contraction indices up to four times as many, in as much memory.
const BLOCK_COLS: usize = 256;
/// Rows of A that are handed on at a time: where they are copied, of lines of cache that are used whole.
const BLOCK_ROWS: usize = 96;
/// Rows that are worth a task.
const TASK_ROWS: usize = 48;
/// Rows of C up to which B is used as it lies in memory, where its rows are contiguous.
const LOW_ROWS: usize = 48;
/// Elements so far apart, or a multiple, fall into the same few sets of the caches.
const COLLIDING_STEP: usize = 256;
/// Rows and columns of C from which on matrix units are faster, though they multiply numbers in three parts: below, to take them apart
/// takes longer than they save.
const PARTS_SIDE: usize = 128;
/// Multiply-adds that are worth another thread: a task of half of them takes about as long as it takes to hand it over.
const THREAD_WORK: usize = 1 << 20;

/// A matrix in memory: element (i, j) at `i * row_step + j * col_step`, one of the steps being 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_step: usize,
    pub(crate) col_step: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `cols` elements, one after another.
    pub(crate) fn by_rows(data: &'a [f32], cols: usize) -> Self {
        Self { data, row_step: cols, col_step: 1 }
    }

    /// Its transpose, in the same place.
    pub(crate) fn transposed(self) -> Self {
        Self { row_step: self.col_step, col_step: self.row_step, ..self }
    }

    /// Whether both are the same numbers in memory, read the other way round.
    fn is_transpose_of(self, other: Self) -> bool {
        std::ptr::eq(self.data, other.data) && (self.row_step, self.col_step) == (other.col_step, other.row_step)
    }

    /// The matrix without its first rows and columns.
    pub(crate) fn part(self, row: usize, col: usize) -> Self {
        Self { data: &self.data[row * self.row_step + col * self.col_step..], ..self }
    }

    /// Panics unless a matrix of this shape lies within the data.
    fn check(&self, name: &str, rows: usize, cols: usize) {
        let last = (rows - 1) * self.row_step + (cols - 1) * self.col_step;
        assert!(last < self.data.len(), "gemm: {name} is shorter than its shape, {rows} x {cols}");
    }
}

/// One of the functions below.
pub(crate) type Gemm = fn([usize; 3], Matrix<'_>, Matrix<'_>, &mut [f32], usize, bool);

/// C `[m, n]` = A `[m, k]` B `[k, n]`, or += where `add`; rows of `c` begin `c_step` elements apart. The same bits whatever the
/// number of threads, but in blocks with factors that are not finite or all below 2^-40, where ordinary arithmetic takes the place of
/// matrix units. These take subnormal numbers for 0: of one below 2^-110, among larger ones, they keep the first 8 or 16 bits.
///
/// # Panics
/// If a slice is shorter than its shape, or a length is 0.
pub(crate) fn gemm(shape: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_step: usize, add: bool) {
    let [m, n, k] = shape;
    let product = Product::new(shape, a, b, c, c_step, add);
    if m.min(n) >= PARTS_SIDE
        && let Some(amx) = Amx::detect()
    {
        return amx.multiply::<3>(shape, a, b, product.target, add);
    }
    let threads = rayon::current_num_threads().min((m * n * k).div_ceil(THREAD_WORK));
    if threads == 1 {
        return product.blocks(m).into_iter().for_each(|block| product.make(&block));
    }
    product.spread(threads);
}

/// A product, made in blocks of C.
struct Product<'a> {
    shape: [usize; 3],
    a: Matrix<'a>,
    b: Matrix<'a>,
    target: Target<'a>,
    add: bool,
    numbers: Numbers<'a>,
}

/// What the elements of A and B are.
#[derive(Clone, Copy)]
enum Numbers<'a> {
    Float32,
    /// Pairs of bfloat16 numbers.
    Bfloat16(Bfloat16),
    /// Several integers.
    Integers(Integers, Scale<'a>),
}

/// What sums of products of integers stand for.
#[derive(Clone, Copy)]
struct Scale<'a> {
    /// What 1 stands for in each row of A.
    of_rows: &'a [f32],
    /// The same of each column of B.
    of_cols: &'a [f32],
    /// What a sum is that stands for 0, in each column.
    zeros: &'a [i32],
}

impl Scale<'_> {
    fn part(self, Block { rows, cols }: &Block) -> Self {
        let cols = cols.clone();
        Self { of_rows: &self.of_rows[rows.clone()], of_cols: &self.of_cols[cols.clone()], zeros: &self.zeros[cols] }
    }
}

/// Some rows and columns of C.
struct Block {
    rows: Range<usize>,
    cols: Range<usize>,
}

impl<'a> Product<'a> {
    fn new([m, n, k]: [usize; 3], a: Matrix<'a>, b: Matrix<'a>, c: &'a mut [f32], c_step: usize, add: bool) -> Self {
        a.check("A", m, k);
        b.check("B", k, n);
        Self { shape: [m, n, k], a, b, target: Target::of([m, n], c, c_step), add, numbers: Numbers::Float32 }
    }

    /// Makes all of C on so many threads.
    fn spread(&self, threads: usize) {
        let [m, n, _] = self.shape;
        if m == n && !self.add && self.a.is_transpose_of(self.b) {
            return self.symmetric();
        }
        // Four tasks for each thread, so that none waits long for another.
        let row_blocks = (4 * threads).div_ceil(n.div_ceil(self.block_cols())).min(m.div_ceil(TASK_ROWS));
        self.blocks(m.div_ceil(row_blocks)).into_par_iter().for_each(|block| self.make(&block));
    }

    /// Columns of a block: whole panels.
    fn block_cols(&self) -> usize {
        let as_much = BLOCK_COLS * BLOCK_DEPTH / self.shape[2];
        as_much.clamp(BLOCK_COLS, 4 * BLOCK_COLS).next_multiple_of(kernel::MAX_WIDTH)
    }

    /// All of C, in blocks of so many rows.
    fn blocks(&self, rows: usize) -> Vec<Block> {
        let [m, n, _] = self.shape;
        let block_cols = self.block_cols();
        let stripe = |row: usize| {
            let block = move |col| Block { rows: row..(row + rows).min(m), cols: col..(col + block_cols).min(n) };
            (0..n).step_by(block_cols).map(block)
        };
        (0..m).step_by(rows).flat_map(stripe).collect()
    }

    fn make(&self, block: &Block) {
        let Block { rows, cols } = block;
        let shape = [rows.len(), cols.len(), self.shape[2]];
        let (a, target) = (self.a.part(rows.start, 0), self.target.at(rows.start, cols.start));
        let task = Task { shape, a, b: self.b, col: cols.start, target, add: self.add };
        match self.numbers {
            Numbers::Float32 => Arch::new().dispatch(task),
            Numbers::Bfloat16(bfloat16) => bfloat16.run(task),
            Numbers::Integers(integers, scale) => task.scale(integers, scale.part(block)),
        }
    }

    /// C = A Aᵀ: what lies on the diagonal and right of it, and copies of that below.
    fn symmetric(&self) {
        let [n, _, _] = self.shape;
        // Narrow enough to leave out almost half, and not so narrow that packing costs as much.
        let height = (n / 8).clamp(TASK_ROWS, BLOCK_COLS);
        let stripe = |row: usize| {
            let block = move |col| Block { rows: row..(row + height).min(n), cols: col..(col + BLOCK_COLS).min(n) };
            (row..n).step_by(BLOCK_COLS).map(block)
        };
        let blocks: Vec<Block> = (0..n).step_by(height).flat_map(stripe).collect();
        blocks.into_par_iter().for_each(|block| {
            let Block { rows, cols } = &block;
            let [rows, cols] = [rows.clone(), cols.start.max(rows.end)..cols.end];
            self.make(&block);
            #[expect(unsafe_code, reason = "tasks share C")]
            // SAFETY: within C, which is square. This task alone has made the block and writes its mirror image, which lies below
            // the diagonal and outside of every block: the part of a block below the diagonal is left of its `rows.end`.
            unsafe {
                self.target.mirror(rows, cols);
            }
        });
    }
}

/// A block of C that one thread makes.
struct Task<'a> {
    /// Rows, columns, contraction indices.
    shape: [usize; 3],
    a: Matrix<'a>,
    b: Matrix<'a>,
    /// Its first column in B.
    col: usize,
    target: Target<'a>,
    add: bool,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run::<S, Float32>(simd);
    }
}

impl Job for Task<'_> {
    #[inline(always)]
    fn run<S: Simd, E: Arithmetic<S>>(self, simd: S) {
        let Self { shape: [m, n, k], a, b, col, target, add } = self;
        // Few rows do not repay packing, unless they would load from lines of cache that displace each other.
        let low = if b.row_step.is_multiple_of(COLLIDING_STEP) { LOW_ROWS / 2 } else { LOW_ROWS };
        let mut packed = Packed::new::<S>(b, col..col + n, k, m > low);
        for indices in packed.passes() {
            packed.pack(indices.clone());
            for row in (0..m).step_by(BLOCK_ROWS) {
                let rows = row..(row + BLOCK_ROWS).min(m);
                #[expect(unsafe_code, reason = "tasks share C")]
                // SAFETY: `Product` checked C, and its blocks have no element in common.
                unsafe {
                    packed.multiply::<S, E>(simd, a, rows, target.at(row, 0), add || indices.start > 0);
                }
            }
        }
    }
}

impl Task<'_> {
    /// Makes sums of integers and puts what they stand for into C.
    fn scale(self, integers: Integers, scale: Scale<'_>) {
        let Self { shape, a, b, col, target, add } = self;
        scan(
            shape,
            a,
            b.part(0, col),
            Some(integers),
            #[inline(always)]
            |row, sums| {
                let of_row = scale.of_rows[row];
                let columns = scale.of_cols.iter().zip(scale.zeros);
                let values = sums
                    .iter()
                    .zip(columns)
                    .map(|(sum, (unit, zero))| (sum.to_bits().cast_signed() - zero) as f32 * unit * of_row);
                #[expect(unsafe_code, reason = "tasks share C")]
                // SAFETY: `Product` checked C, and its blocks have no element in common.
                let c = unsafe { target.row(row, sums.len()) };
                if add {
                    c.iter_mut().zip(values).for_each(|(c, value)| *c += value);
                } else {
                    c.iter_mut().zip(values).for_each(|(c, value)| *c = value);
                }
            },
        );
    }
}

/// Work on products, in whatever vectors and numbers.
trait Job {
    fn run<S: Simd, E: Arithmetic<S>>(self, simd: S);
}

#[cfg(test)]
mod tests {
    use super::{Matrix, gemm};

    /// Of sizes that matrix units multiply, where there are some, by few contraction indices and many.
    #[test]
    fn numbers_of_any_size_are_multiplied() {
        for depth in [40, 300] {
            for scale in [1e-30, 1e-15, 1.0, 1e18] {
                check(depth, scale, None);
            }
            for odd in [f32::INFINITY, f32::NAN, f32::MAX, f32::from_bits(1)] {
                check(depth, 1.0, Some(odd));
            }
        }
    }

    /// Inner products of the same rows are the same, in whatever order.
    #[test]
    fn a_product_by_its_transpose_is_symmetric() {
        for [n, depth] in [[150, 40], [300, 300]] {
            let rows: Vec<f32> = (0..n * depth).map(|i| (i as f32 * 1.1).sin()).collect();
            let (rows, mut c) = (Matrix::by_rows(&rows, depth), vec![0.0; n * n]);
            gemm([n, n, depth], rows, rows.transposed(), &mut c, n, false);
            assert!((0..n * n).all(|at| c[at] == c[at % n * n + at / n]), "{n} x {depth}");
        }
    }

    /// A product of numbers of about a size, with or without another in the first row of A and the last column of B.
    fn check(depth: usize, scale: f32, odd: Option<f32>) {
        let [m, n] = [150, 131];
        let numbers = |len, step: f32| -> Vec<f32> { (0..len).map(|i| scale * (i as f32 * step).sin()).collect() };
        let (mut a, mut b) = (numbers(m * depth, 1.1), numbers(n * depth, 1.7));
        if let Some(odd) = odd {
            (a[depth - 1], b[n * depth - 2]) = (odd, odd);
        }
        let mut c = vec![0.0; m * n];
        gemm([m, n, depth], Matrix::by_rows(&a, depth), Matrix::by_rows(&b, depth).transposed(), &mut c, n, false);
        for (at, c) in c.into_iter().enumerate() {
            let (a, b) = (&a[at / n * depth..][..depth], &b[at % n * depth..][..depth]);
            let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
            let exact: f64 = a.iter().zip(b).map(product).sum();
            let size: f64 = a.iter().zip(b).map(product).map(f64::abs).sum();
            if (exact as f32).is_finite() {
                // Subnormal sums have fewer bits.
                let largest = 1e-6 * size + f64::from(f32::MIN_POSITIVE) * depth as f64;
                assert!((f64::from(c) - exact).abs() <= largest, "{depth}, {scale}, {odd:?}, at {at}: {c}, not {exact}");
            } else {
                assert!(c.is_nan() == exact.is_nan() && !c.is_finite(), "{depth}, {scale}, {odd:?}, at {at}: {c}, not {exact}");
            }
        }
    }
}
