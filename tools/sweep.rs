//! Trains and evaluates models of several output dimensions, or of several numbers of training rows; finds the dimension that suffices.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use embedding_compressor::basis::rank;
use embedding_compressor::cli::progress::Reporter;
use embedding_compressor::cli::{self, DataArgs, DeviceArgs, EXIT_CODES, JsonLines};
use embedding_compressor::config::{SPLIT_SEED, TrainConfig};
use embedding_compressor::corpus::Corpus;
use embedding_compressor::curve::{self, Counts};
use embedding_compressor::data::{AtomicFile, Embeddings, Split};
use embedding_compressor::eval::{Scores, Summary, check_rows};
use embedding_compressor::evaluate::{Baselines, Database, Evaluator, Metrics, Record, RecordMeta};
use embedding_compressor::model::{Compressor, Epoch};
use embedding_compressor::note;
use embedding_compressor::peers::{self, Peer, Peers};
use embedding_compressor::target::{self, Target, Verdict};
use embedding_compressor::train::train_scored;
use embedding_compressor::{Error, Result};
use mimalloc::MiMalloc;
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Output dimensions where none are named and there is no target.
const DIM_OUTS: [usize; 3] = [64, 32, 16];
/// Dimensions that data is prepared for before a target asks for more.
const FIRST_AXES: usize = 64;

/// Train and evaluate a model for each of several output dimensions, on one reading of the data
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    /// Output dimensions d' [default: 64,32,16; with --target, the multiples of 8 below the data's dimension]
    #[arg(long, value_name = "N,N,..", value_delimiter = ',')]
    dim_outs: Vec<usize>,

    /// Find the smallest d' whose validation reaches this, as in "recall@10>=0.9", train no more than that takes, and evaluate it alone
    #[arg(long, value_name = "TARGET", conflicts_with = "rows")]
    target: Option<Target>,

    /// File to write the model to that meets --target
    #[arg(long, value_name = "FILE", requires = "target")]
    model: Option<PathBuf>,

    /// Numbers of training rows to train each d' with, to compare on the same queries and the same rows to search; without --max-items, as many rows are read as that takes, and 5000 at least
    #[arg(long, value_name = "N,N,..", value_delimiter = ',')]
    rows: Vec<usize>,

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

/// A line or item of the results.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Tried(Box<Tried>),
    Evaluated(Box<Evaluated>),
}

/// A model on the way to a target: on validation alone.
#[derive(Serialize)]
struct Tried {
    #[serde(flatten)]
    standing: Standing,
    meta: TriedMeta,
}

/// What validation says of a target.
#[derive(Clone, Serialize)]
struct Standing {
    target: Verdict,
    validation: Summary,
}

#[derive(Serialize)]
struct TriedMeta {
    dim_in: usize,
    dim_out: usize,
    bytes_in: usize,
    bytes_out: usize,
    #[serde(flatten)]
    training: Training,
}

/// A model on test rows.
#[derive(Serialize)]
struct Evaluated {
    /// Of the model that was chosen by a target.
    #[serde(flatten)]
    standing: Option<Standing>,
    metrics: Metrics,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    #[serde(flatten)]
    record: RecordMeta,
    #[serde(flatten)]
    training: Training,
}

/// How a model came about.
#[derive(Serialize)]
struct Training {
    train_rows: usize,
    config: TrainConfig,
    best_epoch: u32,
    history: Vec<Epoch>,
}

impl From<&Compressor> for Training {
    fn from(Compressor { meta, .. }: &Compressor) -> Self {
        Self {
            train_rows: meta.split.train_indices.len(),
            config: meta.config.clone(),
            best_epoch: meta.best_epoch,
            history: meta.history.clone(),
        }
    }
}

fn main() -> ExitCode {
    cli::keep_large_pages_whole();
    cli::main(run)
}

