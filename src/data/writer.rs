//! Writing compressed vectors: `.npy`, `.npz` and `.parquet`, in bounded memory.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytemuck::cast_slice;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::parquet::ParquetWriter;
use super::{AtomicFile, Block, Reader, npy, npz};
use crate::{Error, Result};

/// The file is synced whenever as many bytes of vectors were written, while more are made: at the end, 256 MB took another 0.1 s, and
/// with four times as many bytes 1,000,000 x 384 to 64 took 1.08 times as long.
const SYNC_BYTES: usize = 8 << 20;

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
    Npz(Box<ZipWriter<UntilError>>),
    Parquet(ParquetWriter),
}

impl Writer {
    /// Starts `path` for vectors of length `dim` made from every row of `input`; call it before the work begins, so that
    /// a bad path fails early.
    ///
    /// # Errors
    /// A usage error for another extension, and for parquet in a build without that feature; an input/output error when the
    /// file cannot be created.
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
                let file = file.file().try_clone().map_err(|e| fail(&e))?;
                let mut zip = ZipWriter::new(UntilError { file, failed: false });
                // Stored, as np.savez does: floats hardly compress.
                let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
                zip.start_file(format!("{}.npy", npz::DEFAULT_KEY), options).map_err(|e| fail(&e.into()))?;
                zip.write_all(&header).map_err(|e| fail(&e))?;
                Format::Npz(Box::new(zip))
            }
            _ => Format::Parquet(ParquetWriter::create(path, &mut file, input.column(), dim)?),
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
            Format::Parquet(writer) => writer.write(block.first_row, block.columns.as_ref(), values),
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
            Format::Npy => {}
            Format::Npz(zip) => {
                zip.finish().map_err(|e| Error::file("write", &self.path, &e.into()))?;
            }
            Format::Parquet(writer) => writer.finish()?,
        }
        self.file.commit()
    }
}

/// A file, until writing fails: then it takes everything. An archive that is dropped tries to complete itself, and says on stderr, beside
/// the error, that it cannot.
struct UntilError {
    file: File,
    failed: bool,
}

impl UntilError {
    fn attempt<T>(&mut self, instead: T, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        if self.failed {
            return Ok(instead);
        }
        let result = work(&mut self.file);
        self.failed = result.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
        result
    }
}

impl Write for UntilError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(bytes.len(), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt((), File::flush)
    }
}

impl Seek for UntilError {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.attempt(0, |file| file.seek(to))
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
