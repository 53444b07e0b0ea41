//! Measures how much of the ranking a model keeps, beside baselines.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use embedding_compressor::cli::{self, DataArgs, DeviceArgs, EXIT_CODES, ModelArgs};
use embedding_compressor::corpus::Corpus;
use embedding_compressor::data::{Embeddings, Split};
use embedding_compressor::evaluate::{Baselines, Database, Evaluator, Metrics, RecordMeta, split_of_new_rows};
use embedding_compressor::model::Compressor;
use embedding_compressor::note;
use embedding_compressor::peers::Peers;
use embedding_compressor::{Error, Result};
use mimalloc::MiMalloc;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measure recall, NDCG and overlap of a model's neighbours on held-out queries, beside baselines
///
/// The truth is the ranking by the metric that the model was trained for (train --metric). On the data that the model was trained on, the queries are its test rows. On other data every row is new, and queries are sampled.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// Neighbours to compare [default: the model's]
    #[arg(long, value_name = "N")]
    k: Option<usize>,

    /// What queries are searched against: all rows, or the test rows alone
    #[arg(long, value_enum, default_value_t = Database::All)]
    database: Database,

    /// Queries to sample where the data is not the model's own
    #[arg(long, value_name = "N", default_value_t = 1000)]
    queries: usize,

    /// What to compare with: maps without training, or published compressors as well, which are trained for it and take minutes
    #[arg(long, value_enum, default_value_t = Baselines::Basic)]
    baselines: Baselines,

    /// Seed of that sample, of the random projection and of trained baselines
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
}

#[derive(Serialize)]
struct Output<'a> {
    metrics: Metrics,
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Meta<'a> {
    model: &'a Path,
    /// Dimensions of the model that are embeddings by themselves; empty where it was not trained with --nested.
    nested: &'a [usize],
    /// "model": the split that the model was trained with; "new": sampled queries of other data.
    split: &'static str,
    best_epoch: u32,
    seed: u64,
    #[serde(flatten)]
    record: RecordMeta,
}

fn main() -> ExitCode {
    cli::keep_large_pages_whole();
    cli::main(run)
}

fn run(args: &Args) -> Result<()> {
    let compressor = args.model.load()?;
    let k = args.k.unwrap_or(compressor.meta.k);
    cli::check_k(k)?;
    let embeddings = args.data.read(compressor.meta.data.rows)?;
    compressor.check_dim(embeddings.dim).map_err(|e| e.at(&embeddings.source))?;
    let (split, kind) = split(args, &compressor, &embeddings)?;
    let backend = args.device.open()?;
    let corpus = Corpus::new(&*backend, &embeddings, split, compressor.meta.teacher_metric, k, compressor.map.dim_out, 0)?;
    let evaluator = Evaluator::new(&corpus, &embeddings, args.database)?;
    let peers = match args.baselines {
        Baselines::Basic => Vec::new(),
        Baselines::All => {
            Peers::new(&corpus)?.train_all(compressor.map.dim_out, args.seed, &mut |line| note!("peer    {line}"))?
        }
    };
    let record = evaluator.evaluate(&compressor.map, args.seed, &peers)?;
    if std::io::stderr().is_terminal() {
        note!("{}", record.table().trim_end());
    }
    let trained = &compressor.meta;
    let meta = Meta {
        model: &args.model.model,
        nested: &trained.config.nested,
        split: kind,
        best_epoch: trained.best_epoch,
        seed: args.seed,
        record: record.meta,
    };
    cli::print_json(&Output { metrics: record.metrics, meta })
}

/// The model's own split where the data is what it was trained on; else a sample.
fn split(args: &Args, compressor: &Compressor, embeddings: &Embeddings) -> Result<(Split, &'static str)> {
    let meta = &compressor.meta;
    if meta.data.fingerprint == embeddings.fingerprint {
        return Ok((meta.split.clone().into(), "model"));
    }
    if args.queries == 0 {
        return Err(Error::usage("--queries must be at least 1").hint("--help explains every flag"));
    }
    note!("split   not the {} rows that the model was trained on: queries are sampled, as if every row were new", meta.data.rows);
    Ok((split_of_new_rows(embeddings.rows, args.queries, args.seed), "new"))
}
