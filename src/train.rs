//! The only training loop: for any backend, through a plan.

mod prefixes;
mod run;

use std::borrow::Borrow;

use crate::backend::Backend;
use crate::baselines::random_projection;
use crate::basis::rank;
use crate::candidates::Batches;
use crate::config::{Init, SPLIT_SEED, TrainConfig};
use crate::corpus::Corpus;
use crate::data::{Embeddings, Split};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::eval::Scores;
use crate::model::{Compressor, Epoch, Hidden, Map, Meta, SCHEMA_VERSION};
use crate::random::normal;
use prefixes::prefixes;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use run::Run;

/// Standard deviation of what hidden units see at the start.
const HIDDEN_SPREAD: f32 = 1.0;

/// What a training run reports.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// Training begins from this map.
    Start {
        /// Steps of all epochs.
        steps: u32,
        /// The initial map in words.
        init: &'a str,
        /// Its validation.
        epoch: &'a Epoch,
    },
    /// Steps were run.
    Steps {
        /// Steps run so far, over all epochs.
        done: u32,
    },
    /// An epoch ended.
    Epoch {
        /// Its loss and validation.
        epoch: &'a Epoch,
        /// Whether it is the best so far.
        best: bool,
    },
}

/// Called with every event; an error it returns ends the training with that error.
pub type OnProgress<'a> = dyn FnMut(&Progress<'_>) -> Result<()> + 'a;

/// Trains a model and returns its best epoch by the mean of validation recall@k and recall@10, over all
/// [`dims`](TrainConfig::dims); epoch 0 is the initial map.
///
/// # Errors
/// [`Error::Usage`] when the configuration does not fit the data; [`Error::Data`] when training diverges; [`Error::Device`] when
/// the device fails.
pub fn train(corpus: &Corpus<'_>, config: &TrainConfig, progress: &mut OnProgress<'_>) -> Result<Compressor> {
    Ok(train_scored(corpus, config, progress)?.0)
}

/// [`train`], and the validation of the epoch that it returns, by query.
///
/// # Errors
/// As [`train`].
pub fn train_scored(corpus: &Corpus<'_>, config: &TrainConfig, progress: &mut OnProgress<'_>) -> Result<(Compressor, Scores)> {
    config.validate_for(corpus.info.dim)?;
    assert_eq!((config.metric, config.k), (corpus.frame.metric, corpus.k), "train: the corpus was prepared for others");
    // Validation looks ten neighbours deep.
    if corpus.judge.rows() < 12 {
        return Err(Error::data(format!("{} rows are too few to train on", corpus.info.rows)).hint("use at least 20 rows"));
    }
    let (initial, init, mut best_scores) = initial(corpus, config)?;
    let start = epoch(0, None, &best_scores);
    let mut history = vec![start.clone()];
    let prefixes = prefixes(corpus, config, &initial)?;
    let mut first = corpus.to_inputs(&initial)?;
    if config.hidden > 0 {
        first.hidden = Some(hidden_start(corpus, config)?);
    }
    let mut batches = Batches::new(corpus.split.train.len(), config);
    let steps = batches.steps() as u32;
    let epochs = config.epochs(steps);
    let all_steps = steps.checked_mul(epochs).ok_or_else(|| {
        Error::usage(format!("--epochs {epochs} of {steps} steps are more than can be counted")).hint("use fewer")
    })?;
    progress(&Progress::Start { steps: all_steps, init: &init, epoch: &start })?;
    let mut run = Run::new(corpus, config, &first, &prefixes, &batches)?;
    let mut encoder = Encoder::new(&first, corpus.backend, corpus.inputs(config.dim_out).0.len() / first.dim_in)?;
    let mut best = None;
    let mut best_epoch = start;
    for number in 1..=epochs {
        let done = (number - 1) * steps;
        let loss = run.epoch(&mut batches, done..done + steps, all_steps, progress)?;
        let map = run.map()?;
        encoder.replace(&map)?;
        let scores = validate(corpus, config, &map, &encoder.encode(corpus.inputs(config.dim_out).0)?.values)?;
        let epoch = epoch(number, Some(loss), &scores);
        let better = epoch.quality() > best_epoch.quality();
        if better {
            best = Some(map);
            best_scores = scores;
            best_epoch = epoch.clone();
        }
        progress(&Progress::Epoch { epoch: &epoch, best: better })?;
        history.push(epoch);
    }
    let map = best.map_or(Ok(initial), |map| corpus.to_rows(map))?;
    let map = corpus.frame.fold(map);
    let temperature = f64::from(prefixes[0].temperatures.teacher) / corpus.frame.similarity_scale();
    let meta = meta(corpus, config, &map, init, temperature, best_epoch.epoch, history);
    Ok((Compressor { map, meta }, best_scores))
}

