//! Trains a compressor and writes the model file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use embedding_compressor::cli::progress::Reporter;
use embedding_compressor::cli::{self, DataArgs, DeviceArgs, EXIT_CODES, JsonLines};
use embedding_compressor::config::TrainConfig;
use embedding_compressor::data::AtomicFile;
use embedding_compressor::model::{Compressor, Epoch};
use embedding_compressor::note;
use embedding_compressor::train::fit;
use embedding_compressor::{Error, Result};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Train a compressor that keeps the top-k neighbours of embeddings and their order
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    data: DataArgs,

    /// Output dimension d' [default: 64; with --nested, the largest]
    #[arg(long, value_name = "N")]
    dim_out: Option<usize>,

    /// Train one model whose first M coordinates are an embedding by themselves, for each of these M
    #[arg(long, value_name = "M,M,..", value_delimiter = ',')]
    nested: Vec<usize>,

    #[command(flatten)]
    config: TrainConfig,

    #[command(flatten)]
    device: DeviceArgs,

    /// Model file to write
    #[arg(long, value_name = "FILE", default_value = "compressor_model.npz")]
    model: PathBuf,

    /// File to write with a JSON line for every epoch: loss, validation, seconds since the start
    #[arg(long, value_name = "FILE.jsonl")]
    metrics_file: Option<PathBuf>,

    /// List the devices and stop
    #[arg(long)]
    list_devices: bool,
}

fn main() -> ExitCode {
    cli::keep_large_pages_whole();
    cli::main(run)
}

fn run(args: &Args) -> Result<()> {
    if args.list_devices {
        return cli::list_devices();
    }
    let config = config(args);
    config.validate()?;
    // Places that cannot be written are found before the work.
    cli::refuse_overwriting(&args.model, &args.data.source.input)?;
    AtomicFile::create(&args.model)?;
    if let Some(metrics) = &args.metrics_file {
        cli::refuse_overwriting(metrics, &args.data.source.input)?;
        if *metrics == args.model {
            return Err(Error::usage("--metrics-file and --model name the same file").at(metrics.display()).hint("name two"));
        }
    }
    let mut reporter = Reporter::new(args.metrics_file.as_deref().map(JsonLines::create).transpose()?);
    let embeddings = args.data.read(cli::MAX_ITEMS)?;
    let backend = args.device.open()?;
    let compressor = fit(&*backend, embeddings, &config, &mut |event| reporter.report(event))?;
    drop(reporter);
    compressor.save(AtomicFile::create(&args.model)?)?;
    summarise(&compressor, &args.model);
    Ok(())
}

fn config(args: &Args) -> TrainConfig {
    let mut nested = args.nested.clone();
    nested.sort_unstable();
    let dim_out = args.dim_out.or(nested.last().copied()).unwrap_or(args.config.dim_out);
    TrainConfig { dim_out, nested, ..args.config.clone() }
}

fn summarise(compressor: &Compressor, path: &std::path::Path) {
    let meta = &compressor.meta;
    let best = &meta.history[meta.best_epoch as usize];
    let Epoch { recall_k, recall_10, .. } = meta.history[0];
    note!(
        "model   {}: {} -> {}, epoch {}, validation recall@{} {recall_k:.4} -> {:.4}, recall@10 {recall_10:.4} -> {:.4}",
        path.display(),
        meta.dim_in,
        meta.dim_out,
        best.epoch,
        meta.k,
        best.recall_k,
        best.recall_10,
    );
    note!("search  {}", meta.student_metric.advice());
}
