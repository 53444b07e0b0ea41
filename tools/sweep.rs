//! Trains and evaluates one model for each of several output dimensions.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use embedding_compressor::cli::progress::Reporter;
use embedding_compressor::cli::{self, DataArgs, DeviceArgs, EXIT_CODES, JsonLines};
use embedding_compressor::config::{SPLIT_SEED, TrainConfig};
use embedding_compressor::corpus::Corpus;
use embedding_compressor::data::{AtomicFile, Split};
use embedding_compressor::evaluate::{Baselines, Database, Evaluator, Metrics, Record, RecordMeta};
use embedding_compressor::model::Epoch;
use embedding_compressor::peers::Peers;
use embedding_compressor::train::train;
use embedding_compressor::{Error, Result};
use serde::Serialize;

/// Train and evaluate a model for each of several output dimensions, on one reading of the data
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    /// Output dimensions d'
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', default_value = "64,32,16")]
    dim_outs: Vec<usize>,

    #[command(flatten)]
    data: DataArgs,

    #[command(flatten)]
    config: TrainConfig,

    #[command(flatten)]
    device: DeviceArgs,

    /// What test queries are searched against: all rows, or the test rows alone
    #[arg(long, value_enum, default_value_t = Database::All)]
    database: Database,

    /// What to compare with: maps without training, or published compressors as well, which are trained for it and take minutes
    #[arg(long, value_enum, default_value_t = Baselines::Basic)]
    baselines: Baselines,

    /// File to write the results to [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// jsonl: a line for each d' as it finishes; json: one array at the end
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    output_format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Json,
}

/// A record of one d'.
#[derive(Serialize)]
struct Line {
    metrics: Metrics,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    #[serde(flatten)]
    record: RecordMeta,
    config: TrainConfig,
    best_epoch: u32,
    history: Vec<Epoch>,
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: &Args) -> Result<()> {
    let configs: Vec<TrainConfig> = args.dim_outs.iter().map(|&dim_out| TrainConfig { dim_out, ..args.config.clone() }).collect();
    configs.iter().try_for_each(TrainConfig::validate)?;
    if let Some(output) = &args.output {
        cli::refuse_overwriting(output, &args.data.source.input)?;
    }
    let mut output = Output::create(args)?;
    let embeddings = args.data.read(cli::MAX_ITEMS)?;
    configs.iter().try_for_each(|config| config.validate_for(embeddings.dim))?;
    let backend = args.device.open()?;
    let widest = configs
        .iter()
        .map(|c| c.dim_out)
        .max()
        .ok_or_else(|| Error::usage("--dim-outs names no dimension").hint("--help explains every flag"))?;
    let TrainConfig { metric, k, .. } = args.config;
    let split = Split::new(embeddings.rows, SPLIT_SEED);
    let corpus = Corpus::new(&*backend, &embeddings, split, metric, k, widest)?;
    let evaluator = Evaluator::new(&corpus, &embeddings, args.database)?;
    let peers = (args.baselines == Baselines::All).then(|| Peers::new(&corpus)).transpose()?;
    for config in configs {
        eprintln!("d'      {}", config.dim_out);
        let mut reporter = Reporter::new(None);
        let compressor = train(&corpus, &config, &mut |event| reporter.report(event))?;
        drop(reporter);
        let fitted = match &peers {
            Some(peers) => peers.train_all(config.dim_out, config.seed, &mut |line| eprintln!("peer    {line}"))?,
            None => Vec::new(),
        };
        let record = evaluator.evaluate(&compressor.map, config.seed, &fitted)?;
        if std::io::stderr().is_terminal() {
            eprint!("{}", record.table());
        }
        let Record { metrics, meta } = record;
        let (best_epoch, history) = (compressor.meta.best_epoch, compressor.meta.history);
        output.add(Line { metrics, meta: Meta { record: meta, config, best_epoch, history } })?;
    }
    output.finish()
}

/// Where results go.
enum Output {
    Lines(JsonLines),
    Payload(Option<PathBuf>, Vec<Line>),
    Stdout,
}

impl Output {
    fn create(args: &Args) -> Result<Self> {
        Ok(match (&args.output, args.output_format) {
            (Some(path), Format::Jsonl) => Self::Lines(JsonLines::create(path)?),
            (None, Format::Jsonl) => Self::Stdout,
            (Some(path), Format::Json) => {
                // A place that cannot be written is found before the work.
                AtomicFile::create(path)?;
                Self::Payload(Some(path.clone()), Vec::new())
            }
            (None, Format::Json) => Self::Payload(None, Vec::new()),
        })
    }

    fn add(&mut self, line: Line) -> Result<()> {
        match self {
            Self::Lines(lines) => lines.add(&line),
            Self::Stdout => cli::print_json(&line),
            Self::Payload(_, lines) => {
                lines.push(line);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Payload(Some(path), lines) => cli::write_json(AtomicFile::create(&path)?, &lines),
            Self::Payload(None, lines) => cli::print_json(&lines),
            Self::Lines(_) | Self::Stdout => Ok(()),
        }
    }
}
