//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tempfile::{Builder, NamedTempFile};

use crate::{Error, Result};

/// A file written under a temporary name beside its target, which [`commit`](Self::commit) puts in place.
///
/// Dropped without `commit`, the temporary file is removed and whatever was at the target stays.
#[derive(Debug)]
pub struct AtomicFile {
    temp: NamedTempFile,
    target: PathBuf,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl AtomicFile {
    /// Starts a file that will become `path`; a symbolic link is followed to the file it names.
    ///
    /// # Errors
    /// An input/output error when the folder is missing or not writable, or `path` is something other than a file:
    /// create it before the work whose result it takes.
    pub fn create(path: &Path) -> Result<Self> {
        let fail = |reason: &io::Error| Error::file("write", path, reason);
        let target = if path.is_symlink() { fs::canonicalize(path).map_err(|e| fail(&e))? } else { path.to_path_buf() };
        if target.exists() && !target.is_file() {
            return Err(Error::io("cannot write").at(format!("{}: not a regular file", path.display())).hint("name a file"));
        }
        // Opened here, not by tempfile: with the mode of any other new file, and errors without the temporary name.
        let open = |temp: &Path| File::options().read(true).write(true).create_new(true).open(temp);
        let temp = Builder::new().prefix(".").suffix(".tmp").make_in(folder_of(&target), open).map_err(|e| fail(&e))?;
        Ok(Self { temp, target, syncing: None })
    }

    /// The open file.
    pub fn file(&mut self) -> &mut File {
        self.temp.as_file_mut()
    }

    /// Starts to bring what is written so far to the disk, unless that is still under way for what was written before; so
    /// [`commit`](Self::commit) has less to wait for.
    ///
    /// # Errors
    /// An input/output error from bringing earlier content to the disk.
    pub fn sync_early(&mut self) -> Result<()> {
        if self.syncing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        let file = self.synced().and_then(|()| self.temp.as_file().try_clone());
        let file = file.map_err(|e| Error::file("write", &self.target, &e))?;
        self.syncing = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the thread that syncs. Its error has to be heard: the system tells it once.
    fn synced(&mut self) -> io::Result<()> {
        let thread = self.syncing.take().map(JoinHandle::join);
        thread.map_or(Ok(()), |result| result.unwrap_or_else(|_| Err(io::Error::other("syncing failed"))))
    }

    /// Syncs the content, renames it to the target and syncs the folder.
    ///
    /// # Errors
    /// An input/output error; the target is then as it was.
    pub fn commit(mut self) -> Result<()> {
        let synced = self.synced();
        let Self { temp, target, .. } = self;
        synced.and_then(|()| temp.as_file().sync_all()).map_err(|e| Error::file("write", &target, &e))?;
        temp.persist(&target).map_err(|e| Error::file("write", &target, &e.error))?;
        // Makes the rename itself durable; not every file system lets a folder be synced, and the file is whole by now.
        #[cfg(unix)]
        let _ = File::open(folder_of(&target)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// Writes `path` through [`AtomicFile`]: `write` fills the file, and its error leaves the target untouched.
///
/// # Errors
/// Those of [`AtomicFile`], and whatever `write` returns.
pub fn atomic_write<T>(path: &Path, write: impl FnOnce(&mut File) -> Result<T>) -> Result<T> {
    let mut atomic = AtomicFile::create(path)?;
    let value = write(atomic.file())?;
    atomic.commit()?;
    Ok(value)
}

/// The folder that holds `path`.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
