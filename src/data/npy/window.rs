//! Rows of a `.npy` file where they lie in memory: in the page cache of the operating system.

use std::fs::File;
use std::ops::Range;

use bytemuck::try_cast_slice;
use memmap2::{Mmap, MmapOptions};

use super::Header;

/// Bytes that are mapped at a time: memory in use grows by about two windows, and to map and unmap them takes no time to speak of.
const WINDOW: usize = 16 << 20;

/// Consecutive whole rows of float32 numbers, mapped.
#[derive(Debug)]
pub(in crate::data) struct Window {
    map: Mmap,
    /// Where it begins in the file.
    offset: u64,
    rows: Range<usize>,
    row_bytes: usize,
}

impl Window {
    /// Maps `count` rows from `first` on, and rows after them as far as a window reaches; `None` where the system cannot, or numbers do not
    /// lie in the file as they do in memory.
    pub(super) fn new(file: &File, header: &Header, first: usize, count: usize) -> Option<Self> {
        let row_bytes = header.dim * size_of::<f32>();
        let rows = first..(first + count.max(WINDOW / row_bytes)).min(header.rows);
        let offset = header.data_start + first as u64 * row_bytes as u64;
        if !cfg!(target_os = "linux") || !header.is_native() || !offset.is_multiple_of(size_of::<f32>() as u64) {
            return None;
        }
        #[expect(unsafe_code, reason = "only the operating system can lend its memory")]
        // SAFETY: nothing here writes to the file, and any bytes are numbers. Another program that writes to it meanwhile changes the
        // numbers, as it does where they are read; one that cuts it short can end this process by a signal.
        let map = unsafe { MmapOptions::new().offset(offset).len(rows.len() * row_bytes).map(file) }.ok()?;
        Some(Self { map, offset, rows, row_bytes })
    }

    /// Whether it holds these rows.
    pub(super) fn holds(&self, rows: &Range<usize>) -> bool {
        self.rows.start <= rows.start && rows.end <= self.rows.end
    }

    /// Some of its rows, loaded from the disk; `None` where that fails, or they are in `file` no more.
    pub(super) fn load(&self, file: &File, rows: Range<usize>) -> Option<&[f32]> {
        let bytes = (rows.start - self.rows.start) * self.row_bytes..(rows.end - self.rows.start) * self.row_bytes;
        // The last page of a file is filled up with zeros.
        if file.metadata().ok()?.len() < self.offset + bytes.end as u64 {
            return None;
        }
        // All pages in one call, and an error where a fault would be a signal.
        #[cfg(target_os = "linux")]
        self.map.advise_range(memmap2::Advice::PopulateRead, bytes.start, bytes.len()).ok()?;
        try_cast_slice(&self.map[bytes]).ok()
    }
}
