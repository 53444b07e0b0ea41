//! The embedding column of an Arrow schema: which one it is, its values, and its replacement.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{
    Array, ArrayRef, FixedSizeListArray, Float32Array, GenericListArray, OffsetSizeTrait, RecordBatch, StructArray,
};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use half::slice::HalfFloatSliceExt;

use crate::data::embeddings::not_finite;
use crate::simd::first_not_finite;
use crate::{Error, Result};

/// Columns named in a message.
const LISTED: usize = 30;

/// The way to a column: the index of a top-level field, then of the fields of the structs below it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::data) struct ColumnPath {
    pub(super) indices: Vec<usize>,
    /// The names along the way, joined with dots.
    pub(super) name: String,
    /// Type of the column.
    pub(super) data_type: DataType,
}

impl ColumnPath {
    /// The column called `wanted`; without a name, the only one whose name contains "embedding", else the only list of floats.
    pub(super) fn choose(schema: &Schema, wanted: Option<&str>) -> Result<Self> {
        let columns = columns(schema.fields(), &[], "");
        let chosen = match wanted {
            Some(name) => columns.iter().find(|c| c.name == name),
            None => only(columns.iter().filter(|c| c.name.to_ascii_lowercase().contains("embedding")))
                .or_else(|| only(columns.iter().filter(|c| c.is_float_list()))),
        };
        match chosen {
            Some(column) if column.is_float_list() => Ok(column.clone()),
            Some(column) => Err(Error::data(format!("column '{}' is {}, not a list of floats", column.name, column.data_type))
                .hint(format!("name the column with --hf-embedding-column; columns: {}", list(&columns)))),
            None => {
                let what = wanted
                    .map_or_else(|| "cannot tell which column holds the embeddings".to_string(), |n| format!("no column '{n}'"));
                Err(Error::data(what).hint(format!("name it with --hf-embedding-column; columns: {}", list(&columns))))
            }
        }
    }

    /// The dimension, where the type fixes it.
    pub(super) fn fixed_dim(&self) -> Option<usize> {
        match self.data_type {
            DataType::FixedSizeList(_, dim) => usize::try_from(dim).ok(),
            _ => None,
        }
    }

    fn is_float_list(&self) -> bool {
        match &self.data_type {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type().is_floating(),
            _ => false,
        }
    }

    /// The column of `batch` as f32, row-major, every row `dim` long. Rows in errors count from the start of `batch`.
    pub(super) fn values(&self, batch: &RecordBatch, dim: usize) -> Result<Vec<f32>, RowError> {
        let (floats, first) = floats(&self.column(batch)?, dim)?;
        // Null items hold arbitrary values, so they are looked for first.
        let mut items = first..first + batch.num_rows() * dim;
        if let Some(null) = items.find(|&i| floats.null_count() > 0 && floats.is_null(i)) {
            return Err(RowError::new(
                (null - first) / dim,
                Error::data("a value is null").at(format!("column {}", (null - first) % dim)),
            ));
        }
        let floats = floats.slice(first, batch.num_rows() * dim);
        let values: Vec<f32> = match floats.data_type() {
            DataType::Float16 => floats.as_primitive::<Float16Type>().values().to_f32_vec(),
            DataType::Float64 => floats.as_primitive::<Float64Type>().values().iter().map(|&v| v as f32).collect(),
            _ => floats.as_primitive::<Float32Type>().values().to_vec(),
        };
        match first_not_finite(&values) {
            None => Ok(values),
            Some(bad) => {
                let value = match floats.data_type() {
                    DataType::Float64 => floats.as_primitive::<Float64Type>().value(bad),
                    _ => f64::from(values[bad]),
                };
                Err(RowError::new(bad / dim, not_finite(value).at(format!("column {}", bad % dim))))
            }
        }
    }

    /// Length of the list in row 0 of a batch of at least one row.
    pub(super) fn first_length(&self, batch: &RecordBatch) -> Result<usize, RowError> {
        let column = self.column(batch)?;
        Ok(match column.data_type() {
            DataType::List(_) => column.as_list::<i32>().value_length(0) as usize,
            DataType::LargeList(_) => column.as_list::<i64>().value_length(0) as usize,
            _ => self.fixed_dim().unwrap_or(0),
        })
    }

    /// The list column itself; a null row, or a null struct around it, is an error.
    fn column(&self, batch: &RecordBatch) -> Result<ArrayRef, RowError> {
        let mut column = batch.column(self.indices[0]).clone();
        for &index in &self.indices[1..] {
            not_null(&column)?;
            column = column.as_struct().column(index).clone();
        }
        not_null(&column)?;
        Ok(column)
    }

    /// How the columns of `batch` differ from those of the `first` one, in which this column is; its own type is free.
    pub(super) fn difference(&self, first: &Schema, batch: Option<&RecordBatch>) -> Option<String> {
        let Some(batch) = batch else { return Some("a file that is no table has no columns".to_string()) };
        let (first, other) = (columns(first.fields(), &[], ""), columns(batch.schema().fields(), &[], ""));
        let same = |a: &Self, b: &Self| {
            let same_type = if a.indices == self.indices { b.is_float_list() } else { a.data_type.equals_datatype(&b.data_type) };
            same_type && a.indices == b.indices && a.name == b.name
        };
        let show = |columns: &[Self], at: usize| {
            columns.get(at).map_or_else(|| "no column".to_string(), |c| format!("column '{}' ({})", c.name, c.data_type))
        };
        (0..first.len().max(other.len()))
            .find(|&at| !first.get(at).zip(other.get(at)).is_some_and(|(a, b)| same(a, b)))
            .map(|at| format!("{} where the first file has {}", show(&other, at), show(&first, at)))
    }

