//! The `.npy` format: header, float types, C and Fortran order.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use half::f16;

use super::allocate;
use super::embeddings::not_finite;
use super::reader::{Block, Part};
use crate::{Error, Result};

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header read; numpy writes 118 bytes for a matrix.
const HEADER_LIMIT: u64 = 1 << 20;
/// Bytes decoded at a time.
const CHUNK: usize = 1 << 20;

/// A float type that embeddings are stored in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Float {
    F16,
    F32,
    F64,
}

/// What the header of a two-dimensional float array says.
#[derive(Debug, Clone)]
pub(super) struct Header {
    float: Float,
    big_endian: bool,
    fortran: bool,
    rows: usize,
    dim: usize,
    /// Length of magic and header, where the data begins.
    data_start: u64,
}

impl Header {
    /// Reads magic and header from the start of `input`, whose whole length is `total` bytes, and checks that the
    /// array fills the rest exactly.
    pub(super) fn read(input: &mut impl Read, total: u64) -> Result<Self> {
        let (text, data_start) = header_text(input, total)?;
        let (float, big_endian) = parse_type(field(&text, "descr")?)?;
        let fortran = match field(&text, "fortran_order")? {
            value if value.starts_with("True") => true,
            value if value.starts_with("False") => false,
            _ => return Err(Error::data("the .npy header has no valid fortran_order")),
        };
        let (rows, dim) = parse_shape(field(&text, "shape")?)?;
        let header = Self { float, big_endian, fortran, rows, dim, data_start };
        header.check_size(total - data_start)?;
        Ok(header)
    }

    pub(super) fn is_fortran(&self) -> bool {
        self.fortran
    }

    /// `available` is what the file holds after the header.
    fn check_size(&self, available: u64) -> Result<()> {
        let row = self.dim as u128 * self.item() as u128;
        let needed = row.saturating_mul(self.rows as u128);
        let available = u128::from(available);
        if needed > available {
            let complete = if self.fortran { 0 } else { available / row };
            return Err(Error::data(format!(
                "the file is cut short: shape ({}, {}) needs {needed} bytes of data, the file has {available}",
                self.rows, self.dim
            ))
            .at(format!("row {complete} of {} is incomplete", self.rows))
            .hint("copy or download the file again"));
        }
        if needed < available {
            return Err(Error::data(format!("{} bytes follow the array", available - needed))
                .hint("the file is damaged or several arrays were appended to it; save it again"));
        }
        Ok(())
    }

    fn item(&self) -> usize {
        match self.float {
            Float::F16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }

    fn type_name(&self) -> &'static str {
        match self.float {
            Float::F16 => "float16",
            Float::F32 => "float32",
            Float::F64 => "float64",
        }
    }

