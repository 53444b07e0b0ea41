//! Parquet files. Builds without the feature of that name take `parquet/absent.rs` in place of this file.

mod column;
mod part;
mod writer;

use std::path::Path;

pub(super) use arrow_array::RecordBatch;
pub(super) use column::ColumnPath;
pub(super) use writer::ParquetWriter;

use super::reader::Part;
use crate::Result;

/// Opens one file with the column of embeddings called `column`; `carry` says whether blocks carry the other columns.
pub(super) fn open(path: &Path, column: Option<&str>, carry: bool) -> Result<Box<dyn Part>> {
    Ok(Box::new(part::ParquetPart::open(path, column, carry)?))
}
