//! Compresses every row of a file with a model.
//!
//! It allocates as the system does, not with mimalloc: what a thread makes another writes and frees, and 1,000,000 x 384 to 64 took
//! .97 of the time.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use embedding_compressor::Result;
use embedding_compressor::cli::{self, DeviceArgs, EXIT_CODES, ModelArgs};
use embedding_compressor::compress::{Compressed, compress_file};
use embedding_compressor::data::Source;
use embedding_compressor::note;

/// Compress every row of the input with a model
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    source: Source,

    /// File to write: .npy, .npz (key "embeddings") or .parquet (other columns of a parquet input come along)
    #[arg(long, value_name = "FILE")]
    output: PathBuf,

    #[command(flatten)]
    device: DeviceArgs,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: &Args) -> Result<()> {
    let compressor = args.model.load()?;
    cli::refuse_overwriting(&args.output, &[&args.model.model])?;
    cli::refuse_overwriting(&args.output, &args.source.input)?;
    let backend = args.device.open()?;
    let Compressed { rows, zero_rows } = compress_file(&compressor, &*backend, &args.source, &args.output)?;
    if let Some((count, first)) = zero_rows {
        note!("warning: {count} rows of zeros have no direction and stay zeros; the first is row {first}");
    }
    let (from, to) = (compressor.map.dim_in, compressor.map.dim_out);
    note!("wrote   {}: {rows} x {to} from {rows} x {from}", args.output.display());
    note!("search  {}", compressor.map.metric.advice());
    Ok(())
}
