//! Writing compressed vectors: `.npy`, `.npz` and `.parquet`, in bounded memory.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use bytemuck::cast_slice;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::column::{ColumnPath, fixed_lists};
use super::{AtomicFile, Block, Reader, npy, npz};
use crate::{Error, Result};

/// Column of a parquet file whose input was not parquet.
const DEFAULT_COLUMN: &str = "embedding";
/// The file is synced whenever as many bytes of vectors were written, while more are made: at the end, 256 MB took another 0.1 s.
const SYNC_BYTES: usize = 32 << 20;
/// A row group is held in memory until it is this large, in bytes.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Streams `rows x dim` f32 vectors into a file that appears only when it is complete.
///
/// The extension says the format: `.npy`; `.npz`, with the key `embeddings`; `.parquet`, with a column of fixed-size
/// lists. When input and output are both parquet, the other columns come along unchanged and the vectors take the
/// place and name of the column they were made from.
pub struct Writer {
    path: PathBuf,
    file: AtomicFile,
    format: Format,
    rows: usize,
    dim: usize,
    written: usize,
    /// Bytes of vectors since the file was last synced.
    unsynced: usize,
}

enum Format {
    Npy,
    Npz(Box<ZipWriter<File>>),
    /// `others` is the schema of the first rows, where their other columns come along.
    Parquet {
        column: Option<ColumnPath>,
        others: Option<SchemaRef>,
        writer: Option<Box<ArrowWriter<File>>>,
    },
}

impl Writer {
    /// Starts `path` for vectors of length `dim` made from every row of `input`; call it before the work begins, so that
    /// a bad path fails early.
    ///
    /// # Errors
    /// A usage error for another extension; an input/output error when the file cannot be created.
    pub fn create(path: &Path, input: &Reader, dim: usize) -> Result<Self> {
        let rows = input.rows();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        if !["npy", "npz", "parquet"].contains(&extension.as_str()) {
            return Err(Error::usage("the output format is not known from the file name")
                .at(path.display())
                .hint("end it with .npy, .npz or .parquet"));
        }
        let fail = |e: &io::Error| Error::file("write", path, e);
        let mut file = AtomicFile::create(path)?;
        let header = npy::header_bytes("<f4", rows, dim);
        let format = match extension.as_str() {
            "npy" => {
                file.file().write_all(&header).map_err(|e| fail(&e))?;
                Format::Npy
            }
            "npz" => {
                let mut zip = ZipWriter::new(file.file().try_clone().map_err(|e| fail(&e))?);
                // Stored, as np.savez does: floats hardly compress.
                let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
                zip.start_file(format!("{}.npy", npz::DEFAULT_KEY), options).map_err(|e| fail(&e.into()))?;
                zip.write_all(&header).map_err(|e| fail(&e))?;
                Format::Npz(Box::new(zip))
            }
            _ => Format::Parquet { column: input.column().cloned(), others: None, writer: None },
        };
        Ok(Self { path: path.to_path_buf(), file, format, rows, dim, written: 0, unsynced: 0 })
    }

    /// Appends the vectors that were made from `block`, row-major.
    ///
    /// # Errors
    /// An input/output error; a data error when the block's other columns differ from those before.
    ///
    /// # Panics
    /// If `values` does not hold `dim` values for each row of `block`.
    pub fn write(&mut self, block: &Block, values: &[f32]) -> Result<()> {
        assert_eq!(values.len(), block.rows() * self.dim, "write: {} rows of {} values", block.rows(), self.dim);
        self.written += block.rows();
        self.unsynced += size_of_val(values);
        if self.unsynced > SYNC_BYTES {
            self.file.sync_early()?;
            self.unsynced = 0;
        }
        match &mut self.format {
            Format::Npy => write_floats(self.file.file(), values).map_err(|e| Error::file("write", &self.path, &e)),
            Format::Npz(zip) => write_floats(zip, values).map_err(|e| Error::file("write", &self.path, &e)),
            Format::Parquet { column, others, writer } => {
                let carried = column.as_ref().zip(block.columns());
                if writer.is_none() {
                    *others = carried.map(|(_, batch)| batch.schema());
                }
                if let (Some(column), Some(first)) = (&*column, &*others)
                    && let Some(difference) = column.difference(first, block.columns())
                {
                    return Err(Error::data("the input files differ in their columns")
                        .at(format!("{}: row {}: {difference}", self.path.display(), block.first_row))
                        .hint("compress these files one by one, or write .npy or .npz, which take the vectors alone"));
                }
                let batch = batch(carried, values, self.dim)
                    .map_err(|e| Error::data(format!("the rows cannot be written as parquet ({e})")).at(self.path.display()))?;
                let writer = match writer {
                    Some(writer) => writer,
                    None => {
                        let file = self.file.file().try_clone().map_err(|e| Error::file("write", &self.path, &e))?;
                        writer.insert(Box::new(start(file, &batch).map_err(|e| parquet_error(&self.path, e))?))
                    }
                };
                writer.write(&batch).map_err(|e| parquet_error(&self.path, e))
            }
        }
    }

    /// Completes the file and puts it in place.
    ///
    /// # Errors
    /// An input/output error; the target is then as it was.
    ///
    /// # Panics
    /// If not every row of the input has been written.
    pub fn finish(self) -> Result<()> {
        assert_eq!(self.written, self.rows, "finish: rows written and rows announced differ");
        match self.format {
            Format::Npy | Format::Parquet { writer: None, .. } => {}
            Format::Npz(zip) => {
                zip.finish().map_err(|e| Error::file("write", &self.path, &e.into()))?;
            }
            Format::Parquet { writer: Some(writer), .. } => {
                writer.close().map_err(|e| parquet_error(&self.path, e))?;
            }
        }
        self.file.commit()
    }
}

fn write_floats(output: &mut impl Write, values: &[f32]) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return output.write_all(cast_slice(values));
    }
    let mut bytes = Vec::new();
    for part in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        output.write_all(&bytes)?;
    }
    Ok(())
}

/// The rows to write: carried columns with theirs replaced, or the vectors alone.
fn batch(carried: Option<(&ColumnPath, &RecordBatch)>, values: &[f32], dim: usize) -> Result<RecordBatch, ArrowError> {
    if let Some((column, batch)) = carried {
        return column.replace(batch, values, dim);
    }
    let lists = fixed_lists(values, dim)?;
    let field = Field::new(DEFAULT_COLUMN, arrow_array::Array::data_type(&lists).clone(), false);
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
