//! The register tile: a few rows of A against a panel of packed columns.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use pulp::Simd;

use super::Matrix;
use super::pack::{LINE, prefetch_line};

/// Columns that are packed together, as wide as a register tile.
pub(super) struct Panel {
    /// First column within the block.
    pub(super) first: usize,
    /// Columns that there are.
    pub(super) cols: usize,
    /// Columns that are packed: whole vectors.
    pub(super) width: usize,
}

/// The panels of a block of `n` columns: as many of the widest as fit, then narrower ones.
#[inline(always)]
pub(super) fn panels<S: Simd>(n: usize) -> Vec<Panel> {
    let lanes = lanes::<S>();
    let widest = if wide::<S>() { 4 } else { 2 };
    let mut panels = Vec::with_capacity(n.div_ceil(widest * lanes) + 2);
    let mut first = 0;
    while first < n {
        let vectors = match (n - first).div_ceil(lanes).min(widest) {
            3 => 2,
            vectors => vectors,
        };
        let width = vectors * lanes;
        panels.push(Panel { first, cols: width.min(n - first), width });
        first += width;
    }
    panels
}

/// Widest panel: four vectors of sixteen.
pub(super) const MAX_WIDTH: usize = 64;

/// Numbers in a vector.
pub(super) const fn lanes<S: Simd>() -> usize {
    size_of::<S::f32s>() / size_of::<f32>()
}

/// Whether there are 32 vector registers, not 16.
pub(super) const fn wide<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32
}

/// Rows of A, from the first contraction index of a pass on, and how many of them and of the indices count.
pub(super) struct Rows<'a> {
    pub(super) a: Matrix<'a>,
    pub(super) count: usize,
    pub(super) depth: usize,
    /// From the first of [`TILE_ROWS`] rows to the first of the next.
    pub(super) tile_step: usize,
    /// Whether the rows of the next tile are asked for meanwhile.
    pub(super) ahead: bool,
}

/// Rows of a tile of the widest panels.
pub(super) const TILE_ROWS: usize = 6;

impl Rows<'_> {
    /// Where a row begins.
    #[inline(always)]
    fn offset(&self, row: usize) -> usize {
        row / TILE_ROWS * self.tile_step + row % TILE_ROWS * self.a.row_step
    }

    /// Some of them, from the first of a tile on.
    #[inline(always)]
    pub(super) fn part(&self, rows: Range<usize>) -> Self {
        Self { a: Matrix { data: &self.a.data[self.offset(rows.start)..], ..self.a }, count: rows.len(), ..*self }
    }
}

/// Where tiles of C go: tasks write different ones at the same time.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) first: *mut f32,
    pub(super) row_step: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a pointer into a slice that is borrowed for as long, of which every task writes other elements and none reads those of
// others.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// A matrix of contiguous rows.
    ///
    /// # Panics
    /// If the slice is shorter than its shape.
    pub(super) fn of([rows, cols]: [usize; 2], c: &'a mut [f32], row_step: usize) -> Self {
        assert!(
            row_step >= cols && c.len() >= (rows - 1) * row_step + cols,
            "gemm: C is shorter than its shape, {rows} x {cols}"
        );
        Self { first: c.as_mut_ptr(), row_step, borrowed: PhantomData }
    }

    /// The part that begins at this row and column.
    pub(super) fn at(self, row: usize, col: usize) -> Self {
        Self { first: self.first.wrapping_add(row * self.row_step + col), ..self }
    }
}

impl<'a> Target<'a> {
    /// Elements of a row.
    ///
    /// # Safety
    /// They lie within C, and nobody else reads or writes them as long as they are borrowed.
    pub(super) unsafe fn row(self, row: usize, cols: usize) -> &'a mut [f32] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.at(row, 0).first, cols) }
    }

    /// Copies a block of C to where its transpose belongs.
    ///
    /// # Safety
    /// Both lie within C and have no element in common, and nobody else reads or writes them.
    pub(super) unsafe fn mirror(self, rows: Range<usize>, cols: Range<usize>) {
        // In squares, so that lines of cache are used whole in both.
        const SIDE: usize = 16;
        for (row, col) in rows.clone().step_by(SIDE).flat_map(|row| cols.clone().step_by(SIDE).map(move |col| (row, col))) {
            for i in row..(row + SIDE).min(rows.end) {
                for j in col..(col + SIDE).min(cols.end) {
                    // SAFETY: as the caller promises.
                    unsafe { *self.at(j, i).first = *self.at(i, j).first };
                }
            }
        }
    }
}

/// How elements of A and B are multiplied.
pub(super) trait Arithmetic<S: Simd> {
    /// As many elements, or sums, as a vector of float32 numbers has.
    type Vector: Pod;

    /// An element in all places.
    fn splat(simd: S, element: f32) -> Self::Vector;

    /// `sums` and the products of the elements of two vectors.
    fn multiply_add(simd: S, a: Self::Vector, b: Self::Vector, sums: Self::Vector) -> Self::Vector;

    /// Two vectors of sums.
    fn add(simd: S, a: Self::Vector, b: Self::Vector) -> Self::Vector;
}

/// Elements that are float32 numbers.
pub(super) struct Float32;

impl<S: Simd> Arithmetic<S> for Float32 {
    type Vector = S::f32s;

    #[inline(always)]
    fn splat(simd: S, element: f32) -> S::f32s {
        simd.splat_f32s(element)
    }

    #[inline(always)]
    fn multiply_add(simd: S, a: S::f32s, b: S::f32s, sums: S::f32s) -> S::f32s {
        simd.mul_add_f32s(a, b, sums)
    }

