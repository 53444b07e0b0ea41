//! Records as JSON: on stdout, as lines of a file, as a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::print_line;
use crate::data::AtomicFile;
use crate::error::{Error, Result};

/// A file of JSON lines. What it held before is replaced when the first line is added, not sooner; without a line, no file is left
/// that was not there.
pub struct JsonLines {
    path: PathBuf,
    file: File,
    created: bool,
    started: bool,
}

impl JsonLines {
    /// Opens the file for writing, or creates it.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let created = !path.exists();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|e| Error::file("write", path, &e))?;
        Ok(Self { path: path.to_owned(), file, created, started: false })
    }

    /// Adds a record, in one write.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn add(&mut self, record: &impl Serialize) -> Result<()> {
        let line = to_json(record) + "\n";
        // Pipes and devices hold nothing.
        let holds = !self.started && self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        let emptied = if holds { self.file.set_len(0) } else { Ok(()) };
        self.started = true;
        emptied.and_then(|()| self.file.write_all(line.as_bytes())).map_err(|e| Error::file("write", &self.path, &e))
    }
}

impl Drop for JsonLines {
    fn drop(&mut self) {
        if self.created && !self.started {
            // An empty file is left where even this fails.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes a record to stdout, as one line.
///
/// # Errors
/// [`Error::Io`] when stdout cannot be written.
pub fn print_json(record: &impl Serialize) -> Result<()> {
    print_line(&to_json(record))
}

/// Writes a record as a file, which appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] when it cannot be written.
pub fn write_json(mut file: AtomicFile, record: &impl Serialize) -> Result<()> {
    let text = to_json(record) + "\n";
    file.write_all(text.as_bytes())?;
    file.commit()
}

fn to_json(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("records are maps with text keys")
}
