//! A block of columns of B, packed for one pass over contraction indices after another, and rows of A that visit it.

use std::ops::Range;

use pulp::Simd;

use super::buffer::Buffer;
use super::kernel::{self, Arithmetic, Panel, Rows, TILE_ROWS, Target};
use super::{BLOCK_DEPTH, COLLIDING_STEP, Matrix, pack};

/// Rows of A that visit all panels before the next rows do, some tiles: their part of a pass stays in the core's first cache, and rows of
/// C are written as far as the block reaches.
const VISITING_ROWS: usize = 4 * TILE_ROWS;

/// Columns of B.
pub(super) struct Packed<'a> {
    b: Matrix<'a>,
    cols: Range<usize>,
    /// Contraction indices that there are, and of one pass at most.
    depth: [usize; 2],
    panels: Vec<Panel>,
    /// Whether whole panels are used as they lie in memory.
    in_place: bool,
    values: Buffer,
    /// Contraction indices that are packed.
    indices: Range<usize>,
    gathered: Buffer,
}

impl<'a> Packed<'a> {
    /// The columns `cols` of B, of `depth` rows; used as they lie in memory where that can be, unless it is `worth` packing them.
    #[inline(always)]
    pub(super) fn new<S: Simd>(b: Matrix<'a>, cols: Range<usize>, depth: usize, worth: bool) -> Self {
        let pass = depth.div_ceil(depth.div_ceil(BLOCK_DEPTH));
        let panels = kernel::panels::<S>(cols.len());
        let values = Buffer::of(panels.iter().map(|panel| panel.width).sum::<usize>() * pass);
        // Rows no longer than a panel lie as they would be packed.
        let narrow = panels.first().is_some_and(|panel| b.row_step <= panel.width);
        let in_place = b.col_step == 1 && (!worth || narrow);
        Self { b, cols, depth: [depth, pass], panels, in_place, values, indices: 0..0, gathered: Buffer::default() }
    }

    /// The contraction indices of each pass.
    pub(super) fn passes(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [depth, pass] = self.depth;
        (0..depth).step_by(pass).map(move |first| first..(first + pass).min(depth))
    }

    /// Packs the columns for a pass.
    #[inline(always)]
    pub(super) fn pack(&mut self, indices: Range<usize>) {
        let depth = indices.len();
        // Panels whose vectors are not whole come last.
        let first = self.panels.iter().position(|panel| packs(self.in_place, panel)).unwrap_or(self.panels.len());
        let panels = &self.panels[first..];
        if self.b.col_step == 1 {
            pack::pack_rows(&mut self.values, self.b, indices.clone(), self.cols.start, panels);
        } else {
            for panel in panels {
                let values = &mut self.values[panel.first * depth..][..panel.width * depth];
                pack::pack_columns(values, self.b, indices.start, self.cols.start + panel.first, panel);
            }
        }
        self.indices = indices;
    }

    /// The pass of these rows of A: C = A B, or += where `add`; `target` is the first of them and of the columns.
    ///
    /// # Safety
    /// From `target` on, there are as many rows of as many columns, which nobody else reads or writes.
    #[inline(always)]
    pub(super) unsafe fn multiply<S: Simd, E: Arithmetic<S>>(
        &mut self,
        simd: S,
        a: Matrix<'_>,
        rows: Range<usize>,
        target: Target<'_>,
        add: bool,
    ) {
        let (count, depth, first) = (rows.len(), self.indices.len(), self.indices.start);
        let a = a.part(rows.start, first);
        // Worth a copy where enough columns share it, and narrow panels leave little time to load from many lines of cache.
        let scattered = a.row_step == 1 && (!kernel::wide::<S>() || a.col_step.is_multiple_of(COLLIDING_STEP));
        let rows = if scattered && self.cols.len() > 64 {
            pack::gather(&mut self.gathered, a, count, depth)
        } else {
            // Rows that one panel visits may come from memory, and a processor does not look ahead from row to row by itself.
            Rows { a, count, depth, tile_step: TILE_ROWS * a.row_step, ahead: a.col_step == 1 && self.panels.len() == 1 }
        };
        for first_row in (0..count).step_by(VISITING_ROWS) {
            let rows = rows.part(first_row..(first_row + VISITING_ROWS).min(count));
            for panel in &self.panels {
                let values = if packs(self.in_place, panel) {
                    Matrix::by_rows(&self.values[panel.first * depth..][..panel.width * depth], panel.width)
                } else {
                    self.b.part(first, self.cols.start + panel.first)
                };
                // SAFETY: as the caller promises.
                unsafe { kernel::multiply::<S, E>(simd, &rows, panel, values, target.at(first_row, panel.first), add) };
            }
        }
    }
}

/// Whether a panel is packed: vectors that are not whole always are.
fn packs(in_place: bool, panel: &Panel) -> bool {
    !in_place || panel.cols < panel.width
}
