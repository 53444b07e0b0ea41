//! What a training step computes: recorded once on a plan, for every backend.

use crate::backend::{Data, Program};
use crate::config::{MAX_K, StudentTau, TrainConfig};
use crate::error::Result;
use crate::float16;
use crate::metric::Metric;
use crate::model::Map;
use crate::network::{Dropout, Encoded, Network};
use crate::noise::PARTS;
use crate::op::Write;
use crate::ops::adamw::{Parameter, adamw};
use crate::ops::blend::blend;
use crate::ops::column_sum::column_sum;
use crate::ops::gather::gather;
use crate::ops::hard_negative::{self, hard_negative};
use crate::ops::listwise_kl::{self, listwise_kl};
use crate::ops::matmul::{
    Product, coarse_error, coarse_loss, matmul, matmul_coarse, matmul_halves, matmul_rounded, rounding_error,
};
use crate::ops::{ListLoss, columns, top_k};
use crate::plan::{Limits, Plan, Routine};
use crate::similarity::{similarities, similarities_backward};
use crate::tensor::{DType, Tensor};

/// Up to so many rows that are all candidates, the teacher's scores are computed once and kept: 64 MiB of them.
const MAX_TABLE_ROWS: u32 = 4096;

/// Errors of the teacher's scores, in units of its temperature, that are nothing beside what sampling candidates does to a loss.
const MAX_ROUNDING: f32 = 0.02;

/// Errors of numbers, relative to their size, that training does not notice in rows: WordNet 384 -> 32 with 1,024 units has .0075, and reached
/// the same validation recall@50 as with bfloat16, .6434 and .6437 beside .6433 and .6443 (two seeds).
const MAX_COARSE: f32 = 0.01;

/// Rows that are packed at a time.
const PACKED_ROWS: usize = 4096;

/// Sizes of a training run.
pub struct Shape {
    /// Training rows.
    pub rows: u32,
    /// Their width, D; the network may take fewer coordinates.
    pub dim: u32,
    /// Steps of an epoch.
    pub steps: u32,
    /// Anchors of a step.
    pub batch: u32,
    /// Candidates of a step; all training rows when equal to `rows`.
    pub candidates: u32,
    /// How far the rows may be rounded for the teacher's scores, see [`Rounding::of_teacher`].
    pub teacher: Rounding,
    /// Whether the network's inputs may be rounded to 8-bit integers for hidden units where candidates are sampled, see [`is_even`].
    pub coarse_inputs: bool,
}

/// How far rows may be rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Not at all.
    None,
    /// To 8 significant bits.
    Significant,
    /// To 8-bit integers; where a device does not multiply these, as above.
    Integers,
}

impl Rounding {
    /// That of `rows [n, dim]` for the teacher's scores at this temperature.
    pub fn of_teacher(rows: &[f32], dim: usize, temperature: f32) -> Self {
        let largest = MAX_ROUNDING * temperature;
        if rounding_error(rows, dim) > largest {
            Self::None
        } else if is_even(rows, dim) && coarse_error(rows, dim) <= largest {
            Self::Integers
        } else {
            Self::Significant
        }
    }
}

/// Whether numbers of the `rows [n, dim]` are of such even sizes that 8-bit integers hold them.
pub fn is_even(rows: &[f32], dim: usize) -> bool {
    coarse_loss(rows, dim) <= MAX_COARSE
}

impl Shape {
    /// Whether every training row is a candidate in every step.
    fn full(&self) -> bool {
        self.candidates == self.rows
    }

    /// Storage of the training rows, of so many numbers each. Where all are candidates, products take them as they are; and
    /// float16 holds all numbers of rows of unit length, but not those of others, which may be beyond its 65,504.
    fn stored(&self, plan: &mut Plan, metric: Metric, name: &'static str, cols: u32) -> Tensor {
        if plan.limits().half_rows && metric.normalizes() && !self.full() && cols.is_multiple_of(2) {
            plan.indices(name, [self.rows, cols / 2])
        } else {
            plan.input(name, [self.rows, cols])
        }
    }

    /// Whether the teacher's scores are computed once.
    fn keeps_teacher(&self, limits: Limits) -> bool {
        let bytes = 4 * u64::from(self.rows) * u64::from(self.rows);
        self.full() && self.rows <= MAX_TABLE_ROWS && bytes <= limits.binding_bytes
    }
}

