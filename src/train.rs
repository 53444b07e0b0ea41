//! The only training loop: for any backend, through a plan.

use std::ops::Range;

use crate::backend::{Backend, Program};
use crate::baselines::random_projection;
use crate::candidates::Batches;
use crate::config::{Init, SPLIT_SEED, Tau, TrainConfig};
use crate::corpus::Corpus;
use crate::data::{Embeddings, Split};
use crate::error::{Error, Result};
use crate::eval::Scores;
use crate::metric::Metric;
use crate::model::{Compressor, Epoch, Map, Meta, SCHEMA_VERSION};
use crate::objective::{Objective, Shape, Temperatures};
use crate::random::sample;
use crate::schedule::adamw_rows;
use crate::search::neighbours;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Steps that are run between two calls of the progress function.
const STEPS_BETWEEN_REPORTS: u32 = 16;
/// Rows whose neighbours measure the spread of similarities.
const SPREAD_ROWS: usize = 512;

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

/// Trains a model and returns its best epoch by validation recall@k; epoch 0 is the initial map.
///
/// # Errors
/// [`Error::Usage`] when the configuration does not fit the data; [`Error::Data`] when training diverges; [`Error::Device`] when
/// the device fails.
pub fn train(corpus: &Corpus<'_>, config: &TrainConfig, progress: &mut OnProgress<'_>) -> Result<Compressor> {
    config.validate_for(corpus.info.dim)?;
    assert_eq!(config.k, corpus.k, "train: the corpus was prepared for another k");
    let (mut best, init, scores) = initial(corpus, config)?;
    let start = epoch(0, None, &scores);
    let mut history = vec![start.clone()];
    let temperatures = temperatures(corpus, config, &best)?;
    let mut batches = Batches::new(corpus.split.train.len(), config);
    let steps = batches.steps() as u32;
    progress(&Progress::Start { steps: steps * config.epochs, init: &init, epoch: &start })?;
    let mut run = Run::new(corpus, config, &best, temperatures, &batches)?;
    let mut best_epoch = start;
    for number in 1..=config.epochs {
        let done = (number - 1) * steps;
        let loss = run.epoch(&mut batches, done..done + steps, steps * config.epochs, progress)?;
        let scores = corpus.judge.judge(corpus.backend, &run.encode_known()?, config.dim_out)?;
        let epoch = epoch(number, Some(loss), &scores);
        let better = epoch.recall_k > best_epoch.recall_k;
        if better {
            best = run.map(&best)?;
            best_epoch = epoch.clone();
        }
        progress(&Progress::Epoch { epoch: &epoch, best: better })?;
        history.push(epoch);
    }
    let meta = meta(corpus, config, &best, init, temperatures.teacher, best_epoch.epoch, history);
    Ok(Compressor { map: best, meta })
}

/// The map to start from, in words, and its validation.
fn initial(corpus: &Corpus<'_>, config: &TrainConfig) -> Result<(Map, String, Scores)> {
    match config.init {
        Init::Spectral => {
            let choice = corpus.spectra.best(corpus.backend, &corpus.known, &corpus.judge, config.dim_out)?;
            Ok((choice.map, choice.description, choice.scores))
        }
        Init::Random => {
            let map = random_projection(corpus.info.dim, config.dim_out, config.seed);
            let encoded = map.encode(corpus.backend, &corpus.known)?;
            let scores = corpus.judge.judge(corpus.backend, &encoded, config.dim_out)?;
            Ok((map, "random projection, cosine".to_owned(), scores))
        }
    }
}

/// The teacher's temperature as configured; the student's starts at the same number of its own spreads.
fn temperatures(corpus: &Corpus<'_>, config: &TrainConfig, map: &Map) -> Result<Temperatures> {
    let train = corpus.train_rows();
    let teacher_spread = spread(corpus, train, corpus.info.dim)?;
    let student_spread = spread(corpus, &map.encode(corpus.backend, train)?, map.dim_out)?;
    let teacher = match config.tau {
        Tau::Absolute(tau) => tau as f32,
        Tau::Auto => teacher_spread,
    };
    Ok(Temperatures { teacher, student: teacher * student_spread / teacher_spread })
}

