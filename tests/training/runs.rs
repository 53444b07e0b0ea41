//! Whole training runs.

use std::path::Path;

use embedding_compressor::backend::{Backend, Cpu};
use embedding_compressor::basis::rank;
use embedding_compressor::config::{SPLIT_SEED, Tau, TrainConfig};
use embedding_compressor::corpus::Corpus;
use embedding_compressor::data::{Embeddings, Source, Split};
use embedding_compressor::metric::unit_rows;
use embedding_compressor::model::Compressor;
use embedding_compressor::train::{Progress, fit, train};
use embedding_compressor::{Error, Result};
use libtest_mimic::{Completion, Trial};

use crate::gpu::with_gpu;
use crate::rows::cloud;
use crate::{WITHOUT_SAMPLE, test, test_on_sample};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test_on_sample("runs::training beats its spectral start", training_beats_its_spectral_start),
        test("runs::the best epoch is what is kept", the_best_epoch_is_what_is_kept),
        test_on_sample("runs::nested dimensions rank by themselves", nested_dimensions_rank_by_themselves),
        test("runs::test rows take no part", test_rows_take_no_part),
        test("runs::validation rows only choose", validation_rows_only_choose),
        test("runs::progress comes in order and can stop a run", progress_comes_in_order_and_can_stop_a_run),
        test("runs::a rate that is too high is an error", a_rate_that_is_too_high_is_an_error),
        test("runs::rows that memory cannot hold are an error", rows_that_memory_cannot_hold_are_an_error),
        Trial::ignorable_test("runs::a gpu trains as the cpu does", || {
            with_gpu(|gpu| {
                a_gpu_trains_as_the_cpu_does(gpu);
                Ok(Completion::Completed)
            })
        })
        .with_ignored_flag(WITHOUT_SAMPLE),
    ]
}

/// Rows of the bundled sample.
pub(crate) fn sample(rows: usize) -> Embeddings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/wordnet_minilm_384_sample.parquet");
    Embeddings::read(&Source { input: vec![path], ..Source::default() }, rows).expect("the sample is part of the repository")
}

fn fitted(backend: &dyn Backend, embeddings: &Embeddings, config: &TrainConfig) -> Compressor {
    fit(backend, embeddings, config, &mut |_| Ok(())).expect("training succeeds")
}

/// A run on 300 x 16 values, in which every epoch counts.
fn small(values: Vec<f32>, config: &TrainConfig) -> Compressor {
    let embeddings = Embeddings::from_values(values.len() / 16, 16, values, "a cloud").expect("finite values");
    fitted(&Cpu::new(), &embeddings, config)
}

fn small_config() -> TrainConfig {
    TrainConfig { dim_out: 4, k: 5, epochs: Some(5), batch_size: 64, hidden: 32, ..TrainConfig::default() }
}

fn training_beats_its_spectral_start() {
    let compressor = fitted(&Cpu::new(), &sample(0), &TrainConfig { dim_out: 32, epochs: Some(20), ..TrainConfig::default() });
    let history = &compressor.meta.history;
    let (first, last) = (&history[0], &history[history.len() - 1]);
    assert!(last.recall_10 > first.recall_10 + 0.01, "{history:?}");
    assert!(last.loss < history[1].loss, "{history:?}");
}

fn the_best_epoch_is_what_is_kept() {
    let embeddings = Embeddings::from_values(300, 16, cloud(300, 16, 1), "a cloud").unwrap();
    for nested in [vec![], vec![2, 3, 4]] {
        let config = TrainConfig { k: 10, nested, hidden: 0, ..small_config() };
        let cpu = Cpu::new();
        let corpus = Corpus::new(
            &cpu,
            &embeddings,
            Split::new(300, SPLIT_SEED),
            config.metric,
            config.k,
            config.dim_out,
            rank(config.hidden),
        )
        .unwrap();
        let compressor = train(&corpus, &config, &mut |_| Ok(())).unwrap();
        let meta = &compressor.meta;
        let best = &meta.history[meta.best_epoch as usize];
        assert!(meta.best_epoch > 0, "training helps: {:?}", meta.history);
        assert!(meta.history.iter().all(|epoch| epoch.quality() <= best.quality()), "{:?}", meta.history);
        let mean = |metric: &str| {
            let recalls = config.dims().iter().map(|&dims| recall(&corpus, &compressor, dims, metric));
            recalls.sum::<f64>() / config.dims().len() as f64
        };
        assert!((mean("recall@k") - best.recall_k).abs() < 1e-9 && (mean("recall@10") - best.recall_10).abs() < 1e-9);
    }
}

/// On validation, of the first coordinates.
fn recall(corpus: &Corpus<'_>, compressor: &Compressor, dims: usize, metric: &str) -> f64 {
    let map = compressor.map.prefix(dims);
    let encoded = map.encode(corpus.backend, &corpus.known).unwrap();
    corpus.judge.judge(corpus.backend, map.metric, &encoded, dims).unwrap().mean(metric)
}