fn run(args: &Args) -> Result<()> {
    let counts = if args.rows.is_empty() { None } else { Some(Counts::new(args.rows.clone())?) };
    let named = if args.dim_outs.is_empty() && args.target.is_none() { &DIM_OUTS[..] } else { &args.dim_outs };
    named.iter().try_for_each(|&dim_out| config(args, dim_out).validate())?;
    args.config.validate()?;
    if args.baselines == Baselines::All {
        peers::check_metric(args.config.metric)?;
    }
    let output = places(args)?;
    let embeddings = args.data.read(counts.as_ref().map_or(0, Counts::rows_needed).max(cli::MAX_ITEMS))?;
    named.iter().try_for_each(|&dim_out| config(args, dim_out).validate_for(embeddings.dim))?;
    let split = match &counts {
        Some(counts) => counts.split(embeddings.rows)?,
        None => Split::new(embeddings.rows, SPLIT_SEED),
    };
    let candidates = target::candidates(named, embeddings.dim)?;
    let largest = candidates[candidates.len() - 1];
    let widest = if args.target.is_some() { largest.min(FIRST_AXES) } else { largest };
    let backend = args.device.open()?;
    let TrainConfig { metric, k, hidden, .. } = args.config;
    let mut corpus = Corpus::new(&*backend, &embeddings, split, metric, k, widest, rank(hidden))?;
    let mut sweep = Sweep { args, embeddings: &embeddings, output };
    match (&args.target, &counts) {
        (Some(target), _) => sweep.reach(&mut corpus, &candidates, target)?,
        (None, Some(counts)) => sweep.learn(&mut corpus, named, counts)?,
        (None, None) => drop(sweep.each(&corpus, named)?),
    }
    sweep.output.finish()
}

fn config(args: &Args, dim_out: usize) -> TrainConfig {
    TrainConfig { dim_out, ..args.config.clone() }
}

/// Opens the output. Places that cannot be written are found before the work.
fn places(args: &Args) -> Result<Output> {
    let inputs = &args.data.source.input;
    args.output.iter().chain(&args.model).try_for_each(|path| cli::refuse_overwriting(path, inputs))?;
    if let Some(model) = &args.model {
        if args.output.as_ref() == Some(model) {
            return Err(Error::usage("--output and --model name the same file").at(model.display()).hint("name two"));
        }
        AtomicFile::create(model)?;
    }
    Output::create(args)
}

/// What models are compared with on test rows.
struct Judges<'a> {
    evaluator: Evaluator<'a>,
    /// Where they were asked for.
    peers: Option<Peers<'a>>,
}

impl Judges<'_> {
    fn train_peers(&self, dim_out: usize, seed: u64) -> Result<Vec<Peer>> {
        match &self.peers {
            Some(peers) => peers.train_all(dim_out, seed, &mut |line| note!("peer    {line}")),
            None => Ok(Vec::new()),
        }
    }
}

/// A sweep on data that was read.
struct Sweep<'a> {
    args: &'a Args,
    embeddings: &'a Embeddings,
    output: Output,
}

