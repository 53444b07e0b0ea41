//! The commands as users run them: what they print, what they write, and how they fail.

mod compress;
mod curve;
mod eval;
mod faults;
mod nested;
mod parquet;
mod sweep;
mod target;
mod train;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use embedding_compressor::data::{Embeddings, Source};
use embedding_compressor::model::Compressor;
use serde_json::Value;
use tempfile::TempDir;

#[path = "../common/npy.rs"]
mod npy;
#[path = "../common/rows.rs"]
mod rows;

const DIM: usize = 16;
const ROWS: usize = 300;

/// A small training run on `x.npy`; it writes [`MODEL`].
const TRAIN: &str = "train --input x.npy --dim-out 4 --k 5 --batch-size 64 --epochs 20 --hidden 0";
const MODEL: &str = "compressor_model.npz";

/// A file of every format that this build writes.
const OUTPUTS: &[&str] = if cfg!(feature = "parquet") { &["z.npy", "z.npz", "z.parquet"] } else { &["z.npy", "z.npz"] };

/// A folder that commands run in.
struct Folder(TempDir);

/// What a command did.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }
}

impl Run {
    /// The records on stdout.
    fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(json).collect()
    }
}

impl Folder {
    fn empty() -> Self {
        Self(tempfile::tempdir().expect("temporary folders can be made"))
    }

    /// With 300 x 16 embeddings in `x.npy`.
    fn with_rows() -> Self {
        let folder = Self::empty();
        folder.write("x.npy", &rows::cloud(ROWS, DIM, 1), DIM);
        folder
    }

    /// With `x.npy` and a model that was trained on it.
    fn with_model() -> Self {
        let folder = Self::with_rows();
        folder.succeeds(TRAIN);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, values: &[f32], dim: usize) {
        npy::write_npy(&self.path(name), values, dim);
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect(name)
    }

    fn json_lines(&self, name: &str) -> Vec<Value> {
        self.text(name).lines().map(json).collect()
    }

    fn model(&self, name: &str) -> Compressor {
        Compressor::load(&self.path(name)).expect(name)
    }

    fn embeddings(&self, name: &str) -> Embeddings {
        Embeddings::read(&Source { input: vec![self.path(name)], ..Source::default() }, 0).expect(name)
    }

    /// Runs a command, on the CPU unless it says otherwise, where no network and no GPU driver can be found.
    fn run(&self, command: &str) -> Run {
        let mut words = command.split_whitespace();
        let name = format!("{}{}", words.next().expect("a command"), std::env::consts::EXE_SUFFIX);
        let mut process = Command::new(Path::new(env!("CARGO_BIN_EXE_train")).with_file_name(name));
        process.args(words).current_dir(self.0.path());
        if !command.contains("--device") {
            process.args(["--device", "cpu"]);
        }
        for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"] {
            process.env_remove(variable);
        }
        process.env("HF_HUB_OFFLINE", "1").env("HF_HOME", self.path("huggingface"));
        process.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        let output = process.output().expect("the command starts");
        let text = |bytes| String::from_utf8(bytes).expect("commands print text");
        Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn succeeds(&self, command: &str) -> Run {
        let run = self.run(command);
        assert_eq!(run.code, Some(0), "{command}: {run}");
        run
    }

    /// The record that a command prints.
    fn record(&self, command: &str) -> Value {
        json(&self.succeeds(command).stdout)
    }

    /// The command ends with `code`, says all of `parts` on stderr and nothing on stdout, and leaves every file as it was.
    fn fails(&self, command: &str, code: i32, parts: &[&str]) {
        let before = self.files();
        let run = self.run(command);
        assert_eq!(run.code, Some(code), "{command}: {run}");
        assert_eq!(run.stdout, "", "{command}: {run}");
        assert_eq!(run.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{command}: {run}");
        // What is wrong with a flag says how to set it right.
        let hint = run.stderr.lines().last().is_some_and(|line| line.starts_with("hint: "));
        assert!(hint || code == 2, "no hint: {command}: {run}");
        for part in parts {
            assert!(run.stderr.contains(part), "no {part:?}: {command}: {run}");
        }
        assert!(self.files() == before, "{command} changed the folder: {:?}", self.files().keys());
    }

    fn files(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder is readable");
        entries.map(|entry| entry.expect("the folder is readable").path()).map(|p| (p.clone(), std::fs::read(p).ok())).collect()
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text:?}"))
}

/// The names in an object, in order.
fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}
