//! Says that this build has no parquet. What only parquet files have is a type without values here, so that the modules around
//! are the same in every build.

use std::path::Path;

use super::AtomicFile;
use super::reader::Part;
use crate::{Error, Result};

/// The embedding column of a table.
pub(super) enum ColumnPath {}

/// Rows of a table.
#[derive(Debug, Clone)]
pub(super) enum RecordBatch {}

pub(super) enum ParquetWriter {}

pub(super) fn open(path: &Path, _: Option<&str>, _: bool) -> Result<Box<dyn Part>> {
    Err(absent("read", path))
}

impl ParquetWriter {
    pub(super) fn create(path: &Path, _: &mut AtomicFile, _: Option<&ColumnPath>, _: usize) -> Result<Self> {
        Err(absent("write", path))
    }

    pub(super) fn write(&mut self, _: usize, _: Option<&RecordBatch>, _: &[f32]) -> Result<()> {
        match *self {}
    }

    pub(super) fn finish(self) -> Result<()> {
        match self {}
    }
}

fn absent(verb: &str, path: &Path) -> Error {
    Error::usage(format!("this program was built without the parquet feature and cannot {verb} parquet files"))
        .at(path.display())
        .hint("build with --features parquet, or use .npy or .npz")
}
