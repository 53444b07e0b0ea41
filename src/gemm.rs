//! Matrix products on the CPU: C = A B (or +=) in float32, on all cores, in the widest vectors of the machine.
//!
//! A block of columns of B is packed into panels as wide as a register tile and stays in the core's second-level cache, while rows
//! of A stream past it as they lie in memory (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication",
//! with the roles of A and B exchanged; A needs no packing where its rows are contiguous, for every element is a broadcast).

#[expect(
    unsafe_code,
    reason = "register tiles read and write through pointers: checks of every element would cost more than the work"
)]
mod kernel;
mod pack;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use kernel::{Rows, Target};

/// Contraction indices of a pass: with [`BLOCK_COLS`] 384 KiB of packed B. A longer sum visits C once for each pass.
const BLOCK_DEPTH: usize = 384;
/// Columns of C that a task makes.
const BLOCK_COLS: usize = 256;
/// Rows of A that visit all panels before the next rows do: their part of a pass stays in cache meanwhile.
const BLOCK_ROWS: usize = 96;
/// Elements so far apart, or a multiple, fall into the same few sets of the caches.
const COLLIDING_STEP: usize = 256;
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

    /// The matrix without its first rows and columns.
    fn part(self, row: usize, col: usize) -> Self {
        Self { data: &self.data[row * self.row_step + col * self.col_step..], ..self }
    }

    /// Panics unless a matrix of this shape lies within the data.
    fn check(&self, name: &str, rows: usize, cols: usize) {
        let last = (rows - 1) * self.row_step + (cols - 1) * self.col_step;
        assert!(last < self.data.len(), "gemm: {name} is shorter than its shape, {rows} x {cols}");
    }
}

/// C `[m, n]` = A `[m, k]` B `[k, n]`, or += where `add`; rows of `c` begin `c_step` elements apart. The same bits whatever the
/// number of threads.
///
/// # Panics
/// If a slice is shorter than its shape, or a length is 0.
pub(crate) fn gemm(shape: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_step: usize, add: bool) {
    let [m, n, k] = shape;
    let threads = rayon::current_num_threads().min((m * n * k).div_ceil(THREAD_WORK));
    if threads == 1 {
        return gemm_here(shape, a, b, c, c_step, add);
    }
    // Four tasks for each thread, so that none waits long for another.
    let row_blocks = (4 * threads).div_ceil(n.div_ceil(BLOCK_COLS)).min(m.div_ceil(BLOCK_ROWS / 2));
    let tasks = Tasks::new(shape, a, b, c, c_step, add, row_blocks);
    (0..tasks.count()).into_par_iter().for_each(|index| tasks.run(index));
}

/// [`gemm`] on this thread alone.
pub(crate) fn gemm_here(shape: [usize; 3], a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_step: usize, add: bool) {
    let tasks = Tasks::new(shape, a, b, c, c_step, add, 1);
    (0..tasks.count()).for_each(|index| tasks.run(index));
}

/// A product, as blocks of C.
struct Tasks<'a> {
    shape: [usize; 3],
    a: Matrix<'a>,
    b: Matrix<'a>,
    target: Target<'a>,
    add: bool,
    /// Rows of a block.
    rows: usize,
}

impl<'a> Tasks<'a> {
    fn new(
        [m, n, k]: [usize; 3],
        a: Matrix<'a>,
        b: Matrix<'a>,
        c: &'a mut [f32],
        c_step: usize,
        add: bool,
        row_blocks: usize,
    ) -> Self {
        a.check("A", m, k);
        b.check("B", k, n);
        assert!(c_step >= n && c.len() >= (m - 1) * c_step + n, "gemm: C is shorter than its shape, {m} x {n}");
        Self { shape: [m, n, k], a, b, target: Target::new(c, c_step), add, rows: m.div_ceil(row_blocks) }
    }

    fn count(&self) -> usize {
        let [m, n, _] = self.shape;
        m.div_ceil(self.rows) * n.div_ceil(BLOCK_COLS)
    }

    fn run(&self, index: usize) {
        let [m, n, k] = self.shape;
        let col_blocks = n.div_ceil(BLOCK_COLS);
        let (row, col) = (index / col_blocks * self.rows, index % col_blocks * BLOCK_COLS);
        let shape = [self.rows.min(m - row), BLOCK_COLS.min(n - col), k];
        let (a, target) = (self.a.part(row, 0), self.target.at(row, col));
        Arch::new().dispatch(Task { shape, a, b: self.b, col, target, add: self.add });
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
        let Self { shape: [m, n, k], a, b, col, target, add } = self;
        let depth = k.div_ceil(k.div_ceil(BLOCK_DEPTH));
        let panels = kernel::panels::<S>(n);
        // Worth a copy where enough columns share it.
        let collides = a.col_step.is_multiple_of(COLLIDING_STEP) && n > 64;
        let mut gathered = Vec::new();
        let mut packed = vec![0.0; panels.iter().map(|panel| panel.width).sum::<usize>() * depth];
        for k0 in (0..k).step_by(depth) {
            let depth = depth.min(k - k0);
            for panel in &panels {
                pack::pack(&mut packed[panel.first * depth..][..panel.width * depth], b, k0, col + panel.first, panel);
            }
            for row in (0..m).step_by(BLOCK_ROWS) {
                let count = BLOCK_ROWS.min(m - row);
                let a = a.part(row, k0);
                let a = if collides { pack::gather(&mut gathered, a, count, depth) } else { a };
                let rows = Rows { a, count, depth };
                for panel in &panels {
                    let values = &packed[panel.first * depth..][..panel.width * depth];
                    let target = target.at(row, panel.first);
                    #[expect(unsafe_code, reason = "tasks share C")]
                    // SAFETY: `Tasks` checked C, and gives every task other columns or rows of it.
                    unsafe {
                        kernel::multiply(simd, &rows, panel, values, target, add || k0 > 0);
                    }
                }
            }
        }
    }
}