    /// `batch` with this column replaced by lists of `dim` f32 under the same name.
    pub(super) fn replace(
        &self,
        batch: &RecordBatch,
        values: &[f32],
        dim: usize,
    ) -> Result<RecordBatch, arrow_schema::ArrowError> {
        let (fields, columns) = replaced(batch.schema().fields(), batch.columns(), &self.indices, &fixed_lists(values, dim)?)?;
        let mut metadata = batch.schema().metadata().clone();
        // The `datasets` library keeps the column types there too, and would cast the column back to the old one.
        metadata.remove("huggingface");
        RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, metadata)), columns)
    }
}

/// An error in one row of a batch.
pub(super) struct RowError {
    pub(super) row: usize,
    pub(super) error: Error,
}

impl RowError {
    fn new(row: usize, error: Error) -> Self {
        Self { row, error }
    }
}

/// Lists of `dim` f32 from row-major values.
pub(super) fn fixed_lists(values: &[f32], dim: usize) -> Result<ArrayRef, arrow_schema::ArrowError> {
    let floats = Arc::new(Float32Array::from(values.to_vec()));
    let item = Arc::new(Field::new_list_field(DataType::Float32, false));
    Ok(Arc::new(FixedSizeListArray::try_new(item, dim as i32, floats, None)?))
}

/// Every column that is not a struct, depth first.
fn columns(fields: &Fields, above: &[usize], prefix: &str) -> Vec<ColumnPath> {
    let walk = |(index, field): (usize, &FieldRef)| {
        let indices = [above, &[index]].concat();
        let name = format!("{prefix}{}", field.name());
        match field.data_type() {
            DataType::Struct(inner) => columns(inner, &indices, &format!("{name}.")),
            data_type => vec![ColumnPath { indices, name, data_type: data_type.clone() }],
        }
    };
    fields.iter().enumerate().flat_map(walk).collect()
}

fn only<'a>(mut found: impl Iterator<Item = &'a ColumnPath>) -> Option<&'a ColumnPath> {
    found.next().filter(|_| found.next().is_none())
}

fn list(columns: &[ColumnPath]) -> String {
    let shown: Vec<String> = columns.iter().take(LISTED).map(|c| format!("{} ({})", c.name, c.data_type)).collect();
    shown.join(", ") + if columns.len() > LISTED { ", ..." } else { "" }
}

fn not_null(column: &dyn Array) -> Result<(), RowError> {
    match (0..column.len()).find(|&row| column.null_count() > 0 && column.is_null(row)) {
        Some(row) => Err(RowError::new(row, Error::data("the row is null").hint("remove the rows without an embedding"))),
        None => Ok(()),
    }
}

/// The items of a list column, and the index of the first row's first item.
fn floats(column: &ArrayRef, dim: usize) -> Result<(ArrayRef, usize), RowError> {
    match column.data_type() {
        DataType::List(_) => list_floats(column.as_list::<i32>(), dim),
        DataType::LargeList(_) => list_floats(column.as_list::<i64>(), dim),
        _ => {
            let lists = column.as_fixed_size_list();
            let length = lists.value_length() as usize;
            if length == dim { Ok((lists.values().clone(), lists.value_offset_at(0))) } else { Err(ragged(0, length, dim)) }
        }
    }
}

fn list_floats<O: OffsetSizeTrait>(lists: &GenericListArray<O>, dim: usize) -> Result<(ArrayRef, usize), RowError> {
    let bounds = lists.value_offsets();
    let length = |row: usize| (bounds[row + 1] - bounds[row]).as_usize();
    match (0..lists.len()).find(|&row| length(row) != dim) {
        Some(row) => Err(ragged(row, length(row), dim)),
        None => Ok((lists.values().clone(), bounds[0].as_usize())),
    }
}

fn ragged(row: usize, length: usize, dim: usize) -> RowError {
    RowError::new(row, Error::data(format!("the row has {length} values, the rows before it have {dim}")))
}

/// Fields and columns with the one at `path` replaced.
fn replaced(
    fields: &Fields,
    columns: &[ArrayRef],
    path: &[usize],
    new: &ArrayRef,
) -> Result<(Vec<FieldRef>, Vec<ArrayRef>), arrow_schema::ArrowError> {
    let (mut fields, mut columns) = (fields.to_vec(), columns.to_vec());
    let at = path[0];
    let column = if path.len() == 1 {
        new.clone()
    } else {
        let outer = columns[at].as_struct();
        let (inner_fields, inner) = replaced(outer.fields(), outer.columns(), &path[1..], new)?;
        Arc::new(StructArray::try_new(inner_fields.into(), inner, outer.nulls().cloned())?)
    };
    fields[at] = Arc::new(Field::new(fields[at].name(), column.data_type().clone(), fields[at].is_nullable()));
    columns[at] = column;
    Ok((fields, columns))
}
