//! Compresses every row of a file with a model.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use embedding_compressor::Result;
use embedding_compressor::cli::{self, DeviceArgs, EXIT_CODES};
use embedding_compressor::data::{Source, Writer};
use embedding_compressor::model::{Compressor, Encoder, block_rows};

/// Compress every row of the input with a model
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    /// Model file to read
    #[arg(long, value_name = "FILE", default_value = "compressor_model.npz")]
    model: PathBuf,

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
    let compressor = Compressor::load(&args.model)?;
    let mut reader = args.source.open_carrying(0)?;
    compressor.check_dim(reader.dim()).map_err(|e| e.at(reader.describe()))?;
    let mut writer = Writer::create(&args.output, &reader, compressor.map.dim_out)?;
    let backend = args.device.open()?;
    let block_rows = block_rows(&compressor.map).min(reader.rows());
    let mut encoder = Encoder::new(&compressor.map, &*backend, block_rows)?;
    let mut zero_rows = Vec::new();
    while let Some(block) = reader.next_block(block_rows)? {
        let encodings = encoder.encode(&block.values)?;
        zero_rows.extend(encodings.zero_rows.iter().map(|row| block.first_row + row));
        writer.write(&block, &encodings.values)?;
    }
    writer.finish()?;
    if let Some(first) = zero_rows.first() {
        eprintln!("warning: {} rows of zeros have no direction and stay zeros; the first is row {first}", zero_rows.len());
    }
    let (rows, from, to) = (reader.rows(), compressor.map.dim_in, compressor.map.dim_out);
    eprintln!("wrote   {}: {rows} x {to} from {rows} x {from}", args.output.display());
    eprintln!("search  {}", compressor.map.metric.advice());
    Ok(())
}