/// A prefix of the output: its first coordinates, which are compared by themselves.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// Coordinates.
    pub dims: usize,
    /// Factor of its losses.
    pub weight: f32,
    /// At which its scores are compared.
    pub temperatures: Temperatures,
}

/// Temperatures of the two sides, each in units of its own similarities.
#[derive(Clone, Copy, Debug)]
pub struct Temperatures {
    /// Of the teacher, fixed.
    pub teacher: f32,
    /// Of the student; where the configuration has it learnt, at the start.
    pub student: f32,
}

/// The tensors of a training plan that the host writes and reads, and its routines.
pub struct Objective {
    /// Training rows `[rows, dim]`, as the teacher compares them; words of two float16 numbers where the limits say so.
    pub rows: Tensor,
    /// What the network takes for them `[rows, dim_in]`, stored likewise; the rows themselves where it takes these.
    pub inputs: Tensor,
    /// Anchors of an epoch `[steps, batch]`, indices of rows.
    pub anchors: Tensor,
    /// What anchors are made of where they are moved, `[steps, batch x PARTS]`: indices of rows, and weights.
    pub blends: Option<[Tensor; 2]>,
    /// Candidates of an epoch `[steps or 1, candidates]`, indices of rows.
    pub candidates: Tensor,
    /// Rates of an epoch `[steps, 3]`.
    pub schedule: Tensor,
    /// The map.
    pub network: Network,
    /// log(1 / student temperature) `[1, 1]` of each prefix.
    pub log_inverse_temperatures: Vec<Tensor>,
    /// Mean loss of each step `[steps, 1]`.
    pub losses: Tensor,
    /// Dropout of an epoch.
    pub dropout: Dropout,
    /// The teacher's scores of all rows by all rows, where they are kept, and the routine that computes them.
    pub table: Option<(Tensor, Routine)>,
    /// One training step.
    pub step: Routine,
}

/// Rows of a role in a step: as they are, encoded, and the derivative of the loss by the latter.
struct Side {
    rows: Tensor,
    encoded: Encoded,
    gradient: Tensor,
}

/// Scores of a step `[batch, candidates]`; the student's and their gradient are of one prefix after the other.
struct Scores {
    teacher: Tensor,
    student: Tensor,
    gradient: Tensor,
    /// The teacher's neighbours, where there are hard negatives.
    positives: Option<Tensor>,
}

impl Objective {
    /// Records the plan of a training run that starts from a map. The last of the `prefixes`, in ascending order, is the whole
    /// output. Losses take the scores of a step whole, updates a parameter: where the limits do not allow that, [`Plan::check`]
    /// says so.
    ///
    /// # Panics
    /// If the last prefix is not the whole output.
    pub fn record(limits: Limits, shape: &Shape, config: &TrainConfig, start: &Map, prefixes: &[Prefix]) -> (Plan, Self) {
        assert!(prefixes.last().is_some_and(|last| last.dims == start.dim_out), "the last prefix is the whole output");
        let mut plan = Plan::new(limits);
        let lists = if shape.full() { 1 } else { shape.steps };
        let rows = shape.stored(&mut plan, config.metric, "training rows", shape.dim);
        let dim_in = start.dim_in as u32;
        let inputs = if dim_in == shape.dim { rows } else { shape.stored(&mut plan, config.metric, "network inputs", dim_in) };
        let table = shape.keeps_teacher(limits).then(|| {
            let (table, routine) = (plan.state("all teacher scores", [shape.rows, shape.rows]), plan.routine());
            similarities(&mut plan, config.metric, rows, rows, table, matmul);
            (table, routine)
        });
        let this = Self {
            rows,
            inputs,
            anchors: plan.indices("anchors", [shape.steps, shape.batch]),
            blends: (config.noise > 0.0).then(|| {
                let shape = [shape.steps, shape.batch * PARTS as u32];
                [plan.indices("parts of anchors", shape), plan.input("weights of parts", shape)]
            }),
            candidates: plan.indices("candidates", [lists, shape.candidates]),
            schedule: plan.input("schedule", [shape.steps, 3]),
            network: Network::new(&mut plan, start),
            log_inverse_temperatures: prefixes.iter().map(|_| plan.state("log inverse temperature", [1, 1])).collect(),
            losses: plan.state("losses", [shape.steps, 1]),
            dropout: Dropout {
                seeds: plan.indices("dropout seeds", [shape.steps, 1]),
                rate: config.dropout as f32,
                // Losses over all rows have no noise of sampling that would hide it.
                coarse: shape.coarse_inputs && !shape.full(),
            },
            table,
            step: plan.routine(),
        };
        this.record_step(&mut plan, shape, config, start, prefixes);
        (plan, this)
    }

