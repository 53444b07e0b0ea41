//! What the commands share: flags, errors and exit codes, the choice of a device, progress. Only binaries use it.

/// Writes a line of messages to stderr, as `eprintln` does, but goes on where nobody takes it: what a command is asked for are its results.
#[macro_export]
macro_rules! note {
    ($($message:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($message)*);
    }};
}

mod allocator;
mod json;
pub mod progress;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};

use crate::backend::{Backend, Cpu, DeviceChoice, adapters, choose};
use crate::config::TrainConfig;
use crate::data::{Embeddings, Source};
use crate::error::{Error, Result};
use crate::model::Compressor;

pub use allocator::keep_large_pages_whole;
pub use json::{JsonLines, print_json, write_json};

/// Exit codes, as the help of every command ends with.
pub const EXIT_CODES: &str = "Exit codes: 0 ok, 1 bug, 2 usage, 3 bad data or model, 4 device or memory, 5 input/output";

/// Rows that training reads where `--max-items` is absent.
pub const MAX_ITEMS: usize = 5000;

/// Which rows to read.
#[derive(Args, Debug, Clone)]
pub struct DataArgs {
    /// Where they are.
    #[command(flatten)]
    pub source: Source,

    /// Read the first N rows, 0 for all [default: 5000; eval: as many as the model was trained on; benchmark: 20000]
    #[arg(long, value_name = "N")]
    pub max_items: Option<usize>,
}

impl DataArgs {
    /// Reads the rows, `max_items` of them where the flag is absent, and says on stderr how many there are.
    ///
    /// # Errors
    /// As [`Embeddings::read`].
    pub fn read(&self, max_items: usize) -> Result<Embeddings> {
        let embeddings = Embeddings::read(&self.source, self.max_items.unwrap_or(max_items))?;
        note!("data    {} x {} from {}", embeddings.rows, embeddings.dim, embeddings.source);
        Ok(embeddings)
    }
}

/// Which model to use.
#[derive(Args, Debug, Clone)]
pub struct ModelArgs {
    /// Model file to read
    #[arg(long, value_name = "FILE", default_value = "compressor_model.npz")]
    pub model: PathBuf,

    /// Take the first N coordinates, for an N that the model was trained for with --nested [default: all]
    #[arg(long, value_name = "N")]
    pub dim: Option<usize>,
}

impl ModelArgs {
    /// Reads the model.
    ///
    /// # Errors
    /// As [`Compressor::load`] and [`Compressor::prefix`].
    pub fn load(&self) -> Result<Compressor> {
        let compressor = Compressor::load(&self.model)?;
        match self.dim {
            Some(dims) => compressor.prefix(dims).map_err(|e| e.at(self.model.display())),
            None => Ok(compressor),
        }
    }
}

/// Where to compute.
#[derive(Args, Debug, Clone)]
pub struct DeviceArgs {
    /// Where to compute; auto takes a GPU if there is one, and never a software adapter.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
}

impl DeviceArgs {
    /// Opens the device and says on stderr which it is and why.
    ///
    /// # Errors
    /// As [`choose`].
    pub fn open(&self) -> Result<Box<dyn Backend>> {
        let (backend, why) = choose(self.device)?;
        note!("device  {why}");
        Ok(backend)
    }
}

/// Prints the devices that `--device` can take, one a line, best first.
///
/// # Errors
/// [`Error::Io`] when stdout cannot be written.
pub fn list_devices() -> Result<()> {
    for adapter in adapters() {
        let units = adapter.matrix_units.map(|units| format!(", {units}")).unwrap_or_default();
        print_line(&format!("{adapter}{units}"))?;
    }
    print_line(&Cpu::new().describe())
}

/// Parses the flags, runs a command, and turns its error into two lines on stderr and an exit code.
pub fn main<A: Parser>(run: impl FnOnce(&A) -> Result<()>) -> ExitCode {
    // A panic is a bug: its message stays, its exit code is ours.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&A::parse()))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error),
        Err(_) => {
            note!("error: internal error, see above\nhint: please report it with the command line");
            ExitCode::from(1)
        }
    }
}

fn fail(error: &Error) -> ExitCode {
    note!("error: {error}");
    if let Some(hint) = error.hint_text() {
        note!("hint: {hint}");
    }
    ExitCode::from(error.exit_code())
}

/// Writes a line to stdout; a reader that has gone away ends the command quietly.
///
/// # Errors
/// [`Error::Io`] when stdout cannot be written.
pub fn print_line(line: &str) -> Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::io(format!("cannot write to stdout ({e})"))),
        Ok(()) => Ok(()),
    }
}

/// Refuses a number of neighbours that cannot be searched for.
///
/// # Errors
/// [`Error::Usage`].
pub fn check_k(k: usize) -> Result<()> {
    TrainConfig { k, ..TrainConfig::default() }.validate()
}

/// Refuses an output that would replace one of the files that are read.
///
/// # Errors
/// [`Error::Usage`].
pub fn refuse_overwriting(output: &Path, inputs: &[impl AsRef<Path>]) -> Result<()> {
    let Ok(target) = output.canonicalize() else {
        return Ok(());
    };
    for input in inputs.iter().map(AsRef::as_ref) {
        let in_folder = input.is_dir() && input.canonicalize().is_ok_and(|folder| target.parent() == Some(&folder));
        let matched = input.to_str().and_then(|pattern| glob::glob(pattern).ok()).into_iter().flatten().flatten();
        let named = matched.chain([input.to_owned()]).any(|file| file.canonicalize().is_ok_and(|file| file == target));
        if in_folder || named {
            return Err(Error::usage("the output would replace an input").at(output.display()).hint("write to another file"));
        }
    }
    Ok(())
}
