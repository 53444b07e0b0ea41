//! Memory for arrays whose size comes from the data: asked for before it is filled, so that a lack of it is an error.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

use crate::error::{Error, Result};

/// An empty vector with room for exactly `rows * dim` values, or an error where a plain allocation would abort.
///
/// # Errors
/// [`Error::Device`] when memory does not suffice.
pub fn allocate<T>(rows: usize, dim: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let room = rows.checked_mul(dim).filter(|&count| values.try_reserve_exact(count).is_ok());
    room.map(|_| values).ok_or_else(|| lacking::<T>(rows, dim))
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

/// Values whose first begins a line of cache.
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Pod> Aligned<T> {
    /// So many zeros.
    pub fn new(len: usize) -> Self {
        Self::of(vec![Line::zeroed(); lines::<T>(len)], len)
    }

    /// `rows * dim` zeros, or an error where a plain allocation would abort.
    ///
    /// # Errors
    /// As [`allocate`].
    pub fn zeros(rows: usize, dim: usize) -> Result<Self> {
        let mut values = Vec::new();
        let len = rows.checked_mul(dim).filter(|len| values.try_reserve_exact(lines::<T>(*len)).is_ok());
        let len = len.ok_or_else(|| lacking::<T>(rows, dim))?;
        values.resize(lines::<T>(len), Line::zeroed());
        Ok(Self::of(values, len))
    }

    fn of(lines: Vec<Line>, len: usize) -> Self {
        Self { lines, len, values: PhantomData }
    }
}

/// Lines that hold so many values.
const fn lines<T>(len: usize) -> usize {
    len.div_ceil(size_of::<Line>() / size_of::<T>())
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, values: PhantomData }
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::Aligned;

    #[test]
    fn values_are_zeros_that_begin_a_line() {
        for len in [0, 1, 7, 16, 17, 1000] {
            let (singles, doubles) = (Aligned::<f32>::new(len), Aligned::<f64>::zeros(len, 3).expect("memory suffices"));
            assert!(singles.as_ptr().addr().is_multiple_of(64) && doubles.as_ptr().addr().is_multiple_of(64));
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