impl Sweep<'_> {
    /// Trains and evaluates a model for each d'.
    fn each(&mut self, corpus: &Corpus<'_>, dims: &[usize]) -> Result<Vec<Record>> {
        let judges = self.judges(corpus)?;
        let mut records = Vec::new();
        for &dim_out in dims {
            let (compressor, _) = self.train(corpus, dim_out)?;
            records.push(self.evaluate(&judges, &compressor, None)?);
        }
        Ok(records)
    }

    /// Does that for each number of training rows.
    fn learn(&mut self, corpus: &mut Corpus<'_>, dims: &[usize], counts: &Counts) -> Result<()> {
        let train = corpus.split.train.clone();
        let mut points = Vec::new();
        for &count in counts.get() {
            note!("rows    {count} of {} for training", train.len());
            corpus.train_on(&train[..count])?;
            points.extend(self.each(corpus, dims)?.into_iter().map(|record| (count, record)));
        }
        note!("{}", curve::table(&points).trim_end());
        Ok(())
    }

    /// Finds the smallest d' that meets a target on validation, and evaluates that model.
    fn reach(&mut self, corpus: &mut Corpus<'_>, candidates: &[usize], target: &Target) -> Result<()> {
        // What the end needs is checked before the work.
        let queries = corpus.split.test.len();
        let rows = if self.args.database == Database::Test { queries } else { corpus.judge.rows() };
        check_rows(rows, queries, corpus.k)?;
        target.check(rows)?;
        let ((compressor, standing), verdict) = target::find(candidates, &mut |dim_out| self.attempt(corpus, dim_out, target))?;
        if !verdict.met {
            // What was measured on the way stays.
            self.output.finish()?;
            return Err(verdict.unmet(compressor.meta.dim_out));
        }
        if let Some(path) = &self.args.model {
            compressor.save(AtomicFile::create(path)?)?;
        }
        let record = self.evaluate(&self.judges(corpus)?, &compressor, Some(standing))?;
        answer(self.args, &compressor, &verdict, &record);
        Ok(())
    }

    /// Trains a model and compares its validation with a target.
    fn attempt(&mut self, corpus: &mut Corpus<'_>, dim_out: usize, target: &Target) -> Result<((Compressor, Standing), Verdict)> {
        corpus.widen(dim_out)?;
        let (compressor, scores) = self.train(corpus, dim_out)?;
        let validation = scores.summary();
        let verdict = target.judge(&validation);
        note!("tried   d' = {dim_out}: {verdict}, {}", if verdict.met { "enough" } else { "too little" });
        let standing = Standing { target: verdict.clone(), validation };
        let dim_in = self.embeddings.dim;
        let (bytes_in, bytes_out) = (4 * dim_in, 4 * dim_out);
        let meta = TriedMeta { dim_in, dim_out, bytes_in, bytes_out, training: Training::from(&compressor) };
        self.output.add(Line::Tried(Box::new(Tried { standing: standing.clone(), meta })))?;
        Ok(((compressor, standing), verdict))
    }

    fn train(&self, corpus: &Corpus<'_>, dim_out: usize) -> Result<(Compressor, Scores)> {
        note!("d'      {dim_out}");
        let mut reporter = Reporter::new(None);
        train_scored(corpus, &config(self.args, dim_out), &mut |event| reporter.report(event))
    }

    fn judges<'a>(&self, corpus: &'a Corpus<'a>) -> Result<Judges<'a>> {
        let evaluator = Evaluator::new(corpus, self.embeddings, self.args.database)?;
        let peers = (self.args.baselines == Baselines::All).then(|| Peers::new(corpus)).transpose()?;
        Ok(Judges { evaluator, peers })
    }

    fn evaluate(&mut self, judges: &Judges<'_>, compressor: &Compressor, standing: Option<Standing>) -> Result<Record> {
        let seed = compressor.meta.seed;
        let peers = judges.train_peers(compressor.meta.dim_out, seed)?;
        let record = judges.evaluator.evaluate(&compressor.map, seed, &peers)?;
        if std::io::stderr().is_terminal() {
            note!("{}", record.table().trim_end());
        }
        let Record { metrics, meta } = record.clone();
        let meta = Meta { record: meta, training: Training::from(compressor) };
        self.output.add(Line::Evaluated(Box::new(Evaluated { standing, metrics, meta })))?;
        Ok(record)
    }
}

/// Says in words what was found.
fn answer(args: &Args, compressor: &Compressor, verdict: &Verdict, record: &Record) {
    let Record { metrics, meta } = record;
    let at_least = verdict.target.at_least;
    note!("answer  d' = {}: validation {verdict}, test {}", meta.dim_out, verdict.target.judge(&metrics.map));
    if verdict.interval[0] < at_least {
        note!("note    the 95 % interval on validation reaches below {at_least}: ask for a little more to be sure");
    }
    let smaller = meta.bytes_in as f64 / meta.bytes_out as f64;
    note!("size    {} bytes a vector against {}, {smaller:.1} times smaller", meta.bytes_out, meta.bytes_in);
    match &args.model {
        Some(path) => note!("model   {}: {} -> {}", path.display(), meta.dim_in, meta.dim_out),
        None => note!("model   not kept: name a --model, or run train with --dim-out {} and the same flags", meta.dim_out),
    }
    note!("search  {}", compressor.meta.student_metric.advice());
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

    fn finish(&self) -> Result<()> {
        match self {
            Self::Payload(Some(path), lines) => cli::write_json(AtomicFile::create(path)?, lines),
            Self::Payload(None, lines) => cli::print_json(lines),
            Self::Lines(_) | Self::Stdout => Ok(()),
        }
    }
}
