//! Matrices of bfloat16 numbers in the order in which matrix units of x86 processors load them.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_epi16, _mm512_loadu_epi32, _mm512_maskz_loadu_ps,
    _mm512_permutexvar_epi16, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;
use std::ops::Range;

use super::instructions::Amx;
use crate::gemm::Matrix;
use crate::gemm::buffer::Buffer;

/// Rows of a tile, and elements in each: pairs of numbers that are neighbours along the contraction.
pub(super) const SIDE: usize = 16;
/// Elements of a tile.
pub(super) const TILE: usize = SIDE * SIDE;
/// Columns of a matrix that make a tile.
pub(super) const DEPTH: usize = 2 * SIDE;

/// What a row of a tile is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A row of the matrix, as the first factor is loaded.
    Rows,
    /// Pairs of two columns of the matrix, as the second factor is loaded, whose columns are these rows.
    Pairs,
}

/// Strips of [`SIDE`] rows of a matrix, each in tiles along its columns; zeros fill the last ones up, and there are an even number of strips.
pub(super) struct Tiles {
    order: Order,
    bits: Buffer,
    /// Elements of a strip.
    len: usize,
}

impl Tiles {
    /// Room for so many rows and columns.
    pub(super) fn new(rows: usize, cols: usize, order: Order) -> Self {
        let len = cols.div_ceil(DEPTH) * TILE;
        Self { order, bits: Buffer::of(rows.next_multiple_of(2 * SIDE) / SIDE * len), len }
    }

    /// A strip.
    pub(super) fn strip(&self, strip: usize) -> &[f32] {
        &self.bits[strip * self.len..][..self.len]
    }

    /// Rounds these rows and columns of a matrix; there is to be room for as many.
    pub(super) fn round(&mut self, _: Amx, matrix: Matrix<'_>, rows: Range<usize>, cols: Range<usize>) {
        // SAFETY: an `Amx` is proof of these instructions too.
        unsafe { self.fill(matrix, rows, cols) }
    }

    /// Lines of memory one after another, for where they are far apart no processor looks ahead by itself; tiles that they do not fill as they
    /// are to be loaded are turned afterwards, in cache.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn fill(&mut self, matrix: Matrix<'_>, rows: Range<usize>, cols: Range<usize>) {
        let depth = cols.len().div_ceil(DEPTH);
        self.len = depth * TILE;
        let strips = rows.len().next_multiple_of(2 * SIDE) / SIDE;
        let by_rows = matrix.col_step == 1;
        if by_rows {
            let rows = rows.map(|row| &matrix.data[row * matrix.row_step + cols.start..][..cols.len()]);
            let rows = rows.chain(std::iter::repeat(&[][..])).take(strips * SIDE);
            for (i, row) in rows.enumerate() {
                self.round_row(i, row);
            }
        } else {
            let column = |i: usize| {
                let col = cols.start + i;
                if col < cols.end { &matrix.data[col * matrix.col_step + rows.start..][..rows.len()] } else { &[] }
            };
            for pair in 0..depth * SIDE {
                self.round_pair(pair, [column(2 * pair), column(2 * pair + 1)], strips);
            }
        }
        if by_rows != (self.order == Order::Rows) {
            self.bits[..strips * self.len].as_chunks_mut::<TILE>().0.iter_mut().for_each(|tile| transpose(tile));
        }
    }

    /// Puts a row into all tiles of a strip.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn round_row(&mut self, row: usize, numbers: &[f32]) {
        let first = row / SIDE * self.len + row % SIDE * SIDE;
        for (tile, bits) in self.bits[first..][..self.len - row % SIDE * SIDE].chunks_mut(TILE).enumerate() {
            let [first, second] = [0, SIDE].map(|at| vector(numbers, tile * DEPTH + at));
            store(rounded(first, second), bits);
        }
    }

    /// Puts two columns into a tile of every strip.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn round_pair(&mut self, pair: usize, columns: [&[f32]; 2], strips: usize) {
        let at = pair / SIDE * TILE + pair % SIDE * SIDE;
        for strip in 0..strips {
            let [first, second] = columns.map(|numbers| vector(numbers, strip * SIDE));
            store(alternating(rounded(first, second)), &mut self.bits[strip * self.len + at..]);
        }
    }
}

/// Sixteen numbers from one on, and zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f")]
fn vector(numbers: &[f32], first: usize) -> __m512 {
    let numbers = numbers.get(first..).unwrap_or(&[]);
    let mask = if numbers.len() >= SIDE { u16::MAX } else { (1 << numbers.len()) - 1 };
    // SAFETY: only numbers of the slice are read.
    unsafe { _mm512_maskz_loadu_ps(mask, numbers.as_ptr()) }
}

/// Numbers that are rounded; the second are the upper half.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded(first: __m512, second: __m512) -> __m512i {
    // SAFETY: of the same size, and every bit pattern is valid.
    unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// Writes a row of a tile.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(row: __m512i, bits: &mut [f32]) {
    let bits = &mut bits[..SIDE];
    // SAFETY: as many elements as are written.
    unsafe { _mm512_storeu_epi32(bits.as_mut_ptr().cast(), row) };
}

/// Numbers of both halves in turns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn alternating(halves: __m512i) -> __m512i {
    const TURNS: [u16; 2 * SIDE] = {
        let mut turns = [0; 2 * SIDE];
        let mut i = 0;
        while i < turns.len() {
            turns[i] = (i / 2 + i % 2 * SIDE) as u16;
            i += 1;
        }
        turns
    };
    // SAFETY: as many numbers as are read.
    let turns = unsafe { _mm512_loadu_epi16(TURNS.as_ptr().cast()) };
    _mm512_permutexvar_epi16(turns, halves)
}

/// Turns a tile: its rows are then its columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(bits: &mut [f32; TILE]) {
    let mut tile = [_mm512_setzero_si512(); SIDE];
    for (row, bits) in tile.iter_mut().zip(bits.as_chunks::<SIDE>().0) {
        // SAFETY: as many elements as are read.
        *row = unsafe { _mm512_loadu_epi32(bits.as_ptr().cast()) };
    }
    let mut pairs = tile;
    for i in (0..SIDE).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(tile[i], tile[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(tile[i], tile[i + 1]);
    }
    // Row 4 i + j: of rows 4 i to 4 i + 3, columns j, 4 + j, 8 + j and 12 + j.
    let mut fours = tile;
    for i in (0..SIDE).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    let mut whole = tile;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let (even_ab, odd_ab) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        whole[j] = _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd);
        whole[4 + j] = _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd);
        whole[8 + j] = _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd);
        whole[12 + j] = _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd);
    }
    whole.into_iter().zip(bits.as_chunks_mut::<SIDE>().0).for_each(|(row, bits)| store(row, bits));
}