    /// One step: anchors and candidates are encoded, their scores compared with the teacher's, and the parameters updated. A row
    /// that is both anchor and candidate contributes to the derivatives in both roles.
    fn record_step(&self, plan: &mut Plan, shape: &Shape, config: &TrainConfig, start: &Map, prefixes: &[Prefix]) {
        let (anchor_inputs, candidate_inputs) =
            (self.anchors_of(plan, self.inputs), self.candidates_of(plan, shape, self.inputs));
        let anchors = self.side(plan, anchor_inputs, start);
        let candidates = self.side(plan, candidate_inputs, start);
        let scores = self.record_teacher(plan, shape, config, [anchors.rows, candidates.rows]);
        for (prefix, &beta) in prefixes.iter().zip(&self.log_inverse_temperatures).rev() {
            let [a, c] = [&anchors, &candidates].map(|side| self.network.prefix(plan, side.encoded.z, prefix.dims as u32));
            similarities(plan, start.metric, a.output, c.output, scores.student, matmul);
            let loss = self.record_loss(plan, shape, config, prefix, beta, &scores);
            let write = if prefix.dims == start.dim_out { Write::Set } else { Write::Add };
            column_sum(plan, loss, self.losses, 1.0, write);
            let by_outputs = [a.gradient(plan, anchors.gradient), c.gradient(plan, candidates.gradient)];
            similarities_backward(plan, start.metric, [a.output, c.output], scores.gradient, by_outputs);
            a.backward(plan, by_outputs[0], anchors.gradient);
            c.backward(plan, by_outputs[1], candidates.gradient);
        }
        let trainable = self.network.trainable(plan);
        for (side, write) in [(anchors, Write::Set), (candidates, Write::Add)] {
            self.network.backward(plan, side.rows, side.encoded, side.gradient, &trainable, write);
        }
        trainable.update(plan, self.schedule, start);
    }

    /// The anchors' rows of `source`, or what is linear in these, as scores are.
    fn anchors_of(&self, plan: &mut Plan, source: Tensor) -> Tensor {
        let Some([parts, weights]) = self.blends else { return gathered(plan, source, self.anchors) };
        let rows = plan.scratch("moved anchors", [self.anchors.cols(), columns(source)]);
        blend(plan, source, parts, weights, rows);
        rows
    }

    fn candidates_of(&self, plan: &mut Plan, shape: &Shape, source: Tensor) -> Tensor {
        if shape.full() { source } else { gathered(plan, source, self.candidates) }
    }

    fn record_teacher(&self, plan: &mut Plan, shape: &Shape, config: &TrainConfig, inputs: [Tensor; 2]) -> Scores {
        let scores = [shape.batch, shape.candidates];
        let teacher = if let Some((table, _)) = self.table {
            self.anchors_of(plan, table)
        } else {
            let teacher = plan.scratch("teacher scores", scores);
            let [anchors, candidates] = if self.inputs == self.rows {
                inputs
            } else {
                [self.anchors_of(plan, self.rows), self.candidates_of(plan, shape, self.rows)]
            };
            let has_units = plan.limits().matrix_units.is_some();
            let product: Product = match shape.teacher {
                Rounding::None => matmul,
                // float16 holds all numbers of rows of unit length, see `Shape::stored`.
                _ if has_units && config.metric.normalizes() => matmul_halves,
                Rounding::Significant => matmul_rounded,
                Rounding::Integers => matmul_coarse,
            };
            similarities(plan, config.metric, anchors, candidates, teacher, product);
            teacher
        };
        let positives = (config.lambda_hard > 0.0).then(|| self.ranking(plan, teacher, share(shape, config.k)));
        Scores {
            teacher,
            student: plan.scratch("student scores", scores),
            gradient: plan.scratch("score gradient", scores),
            positives,
        }
    }

