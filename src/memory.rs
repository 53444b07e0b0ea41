//! Memory for arrays whose size comes from the data: asked for before it is filled, so that a lack of it is an error.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytemuck::Pod;

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

/// Bytes of a line of cache. A vector as long, if it began anywhere else, would come from two: of 512 bits that takes a quarter of a product's
/// speed (a tile of a processor of Cascade Lake, 110 instead of 142 GFLOP/s).
const LINE: usize = 64;
/// Bytes that are worth large pages, of which the last is not full.
const LARGE: usize = 1 << 20;

/// Values whose first begins a line of cache, and a large page where they are many.
pub struct Aligned<T> {
    first: NonNull<T>,
    len: usize,
}

#[expect(unsafe_code, reason = "vectors do not align their values")]
impl<T: Pod> Aligned<T> {
    /// So many zeros.
    pub fn new(len: usize) -> Self {
        let layout = layout::<T>(len).expect("a length that fits in memory");
        Self::allocate(len, layout).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// `rows * dim` zeros, or an error where a plain allocation would abort.
    ///
    /// # Errors
    /// As [`allocate`].
    pub fn zeros(rows: usize, dim: usize) -> Result<Self> {
        let values = rows.checked_mul(dim).and_then(|len| Self::allocate(len, layout::<T>(len)?));
        values.ok_or_else(|| lacking::<T>(rows, dim))
    }

    fn allocate(len: usize, layout: Layout) -> Option<Self> {
        if layout.size() == 0 {
            return Some(Self::default());
        }
        // SAFETY: not of no bytes.
        let first = NonNull::new(unsafe { alloc(layout) })?;
        if layout.align() == LARGE_PAGE {
            use_large_pages(first.as_ptr(), layout.size());
        }
        // SAFETY: as many bytes as were allocated.
        unsafe { first.write_bytes(0, layout.size()) };
        Some(Self { first: first.cast(), len })
    }
}

/// Memory for so many values; None of more than there can be.
fn layout<T>(len: usize) -> Option<Layout> {
    let bytes = len.checked_mul(size_of::<T>())?;
    let align = if bytes >= LARGE { LARGE_PAGE } else { LINE };
    Layout::from_size_align(bytes.checked_next_multiple_of(align)?, align).ok()
}

#[expect(unsafe_code, reason = "as above")]
impl<T> Drop for Aligned<T> {
    fn drop(&mut self) {
        if let Some(layout) = layout::<T>(self.len).filter(|layout| layout.size() > 0) {
            // SAFETY: allocated with this layout, for as many values; they need no drop, being plain data.
            unsafe { dealloc(self.first.as_ptr().cast(), layout) };
        }
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { first: NonNull::dangling(), len: 0 }
    }
}

#[expect(unsafe_code, reason = "as above")]
// SAFETY: it owns its values, as a vector does.
unsafe impl<T: Send> Send for Aligned<T> {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Aligned<T> {}

#[expect(unsafe_code, reason = "as above")]
impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many values, which were zeros or have been written since: of plain data every pattern of bits is a value.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

#[expect(unsafe_code, reason = "as above")]
impl<T: Pod> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
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