    #[inline(always)]
    fn add(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
}

/// C = A B (or +=) for rows of A and one panel, `values [depth, width]` with contiguous rows.
///
/// # Safety
/// From `target` on, there are `rows.count` rows with the panel's columns, which nobody else reads or writes.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, E: Arithmetic<S>>(
    simd: S,
    rows: &Rows<'_>,
    panel: &Panel,
    values: Matrix<'_>,
    target: Target<'_>,
    add: bool,
) {
    assert!(values.col_step == 1 && rows.count > 0, "gemm: a panel is in columns, or there are no rows");
    values.check("a panel", rows.depth, panel.width);
    assert!(
        rows.offset(rows.count - 1) + (rows.depth - 1) * rows.a.col_step < rows.a.data.len(),
        "gemm: A is shorter than its shape"
    );
    // SAFETY: the two checks above bound what is read, the caller what is written.
    unsafe {
        match (panel.width / lanes::<S>(), wide::<S>()) {
            (4, true) => stripe::<S, E, 6, 4>(simd, rows, panel, values, target, add),
            (2, true) => stripe::<S, E, 12, 2>(simd, rows, panel, values, target, add),
            (_, true) => stripe::<S, E, 12, 1>(simd, rows, panel, values, target, add),
            (2, false) => stripe::<S, E, 6, 2>(simd, rows, panel, values, target, add),
            (_, false) => stripe::<S, E, 6, 1>(simd, rows, panel, values, target, add),
        }
    }
}

/// All rows, in tiles of `ROWS`.
#[inline(always)]
unsafe fn stripe<S: Simd, E: Arithmetic<S>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: &Rows<'_>,
    panel: &Panel,
    values: Matrix<'_>,
    target: Target<'_>,
    add: bool,
) {
    for row in (0..rows.count).step_by(ROWS) {
        let count = ROWS.min(rows.count - row);
        // SAFETY: as for the caller; the tile's rows are some of those.
        unsafe {
            let sums = sums::<S, E, ROWS, VECTORS>(simd, rows, row, count, values);
            store::<S, E, ROWS, VECTORS>(simd, sums, count, panel, target.at(row, 0), add);
        }
    }
}

/// Sums of `count` rows from `row` on; of a tile's other rows they are those of the last.
#[inline(always)]
unsafe fn sums<S: Simd, E: Arithmetic<S>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: &Rows<'_>,
    row: usize,
    count: usize,
    values: Matrix<'_>,
) -> [[E::Vector; VECTORS]; ROWS] {
    let Matrix { data, col_step, .. } = rows.a;
    let mut sums = [[E::Vector::zeroed(); VECTORS]; ROWS];
    let first = rows.offset(row);
    let offsets: [usize; ROWS] = std::array::from_fn(|i| rows.offset(row + i.min(count - 1)) - first);
    let (mut a, mut b) = (data[first..].as_ptr(), values.data.as_ptr());
    let span = if rows.ahead { LINE } else { rows.depth };
    for k in (0..rows.depth).step_by(span) {
        if rows.ahead {
            let next = a.wrapping_add(ROWS / TILE_ROWS * rows.tile_step);
            offsets.iter().for_each(|offset| prefetch_line(next.wrapping_add(*offset)));
        }
        for _ in k..rows.depth.min(k + span) {
            // SAFETY: `values` holds `depth` rows of so many vectors, and A the rows and indices, as `multiply` checked.
            unsafe {
                let b_k: [E::Vector; VECTORS] = std::array::from_fn(|j| b.cast::<E::Vector>().add(j).read_unaligned());
                for (sums, offset) in sums.iter_mut().zip(offsets) {
                    let a = E::splat(simd, *a.add(offset));
                    for (sum, b) in sums.iter_mut().zip(b_k) {
                        *sum = E::multiply_add(simd, a, b, *sum);
                    }
                }
            }
            (a, b) = (a.wrapping_add(col_step), b.wrapping_add(values.row_step));
        }
    }
    sums
}

/// Writes or adds the first `count` rows of a tile.
#[inline(always)]
unsafe fn store<S: Simd, E: Arithmetic<S>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    sums: [[E::Vector; VECTORS]; ROWS],
    count: usize,
    panel: &Panel,
    target: Target<'_>,
    add: bool,
) {
    let row = |i: usize| target.at(i, 0).first;
    let whole = panel.cols == panel.width;
    // A loop for each case, with sums by their places, so that they stay in registers.
    // SAFETY: the caller lends these rows of C, and the buffer is as wide as any panel.
    unsafe {
        if whole && !add {
            for (i, sums) in sums.iter().enumerate() {
                if i >= count {
                    return;
                }
                for (j, sum) in sums.iter().enumerate() {
                    row(i).cast::<E::Vector>().add(j).write_unaligned(*sum);
                }
            }
        } else if whole {
            for (i, sums) in sums.iter().enumerate() {
                if i >= count {
                    return;
                }
                for (j, sum) in sums.iter().enumerate() {
                    let c = row(i).cast::<E::Vector>().add(j);
                    c.write_unaligned(E::add(simd, c.read_unaligned(), *sum));
                }
            }
        } else {
            for (i, sums) in sums.iter().enumerate() {
                if i >= count {
                    return;
                }
                let mut buffer = [0.0; MAX_WIDTH];
                if add {
                    buffer.as_mut_ptr().copy_from_nonoverlapping(row(i), panel.cols);
                }
                for (j, sum) in sums.iter().enumerate() {
                    let c = buffer.as_mut_ptr().cast::<E::Vector>().add(j);
                    // To zeros where nothing is to be added to: -0 becomes 0.
                    c.write_unaligned(E::add(simd, c.read_unaligned(), *sum));
                }
                row(i).copy_from_nonoverlapping(buffer.as_ptr(), panel.cols);
            }
        }
    }
}
