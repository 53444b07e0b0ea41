//! The readers, the writers and the hub, through the library's public interface.
//!
//! The files under `tests/fixtures` are made by numpy and pyarrow; see `make.py` there.

mod columns;
mod hub;
mod no_parquet;
mod npy;
mod npz;
mod parquet;
mod source;
mod split;
mod writer;

use std::path::{Path, PathBuf};

use embedding_compressor::data::{Embeddings, Source};
use embedding_compressor::{Error, Result};

const ROWS: usize = 12;
const DIM: usize = 8;

/// The matrix that every good fixture holds.
fn matrix() -> Vec<f32> {
    (0..ROWS * DIM).map(|i| (i as f32 - 40.0) / 16.0).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn source(path: impl Into<PathBuf>) -> Source {
    Source { input: vec![path.into()], ..Source::default() }
}

fn read(path: impl Into<PathBuf>) -> Result<Embeddings> {
    Embeddings::read(&source(path), 0)
}

/// What the user sees of an error, and its exit code.
fn message(error: &Error) -> (String, u8) {
    (format!("{error}\n{}", error.hint_text().unwrap_or("")), error.exit_code())
}

/// Fails unless reading `path` gives a data error that contains every one of `parts`.
fn refused(path: impl Into<PathBuf>, parts: &[&str]) {
    let path = path.into();
    let (text, code) = message(&read(&path).expect_err(&path.display().to_string()));
    assert_eq!(code, 3, "{text}");
    for part in parts {
        assert!(text.contains(part), "{}: no {part:?} in: {text}", path.display());
    }
    assert!(text.contains(path.to_str().unwrap()), "the file is not named: {text}");
}

/// Writes `bytes` to `name` in a folder that lives as long as the first of the pair.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Reads damaged copies of a fixture: cut at every 64th, and with single bytes flipped. Nothing may panic; a cut is an error.
fn survives_damage(name: &str) {
    let good = std::fs::read(fixture(name)).unwrap();
    for part in 0..64 {
        let (_folder, path) = file(name, &good[..good.len() * part / 64]);
        assert!(read(&path).is_err(), "{name} cut at {part}/64 was read");
    }
    let step = (good.len() / 600).max(1);
    for at in (0..good.len()).step_by(step) {
        for bit in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            let (_folder, path) = file(name, &bad);
            let _ = read(&path);
        }
    }
}
