//! Writing one parquet file: the vectors, and with them the other columns of a parquet input.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::column::{ColumnPath, fixed_lists};
use crate::data::AtomicFile;
use crate::{Error, Result};

/// Column of a file whose input was not parquet.
const DEFAULT_COLUMN: &str = "embedding";
/// A row group is held in memory until it is this large, in bytes.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Streams vectors of length `dim` into an open file.
pub(in crate::data) struct ParquetWriter {
    path: PathBuf,
    file: File,
    dim: usize,
    /// Where the input is parquet, the column that the vectors are made from.
    column: Option<ColumnPath>,
    /// The schema of the first rows, where their other columns come along.
    others: Option<SchemaRef>,
    /// Begins with the first rows, which say the schema.
    writer: Option<Box<ArrowWriter<File>>>,
}

impl ParquetWriter {
    /// Writes to `file`, which will become `path`; nothing before the first rows.
    pub(in crate::data) fn create(path: &Path, file: &mut AtomicFile, column: Option<&ColumnPath>, dim: usize) -> Result<Self> {
        let file = file.file().try_clone().map_err(|e| Error::file("write", path, &e))?;
        Ok(Self { path: path.to_path_buf(), file, dim, column: column.cloned(), others: None, writer: None })
    }

    /// Appends vectors, row-major; `columns` are those of the rows that they were made from, the first of which is `first_row`.
    pub(in crate::data) fn write(&mut self, first_row: usize, columns: Option<&RecordBatch>, values: &[f32]) -> Result<()> {
        let carried = self.column.as_ref().zip(columns);
        if self.writer.is_none() {
            self.others = carried.map(|(_, batch)| batch.schema());
        }
        if let (Some(column), Some(first)) = (&self.column, &self.others)
            && let Some(difference) = column.difference(first, columns)
        {
            return Err(Error::data("the input files differ in their columns")
                .at(format!("{}: row {first_row}: {difference}", self.path.display()))
                .hint("compress these files one by one, or write .npy or .npz, which take the vectors alone"));
        }
        let batch = batch(carried, values, self.dim)
            .map_err(|e| Error::data(format!("the rows cannot be written as parquet ({e})")).at(self.path.display()))?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let file = self.file.try_clone().map_err(|e| Error::file("write", &self.path, &e))?;
                self.writer.insert(Box::new(start(file, &batch).map_err(|e| parquet_error(&self.path, e))?))
            }
        };
        writer.write(&batch).map_err(|e| parquet_error(&self.path, e))
    }

    /// Writes the footer.
    pub(in crate::data) fn finish(self) -> Result<()> {
        let Some(writer) = self.writer else { return Ok(()) };
        writer.close().map(drop).map_err(|e| parquet_error(&self.path, e))
    }
}

/// The rows to write: carried columns with theirs replaced, or the vectors alone.
fn batch(carried: Option<(&ColumnPath, &RecordBatch)>, values: &[f32], dim: usize) -> Result<RecordBatch, ArrowError> {
    if let Some((column, batch)) = carried {
        return column.replace(batch, values, dim);
    }
    let lists = fixed_lists(values, dim)?;
    let field = Field::new(DEFAULT_COLUMN, lists.data_type().clone(), false);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![lists])
}

fn start(file: File, first: &RecordBatch) -> Result<ArrowWriter<File>, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
    for leaf in ArrowSchemaConverter::new().convert(&first.schema())?.columns() {
        // Floats that differ from one another would fill a dictionary for nothing.
        if leaf.physical_type() == Type::FLOAT {
            properties = properties.set_column_dictionary_enabled(leaf.path().clone(), false);
        }
    }
    ArrowWriter::try_new(file, first.schema(), Some(properties.build()))
}

/// The system's reason, where there is one inside.
fn parquet_error(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(reason) => Error::file("write", path, &reason),
            Err(other) => Error::io(format!("cannot write ({other})")).at(path.display()),
        },
        other => Error::io(format!("cannot write ({other})")).at(path.display()),
    }
}