    /// Appends the values of `bytes`, which holds whole items.
    fn decode(&self, bytes: &[u8], values: &mut Vec<f32>) {
        macro_rules! extend {
            ($type:ty, $convert:expr) => {{
                let (items, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
                if self.big_endian {
                    values.extend(items.iter().map(|item| $convert(<$type>::from_be_bytes(*item))));
                } else {
                    values.extend(items.iter().map(|item| $convert(<$type>::from_le_bytes(*item))));
                }
            }};
        }
        match self.float {
            Float::F16 => extend!(f16, f16::to_f32),
            Float::F32 => extend!(f32, |v| v),
            Float::F64 => extend!(f64, |v| v as f32),
        }
    }

    /// The first item as `f64`, for a message about a value that `f32` cannot hold.
    fn exact(&self, bytes: &[u8]) -> f64 {
        match (self.float, bytes.first_chunk::<8>()) {
            (Float::F64, Some(item)) if self.big_endian => f64::from_be_bytes(*item),
            (Float::F64, Some(item)) => f64::from_le_bytes(*item),
            _ => {
                let mut value = Vec::new();
                self.decode(&bytes[..self.item()], &mut value);
                f64::from(value[0])
            }
        }
    }
}

/// The header's text and where it ends.
fn header_text(input: &mut impl Read, total: u64) -> Result<(String, u64)> {
    let cut = |_| Error::data("the .npy header is cut short");
    let mut start = [0; 8];
    input.read_exact(&mut start).map_err(cut)?;
    if !start.starts_with(MAGIC) {
        return Err(Error::data("not a .npy array: it does not begin with the NumPy magic bytes"));
    }
    let (length, prefix) = match start[6] {
        1 => {
            let mut length = [0; 2];
            input.read_exact(&mut length).map_err(cut)?;
            (u64::from(u16::from_le_bytes(length)), 10)
        }
        2 | 3 => {
            let mut length = [0; 4];
            input.read_exact(&mut length).map_err(cut)?;
            (u64::from(u32::from_le_bytes(length)), 12)
        }
        _ => return Err(Error::data(format!(".npy version {}.{} is unknown", start[6], start[7])).at("byte 6")),
    };
    if length > HEADER_LIMIT || prefix + length > total {
        return Err(Error::data(format!("the .npy header claims {length} bytes, the file has {total}")).at("byte 8"));
    }
    let mut text = vec![0; length as usize];
    input.read_exact(&mut text).map_err(cut)?;
    Ok((String::from_utf8_lossy(&text).into_owned(), prefix + length))
}

/// Shape and type as the header states them, for a list of arrays that may not be usable.
pub(super) fn summary(input: &mut impl Read, total: u64) -> String {
    let Ok((text, _)) = header_text(input, total) else { return "(damaged)".to_string() };
    let shape = field(&text, "shape").ok().and_then(|s| s.split_once(')')).map_or("(?", |(shape, _)| shape);
    let kind = field(&text, "descr").ok().and_then(|s| s.split(['\'', '"']).nth(1)).unwrap_or("?");
    format!("{}) {}", shape.chars().take(60).collect::<String>(), kind.chars().take(20).collect::<String>())
}

/// What follows `'key':` in the header's Python dictionary.
fn field<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    ['\'', '"']
        .iter()
        .find_map(|quote| text.split_once(&format!("{quote}{key}{quote}")))
        .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
        .map(str::trim_start)
        .ok_or_else(|| Error::data(format!("the .npy header has no '{key}'")))
}

/// The float type and whether it is big endian, from a value such as `'<f4'`.
fn parse_type(value: &str) -> Result<(Float, bool)> {
    let name = value.strip_prefix(['\'', '"']).and_then(|rest| rest.split(['\'', '"']).next()).unwrap_or("structured");
    let (order, kind) = name.split_at_checked(1).unwrap_or(("", name));
    let float = match kind {
        "f2" => Float::F16,
        "f4" => Float::F32,
        "f8" => Float::F64,
        _ if kind.starts_with('O') => {
            return Err(Error::data("the array holds pickled Python objects (dtype object), which are never loaded")
                .hint("re-save it with np.save(path, np.asarray(x, dtype='float32'))"));
        }
        _ => {
            return Err(Error::data(format!("dtype {name} is not a float type"))
                .hint("float16, float32 and float64 are read; convert with x.astype('float32')"));
        }
    };
    match order {
        "<" => Ok((float, false)),
        ">" => Ok((float, true)),
        "=" => Ok((float, cfg!(target_endian = "big"))),
        _ => Err(Error::data(format!("dtype {name} has no byte order"))),
    }
}

/// The two lengths of a value such as `(3, 4), }`.
fn parse_shape(value: &str) -> Result<(usize, usize)> {
    let inner = value.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(value, |(inner, _)| inner);
    // A shape of millions of dimensions should not fill the screen.
    let shown: String = inner.chars().take(60).collect();
    // Python 2 wrote long integers as `3L`.
    let lengths = inner.split(',').map(|s| s.trim().trim_end_matches('L')).filter(|s| !s.is_empty());
    let lengths: Vec<Option<usize>> = lengths.map(|s| s.parse().ok()).take(3).collect();
    match lengths[..] {
        [Some(0), Some(_)] | [Some(_), Some(0)] => Err(Error::data(format!("the array is empty: shape ({shown})"))),
        [Some(rows), Some(dim)] => Ok((rows, dim)),
        _ => Err(Error::data(format!("expected 2-D (rows, dim), got ({shown})"))
            .hint("reshape the array so that every row is one embedding")),
    }
}

/// Where the data is read from.
enum Body {
    /// Row after row.
    Rows(Box<dyn Read + Send>),
    /// Column after column, from byte `start` on.
    Columns { file: File, start: u64 },
}

