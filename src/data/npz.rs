//! The `.npz` format: a zip archive of `.npy` arrays, stored or deflated.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::CrcReader;
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use super::npy::{self, Header, NpyPart};
use crate::{Error, Result};

/// The key that is taken without being asked for, and that [`Writer`](super::Writer) writes.
pub(super) const DEFAULT_KEY: &str = "embeddings";
/// Deflate cannot expand more than 1032-fold; an entry that claims more is lying about its size.
const DEFLATE_LIMIT: u64 = 1040;
/// Arrays named in a message.
const LISTED: usize = 20;

type Archive = ZipArchive<BufReader<File>>;

/// Opens one array of the archive: `key`, else [`DEFAULT_KEY`], else the only one.
pub(super) fn open(path: &Path, key: Option<&str>) -> Result<NpyPart> {
    let file = File::open(path).map_err(|e| Error::file("read", path, &e))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| {
        Error::data(format!("the .npz archive is damaged ({e})")).hint("copy or download the file again").at(path.display())
    })?;
    let key = choose(&mut archive, path, key).map_err(|e| e.at(path.display()))?;
    let name = format!("{} [{key}]", path.display());
    array(&mut archive, path, &key, name.clone()).map_err(|e| e.at(name))
}

fn choose(archive: &mut Archive, path: &Path, key: Option<&str>) -> Result<String> {
    if archive.has_duplicate_names() {
        return Err(Error::data("the .npz archive has several entries of the same name").hint("save it again with np.savez"));
    }
    let mut keys: Vec<String> =
        archive.file_names().flatten().filter_map(|n| n.strip_suffix(".npy").map(str::to_string)).collect();
    let wanted = key.unwrap_or(DEFAULT_KEY);
    if keys.iter().any(|k| k == wanted) {
        return Ok(wanted.to_string());
    }
    match (key, keys.len()) {
        (_, 0) => {
            Err(Error::data("the zip archive holds no .npy array").hint("save the matrix with np.savez(path, embeddings=x)"))
        }
        (None, 1) => Ok(keys.remove(0)),
        _ => {
            let what = key.map_or_else(|| "several arrays".to_string(), |key| format!("no array '{key}'"));
            let list: Vec<String> = keys.iter().take(LISTED).map(|key| listed(archive, path, key)).collect();
            let more = if keys.len() > LISTED { ", ..." } else { "" };
            Err(Error::data(format!("{what} in the .npz archive; it has {}{more}", list.join(", ")))
                .hint("choose one with --npz-key"))
        }
    }
}

/// `key shape type`, or why the entry cannot be read.
fn listed(archive: &mut Archive, path: &Path, key: &str) -> String {
    match entry(archive, path, key) {
        Ok((mut data, size)) => format!("{key} {}", npy::summary(&mut data, size)),
        Err(error) => format!("{key} ({error})"),
    }
}

fn array(archive: &mut Archive, path: &Path, key: &str, name: String) -> Result<NpyPart> {
    let (mut data, size) = entry(archive, path, key)?;
    let header = Header::read(&mut data, size)?;
    if !header.is_fortran() {
        return Ok(NpyPart::stream(name, header, data));
    }
    // Column order needs seeking, which compressed data does not have.
    let mut plain = tempfile::tempfile().map_err(|e| Error::file("create a temporary file", &std::env::temp_dir(), &e))?;
    io::copy(&mut data, &mut plain).map_err(|e| Error::data(format!("the array cannot be unpacked ({e})")))?;
    Ok(NpyPart::columns(name, header, plain, 0))
}

/// The plain bytes of one array's file, and how many they are.
fn entry(archive: &mut Archive, path: &Path, key: &str) -> Result<(Checked, u64)> {
    let damaged = |e: zip::result::ZipError| Error::data(format!("the .npz entry is damaged ({e})"));
    let index =
        archive.index_for_name(&format!("{key}.npy")).ok_or_else(|| Error::data("the .npz entry has no readable name"))?;
    let entry = archive.by_index_raw(index).map_err(damaged)?;
    if entry.encrypted() {
        return Err(Error::data("the .npz entry is encrypted").hint("save it again without a password"));
    }
    let (packed, size) = (entry.compressed_size(), entry.size());
    let deflated = match entry.compression() {
        CompressionMethod::Stored if packed == size => false,
        CompressionMethod::Deflated if size / DEFLATE_LIMIT <= packed => true,
        CompressionMethod::Stored | CompressionMethod::Deflated => {
            return Err(Error::data(format!("the .npz entry claims {size} bytes in {packed}")));
        }
        method => {
            return Err(Error::data(format!("compression method {method} is not read"))
                .hint("save it again with np.savez or np.savez_compressed"));
        }
    };
    let start = entry.data_start().ok_or_else(|| Error::data("the .npz entry has no data"))?;
    let crc = entry.crc32();
    drop(entry);

    // A handle of our own, because an entry of the archive cannot outlive it.
    let mut file = File::open(path).map_err(|e| Error::file("read", path, &e))?;
    file.seek(SeekFrom::Start(start)).map_err(|e| Error::file("read", path, &e))?;
    let file = BufReader::new(file).take(packed);
    let plain: Box<dyn Read + Send> = if deflated { Box::new(DeflateDecoder::new(file)) } else { Box::new(file) };
    Ok((Checked { plain: CrcReader::new(plain), left: size, crc }, size))
}

/// Reads an entry's `left` bytes, and compares length and checksum at their end.
struct Checked {
    plain: CrcReader<Box<dyn Read + Send>>,
    left: u64,
    crc: u32,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let count = self.plain.read(&mut buffer[..room])?;
        self.left -= count as u64;
        if self.left == 0 {
            if self.plain.crc().sum() != self.crc {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "checksum mismatch"));
            }
            if self.plain.read(&mut [0])? != 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more data than the archive announces"));
            }
        }
        Ok(count)
    }
}