/// The hidden layer learns for the whole output where nobody asks for less.
fn nested_dimensions_rank_by_themselves() {
    let embeddings = sample(0);
    let cpu = Cpu::new();
    let config = TrainConfig {
        dim_out: 64,
        k: 10,
        hidden: 64,
        tau: Tau::Auto,
        epochs: Some(10),
        batch_size: 256,
        ..TrainConfig::default()
    };
    let split = Split::new(embeddings.rows, SPLIT_SEED);
    let corpus = Corpus::new(&cpu, &embeddings, split, config.metric, config.k, config.dim_out, rank(config.hidden)).unwrap();
    let first_8 = |nested: Vec<usize>| {
        let compressor = train(&corpus, &TrainConfig { nested, ..config.clone() }, &mut |_| Ok(())).unwrap();
        recall(&corpus, &compressor, 8, "recall@k")
    };
    let (nested, cut) = (first_8(vec![8, 64]), first_8(vec![]));
    assert!(nested > cut + 0.02, "{nested:.4} nested, {cut:.4} without");
}

/// Another cloud in place of the rows.
pub(crate) fn overwrite(values: &mut [f32], rows: &[u32]) {
    let garbage = cloud(rows.len(), 16, 99);
    rows.iter().zip(garbage.chunks(16)).for_each(|(row, other)| values[*row as usize * 16..][..16].copy_from_slice(other));
}

fn test_rows_take_no_part() {
    let config = TrainConfig { lambda_hard: 0.5, hard_neg_l: Some(20), ..small_config() };
    let mut values = cloud(300, 16, 1);
    let before = small(values.clone(), &config);
    overwrite(&mut values, &Split::new(300, SPLIT_SEED).test);
    let after = small(values, &config);
    assert_ne!(before.meta.data.fingerprint, after.meta.data.fingerprint, "the rows did change");
    assert_eq!(before.map, after.map);
    assert_eq!(before.meta.history, after.meta.history);
}

/// Losses come from training rows alone; with one candidate for the start, so do the weights.
fn validation_rows_only_choose() {
    let config = TrainConfig { init: embedding_compressor::config::Init::Random, ..small_config() };
    let mut values = cloud(300, 16, 1);
    let before = small(values.clone(), &config);
    overwrite(&mut values, &Split::new(300, SPLIT_SEED).val);
    let after = small(values, &config);
    let losses = |compressor: &Compressor| compressor.meta.history.iter().map(|epoch| epoch.loss).collect::<Vec<_>>();
    assert_eq!(losses(&before), losses(&after));
    let recalls = |compressor: &Compressor| compressor.meta.history.iter().map(|epoch| epoch.recall_k).collect::<Vec<_>>();
    assert_ne!(recalls(&before), recalls(&after), "the rows did change");
}

fn progress_comes_in_order_and_can_stop_a_run() {
    let embeddings = Embeddings::from_values(300, 16, cloud(300, 16, 1), "a cloud").unwrap();
    let run = |stop_after: usize| -> (Result<Compressor>, Vec<String>) {
        let mut seen = Vec::new();
        let result = fit(&Cpu::new(), &embeddings, &small_config(), &mut |event| {
            seen.push(match event {
                Progress::Start { steps, epoch, .. } => format!("start {} of {steps}", epoch.epoch),
                Progress::Steps { done } => format!("steps {done}"),
                Progress::Epoch { epoch, .. } => format!("epoch {}", epoch.epoch),
            });
            if seen.len() > stop_after { Err(Error::io("enough")) } else { Ok(()) }
        });
        (result, seen)
    };
    let (result, seen) = run(usize::MAX);
    let expected = (1..=5).flat_map(|epoch| [format!("steps {}", 4 * epoch), format!("epoch {epoch}")]);
    assert_eq!(seen, ["start 0 of 20".to_owned()].into_iter().chain(expected).collect::<Vec<_>>());
    assert_eq!(result.unwrap().meta.history.len(), 6);
    let (result, seen) = run(3);
    assert_eq!((result.unwrap_err().to_string(), seen.len()), ("enough".to_owned(), 4));
}

fn a_rate_that_is_too_high_is_an_error() {
    let embeddings = Embeddings::from_values(300, 16, cloud(300, 16, 1), "a cloud").unwrap();
    let config = TrainConfig { lr: 1e30, ..small_config() };
    let error = fit(&Cpu::new(), &embeddings, &config, &mut |_| Ok(())).expect_err("such steps lead nowhere");
    assert!(error.exit_code() == 3 && error.hint_text().is_some_and(|hint| hint.contains("--lr")), "{error}");
}

fn a_gpu_trains_as_the_cpu_does(gpu: &dyn Backend) {
    let embeddings = sample(600);
    // Small batches, so that there are enough steps for a difference to grow.
    let config = TrainConfig { dim_out: 16, k: 10, epochs: Some(2), batch_size: 64, lambda_hard: 0.5, ..TrainConfig::default() };
    let [cpu, gpu] = [&Cpu::new() as &dyn Backend, gpu].map(|backend| fitted(backend, &embeddings, &config).meta);
    assert_ne!(cpu.device, gpu.device);
    assert_eq!(cpu.history.len(), gpu.history.len());
    for (a, b) in cpu.history.iter().zip(&gpu.history) {
        let near = (a.recall_k - b.recall_k).abs() <= 0.01 && (a.recall_10 - b.recall_10).abs() <= 0.01;
        let losses = a.loss.zip(b.loss).is_none_or(|(a, b)| (a - b).abs() <= 1e-3 * a.abs());
        assert!(near && losses, "{a:?} on the cpu, {b:?} on the gpu");
    }
}

/// A plain allocation ends the process instead.
fn rows_that_memory_cannot_hold_are_an_error() {
    for (count, dim) in [(1 << 30, 1 << 26), (u32::MAX, usize::MAX)] {
        let error = unit_rows(&[], dim, 0..count).expect_err("no machine has so much memory");
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("--max-items")), "{error}");
    }
}
