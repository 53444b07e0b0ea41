//! Similarities: what the teacher compares in D dimensions, and what the student is searched with in d'.

use std::borrow::Cow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::memory::allocate;

/// Rows whose largest magnitude is below this count as zero: subnormal numbers, which devices may flush to zero.
pub const SMALLEST: f32 = 1.2e-38;

/// How two vectors are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Cosine similarity: inner product of the vectors scaled to unit length.
    Cosine,
    /// Inner product.
    Dot,
    /// Euclidean distance.
    L2,
}

impl Metric {
    /// The name in records and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L2 => "l2",
        }
    }

    /// How to search vectors that are compared so, in a sentence for users.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Cosine => {
                "search these vectors with cosine similarity; they have unit length, so inner product and L2 rank alike"
            }
            Self::Dot => "search these vectors with inner product; do not normalise them",
            Self::L2 => "search these vectors with Euclidean (L2) distance; do not normalise them",
        }
    }

    /// Whether rows are scaled to unit length before they are compared or mapped.
    pub fn normalizes(self) -> bool {
        self == Self::Cosine
    }

    /// Rows that are ready to be searched: normalised copies for cosine, else the rows themselves.
    pub fn prepare(self, rows: &[f32], dim: usize) -> Cow<'_, [f32]> {
        if !self.normalizes() {
            return Cow::Borrowed(rows);
        }
        let mut unit = rows.to_vec();
        normalize_rows(&mut unit, dim);
        Cow::Owned(unit)
    }

    /// Copies of the rows at `indices` as maps take them where this is the teacher: of unit length for cosine, else as they are.
    ///
    /// # Errors
    /// As [`select_rows`].
    pub fn input_rows(self, rows: &[f32], dim: usize, indices: impl Iterator<Item = u32> + Clone) -> Result<Vec<f32>> {
        if self.normalizes() { unit_rows(rows, dim, indices) } else { select_rows(rows, dim, indices) }
    }
}

/// Scales each row of `rows [n, dim]` to unit length in place; zero rows stay zero.
pub fn normalize_rows(rows: &mut [f32], dim: usize) {
    rows.par_chunks_mut(dim).for_each(|row| {
        let norm = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        row.iter_mut().for_each(|x| *x = (f64::from(*x) * inverse) as f32);
    });
}

/// Copies of the rows at `indices`, one after another, with no memory beyond them.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) when memory does not suffice.
pub fn select_rows(rows: &[f32], dim: usize, indices: impl Iterator<Item = u32> + Clone) -> Result<Vec<f32>> {
    let mut selected = allocate(indices.clone().count(), dim)?;
    indices.for_each(|i| selected.extend_from_slice(&rows[i as usize * dim..][..dim]));
    Ok(selected)
}

/// [`select_rows`], each scaled to unit length; zero rows stay zero.
///
/// # Errors
/// As [`select_rows`].
pub fn unit_rows(rows: &[f32], dim: usize, indices: impl Iterator<Item = u32> + Clone) -> Result<Vec<f32>> {
    let mut unit = select_rows(rows, dim, indices)?;
    normalize_rows(&mut unit, dim);
    Ok(unit)
}
