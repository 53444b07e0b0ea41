//! A model in training on the device: its plan, fed epoch by epoch.

use std::ops::Range;

use super::{OnProgress, Progress};
use crate::backend::Program;
use crate::candidates::Batches;
use crate::config::TrainConfig;
use crate::corpus::Corpus;
use crate::error::{Error, Result};
use crate::model::Map;
use crate::noise::Noise;
use crate::objective::{Objective, Prefix, Rounding, Shape, is_even, write_rows};
use crate::schedule::adamw_rows;

/// Steps that are run between two calls of the progress function.
const STEPS_BETWEEN_REPORTS: u32 = 16;

/// A model in training on the device.
pub(super) struct Run<'a> {
    corpus: &'a Corpus<'a>,
    noise: Option<Noise>,
    objective: Objective,
    program: Box<dyn Program>,
    learning_rate: f64,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        corpus: &'a Corpus<'a>,
        config: &TrainConfig,
        start: &Map,
        prefixes: &[Prefix],
        batches: &Batches,
    ) -> Result<Self> {
        let (inputs, inputs_dim) = corpus.inputs(config.dim_out);
        let inputs = &inputs[..corpus.split.train.len() * inputs_dim];
        let shape = Shape {
            rows: corpus.split.train.len() as u32,
            dim: corpus.info.dim as u32,
            steps: batches.steps() as u32,
            batch: batches.batch() as u32,
            candidates: batches.candidates() as u32,
            teacher: Rounding::of_teacher(corpus.train_rows(), corpus.info.dim, prefixes[0].temperatures.teacher),
            coarse_inputs: is_even(inputs, inputs_dim),
        };
        let (plan, objective) = Objective::record(corpus.backend.limits(), &shape, config, start, prefixes);
        let mut program = corpus.backend.compile(plan)?;
        write_rows(&mut *program, objective.rows, corpus.train_rows())?;
        if objective.inputs != objective.rows {
            write_rows(&mut *program, objective.inputs, inputs)?;
        }
        if let Some((_, routine)) = objective.table {
            program.run(routine, 0..1)?;
        }
        objective.network.write(&mut *program, start)?;
        for (tensor, prefix) in objective.log_inverse_temperatures.iter().zip(prefixes) {
            program.write(*tensor, &[-prefix.temperatures.student.ln()][..])?;
        }
        let noise = match config.noise {
            0.0 => None,
            noise => Some(Noise::new(corpus.backend, config.metric, inputs, inputs_dim, noise as f32, config.seed)?),
        };
        Ok(Self { corpus, noise, objective, program, learning_rate: config.lr })
    }

    /// Runs the steps of one epoch and returns their mean loss.
    pub(super) fn epoch(
        &mut self,
        batches: &mut Batches,
        steps: Range<u32>,
        all_steps: u32,
        progress: &mut OnProgress<'_>,
    ) -> Result<f64> {
        let tables = batches.next_epoch();
        let schedule = adamw_rows(steps.clone(), all_steps, self.learning_rate);
        self.program.write(self.objective.anchors, &tables.anchors[..])?;
        if let (Some([parts, weights]), Some(noise)) = (self.objective.blends, &mut self.noise) {
            let blends = noise.blends(self.corpus.train_rows(), self.corpus.info.dim, &tables.anchors);
            self.program.write(parts, &blends.parts[..])?;
            self.program.write(weights, &blends.weights[..])?;
        }
        self.program.write(self.objective.candidates, &tables.candidates[..])?;
        self.program.write(self.objective.dropout.seeds, &tables.dropout_seeds[..])?;
        self.program.write(self.objective.schedule, &schedule[..])?;
        let count = steps.end - steps.start;
        for first in (0..count).step_by(STEPS_BETWEEN_REPORTS as usize) {
            let end = (first + STEPS_BETWEEN_REPORTS).min(count);
            self.program.run(self.objective.step, first..end)?;
            if end < count {
                progress(&Progress::Steps { done: steps.start + end })?;
            }
        }
        let losses = self.program.read(self.objective.losses)?;
        // Only now does a GPU have run them all.
        progress(&Progress::Steps { done: steps.end })?;
        let loss = losses.iter().map(|l| f64::from(*l)).sum::<f64>() / f64::from(count);
        if loss.is_finite() {
            // A divergence is not negative, but for rounding.
            return Ok(loss.max(0.0));
        }
        Err(Error::data(format!("training diverged: the loss is {loss} after {} steps", steps.end))
            .hint(format!("use a smaller learning rate than --lr {}", self.learning_rate)))
    }

    /// The map as it is after everything that was run.
    pub(super) fn map(&mut self) -> Result<Map> {
        self.objective.network.read(&mut *self.program)
    }
}
