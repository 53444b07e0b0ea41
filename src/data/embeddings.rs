//! The whole matrix in memory.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{Source, allocate};
use crate::metric::SMALLEST;
use crate::{Error, Result};

/// Rows per block while a matrix is read into memory.
const BLOCK_ROWS: usize = 4096;

/// `rows x dim` finite `f32` values in memory, and where they came from.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// Number of vectors N; at least 1 and at most `u32::MAX`.
    pub rows: usize,
    /// Length D of each vector; at least 1.
    pub dim: usize,
    /// Row-major, `rows * dim` values.
    pub values: Vec<f32>,
    /// `sha256:<hex>` over the numbers: the same for the same matrix from any file format.
    pub fingerprint: String,
    /// Where the numbers came from, for people and logs.
    pub source: String,
}

impl Embeddings {
    /// Reads the first `max_items` rows of `source` (0: all rows) and no more of it than that needs.
    ///
    /// # Errors
    /// Those of [`Source::open`] and [`Reader::next_block`](super::Reader::next_block); a device error when memory does not suffice.
    pub fn read(source: &Source, max_items: usize) -> Result<Self> {
        let mut reader = source.open(max_items)?;
        let mut values = allocate(reader.rows(), reader.dim())?;
        while let Some(block) = reader.next_block(BLOCK_ROWS)? {
            values.extend(block.into_values()?);
        }
        Self::from_values(reader.rows(), reader.dim(), values, reader.describe())
    }

    /// Takes values that are in memory already, row-major; `source` is a description for people.
    ///
    /// # Errors
    /// A data error when the shape is empty, does not match, has more than `u32::MAX` rows, or a value is not finite.
    pub fn from_values(rows: usize, dim: usize, values: Vec<f32>, source: impl Into<String>) -> Result<Self> {
        let source = source.into();
        if rows == 0 || dim == 0 || Some(values.len()) != rows.checked_mul(dim) {
            return Err(Error::data(format!("{} values do not make {rows} x {dim} embeddings", values.len())).at(source));
        }
        if u32::try_from(rows).is_err() {
            return Err(Error::data(format!("{rows} rows are more than this program can number"))
                .at(source)
                .hint("read fewer rows with --max-items"));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(not_finite(f64::from(values[at])).at(format!("row {}, column {}", at / dim, at % dim)).at(source));
        }
        let fingerprint = fingerprint(rows, dim, &values);
        Ok(Self { rows, dim, values, fingerprint, source })
    }

    /// Refuses rows of zeros, which have no direction and so no cosine similarity.
    ///
    /// # Errors
    /// A data error that names the first such row.
    pub fn check_directions(&self) -> Result<()> {
        match self.values.chunks(self.dim).position(|row| row.iter().all(|x| x.abs() < SMALLEST)) {
            Some(row) => Err(Error::data("a row is all zeros, so its cosine similarity is undefined")
                .at(format!("{}: row {row}", self.source))
                .hint("remove the row, or train with --metric dot or l2")),
            None => Ok(()),
        }
    }

    /// Vector `i`, of length `dim`.
    ///
    /// # Panics
    /// If `i >= rows`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }
}

/// The error for a source value that has no finite `f32`.
pub(super) fn not_finite(value: f64) -> Error {
    let what = if value.is_nan() {
        "the data contains NaN".to_string()
    } else if value.is_infinite() {
        "the data contains an infinite value".to_string()
    } else {
        format!("the value {value:e} does not fit in float32")
    };
    Error::data(what).hint("remove or repair that row; one bad row would spoil every distance to it")
}

/// SHA-256 over rows and dim (u64) and the values, all little endian.
fn fingerprint(rows: usize, dim: usize, values: &[f32]) -> String {
    let mut hash = Sha256::new();
    hash.update((rows as u64).to_le_bytes());
    hash.update((dim as u64).to_le_bytes());
    let mut bytes = Vec::new();
    for part in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        hash.update(&bytes);
    }
    format!("sha256:{}", hex(&hash.finalize()))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
