//! Files in, compressed files out, piece by piece.

use std::path::Path;

use crate::backend::Backend;
use crate::data::{Source, Writer};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::model::Compressor;

/// What [`compress_file`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// Rows read and written.
    pub rows: usize,
    /// How many of them are zeros, which have no direction and stay zeros where the model normalises rows, and the first of those.
    pub zero_rows: Option<(usize, usize)>,
}

/// Compresses every row of `source` into `output` (`.npy`, `.npz` or `.parquet`), which appears whole or not at all. Memory does
/// not grow with the number of rows.
///
/// # Errors
/// [`Error::Data`] for bad rows, another width than the model's, or encodings that are infinite; [`Error::Usage`] for an output format
/// that is not known; [`Error::Io`] and [`Error::Device`] when those fail.
pub fn compress_file(compressor: &Compressor, backend: &dyn Backend, source: &Source, output: &Path) -> Result<Compressed> {
    let mut reader = source.open_carrying(0)?;
    compressor.check_dim(reader.dim()).map_err(|e| e.at(reader.describe()))?;
    let mut writer = Writer::create(output, &reader, compressor.map.dim_out)?;
    let mut encoder = Encoder::new(&compressor.map, backend, reader.rows())?;
    let piece_rows = encoder.piece_rows();
    let mut zero_rows: Option<(usize, usize)> = None;
    encoder.stream(
        || reader.next_block(piece_rows),
        |block, encodings| {
            if let Some(first) = encodings.zero_rows.first() {
                let (count, _) = zero_rows.get_or_insert((0, block.first_row + first));
                *count += encodings.zero_rows.len();
            }
            if let Some(row) = encodings.infinite_row {
                let row = block.first_row + row;
                return Err(Error::data("what the row is compressed to is infinite: its numbers are too large for this model")
                    .at(format!("row {row}"))
                    .hint("scale the rows, and train on rows of that size"));
            }
            writer.write(&block, &encodings.values)
        },
    )?;
    writer.finish()?;
    Ok(Compressed { rows: reader.rows(), zero_rows })
}
