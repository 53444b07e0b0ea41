//! Packing: columns of B, side by side for every contraction index, as the kernel loads them.

use std::ops::Range;

use super::Matrix;
use super::buffer::Buffer;
use super::kernel::{Panel, Rows, TILE_ROWS};

/// Columns of B that are transposed together.
const SIDE: usize = 8;

/// Rows that are asked for before they are packed: the next may lie in another page of memory, where no processor looks by itself.
const AHEAD: usize = 6;
/// Rows that are so many numbers apart, a quarter of a page, are asked for.
const FAR: usize = 256;

/// Fills panels, each `[indices, width]` behind those before it, from contiguous rows of B; `col` is where the first panel begins. Row by
/// row, as they lie in memory: lines of a column that are far apart would come one by one.
#[inline(always)]
pub(super) fn pack_rows(packed: &mut [f32], b: Matrix<'_>, indices: Range<usize>, col: usize, panels: &[Panel]) {
    let depth = indices.len();
    let Some(end) = panels.last().map(|panel| panel.first + panel.cols) else { return };
    let far = b.row_step >= FAR;
    for (k, index) in indices.enumerate() {
        if far && let Some(ahead) = b.data.get((index + AHEAD) * b.row_step + col..) {
            prefetch(&ahead[..end.min(ahead.len())]);
        }
        for &Panel { first, cols, width } in panels {
            let (values, rest) = packed[first * depth + k * width..][..width].split_at_mut(cols);
            copy(values, &b.data[index * b.row_step + col + first..][..cols]);
            rest.fill(0.0);
        }
    }
}

/// Numbers in a line of cache.
pub(super) const LINE: usize = 16;

/// Asks for lines of cache that are read soon.
#[inline(always)]
fn prefetch(numbers: &[f32]) {
    numbers.chunks(LINE).for_each(|line| prefetch_line(line.as_ptr()));
}

/// Asks for the line of cache at an address that is read soon, if there is one.
#[inline(always)]
pub(super) fn prefetch_line(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        #[expect(unsafe_code, reason = "no safe wrapper knows this instruction")]
        // SAFETY: a hint, which is part of every x86-64 processor; it reads nothing and cannot fault.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Copies a few numbers, without the call that a copy of any length would be.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<8>(), from.as_chunks::<8>());
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

/// Fills `packed [depth, width]` with columns `col..` of B, which are contiguous, and contraction indices `k0..`; zeros beyond the panel's
/// columns.
#[inline(always)]
pub(super) fn pack_columns(packed: &mut [f32], b: Matrix<'_>, k0: usize, col: usize, panel: &Panel) {
    let Panel { cols, width, .. } = *panel;
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

/// Copies `count` rows and the first `depth` columns of a matrix with contiguous columns, to tile behind tile; what fills up the last is
/// not to be used.
#[inline(always)]
pub(super) fn gather<'a>(buffer: &'a mut Buffer, a: Matrix<'_>, count: usize, depth: usize) -> Rows<'a> {
    let tile_step = TILE_ROWS * depth;
    let len = count.div_ceil(TILE_ROWS) * tile_step;
    if buffer.len() < len {
        *buffer = Buffer::of(len);
    }
    let column = |k: usize| a.data.get(k * a.col_step..).map(|values| &values[..count.min(values.len())]);
    for k in 0..depth {
        if let Some(ahead) = column(k + AHEAD) {
            prefetch(ahead);
        }
        let (whole, rest) = column(k).expect("a column lies within A").as_chunks::<TILE_ROWS>();
        let mut tiles = buffer[k * TILE_ROWS..].chunks_mut(tile_step);
        for (rows, tile) in whole.iter().zip(&mut tiles) {
            *tile.first_chunk_mut().expect("a tile is as long as its rows") = *rows;
        }
        if let Some(tile) = tiles.next() {
            tile[..rest.len()].copy_from_slice(rest);
        }
    }
    let a = Matrix { data: buffer, row_step: 1, col_step: TILE_ROWS };
    Rows { a, count, depth, tile_step, ahead: false }
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