/// Mean over rows of the standard deviation of their top-k similarities.
fn spread(corpus: &Corpus<'_>, rows: &[f32], dim: usize) -> Result<f32> {
    let count = rows.len() / dim;
    let queries = sample(count as u32, SPREAD_ROWS, &mut ChaCha8Rng::seed_from_u64(0));
    let k = corpus.k.clamp(2, count - 1);
    let found = neighbours(corpus.backend, rows, dim, &queries, k)?;
    let deviation = |scores: &[f32]| {
        let mean = scores.iter().sum::<f32>() / k as f32;
        (scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f32>() / (k - 1) as f32).sqrt()
    };
    let spread = found.scores.chunks(k).map(deviation).sum::<f32>() / queries.len() as f32;
    if spread > 0.0 {
        return Ok(spread);
    }
    Err(Error::data("the nearest neighbours of every row are equally near: there is no ranking to keep")
        .hint("check that the rows differ"))
}

fn meta(
    corpus: &Corpus<'_>,
    config: &TrainConfig,
    map: &Map,
    init: String,
    temperature: f32,
    best_epoch: u32,
    history: Vec<Epoch>,
) -> Meta {
    Meta {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        dim_in: map.dim_in,
        dim_out: map.dim_out,
        input_normalized: true,
        teacher_metric: Metric::Cosine,
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

/// Trains one model: [`Corpus::new`] with the standard split, and [`train`] in one call.
///
/// # Errors
/// As those two.
pub fn fit(
    backend: &dyn Backend,
    embeddings: &Embeddings,
    config: &TrainConfig,
    progress: &mut OnProgress<'_>,
) -> Result<Compressor> {
    config.validate_for(embeddings.dim)?;
    let split = Split::new(embeddings.rows, SPLIT_SEED);
    let corpus = Corpus::new(backend, embeddings, split, config.k, config.dim_out)?;
    train(&corpus, config, progress)
}

fn epoch(epoch: u32, loss: Option<f64>, scores: &Scores) -> Epoch {
    Epoch { epoch, loss, recall_k: scores.mean("recall@k"), recall_10: scores.mean("recall@10") }
}

/// A model in training on the device.
struct Run {
    objective: Objective,
    program: Box<dyn Program>,
    learning_rate: f64,
}

impl Run {
    fn new(
        corpus: &Corpus<'_>,
        config: &TrainConfig,
        start: &Map,
        temperatures: Temperatures,
        batches: &Batches,
    ) -> Result<Self> {
        let shape = Shape {
            known: (corpus.known.len() / start.dim_in) as u32,
            train: corpus.split.train.len() as u32,
            steps: batches.steps() as u32,
            batch: batches.batch() as u32,
            candidates: batches.candidates() as u32,
        };
        let (plan, objective) = Objective::record(corpus.backend.limits(), &shape, config, start, temperatures);
        let mut program = corpus.backend.compile(plan)?;
        program.write(objective.known, &corpus.known[..])?;
        program.write(objective.network.weight, &start.weight[..])?;
        program.write(objective.network.bias, &start.bias[..])?;
        program.write(objective.log_inverse_temperature, &[-temperatures.student.ln()][..])?;
        Ok(Self { objective, program, learning_rate: config.lr })
    }

    /// Runs the steps of one epoch and returns their mean loss.
    fn epoch(&mut self, batches: &mut Batches, steps: Range<u32>, all_steps: u32, progress: &mut OnProgress<'_>) -> Result<f64> {
        let tables = batches.next_epoch();
        let schedule = adamw_rows(steps.clone(), all_steps, self.learning_rate);
        self.program.write(self.objective.anchors, &tables.anchors[..])?;
        self.program.write(self.objective.candidates, &tables.candidates[..])?;
        self.program.write(self.objective.schedule, &schedule[..])?;
        let count = steps.end - steps.start;
        for first in (0..count).step_by(STEPS_BETWEEN_REPORTS as usize) {
            let end = (first + STEPS_BETWEEN_REPORTS).min(count);
            self.program.run(self.objective.step, first..end)?;
            progress(&Progress::Steps { done: steps.start + end })?;
        }
        let losses = self.program.read(self.objective.losses)?;
        let loss = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / f64::from(count);
        if loss.is_finite() {
            return Ok(loss);
        }
        Err(Error::data(format!("training diverged: the loss is {loss} after {} steps", steps.end))
            .hint(format!("use a smaller learning rate than --lr {}", self.learning_rate)))
    }

    fn encode_known(&mut self) -> Result<Vec<f32>> {
        self.program.run(self.objective.encode_known, 0..1)?;
        self.program.read(self.objective.encoded)
    }

    fn map(&mut self, like: &Map) -> Result<Map> {
        let weight = self.program.read(self.objective.network.weight)?;
        let bias = self.program.read(self.objective.network.bias)?;
        Ok(Map { weight, bias, ..like.clone() })
    }
}