/// One array of one file, as messages name it.
struct Array {
    name: String,
    header: Header,
}

impl Array {
    /// Appends `count` consecutive items of `input` to `values`; `place` turns an index among them into (row, column).
    fn read_items(
        &self,
        input: &mut dyn Read,
        count: usize,
        values: &mut Vec<f32>,
        place: impl Fn(usize) -> (usize, usize),
    ) -> Result<()> {
        let item = self.header.item();
        let mut buffer = vec![0; CHUNK.min(count * item)];
        let mut done = 0;
        while done < count {
            let items = (CHUNK / item).min(count - done);
            let bytes = &mut buffer[..items * item];
            input.read_exact(bytes).map_err(|e| self.read_error(&e))?;
            let before = values.len();
            self.header.decode(bytes, values);
            if let Some(bad) = values[before..].iter().position(|v| !v.is_finite()) {
                let (row, column) = place(done + bad);
                let value = self.header.exact(&bytes[bad * item..]);
                return Err(not_finite(value).at(format!("row {row}, column {column}")).at(&self.name));
            }
            done += items;
        }
        Ok(())
    }

    /// Rows `first .. first + count` of a C-order array whose next unread item is the first of them.
    fn read_rows(&self, input: &mut dyn Read, first: usize, count: usize) -> Result<Vec<f32>> {
        let dim = self.header.dim;
        let mut values = allocate(count, dim)?;
        self.read_items(input, count * dim, &mut values, |i| (first + i / dim, i % dim))?;
        Ok(values)
    }

    /// The same rows of a Fortran-order array that begins at byte `start`: a piece of every column.
    fn gather_rows(&self, file: &mut File, start: u64, first: usize, count: usize) -> Result<Vec<f32>> {
        let Header { rows, dim, .. } = self.header;
        let mut values = allocate(count, dim)?;
        values.resize(count * dim, 0.0);
        let mut piece = allocate(count, 1)?;
        for column in 0..dim {
            let item = column as u64 * rows as u64 + first as u64;
            file.seek(SeekFrom::Start(start + item * self.header.item() as u64)).map_err(|e| self.read_error(&e))?;
            piece.clear();
            self.read_items(file, count, &mut piece, |i| (first + i, column))?;
            for (row, value) in values.chunks_exact_mut(dim).zip(&piece) {
                row[column] = *value;
            }
        }
        Ok(values)
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

/// Streams the rows of one array.
pub(super) struct NpyPart {
    array: Array,
    body: Body,
    next_row: usize,
}

impl NpyPart {
    /// Opens a `.npy` file. Blocks are read, not mapped: resident memory stays small, and a file that shrinks meanwhile
    /// is an error instead of a signal.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(|e| Error::file("read", path, &e))?;
        let total = file.metadata().map_err(|e| Error::file("read", path, &e))?.len();
        let header = Header::read(&mut file, total).map_err(|e| e.at(&name))?;
        let start = header.data_start;
        Ok(if header.fortran { Self::columns(name, header, file, start) } else { Self::rows(name, header, file) })
    }

    /// An array in C order whose data `input` yields.
    pub(super) fn rows(name: String, header: Header, input: impl Read + Send + 'static) -> Self {
        Self { array: Array { name, header }, body: Body::Rows(Box::new(input)), next_row: 0 }
    }

    /// An array in Fortran order whose data begins at byte `start` of `file`.
    pub(super) fn columns(name: String, header: Header, file: File, start: u64) -> Self {
        Self { array: Array { name, header }, body: Body::Columns { file, start }, next_row: 0 }
    }
}

impl Part for NpyPart {
    fn name(&self) -> &str {
        &self.array.name
    }

    fn rows(&self) -> usize {
        self.array.header.rows
    }

    fn dim(&self) -> usize {
        self.array.header.dim
    }

    fn detail(&self) -> String {
        self.array.header.type_name().to_string()
    }

    fn read(&mut self, max_rows: usize) -> Result<Block> {
        let first = self.next_row;
        let count = max_rows.min(self.rows() - first);
        let values = match &mut self.body {
            Body::Rows(input) => self.array.read_rows(input, first, count)?,
            Body::Columns { file, start } => self.array.gather_rows(file, *start, first, count)?,
        };
        self.next_row += count;
        Ok(Block::new(values, self.dim()))
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
