//! Reading one parquet file: only the row groups and the column that are needed.

use std::cell::Cell;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::column::{ColumnPath, RowError};
use crate::data::reader::{Block, Part};
use crate::{Error, Result};

/// Streams the embedding column of one file, and the other columns with it when asked to.
pub(super) struct ParquetPart {
    path: PathBuf,
    name: String,
    metadata: ArrowReaderMetadata,
    /// In the file's own schema.
    column: ColumnPath,
    rows: usize,
    dim: usize,
    carry: bool,
    batches: Option<ParquetRecordBatchReader>,
    /// What is left of the last batch decoded.
    pending: Option<RecordBatch>,
    next_row: usize,
}

impl ParquetPart {
    /// Reads the footer and, where the type does not say the dimension, the first row.
    pub(super) fn open(path: &Path, column: Option<&str>, carry: bool) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| Error::file("read", path, &e))?;
        let metadata = guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())).map_err(|e| e.at(&name))?;
        let rows = usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        if rows == 0 {
            return Err(Error::data("the file has no rows").at(name).hint("leave the file out, or write it again"));
        }
        let column = ColumnPath::choose(metadata.schema(), column).map_err(|e| e.at(&name))?;
        let dim = column.fixed_dim().unwrap_or(0);
        let mut part = Self {
            path: path.to_path_buf(),
            name,
            metadata,
            column,
            rows,
            dim,
            carry,
            batches: None,
            pending: None,
            next_row: 0,
        };
        if dim == 0 {
            part.dim = part.first_length()?;
        }
        if part.dim == 0 {
            return Err(part.place(RowError { row: 0, error: Error::data("the row has no values") }));
        }
        Ok(part)
    }

    fn first_length(&self) -> Result<usize> {
        let mut batches = self.batches(1, false)?;
        let batch = guarded(|| batches.next().transpose()).map_err(|e| e.at(&self.name))?;
        let batch = batch
            .filter(|b| b.num_rows() == 1)
            .ok_or_else(|| Error::data("the footer promises rows, the file has none").at(&self.name))?;
        self.projected(false).first_length(&batch).map_err(|e| self.place(e))
    }

    /// Decodes from row 0 on, `batch_rows` at a time.
    fn batches(&self, batch_rows: usize, carry: bool) -> Result<ParquetRecordBatchReader> {
        let file = File::open(&self.path).map_err(|e| Error::file("read", &self.path, &e))?;
        guarded(|| {
            let schema = self.metadata.parquet_schema();
            let mask = if carry { ProjectionMask::all() } else { ProjectionMask::leaves(schema, [self.leaf()]) };
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_projection(mask)
                .with_batch_size(batch_rows)
                .build()
        })
        .map_err(|e| e.at(&self.name))
    }

    /// Index of the column among the leaves of the parquet schema, which are the leaves of the Arrow schema in order.
    fn leaf(&self) -> usize {
        let mut fields = self.metadata.schema().fields();
        let mut leaf = 0;
        for &index in &self.column.indices {
            leaf += fields.iter().take(index).map(|f| leaves(f.data_type())).sum::<usize>();
            if let DataType::Struct(inner) = fields[index].data_type() {
                fields = inner;
            }
        }
        leaf
    }

    /// The column in decoded batches: without the others, it is the first at every level.
    fn projected(&self, carry: bool) -> ColumnPath {
        let indices = if carry { self.column.indices.clone() } else { vec![0; self.column.indices.len()] };
        ColumnPath { indices, ..self.column.clone() }
    }

    /// The next batch, never longer than `max_rows`.
    fn next_batch(&mut self, max_rows: usize) -> Result<RecordBatch> {
        if self.batches.is_none() {
            self.batches = Some(self.batches(max_rows, self.carry)?);
        }
        let batch = match (self.pending.take(), &mut self.batches) {
            (Some(batch), _) => Some(batch),
            (None, Some(batches)) => guarded(|| batches.next().transpose()).map_err(|e| e.at(&self.name))?,
            (None, None) => None,
        };
        let batch = batch.filter(|b| b.num_rows() > 0).ok_or_else(|| {
            Error::data(format!("the footer promises {} rows, the file has {}", self.rows, self.next_row)).at(&self.name)
        })?;
        if batch.num_rows() > max_rows {
            self.pending = Some(batch.slice(max_rows, batch.num_rows() - max_rows));
            return Ok(batch.slice(0, max_rows));
        }
        Ok(batch)
    }

    /// Puts file, row group and row in front of an error; `row` counts from the next row to read.
    fn place(&self, error: RowError) -> Error {
        let row = self.next_row + error.row;
        let mut end = 0;
        let group = self.metadata.metadata().row_groups().iter().position(|group| {
            end += usize::try_from(group.num_rows()).unwrap_or(0);
            row < end
        });
        error.error.at(format!("row group {}, row {row}", group.unwrap_or(0))).at(&self.name)
    }
}

impl Part for ParquetPart {
    fn name(&self) -> &str {
        &self.name
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn detail(&self) -> String {
        format!("column {}", self.column.name)
    }

    fn column(&self) -> Option<&ColumnPath> {
        Some(&self.column)
    }

    fn read(&mut self, max_rows: usize) -> Result<Block> {
        let batch = self.next_batch(max_rows.min(self.rows - self.next_row))?;
        let values = self.projected(self.carry).values(&batch, self.dim).map_err(|e| self.place(e))?;
        self.next_row += batch.num_rows();
        let mut block = Block::new(values, self.dim);
        block.columns = self.carry.then_some(batch);
        Ok(block)
    }
}

fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|f| leaves(f.data_type())).sum(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) | DataType::Map(item, _) => {
            leaves(item.data_type())
        }
        DataType::ListView(item) | DataType::LargeListView(item) => leaves(item.data_type()),
        _ => 1,
    }
}

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of decoding; an error, and a panic on a malformed file, is a data error.
fn guarded<T, E: std::fmt::Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T> {
    // The error says all there is to say; without this a panic message and a backtrace would come before it.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                others(info);
            }
        }));
    });
    DECODING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(false);
    let reason = match outcome {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the decoder gave up".to_string(),
    };
    let hint = if reason.contains("Disabled feature") {
        "write it again with zstd, snappy, lz4, gzip or no compression"
    } else {
        "copy or download the file again"
    };
    Err(Error::data(format!("the parquet data cannot be read ({reason})")).hint(hint))
}
