//! The one error type: what went wrong, where (file, row, column, tensor), and what to do about it.

use std::fmt;
use std::path::Path;

/// The result of everything in this crate that can fail for a reason outside the program.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What every error says: `what`, the place, and a hint.
///
/// Displayed as `what: place`; [`Error::hint`] gives the line that tells the user what to do.
#[derive(Debug, Default)]
pub struct Report {
    what: String,
    place: Option<String>,
    hint: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.place {
            Some(place) => write!(f, ": {place}"),
            None => Ok(()),
        }
    }
}

/// An error by who has to act on it; the kind decides the exit code of the commands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Flags or configuration that cannot work (exit code 2).
    #[error("{0}")]
    Usage(Box<Report>),
    /// A data or model file whose content is bad (exit code 3).
    #[error("{0}")]
    Data(Box<Report>),
    /// No usable device, a lost device, or not enough memory (exit code 4).
    #[error("{0}")]
    Device(Box<Report>),
    /// Reading, writing or fetching failed (exit code 5).
    #[error("{0}")]
    Io(Box<Report>),
}

impl Error {
    /// Flags or configuration that cannot work.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage(Report::boxed(what))
    }

    /// A data or model file whose content is bad.
    pub fn data(what: impl Into<String>) -> Self {
        Self::Data(Report::boxed(what))
    }

    /// No usable device, a lost device, or not enough memory.
    pub fn device(what: impl Into<String>) -> Self {
        Self::Device(Report::boxed(what))
    }

    /// A failed read, write or download.
    pub fn io(what: impl Into<String>) -> Self {
        Self::Io(Report::boxed(what))
    }

    /// A failed system call on a file: `cannot <verb>: <path>: <reason>`.
    pub fn file(verb: &str, path: &Path, reason: &std::io::Error) -> Self {
        let error = Self::io(format!("cannot {verb}")).at(format!("{}: {reason}", path.display()));
        match reason.kind() {
            std::io::ErrorKind::NotFound => error.hint("check the path; it is taken relative to the working directory"),
            std::io::ErrorKind::PermissionDenied => error.hint("check the permissions of the file and of its folder"),
            std::io::ErrorKind::StorageFull => error.hint("free some space on that disk, or write elsewhere"),
            _ => error,
        }
    }

    /// Adds the place: a file, row, column or tensor. A later call puts the wider place in front.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        let report = self.report_mut();
        report.place = Some(match report.place.take() {
            Some(inner) => format!("{place}: {inner}"),
            None => place.to_string(),
        });
        self
    }

    /// Adds what to do, as a sentence without a full stop.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.report_mut().hint = Some(hint.into());
        self
    }

    /// What to do about it, where there is something to say.
    pub fn hint_text(&self) -> Option<&str> {
        self.report().hint.as_deref()
    }

    /// The exit code of a command that ends with this error: 2 usage, 3 bad data or model, 4 device or memory, 5 input/output.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Data(_) => 3,
            Self::Device(_) => 4,
            Self::Io(_) => 5,
        }
    }

    fn report(&self) -> &Report {
        match self {
            Self::Usage(r) | Self::Data(r) | Self::Device(r) | Self::Io(r) => r,
        }
    }

    fn report_mut(&mut self) -> &mut Report {
        match self {
            Self::Usage(r) | Self::Data(r) | Self::Device(r) | Self::Io(r) => r,
        }
    }
}

impl Report {
    fn boxed(what: impl Into<String>) -> Box<Self> {
        Box::new(Self { what: what.into(), place: None, hint: None })
    }
}
