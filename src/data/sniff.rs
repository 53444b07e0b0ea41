//! What a file really is, whatever its extension says.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::npy;
use crate::{Error, Result};

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Npy,
    Npz,
    Parquet,
}

/// Beginnings of files that people hand over by mistake.
const OTHERS: &[(&[u8], &str, &str)] = &[
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "run `git lfs pull` in its repository"),
    (b"PARE", "an encrypted parquet file", "write it again without encryption"),
    (b"\x89HDF", "an HDF5 file", "convert it to .npy, .npz or .parquet"),
    (b"ARROW1", "an Arrow IPC (Feather) file", "convert it to .parquet"),
    (b"\x1f\x8b", "a gzip file", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it first"),
    (b"\x80\x02", "a Python pickle", "pickles are never loaded; save with np.save"),
    (b"\x80\x03", "a Python pickle", "pickles are never loaded; save with np.save"),
    (b"\x80\x04", "a Python pickle", "pickles are never loaded; save with np.save"),
    (b"\x80\x05", "a Python pickle", "pickles are never loaded; save with np.save"),
];

/// Tells the format by the first bytes.
pub(super) fn kind(path: &Path) -> Result<Kind> {
    let fail = |e: &std::io::Error| Error::file("read", path, e);
    let info = fs::metadata(path).map_err(|e| fail(&e))?;
    if !info.is_file() {
        return Err(Error::data("not a regular file").at(path.display()).hint("copy the data into a file first"));
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(256).read_to_end(&mut start)).map_err(|e| fail(&e))?;
    match &start[..] {
        [] => Err(Error::data("the file is empty").at(path.display()).hint("it was probably never downloaded or written")),
        s if s.starts_with(npy::MAGIC) => Ok(Kind::Npy),
        s if s.starts_with(b"PK\x03\x04") || s.starts_with(b"PK\x05\x06") => Ok(Kind::Npz),
        s if s.starts_with(b"PAR1") => Ok(Kind::Parquet),
        s => Err(unreadable(s).at(path.display())),
    }
}

fn unreadable(start: &[u8]) -> Error {
    if let Some((_, what, hint)) = OTHERS.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return Error::data(format!("the file is {what}")).hint(*hint);
    }
    match start.trim_ascii_start().first() {
        Some(b'<') => {
            Error::data("the file is an HTML or XML page").hint("a login or error page was saved; download the data itself")
        }
        Some(b'{' | b'[') => Error::data("the file is JSON text").hint("convert it to .npy, .npz or .parquet"),
        _ => Error::data(format!(
            "the file is not .npy, .npz or parquet; it begins with \"{}\"",
            start[..start.len().min(8)].escape_ascii()
        ))
        .hint("save the matrix with np.save(path, x)"),
    }
}
