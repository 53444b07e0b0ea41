//! What a training step computes: recorded once on a plan, for every backend.

use crate::config::TrainConfig;
use crate::model::Map;
use crate::network::{Dropout, Encoded, Network};
use crate::op::Write;
use crate::ops::adamw::{Parameter, adamw};
use crate::ops::column_sum::column_sum;
use crate::ops::gather::gather;
use crate::ops::hard_negative::{self, hard_negative};
use crate::ops::listwise_kl::{self, listwise_kl};
use crate::ops::matmul::{Layout, matmul};
use crate::ops::{ListLoss, top_k};
use crate::plan::{Limits, Plan, Routine};
use crate::tensor::Tensor;

/// Sizes of a training run.
pub struct Shape {
    /// Training rows.
    pub rows: u32,
    /// Steps of an epoch.
    pub steps: u32,
    /// Anchors of a step.
    pub batch: u32,
    /// Candidates of a step; all training rows when equal to `rows`.
    pub candidates: u32,
}

/// Temperatures of the two softmaxes, each in units of its own similarities.
#[derive(Clone, Copy, Debug)]
pub struct Temperatures {
    /// Of the teacher, fixed.
    pub teacher: f32,
    /// Of the student at the start; its logarithm is learnt.
    pub student: f32,
}

/// The tensors of a training plan that the host writes and reads, and its routines.
pub struct Objective {
    /// Training rows of unit length `[rows, dim_in]`.
    pub rows: Tensor,
    /// Anchors of an epoch `[steps, batch]`, indices of rows.
    pub anchors: Tensor,
    /// Candidates of an epoch `[steps or 1, candidates]`, indices of rows.
    pub candidates: Tensor,
    /// Rates of an epoch `[steps, 3]`.
    pub schedule: Tensor,
    /// The map.
    pub network: Network,
    /// log(1 / student temperature) `[1, 1]`.
    pub log_inverse_temperature: Tensor,
    /// Mean loss of each step `[steps, 1]`.
    pub losses: Tensor,
    /// Dropout of an epoch.
    pub dropout: Dropout,
    /// One training step.
    pub step: Routine,
}

/// Rows of a role in a step: as they are, and encoded.
struct Side {
    rows: Tensor,
    encoded: Encoded,
}

impl Objective {
    /// Records the plan of a training run that starts from a map. Losses take the scores of a step whole, updates a parameter:
    /// where the limits do not allow that, [`Plan::check`] says so.
    pub fn record(limits: Limits, shape: &Shape, config: &TrainConfig, start: &Map, temperatures: Temperatures) -> (Plan, Self) {
        let mut plan = Plan::new(limits);
        let lists = if shape.candidates == shape.rows { 1 } else { shape.steps };
        let this = Self {
            rows: plan.input("training rows", [shape.rows, start.dim_in as u32]),
            anchors: plan.indices("anchors", [shape.steps, shape.batch]),
            candidates: plan.indices("candidates", [lists, shape.candidates]),
            schedule: plan.input("schedule", [shape.steps, 3]),
            network: Network::new(&mut plan, start),
            log_inverse_temperature: plan.state("log inverse temperature", [1, 1]),
            losses: plan.state("losses", [shape.steps, 1]),
            dropout: Dropout { seeds: plan.indices("dropout seeds", [shape.steps, 1]), rate: config.dropout as f32 },
            step: plan.routine(),
        };
        this.record_step(&mut plan, shape, config, start, temperatures);
        (plan, this)
    }

