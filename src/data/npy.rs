//! The `.npy` format: float types, either byte order, C and Fortran order.

mod header;
mod window;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytemuck::cast_slice_mut;

use super::embeddings::not_finite;
use super::reader::{Block, Part};
use super::zeros;
use crate::simd::first_not_finite;
use crate::{Error, Result};

pub(super) use header::{Header, summary};
pub(super) use window::Window;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes read at a time: what is decoded and checked is in cache then.
const CHUNK: usize = 1 << 20;

/// Where the data is read from.
enum Body {
    /// Row after row, from a file that blocks read themselves; and what is mapped of it.
    Rows(Arc<Stored>, Option<Arc<Window>>),
    /// Row after row, from what can only be read forwards.
    Stream(Array, Box<dyn Read + Send>),
    /// Column after column, from byte `start` on.
    Columns { array: Array, file: File, start: u64 },
}

/// One array of one file, as messages name it.
#[derive(Debug)]
struct Array {
    name: String,
    header: Header,
}

impl Array {
    /// Fills `values` with the next items of `input`; `place` turns an index among them into (row, column).
    fn read_items(&self, input: &mut dyn Read, values: &mut [f32], place: impl Fn(usize) -> (usize, usize)) -> Result<()> {
        let (item, native) = (self.header.item(), self.header.is_native());
        let mut buffer = vec![0; if native { 0 } else { CHUNK.min(values.len() * item) }];
        for (chunk, values) in values.chunks_mut(CHUNK / item).enumerate() {
            if native {
                input.read_exact(cast_slice_mut(values)).map_err(|e| self.read_error(&e))?;
            } else {
                let bytes = &mut buffer[..values.len() * item];
                input.read_exact(bytes).map_err(|e| self.read_error(&e))?;
                self.header.decode(bytes, values);
            }
            if let Some(bad) = first_not_finite(values) {
                let value = if native { f64::from(values[bad]) } else { self.header.exact(&buffer[bad * item..]) };
                return Err(self.not_finite(value, place(chunk * (CHUNK / item) + bad)));
            }
        }
        Ok(())
    }

    /// Fills `values` with whole rows of a C-order array from row `first` on, which `input` is at.
    fn read_rows(&self, input: &mut dyn Read, first: usize, values: &mut [f32]) -> Result<()> {
        let dim = self.header.dim;
        self.read_items(input, values, |i| (first + i / dim, i % dim))
    }

    /// The same of a Fortran-order array that begins at byte `start`: a piece of every column.
    fn gather_rows(&self, file: &mut File, start: u64, first: usize, values: &mut [f32]) -> Result<()> {
        let Header { rows, dim, .. } = self.header;
        let mut piece = zeros(values.len() / dim, 1)?;
        for column in 0..dim {
            let item = column as u64 * rows as u64 + first as u64;
            file.seek(SeekFrom::Start(start + item * self.header.item() as u64)).map_err(|e| self.read_error(&e))?;
            self.read_items(file, &mut piece, |i| (first + i, column))?;
            for (row, value) in values.chunks_exact_mut(dim).zip(&piece) {
                row[column] = *value;
            }
        }
        Ok(())
    }

    fn not_finite(&self, value: f64, (row, column): (usize, usize)) -> Error {
        not_finite(value).at(format!("row {row}, column {column}")).at(&self.name)
    }

    fn read_error(&self, reason: &io::Error) -> Error {
        match reason.kind() {
            // What decompression reports for damaged data.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Error::data(format!("the data is damaged or cut short ({reason})"))
                    .at(&self.name)
                    .hint("copy or download the file again")
            }
            _ => Error::file("read", Path::new(&self.name), reason),
        }
    }
}

/// A `.npy` file in C order.
#[derive(Debug)]
pub(super) struct Stored {
    array: Array,
    file: File,
}