/// The map to start from, in words, and its validation.
fn initial(corpus: &Corpus<'_>, config: &TrainConfig) -> Result<(Map, String, Scores)> {
    match config.init {
        Init::Spectral => {
            let choice = corpus.spectra.best(corpus.backend, &corpus.known, &corpus.judge, config.dims())?;
            Ok((choice.map, choice.description, choice.scores))
        }
        Init::Random => {
            let map = random_projection(config.metric, corpus.info.dim, config.dim_out, config.seed);
            let scores = validate(corpus, config, &map, &map.encode(corpus.backend, &corpus.known)?)?;
            Ok((map, format!("random projection, {}", config.metric.name()), scores))
        }
    }
}

/// Scores of known rows that a map has encoded, over all dimensions that the configuration asks for.
fn validate(corpus: &Corpus<'_>, config: &TrainConfig, map: &Map, encoded: &[f32]) -> Result<Scores> {
    corpus.judge.judge_prefixes(corpus.backend, encoded, map.dim_out, map.metric, config.dims())
}

/// A hidden layer that adds nothing yet: C = 0, and A random, of such a size that its units see the rows about their mean with
/// a standard deviation of [`HIDDEN_SPREAD`].
fn hidden_start(corpus: &Corpus<'_>, config: &TrainConfig) -> Result<Hidden> {
    let mean = corpus.inputs_mean(config.dim_out)?;
    let (dim, width) = (mean.len(), config.hidden);
    // What rows have left about their mean.
    let variance = (corpus.mean_square() - mean.iter().map(|m| m * m).sum::<f32>()).max(1e-6);
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let scale = HIDDEN_SPREAD / variance.sqrt();
    let weight: Vec<f32> = (0..width * dim).map(|_| normal(&mut rng) * scale).collect();
    let bias = weight.chunks(dim).map(|a| -a.iter().zip(&mean).map(|(a, m)| a * m).sum::<f32>()).collect();
    Ok(Hidden { weight, bias, output: vec![0.0; config.dim_out * width] })
}

fn meta(
    corpus: &Corpus<'_>,
    config: &TrainConfig,
    map: &Map,
    init: String,
    temperature: f64,
    best_epoch: u32,
    history: Vec<Epoch>,
) -> Meta {
    Meta {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        dim_in: map.dim_in,
        dim_out: map.dim_out,
        nested: config.nested.clone(),
        hidden: map.hidden_width(),
        input_normalized: map.input_normalized,
        teacher_metric: config.metric,
        student_metric: map.metric,
        k: corpus.k,
        config: config.clone(),
        seed: config.seed,
        teacher_temperature: temperature,
        init,
        split: corpus.split.clone().into(),
        data: corpus.info.clone(),
        device: corpus.backend.describe(),
        best_epoch,
        history,
    }
}

/// Trains one model: [`Corpus::new`] with the standard split, and [`train`] in one call. `embeddings` that are given away are
/// dropped early.
///
/// # Errors
/// As those two.
pub fn fit(
    backend: &dyn Backend,
    embeddings: impl Borrow<Embeddings>,
    config: &TrainConfig,
    progress: &mut OnProgress<'_>,
) -> Result<Compressor> {
    let Embeddings { rows, dim, .. } = *embeddings.borrow();
    config.validate_for(dim)?;
    let split = Split::new(rows, SPLIT_SEED);
    let corpus = Corpus::new(backend, embeddings, split, config.metric, config.k, config.dim_out, rank(config.hidden))?;
    train(&corpus, config, progress)
}

fn epoch(epoch: u32, loss: Option<f64>, scores: &Scores) -> Epoch {
    Epoch { epoch, loss, recall_k: scores.mean("recall@k"), recall_10: scores.mean("recall@10") }
}