    /// One step: anchors and candidates are encoded, their scores compared with the teacher's, and the parameters updated. A row
    /// that is both anchor and candidate contributes to the derivatives in both roles.
    fn record_step(&self, plan: &mut Plan, shape: &Shape, config: &TrainConfig, start: &Map, temperatures: Temperatures) {
        let anchor_rows = gathered(plan, self.rows, self.anchors);
        let every_row = shape.candidates == shape.rows;
        let candidate_rows = if every_row { self.rows } else { gathered(plan, self.rows, self.candidates) };
        let anchors = self.side(plan, anchor_rows, start);
        let candidates = self.side(plan, candidate_rows, start);
        let scores = [shape.batch, shape.candidates];
        let teacher = plan.scratch("teacher scores", scores);
        let student = plan.scratch("student scores", scores);
        matmul(plan, Layout::NT, anchors.rows, candidates.rows, teacher, Write::Set);
        matmul(plan, Layout::NT, anchors.encoded.output, candidates.encoded.output, student, Write::Set);
        let loss = ListLoss {
            gradient: plan.scratch("score gradient", scores),
            loss: plan.scratch("loss", [shape.batch, 1]),
            temperature_gradient: plan.scratch("temperature gradient", [shape.batch, 1]),
        };
        self.record_loss(plan, shape, config, temperatures.teacher, [teacher, student], loss);
        column_sum(plan, loss.loss, self.losses, 1.0, Write::Set);

        let trainable = self.network.trainable(plan);
        let temperature = Parameter::new(plan, self.log_inverse_temperature);
        column_sum(plan, loss.temperature_gradient, temperature.gradient, 1.0, Write::Set);
        let gradient = plan.scratch("anchor gradient", anchors.encoded.output.shape);
        matmul(plan, Layout::NN, loss.gradient, candidates.encoded.output, gradient, Write::Set);
        self.network.backward(plan, anchors.rows, anchors.encoded, gradient, &trainable, Write::Set);
        let gradient = plan.scratch("candidate gradient", candidates.encoded.output.shape);
        matmul(plan, Layout::TN, loss.gradient, anchors.encoded.output, gradient, Write::Set);
        self.network.backward(plan, candidates.rows, candidates.encoded, gradient, &trainable, Write::Add);
        trainable.update(plan, self.schedule, start);
        adamw(plan, self.schedule, temperature, 1.0, 0.0);
    }

    fn record_loss(
        &self,
        plan: &mut Plan,
        shape: &Shape,
        config: &TrainConfig,
        teacher_temperature: f32,
        [teacher, student]: [Tensor; 2],
        loss: ListLoss,
    ) {
        let teacher_inverse_temperature = 1.0 / teacher_temperature;
        let weight = config.lambda_list as f32 / shape.batch as f32;
        let list = listwise_kl::Config { teacher_inverse_temperature, weight, write: Write::Set };
        listwise_kl(plan, teacher, student, self.log_inverse_temperature, self.anchors, self.candidates, loss, list);
        if config.lambda_hard == 0.0 {
            return;
        }
        // A sample of the training rows holds that share of the teacher's neighbours.
        let share = |count: usize| (count as f64 * f64::from(shape.candidates) / f64::from(shape.rows)).round() as u32;
        let per_anchor = config.hard_neg_per_anchor as u32;
        let positives = share(config.k).max(1);
        let length = share(config.hard_neg_l).clamp(positives + per_anchor, shape.candidates - 1);
        let pool = plan.scratch_indices("pool", [shape.batch, length]);
        let pool_scores = plan.scratch("pool scores", [shape.batch, length]);
        let columns = top_k::Columns::List(self.candidates);
        let search = top_k::Config { columns, excluded: Some(self.anchors), carry_from: u32::MAX };
        top_k::top_k(plan, teacher, pool_scores, pool, search);
        let weight = config.lambda_hard as f32 / shape.batch as f32;
        let hard = hard_negative::Config { positives, negatives: per_anchor, teacher_inverse_temperature, weight };
        hard_negative(plan, teacher, student, pool, self.log_inverse_temperature, loss, hard);
    }

    fn side(&self, plan: &mut Plan, rows: Tensor, start: &Map) -> Side {
        let output = plan.scratch("encoded", [rows.rows(), start.dim_out as u32]);
        Side { rows, encoded: self.network.forward(plan, rows, output, Some(self.dropout)) }
    }
}

fn gathered(plan: &mut Plan, source: Tensor, table: Tensor) -> Tensor {
    let rows = plan.scratch("gathered rows", [table.cols(), source.cols()]);
    gather(plan, source, table, rows);
    rows
}
