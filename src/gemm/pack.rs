//! Packing: columns of B, side by side for every contraction index, as the kernel loads them.

use super::Matrix;
use super::kernel::{Panel, Rows, TILE_ROWS};

/// Columns of B that are transposed together.
const SIDE: usize = 4;

/// Fills `packed [depth, width]` with columns `col..` of B and contraction indices `k0..`; zeros beyond the panel's columns.
#[inline(always)]
pub(super) fn pack(packed: &mut [f32], b: Matrix<'_>, k0: usize, col: usize, panel: &Panel) {
    let Panel { cols, width, .. } = *panel;
    if b.col_step == 1 {
        for (k, to) in packed.chunks_exact_mut(width).enumerate() {
            let (values, rest) = to.split_at_mut(cols);
            values.copy_from_slice(&b.data[(k0 + k) * b.row_step + col..][..cols]);
            rest.fill(0.0);
        }
        return;
    }
    let depth = packed.len() / width;
    let column = |j: usize| &b.data[(col + j) * b.col_step + k0..][..depth];
    let whole = cols - cols % SIDE;
    for j in (0..whole).step_by(SIDE) {
        transpose(packed, width, j, std::array::from_fn(|i| column(j + i)));
    }
    for j in whole..width {
        for (k, to) in packed[j..].iter_mut().step_by(width).enumerate() {
            *to = if j < cols { column(j)[k] } else { 0.0 };
        }
    }
}

/// Copies `count` rows and the first `depth` columns of a matrix with contiguous columns, tile by tile; what
/// fills up the last is not to be used.
#[inline(always)]
pub(super) fn gather<'a>(buffer: &'a mut Vec<f32>, a: Matrix<'_>, count: usize, depth: usize) -> Rows<'a> {
    buffer.clear();
    for row in (0..count).step_by(TILE_ROWS) {
        let rows = TILE_ROWS.min(count - row);
        for k in 0..depth {
            let values = &a.data[k * a.col_step + row..];
            // Of fixed length where that can be, which is faster.
            if let Some(tile) = values.first_chunk::<TILE_ROWS>() {
                buffer.extend_from_slice(tile);
            } else {
                buffer.extend_from_slice(&values[..rows]);
                buffer.resize(buffer.len() + TILE_ROWS - rows, 0.0);
            }
        }
    }
    let a = Matrix { data: buffer, row_step: 1, col_step: TILE_ROWS };
    Rows { a, count, depth, tile_step: TILE_ROWS * depth }
}

/// Writes columns side by side, from place `at` of each row on.
#[inline(always)]
fn transpose(packed: &mut [f32], width: usize, at: usize, columns: [&[f32]; SIDE]) {
    let depth = columns[0].len();
    let mut rows = packed.chunks_exact_mut(width);
    for k in (0..depth - depth % SIDE).step_by(SIDE) {
        // By value, so that the compiler transposes in registers.
        let block: [[f32; SIDE]; SIDE] = std::array::from_fn(|i| std::array::from_fn(|j| columns[i][k + j]));
        for (j, row) in rows.by_ref().take(SIDE).enumerate() {
            row[at..at + SIDE].copy_from_slice(&std::array::from_fn::<f32, SIDE, _>(|i| block[i][j]));
        }
    }
    for (row, k) in rows.zip(depth - depth % SIDE..) {
        row[at..at + SIDE].copy_from_slice(&columns.map(|column| column[k]));
    }
}