impl Stored {
    /// Fills `values` with whole rows from row `first` on. Any number of threads may do so at once.
    pub(super) fn read(&self, first: usize, values: &mut [f32]) -> Result<()> {
        let Header { dim, data_start, .. } = self.array.header;
        let offset = data_start + first as u64 * dim as u64 * self.array.header.item() as u64;
        self.array.read_rows(&mut At { file: &self.file, offset }, first, values)
    }

    /// Rows where they lie in memory, which `window` holds.
    pub(super) fn load<'a>(&self, window: &'a Window, rows: Range<usize>) -> Option<&'a [f32]> {
        window.load(&self.file, rows)
    }

    /// Finds the first of these values, which are rows from `first` on, that is not finite.
    pub(super) fn check(&self, first: usize, values: &[f32]) -> Result<()> {
        let dim = self.array.header.dim;
        match first_not_finite(values) {
            Some(bad) => Err(self.array.not_finite(f64::from(values[bad]), (first + bad / dim, bad % dim))),
            None => Ok(()),
        }
    }
}

/// A file from a position of the reader's own.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.offset)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(self.file, buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Streams the rows of one array.
pub(super) struct NpyPart {
    body: Body,
    next_row: usize,
}

impl NpyPart {
    /// Opens a `.npy` file.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(|e| Error::file("read", path, &e))?;
        let total = file.metadata().map_err(|e| Error::file("read", path, &e))?.len();
        let header = Header::read(&mut file, total).map_err(|e| e.at(&name))?;
        if header.fortran {
            let start = header.data_start;
            return Ok(Self::columns(name, header, file, start));
        }
        let array = Array { name, header };
        Ok(Self { body: Body::Rows(Arc::new(Stored { array, file }), None), next_row: 0 })
    }

    /// An array in C order whose data `input` yields.
    pub(super) fn stream(name: String, header: Header, input: impl Read + Send + 'static) -> Self {
        Self { body: Body::Stream(Array { name, header }, Box::new(input)), next_row: 0 }
    }

    /// An array in Fortran order whose data begins at byte `start` of `file`.
    pub(super) fn columns(name: String, header: Header, file: File, start: u64) -> Self {
        Self { body: Body::Columns { array: Array { name, header }, file, start }, next_row: 0 }
    }

    fn array(&self) -> &Array {
        match &self.body {
            Body::Rows(stored, _) => &stored.array,
            Body::Stream(array, _) | Body::Columns { array, .. } => array,
        }
    }
}

impl Part for NpyPart {
    fn name(&self) -> &str {
        &self.array().name
    }

    fn rows(&self) -> usize {
        self.array().header.rows
    }

    fn dim(&self) -> usize {
        self.array().header.dim
    }

    fn detail(&self) -> String {
        self.array().header.type_name().to_string()
    }

    fn read(&mut self, max_rows: usize) -> Result<Block> {
        let (first, dim) = (self.next_row, self.dim());
        let count = max_rows.min(self.rows() - first);
        let block = match &mut self.body {
            Body::Rows(stored, window) => {
                let rows = first..first + count;
                if !window.as_ref().is_some_and(|window| window.holds(&rows)) {
                    *window = Window::new(&stored.file, &stored.array.header, first, count).map(Arc::new);
                }
                Block::stored(Arc::clone(stored), window.clone(), rows, dim)
            }
            Body::Stream(array, input) => {
                let mut values = zeros(count, dim)?;
                array.read_rows(input, first, &mut values)?;
                Block::new(values, dim)
            }
            Body::Columns { array, file, start } => {
                let mut values = zeros(count, dim)?;
                array.gather_rows(file, *start, first, &mut values)?;
                Block::new(values, dim)
            }
        };
        self.next_row += count;
        Ok(block)
    }
}

/// Magic and header of a C-order little-endian array, padded so that the data is aligned to 64 bytes, as numpy does.
pub(super) fn header_bytes(descr: &str, rows: usize, dim: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let padding = 63 - (10 + text.len()) % 64;
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.bytes());
    bytes
}
