//! Matrices of bfloat16 numbers in the order in which matrix units of x86 processors load them.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cvtne2ps_pbh, _mm512_loadu_epi16, _mm512_loadu_epi32, _mm512_maskz_loadu_ps, _mm512_max_epu32, _mm512_or_si512,
    _mm512_permutexvar_epi16, _mm512_reduce_max_epu32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_srli_epi32, _mm512_storeu_epi32, _mm512_sub_ps, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
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
/// Rows that are asked for before they are rounded: the next may lie in another page of memory, where no processor looks by itself.
const AHEAD: usize = 4;
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
/// Every tile is followed by those of the numbers' other parts: a number is the sum of so many.
pub(super) struct Tiles<const PARTS: usize> {
    order: Order,
    bits: Buffer,
    /// Elements of a strip.
    len: usize,
    /// Bits of the largest number, of those in several parts.
    largest: u32,
}

impl<const PARTS: usize> Tiles<PARTS> {
    /// Elements of a tile with all parts.
    const STEP: usize = PARTS * TILE;

    /// Room for so many rows and columns.
    pub(super) fn new(rows: usize, cols: usize, order: Order) -> Self {
        let len = cols.div_ceil(DEPTH) * Self::STEP;
        Self { order, bits: Buffer::of(rows.next_multiple_of(2 * SIDE) / SIDE * len), len, largest: 0 }
    }

    /// Whether three parts stand for all but the last bits of the largest numbers, and of their products: these are not infinite, and no part
    /// is as small as matrix units take for 0.
    pub(super) fn are_ordinary(&self) -> bool {
        /// Bits from 2^-40 to infinity.
        const ORDINARY: Range<u32> = 87 << 23..255 << 23;
        self.largest == 0 || ORDINARY.contains(&self.largest)
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
        self.len = depth * Self::STEP;
        let mut largest = _mm512_setzero_si512();
        let strips = rows.len().next_multiple_of(2 * SIDE) / SIDE;
        let by_rows = matrix.col_step == 1;
        if by_rows {
            let rows = rows.map(|row| &matrix.data[row * matrix.row_step + cols.start..][..cols.len()]);
            let rows = rows.chain(std::iter::repeat(&[][..])).take(strips * SIDE);
            for (i, row) in rows.enumerate() {
                prefetch(row, AHEAD * matrix.row_step);
                self.round_row(i, row, &mut largest);
            }
        } else {
            let column = |i: usize| {
                let col = cols.start + i;
                if col < cols.end { &matrix.data[col * matrix.col_step + rows.start..][..rows.len()] } else { &[] }
            };
            for pair in 0..depth * SIDE {
                let col = pair / SIDE * DEPTH + pair % SIDE;
                self.round_pair(pair, [column(col), column(col + SIDE)], strips, &mut largest);
            }
        }
        if by_rows != (self.order == Order::Rows) {
            self.bits[..strips * self.len].as_chunks_mut::<TILE>().0.iter_mut().for_each(|tile| transpose(tile));
        }
        self.largest = _mm512_reduce_max_epu32(largest);
    }

    /// Puts a row into all tiles of a strip.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn round_row(&mut self, row: usize, numbers: &[f32], largest: &mut __m512i) {
        let at = row % SIDE * SIDE;
        let strip = &mut self.bits[row / SIDE * self.len..][..self.len];
        for (tile, bits) in strip.chunks_exact_mut(Self::STEP).enumerate() {
            let numbers = [0, SIDE].map(|col| vector(numbers, tile * DEPTH + col));
            let parts = parts::<PARTS>(numbers, largest);
            parts.into_iter().zip(bits.chunks_exact_mut(TILE)).for_each(|(part, bits)| store(part, &mut bits[at..]));
        }
    }

    /// Puts two columns into a tile of every strip.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn round_pair(&mut self, pair: usize, columns: [&[f32]; 2], strips: usize, largest: &mut __m512i) {
        let at = pair / SIDE * Self::STEP + pair % SIDE * SIDE;
        for strip in 0..strips {
            let bits = &mut self.bits[strip * self.len + at..];
            let parts = parts::<PARTS>(columns.map(|numbers| vector(numbers, strip * SIDE)), largest);
            parts.into_iter().zip(bits.chunks_mut(TILE)).for_each(|(part, bits)| store(part, bits));
        }
    }
}

/// Asks for lines of cache that are read soon: numbers as many as these, so far behind them.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch(numbers: &[f32], behind: usize) {
    let first = numbers.as_ptr().wrapping_add(behind);
    for line in (0..numbers.len()).step_by(SIDE) {
        _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line).cast());
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

/// Pairs of numbers: one part is the number rounded; of three parts each is what the ones before left, cut off, and the last is exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn parts<const PARTS: usize>([first, second]: [__m512; 2], largest: &mut __m512i) -> [__m512i; PARTS] {
    let mut parts = [_mm512_setzero_si512(); PARTS];
    if PARTS == 1 {
        // SAFETY: of the same size, and every bit pattern is valid.
        parts[0] = alternating(unsafe { transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) });
        return parts;
    }
    let upper = _mm512_set1_epi32(!0 << 16);
    let mut rest = [first, second];
    for part in &mut parts {
        let heads = rest.map(|rest| _mm512_and_si512(_mm512_castps_si512(rest), upper));
        rest = [0, 1].map(|i| _mm512_sub_ps(rest[i], _mm512_castsi512_ps(heads[i])));
        *part = _mm512_or_si512(_mm512_srli_epi32::<16>(heads[0]), heads[1]);
    }
    for number in [first, second] {
        let magnitude = _mm512_and_si512(_mm512_castps_si512(number), _mm512_set1_epi32(i32::MAX));
        *largest = _mm512_max_epu32(*largest, magnitude);
    }
    parts
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
