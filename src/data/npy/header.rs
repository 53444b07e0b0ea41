//! The header of a `.npy` array: what it says, and what its items are as `f32`.

use std::io::Read;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::MAGIC;
use crate::{Error, Result};

/// Longest header read; numpy writes 118 bytes for a matrix.
const HEADER_LIMIT: u64 = 1 << 20;

/// A float type that embeddings are stored in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Float {
    F16,
    F32,
    F64,
}

/// What the header of a two-dimensional float array says.
#[derive(Debug, Clone)]
pub(in crate::data) struct Header {
    float: Float,
    big_endian: bool,
    pub(super) fortran: bool,
    pub(super) rows: usize,
    pub(super) dim: usize,
    /// Length of magic and header, where the data begins.
    pub(super) data_start: u64,
}

impl Header {
    /// Reads magic and header from the start of `input`, whose whole length is `total` bytes, and checks that the
    /// array fills the rest exactly.
    pub(in crate::data) fn read(input: &mut impl Read, total: u64) -> Result<Self> {
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

    pub(in crate::data) fn is_fortran(&self) -> bool {
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

    /// Bytes of an item.
    pub(super) fn item(&self) -> usize {
        match self.float {
            Float::F16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.float {
            Float::F16 => "float16",
            Float::F32 => "float32",
            Float::F64 => "float64",
        }
    }

    /// Whether items are `f32` as this machine has them in memory.
    pub(super) fn is_native(&self) -> bool {
        self.float == Float::F32 && self.big_endian == cfg!(target_endian = "big")
    }

    /// The values of `bytes`, which holds as many items.
    pub(super) fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        macro_rules! items {
            ($type:ty) => {
                bytes.as_chunks().0.iter().map(|item: &[u8; size_of::<$type>()]| {
                    if self.big_endian { <$type>::from_be_bytes(*item) } else { <$type>::from_le_bytes(*item) }
                })
            };
        }
        match self.float {
            Float::F16 => decode_halves(items!(f16), values),
            Float::F32 => values.iter_mut().zip(items!(f32)).for_each(|(value, item)| *value = item),
            Float::F64 => values.iter_mut().zip(items!(f64)).for_each(|(value, item)| *value = item as f32),
        }
    }

    /// The first item as `f64`, for a message about a value that `f32` cannot hold.
    pub(super) fn exact(&self, bytes: &[u8]) -> f64 {
        match (self.float, bytes.first_chunk::<8>()) {
            (Float::F64, Some(item)) if self.big_endian => f64::from_be_bytes(*item),
            (Float::F64, Some(item)) => f64::from_le_bytes(*item),
            _ => {
                let mut value = [0.0];
                self.decode(&bytes[..self.item()], &mut value);
                f64::from(value[0])
            }
        }
    }
}

/// In pieces that are converted in vectors, in a third of the time that one by one takes.
fn decode_halves(mut items: impl Iterator<Item = f16>, values: &mut [f32]) {
    let mut halves = [f16::ZERO; 256];
    for values in values.chunks_mut(halves.len()) {
        let halves = &mut halves[..values.len()];
        halves.iter_mut().zip(&mut items).for_each(|(half, item)| *half = item);
        halves.convert_to_f32_slice(values);
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
pub(in crate::data) fn summary(input: &mut impl Read, total: u64) -> String {
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
