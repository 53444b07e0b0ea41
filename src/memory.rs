//! Memory for arrays whose size comes from the data: asked for before it is filled, so that a lack of it is an error.

use crate::error::{Error, Result};

/// An empty vector with room for exactly `rows * dim` values, or an error where a plain allocation would abort.
///
/// # Errors
/// [`Error::Device`] when memory does not suffice.
pub fn allocate<T>(rows: usize, dim: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let room = rows.checked_mul(dim).filter(|&count| values.try_reserve_exact(count).is_ok());
    room.map(|_| values).ok_or_else(|| {
        let bytes = rows as f64 * dim as f64 * size_of::<T>() as f64;
        Error::device("not enough memory")
            .at(format!("{rows} x {dim} values need {:.1} GB", bytes / 1e9))
            .hint("read fewer rows with --max-items")
    })
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
