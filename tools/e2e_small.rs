//! The whole path on the bundled sample: train, save, load, evaluate, compress, and compare what was written with what was measured.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use embedding_compressor::backend::Backend;
use embedding_compressor::basis::rank;
use embedding_compressor::cli::progress::Reporter;
use embedding_compressor::cli::{self, DeviceArgs, EXIT_CODES};
use embedding_compressor::compress::compress_file;
use embedding_compressor::config::{SPLIT_SEED, TrainConfig};
use embedding_compressor::corpus::Corpus;
use embedding_compressor::data::{AtomicFile, Embeddings, Source, Split};
use embedding_compressor::eval::Judge;
use embedding_compressor::evaluate::{Database, Evaluator};
use embedding_compressor::model::Compressor;
use embedding_compressor::note;
use embedding_compressor::train::train;
use embedding_compressor::{Error, Result};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Train, evaluate, compress, reload and compare on the bundled sample; fails when training does not beat the best spectral map
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    #[command(flatten)]
    device: DeviceArgs,
}

/// The bundled sample, as seen from the project's folder.
const SAMPLE: &str = "examples/data/wordnet_minilm_384_sample.parquet";

fn main() -> ExitCode {
    cli::keep_large_pages_whole();
    cli::main(run)
}

fn run(args: &Args) -> Result<()> {
    let source = Source { input: vec![SAMPLE.into()], ..Source::default() };
    let embeddings = Embeddings::read(&source, 0)?;
    let backend = args.device.open()?;
    let config = TrainConfig { dim_out: 16, epochs: Some(20), ..TrainConfig::default() };
    let split = Split::new(embeddings.rows, SPLIT_SEED);
    let corpus = Corpus::new(&*backend, &embeddings, split, config.metric, config.k, config.dim_out, rank(config.hidden))?;
    let mut reporter = Reporter::new(None);
    let compressor = train(&corpus, &config, &mut |event| reporter.report(event))?;
    drop(reporter);
    beats_start(&compressor);

    let folder = tempfile::tempdir().map_err(|e| Error::file("create a temporary folder", &std::env::temp_dir(), &e))?;
    let model = folder.path().join("model.npz");
    compressor.save(AtomicFile::create(&model)?)?;
    let loaded = Compressor::load(&model)?;
    assert!(loaded == compressor, "the model changed between saving and loading");
    let record = Evaluator::new(&corpus, &embeddings, Database::All)?.evaluate(&loaded.map, config.seed, &[])?;
    note!("{}", record.table().trim_end());

    let output = folder.path().join("compressed.parquet");
    compress_file(&loaded, &*backend, &source, &output)?;
    let recall = recall_of_file(&*backend, &embeddings, &corpus.split, &output, &compressor)?;
    let measured = record.metrics.map.means["recall@k"];
    assert!((recall - measured).abs() < 1e-3, "the compressed file has recall@k {recall:.4}, eval measured {measured:.4}");
    cli::print_json(&record)?;
    note!("ok      trained, saved, loaded, evaluated, compressed and read back");
    Ok(())
}

/// On validation; failing it is a bug of this tool.
fn beats_start(compressor: &Compressor) {
    let history = &compressor.meta.history;
    let (start, best) = (&history[0], &history[compressor.meta.best_epoch as usize]);
    let (before, after) = (start.quality(), best.quality());
    assert!(after > before, "training did not beat the best spectral map on validation: {before:.4} -> {after:.4}");
}

/// Recall@k of the test queries among the rows of a compressed file.
fn recall_of_file(
    backend: &dyn Backend,
    embeddings: &Embeddings,
    split: &Split,
    path: &Path,
    compressor: &Compressor,
) -> Result<f64> {
    let compressed = Embeddings::read(&Source { input: vec![path.into()], ..Source::default() }, 0)?;
    let (teacher, student) = (compressor.meta.teacher_metric, compressor.map.metric);
    let rows = teacher.prepare(&embeddings.values, embeddings.dim);
    let judge = Judge::new(backend, teacher, &rows, embeddings.dim, split.test.clone(), compressor.meta.k)?;
    let prepared = student.prepare(&compressed.values, compressed.dim);
    Ok(judge.judge(backend, student, &prepared, compressed.dim)?.mean("recall@k"))
}
