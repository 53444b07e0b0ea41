//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use tempfile::{Builder, NamedTempFile, TempPath};

use crate::{Error, Result};

/// A file beside its target, which [`commit`](Self::commit) puts in place.
///
/// Dropped without `commit`, it is gone and whatever was at the target stays. On Linux it has no name until then, where the file
/// system knows such files, so that nothing is left of it even where the process is killed.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    /// Removed when dropped; none for a file without a name.
    temp: Option<TempPath>,
    target: PathBuf,
    syncing: Option<JoinHandle<io::Result<()>>>,
}

impl AtomicFile {
    /// Starts a file that will become `path`, with the permissions of the file that it replaces; a symbolic link is followed to the
    /// file it names.
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
        let (file, temp) = match unnamed(folder_of(&target)) {
            Some(file) => (file, None),
            None => {
                let (file, temp) = named(&target, open_new).map_err(|e| fail(&e))?.into_parts();
                (file, Some(temp))
            }
        };
        if let (Ok(replaced), Ok(new)) = (target.metadata(), file.metadata())
            // Not every file system lets them be set.
            && replaced.permissions() != new.permissions()
        {
            file.set_permissions(replaced.permissions()).map_err(|e| fail(&e))?;
        }
        Ok(Self { file, temp, target, syncing: None })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// An input/output error.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::file("write", &self.target, &e))
    }

    /// The open file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
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
        let file = self.synced().and_then(|()| self.file.try_clone());
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
        let Self { file, temp, target, .. } = self;
        synced
            .and_then(|()| file.sync_all())
            .and_then(|()| temp.map_or_else(|| name(&file, &target), Ok))
            .and_then(|temp| temp.persist(&target).map_err(|e| e.error))
            .map_err(|e| Error::file("write", &target, &e))?;
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

/// Makes something under a temporary name beside `target`.
fn named<T>(target: &Path, make: impl FnMut(&Path) -> io::Result<T>) -> io::Result<NamedTempFile<T>> {
    Builder::new().prefix(".").suffix(".tmp").make_in(folder_of(target), make)
}

/// Opened here, not by tempfile: with the mode of any other new file, and errors without the temporary name.
fn open_new(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).open(path)
}

/// A file in a folder without a name, if the system knows such files and how to name them later.
#[cfg(target_os = "linux")]
fn unnamed(folder: &Path) -> Option<File> {
    use rustix::fs::{CWD, Mode, OFlags, openat};

    let file = openat(CWD, folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o666)).ok()?;
    let file = File::from(file);
    link_of(&file).exists().then_some(file)
}

/// Gives such a file, which is on the disk, a temporary name beside `target`.
#[cfg(target_os = "linux")]
fn name(file: &File, target: &Path) -> io::Result<TempPath> {
    use rustix::fs::{AtFlags, CWD, linkat};

    let link = |temp: &Path| Ok(linkat(CWD, link_of(file), CWD, temp, AtFlags::SYMLINK_FOLLOW)?);
    // A file system may know such files, and not how to name them: what they hold took long to make.
    named(target, link).map(NamedTempFile::into_temp_path).or_else(|_| copied(file, target))
}

/// A copy of a file, on the disk and under a temporary name beside `target`.
#[cfg(target_os = "linux")]
fn copied(mut file: &File, target: &Path) -> io::Result<TempPath> {
    use std::io::Seek;

    let mut copy = named(target, open_new)?;
    file.rewind()?;
    io::copy(&mut file, copy.as_file_mut())?;
    copy.as_file().set_permissions(file.metadata()?.permissions())?;
    copy.as_file().sync_all()?;
    Ok(copy.into_temp_path())
}

/// Where the system shows an open file.
#[cfg(target_os = "linux")]
fn link_of(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;

    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn name(_: &File, _: &Path) -> io::Result<TempPath> {
    unreachable!("every file has a name here")
}

/// The folder that holds `path`.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Where there are no files without a name, nothing has to be copied.
    #[test]
    fn a_file_that_cannot_be_named_is_copied() {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let Some(mut file) = unnamed(folder.path()) else { return };
        file.write_all(b"long to make").expect("there is room");
        let copy = copied(&file, &folder.path().join("z.npy")).expect("there is room");
        assert_eq!(fs::read(&copy).expect("the copy is there"), b"long to make");
        assert_eq!(copy.metadata().expect("the copy is there").permissions(), file.metadata().expect("it is open").permissions());
    }
}
