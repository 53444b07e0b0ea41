//! The whole matrix in memory.

use std::fmt::Write as _;

use bytemuck::cast_slice;
use sha2::{Digest, Sha256};

use super::{Source, allocate};
use crate::lanes::{Lane, in_order};
use crate::metric::SMALLEST;
use crate::simd::first_not_finite;
use crate::{Error, Result};

/// Values per block while a matrix is read into memory.
const BLOCK_VALUES: usize = 1 << 20;

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
        let (rows, dim, source) = (reader.rows(), reader.dim(), reader.describe());
        check_count(rows).map_err(|e| e.at(&source))?;
        let mut values = allocate(rows, dim)?;
        let mut fingerprint = Fingerprint::new(rows, dim);
        let block_rows = (BLOCK_VALUES / dim).max(1);
        in_order(
            // One reads on while the other waits for the fingerprint.
            &mut [Lane::wide(()), Lane::wide(())],
            || reader.next_block(block_rows),
            |(), block| block.into_values(),
            |block| {
                fingerprint.add(&block);
                values.extend(block);
                Ok(())
            },
        )?;
        Ok(Self { rows, dim, values, fingerprint: fingerprint.finish(), source })
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
        check_count(rows).map_err(|e| e.at(&source))?;
        if let Some(at) = first_not_finite(&values) {
            return Err(not_finite(f64::from(values[at])).at(format!("row {}, column {}", at / dim, at % dim)).at(source));
        }
        let mut fingerprint = Fingerprint::new(rows, dim);
        fingerprint.add(&values);
        Ok(Self { rows, dim, values, fingerprint: fingerprint.finish(), source })
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

/// Refuses more rows than a `u32` numbers.
fn check_count(rows: usize) -> Result<()> {
    u32::try_from(rows).map(drop).map_err(|_| {
        Error::data(format!("{rows} rows are more than this program can number")).hint("read fewer rows with --max-items")
    })
}

/// SHA-256 over rows and dim (u64) and the values, all little endian.
struct Fingerprint(Sha256);

impl Fingerprint {
    fn new(rows: usize, dim: usize) -> Self {
        let mut hash = Sha256::new();
        hash.update((rows as u64).to_le_bytes());
        hash.update((dim as u64).to_le_bytes());
        Self(hash)
    }

    fn add(&mut self, values: &[f32]) {
        if cfg!(target_endian = "little") {
            return self.0.update(cast_slice::<f32, u8>(values));
        }
        values.iter().for_each(|v| self.0.update(v.to_le_bytes()));
    }

    fn finish(self) -> String {
        format!("sha256:{}", hex(&self.0.finalize()))
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
