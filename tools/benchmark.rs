//! Measures how fast a model compresses, what it saves in memory and search, and how fast every op runs beside the device's roofs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use embedding_compressor::Result;
use embedding_compressor::benchmark::{self, Metrics, benchmark};
use embedding_compressor::cli::{self, DataArgs, DeviceArgs, EXIT_CODES};
use embedding_compressor::model::Compressor;
use embedding_compressor::note;
use indicatif::ProgressBar;
use mimalloc::MiMalloc;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Rows that are read where `--max-items` is absent.
const MAX_ITEMS: usize = 20_000;

/// Measure the speed of compression and of exact search before and after it, and of every op beside what the device can do
///
/// Also estimates what compression saves for up to a billion vectors. Takes about a minute. Figures are medians; ratios within a run mean more than figures of different runs.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    /// Model file to read
    #[arg(long, value_name = "FILE", default_value = "compressor_model.npz")]
    model: PathBuf,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// Neighbours of each query [default: the model's]
    #[arg(long, value_name = "N")]
    k: Option<usize>,

    /// Print a JSON record in place of the table
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    metrics: &'a Metrics,
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Meta<'a> {
    model: &'a Path,
    #[serde(flatten)]
    record: &'a benchmark::Meta,
}

fn main() -> ExitCode {
    cli::keep_large_pages_whole();
    cli::main(run)
}

fn run(args: &Args) -> Result<()> {
    let Args { model, data, device, k, json } = args;
    let compressor = Compressor::load(model)?;
    let k = k.unwrap_or(compressor.meta.k);
    cli::check_k(k)?;
    let embeddings = data.read(MAX_ITEMS)?;
    let backend = device.open()?;
    note!("timing  compression, search and ops, which takes about a minute");
    // Shows itself on terminals only.
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(Duration::from_millis(200));
    let record = benchmark(&*backend, &compressor, &embeddings, k, &mut |next| spinner.set_message(next.to_owned()));
    spinner.finish_and_clear();
    let record = record?;
    if !json {
        return cli::print_line(record.table().trim_end());
    }
    let meta = Meta { model, record: &record.meta };
    cli::print_json(&Output { metrics: &record.metrics, meta })
}
