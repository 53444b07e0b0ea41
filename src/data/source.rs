//! The flags that say where the embeddings are.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::atomic::folder_of;
use super::hub::{self, HubConfig};
use super::npy::NpyPart;
use super::reader::{Part, Reader};
use super::shards::first_gap;
use super::sniff::{self, Kind};
use super::{npz, parquet};
use crate::{Error, Result};

/// The dataset that is read when no other input is named: Korean Wikipedia, 100,000 paragraphs.
pub const DEFAULT_DATASET: &str = "chaehoyu/wikipedia-22-12-ko-embeddings-100k";

/// Which embeddings to read.
#[derive(Debug, Clone, clap::Args, serde::Serialize)]
pub struct Source {
    /// Embeddings to read instead of a dataset: .npy, .npz or .parquet files, folders of .parquet files, or glob patterns
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub input: Vec<PathBuf>,

    /// Array to read from an .npz file [default: "embeddings", else the only one]
    #[arg(long, value_name = "KEY")]
    pub npz_key: Option<String>,

    /// Dataset on the Hugging Face hub
    #[arg(long, value_name = "OWNER/NAME", default_value = DEFAULT_DATASET, conflicts_with = "input")]
    pub hf_dataset: String,

    /// Parquet files of the dataset, or patterns for them [default: the train split]
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "input")]
    pub hf_parquet_file: Vec<String>,

    /// Branch, tag or commit of the dataset [default: main]
    #[arg(long, value_name = "REVISION", conflicts_with = "input")]
    pub hf_revision: Option<String>,

    /// Parquet column with the embeddings, dots for nesting [default: the only "embedding" or list-of-floats column]
    #[arg(long, value_name = "COLUMN")]
    pub hf_embedding_column: Option<String>,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            input: Vec::new(),
            npz_key: None,
            hf_dataset: DEFAULT_DATASET.to_string(),
            hf_parquet_file: Vec::new(),
            hf_revision: None,
            hf_embedding_column: None,
        }
    }
}

impl Source {
    /// Opens the first `max_items` rows (0: all rows). Files beyond them are neither opened nor downloaded.
    ///
    /// # Errors
    /// A data error for bad content or a missing shard; an input/output error when files cannot be read or the hub
    /// cannot be reached; a usage error for flags that cannot work.
    pub fn open(&self, max_items: usize) -> Result<Reader> {
        self.open_with(max_items, false, &HubConfig::from_env())
    }

    /// Like [`open`](Self::open), and parquet blocks carry all columns of their rows for a [`Writer`](super::Writer).
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_carrying(&self, max_items: usize) -> Result<Reader> {
        self.open_with(max_items, true, &HubConfig::from_env())
    }

    /// Like [`open`](Self::open), with an explicit hub configuration and the choice to `carry` columns.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(&self, max_items: usize, carry: bool, hub: &HubConfig) -> Result<Reader> {
        let part = |path: Result<PathBuf>| self.part(&path?, carry);
        if self.input.is_empty() {
            let (paths, source) = hub::open(self, hub)?;
            return Reader::new(paths.map(part), max_items, source);
        }
        let files = self.files()?;
        let source = match &files[..] {
            [file] => file.display().to_string(),
            [first, .., last] => format!("{} .. {} ({} files)", first.display(), last.display(), files.len()),
            [] => String::new(),
        };
        Reader::new(files.into_iter().map(Ok).map(part), max_items, source)
    }

    fn part(&self, path: &Path, carry: bool) -> Result<Box<dyn Part>> {
        Ok(match sniff::kind(path)? {
            Kind::Npy => Box::new(NpyPart::open(path)?),
            Kind::Npz => Box::new(npz::open(path, self.npz_key.as_deref())?),
            Kind::Parquet => parquet::open(path, self.hf_embedding_column.as_deref(), carry)?,
        })
    }

    /// The files that `input` names, in the order given; folders and patterns in name order. No file comes twice, and no
    /// shard is missing unless one alone is named.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for input in &self.input {
            let found = match input.to_str() {
                _ if input.is_dir() => in_folder(input)?,
                Some(pattern) if !input.exists() && pattern.contains(['*', '?', '[']) => in_pattern(pattern)?,
                _ => vec![input.clone()],
            };
            files.extend(found);
        }
        let mut seen = HashSet::new();
        if let Some(file) = files.iter().find(|file| !seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf())))
        {
            return Err(named_twice(file.display()));
        }
        if files == self.input && files.len() == 1 {
            return Ok(files);
        }
        // The names of links stay as they are: in the hub's cache they lead to files without a number.
        let mut names: Vec<String> = files.iter().map(|file| in_real_folder(file).display().to_string()).collect();
        names.sort();
        match first_gap(&names) {
            Some(gap) => Err(Error::data("a shard is missing")
                .at(gap.missing)
                .hint("put the missing file beside the others, or name one file alone")),
            None => Ok(files),
        }
    }
}

/// The error for one file in an input twice.
pub(super) fn named_twice(file: impl fmt::Display) -> Error {
    Error::usage("a file is named twice").at(file).hint("the same rows would be in training and test; name it once")
}

/// The same name in the folder's one true spelling.
fn in_real_folder(file: &Path) -> PathBuf {
    let folder = fs::canonicalize(folder_of(file)).ok();
    folder.zip(file.file_name()).map_or_else(|| file.to_path_buf(), |(folder, name)| folder.join(name))
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| Error::file("read", folder, &e))?;
    let files = entries.iter().map(fs::DirEntry::path).filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect();
    sorted(files, &folder.display().to_string(), "the folder has no .parquet files")
}

fn in_pattern(pattern: &str) -> Result<Vec<PathBuf>> {
    let paths = glob::glob(pattern).map_err(|e| Error::usage("not a valid pattern").at(format!("--input {pattern}: {e}")))?;
    let files = paths.collect::<Result<_, _>>().map_err(|e| Error::file("read", e.path(), e.error()))?;
    sorted(files, pattern, "no file matches")
}

/// Sorts what a search found; nothing is an error.
fn sorted(mut files: Vec<PathBuf>, place: &str, nothing: &str) -> Result<Vec<PathBuf>> {
    files.sort();
    if files.is_empty() {
        return Err(Error::io(nothing).at(place).hint("check the path; it is taken relative to the working directory"));
    }
    Ok(files)
}
