//! Memory for arrays whose size comes from the data: asked for before it is filled, so that a lack of it is an error.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};
use memmap2::MmapMut;

use crate::error::{Error, Result};

/// An empty vector with room for exactly `rows * dim` values, or an error where a plain allocation would abort.
///
/// # Errors
/// [`Error::Device`] when memory does not suffice.
pub fn allocate<T>(rows: usize, dim: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let room = rows.checked_mul(dim).filter(|&count| values.try_reserve_exact(count).is_ok());
    let free = values.spare_capacity_mut();
    if size_of_val(free) >= 2 * LARGE_PAGE {
        use_large_pages(free.as_mut_ptr().cast(), size_of_val(free));
    }
    room.map(|_| values).ok_or_else(|| lacking::<T>(rows, dim))
}

/// Bytes of a page that processors look up in one step less than one of 4 KiB.
const LARGE_PAGE: usize = 2 << 20;

/// Asks for large pages where memory that has just been allocated holds whole ones, as NumPy does. Small ones are looked up more often than
/// a core remembers where they are, in virtual machines by two tables: on one of these a step of training took 1.1 to 1.2 times as long, and
/// the first visit to 30 MiB after a rest 190 ms instead of 3.
fn use_large_pages(first: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        let skipped = first.align_offset(LARGE_PAGE).min(bytes);
        #[expect(unsafe_code, reason = "no safe wrapper knows this call")]
        // SAFETY: within memory that the caller has, of which it changes how it is mapped, not what it holds; a system that refuses changes
        // nothing.
        unsafe {
            libc::madvise(first.wrapping_add(skipped).cast(), bytes - skipped, libc::MADV_HUGEPAGE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (first, bytes);
}

fn lacking<T>(rows: usize, dim: usize) -> Error {
    let bytes = rows as f64 * dim as f64 * size_of::<T>() as f64;
    Error::device("not enough memory")
        .at(format!("{rows} x {dim} values need {:.1} GB", bytes / 1e9))
        .hint("read fewer rows with --max-items")
}

/// `rows * dim` zeros, or an error where a plain allocation would abort.
///
/// # Errors
/// As [`allocate`].
pub fn zeros<T: Clone + Default>(rows: usize, dim: usize) -> Result<Vec<T>> {
    let mut values = allocate(rows, dim)?;
    values.resize(rows * dim, T::default());
    Ok(values)
}

/// A line of cache. A vector as long, if it began anywhere else, would come from two: of 512 bits that takes a quarter of a product's speed
/// (a tile of a processor of Cascade Lake, 110 instead of 142 GFLOP/s).
#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Line([u8; 64]);

/// Bytes that are worth large pages, of which the last may not be full.
const LARGE: usize = 1 << 20;

/// Values whose first begins a line of cache, and a large page where they are many.
pub struct Aligned<T> {
    memory: Memory,
    len: usize,
    values: PhantomData<T>,
}

enum Memory {
    Lines(Vec<Line>),
    /// The system's own, from this byte on: what a vector gets may have been in use before, in small pages.
    Pages(MmapMut, usize),
}

impl<T: Pod> Aligned<T> {
    /// So many zeros.
    ///
    /// # Panics
    /// If memory does not suffice.
    pub fn new(len: usize) -> Self {
        Self::zeros(len, 1).unwrap_or_else(|error| panic!("{error}"))
    }

    /// `rows * dim` zeros, or an error where a plain allocation would abort.
    ///
    /// # Errors
    /// As [`allocate`].
    pub fn zeros(rows: usize, dim: usize) -> Result<Self> {
        let allocated = || {
            let len = rows.checked_mul(dim)?;
            Some(Self { memory: Memory::zeros(len.checked_mul(size_of::<T>())?)?, len, values: PhantomData })
        };
        allocated().ok_or_else(|| lacking::<T>(rows, dim))
    }
}

impl Memory {
    /// At least so many bytes.
    fn zeros(bytes: usize) -> Option<Self> {
        if bytes < LARGE {
            return Some(Self::Lines(vec![Line::zeroed(); bytes.div_ceil(size_of::<Line>())]));
        }
        // Whole pages, wherever the first begins.
        let mut map = MmapMut::map_anon(bytes.checked_next_multiple_of(LARGE_PAGE)?.checked_add(LARGE_PAGE)?).ok()?;
        let (first, len) = (map.as_mut_ptr(), map.len());
        use_large_pages(first, len);
        Some(Self::Pages(map, first.align_offset(LARGE_PAGE)))
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { memory: Memory::Lines(Vec::new()), len: 0, values: PhantomData }
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let bytes = self.len * size_of::<T>();
        bytemuck::cast_slice(match &self.memory {
            Memory::Lines(lines) => &bytemuck::cast_slice(lines)[..bytes],
            Memory::Pages(map, first) => &map[*first..][..bytes],
        })
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes = self.len * size_of::<T>();
        bytemuck::cast_slice_mut(match &mut self.memory {
            Memory::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..bytes],
            Memory::Pages(map, first) => &mut map[*first..][..bytes],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Aligned, LARGE_PAGE};

    #[test]
    fn values_are_zeros_that_begin_a_line_or_a_page() {
        for (len, align) in [(0, 4), (1, 64), (7, 64), (16, 64), (17, 64), (1000, 64), (400_000, LARGE_PAGE)] {
            let (singles, doubles) = (Aligned::<f32>::new(len), Aligned::<f64>::zeros(len, 3).expect("memory suffices"));
            assert!(singles.as_ptr().addr().is_multiple_of(align) && doubles.as_ptr().addr().is_multiple_of(align));
            assert_eq!((&singles[..], &doubles[..]), (&vec![0.0f32; len][..], &vec![0.0f64; 3 * len][..]));
        }
    }

    #[test]
    fn a_lack_of_memory_is_an_error() {
        for rows in [usize::MAX, usize::MAX / 64] {
            assert!(Aligned::<f32>::zeros(rows, 16).is_err());
        }
    }
}