    /// The columns with the best `count` scores of each anchor, itself not among them.
    fn ranking(&self, plan: &mut Plan, scores: Tensor, count: u32) -> Tensor {
        let shape = [scores.rows(), count];
        let (best_scores, best) = (plan.scratch("best scores", shape), plan.scratch_indices("best columns", shape));
        let columns = top_k::Columns::List(self.candidates);
        top_k::top_k(
            plan,
            scores,
            best_scores,
            best,
            top_k::Config { columns, excluded: Some(self.anchors), carry_from: u32::MAX },
        );
        best
    }

    /// The sum of a prefix's losses `[batch, 1]`, and the update of its temperature.
    fn record_loss(
        &self,
        plan: &mut Plan,
        shape: &Shape,
        config: &TrainConfig,
        prefix: &Prefix,
        beta: Tensor,
        scores: &Scores,
    ) -> Tensor {
        let Scores { teacher, student, gradient, positives } = *scores;
        let [loss, temperature_gradient] = ["loss", "temperature gradient"].map(|name| plan.scratch(name, [shape.batch, 1]));
        let outputs = ListLoss { gradient, loss, temperature_gradient };
        let teacher_inverse_temperature = 1.0 / prefix.temperatures.teacher;
        let weight = |lambda: f64| prefix.weight * lambda as f32 / shape.batch as f32;
        let list = listwise_kl::Config { teacher_inverse_temperature, weight: weight(config.lambda_list) };
        listwise_kl(plan, teacher, student, beta, self.anchors, self.candidates, outputs, list);
        if let Some(positives) = positives {
            let negatives = config.hard_neg_per_anchor as u32;
            // Whichever the positives are, so many places hold all negatives that are needed.
            let enough = (positives.cols() + negatives).min(shape.candidates).min(MAX_K as u32);
            let length = config.hard_neg_l.map_or(enough, |l| share(shape, l).min(enough));
            let ranking = self.ranking(plan, student, length);
            let weight = weight(config.lambda_hard);
            let hard = hard_negative::Config { positives, ranking, negatives, teacher_inverse_temperature, weight };
            hard_negative(plan, teacher, student, beta, outputs, hard);
        }
        if config.student_tau == StudentTau::Learnt {
            let temperature = Parameter::new(plan, beta);
            column_sum(plan, temperature_gradient, temperature.gradient, 1.0, Write::Set);
            adamw(plan, self.schedule, temperature, 1.0, 0.0);
        }
        loss
    }

    fn side(&self, plan: &mut Plan, rows: Tensor, start: &Map) -> Side {
        let shape = [rows.rows(), start.dim_out as u32];
        let z = plan.scratch("z", shape);
        Side { rows, encoded: self.network.forward(plan, rows, z, Some(self.dropout)), gradient: plan.scratch("dL/dz", shape) }
    }
}

/// Writes the content of [`Objective::rows`] or [`Objective::inputs`], in the form in which it is stored.
///
/// # Errors
/// As [`Program::write_rows`].
pub fn write_rows(program: &mut dyn Program, tensor: Tensor, rows: &[f32]) -> Result<()> {
    match tensor.dtype {
        DType::F32 => program.write(tensor, rows),
        DType::U32 => {
            let row_len = columns(tensor) as usize;
            for (i, rows) in rows.chunks(PACKED_ROWS * row_len).enumerate() {
                program.write_rows(tensor, (i * PACKED_ROWS) as u32, Data::U32(&float16::pack(rows)))?;
            }
            Ok(())
        }
    }
}

/// How many of an anchor's first `count` rows a sample of the training rows holds, and one at least.
fn share(shape: &Shape, count: usize) -> u32 {
    let share = count as f64 * f64::from(shape.candidates) / f64::from(shape.rows);
    (share.round() as u32).clamp(1, shape.candidates)
}

fn gathered(plan: &mut Plan, source: Tensor, table: Tensor) -> Tensor {
    let rows = plan.scratch("gathered rows", [table.cols(), columns(source)]);
    gather(plan, source, table, rows);
    rows
}
