//! ConAE and HAKES: linear maps trained by the divergence between softmaxes over each row's nearest neighbours, at temperature 1,
//! searched by inner product.
//!
//! Both distil cosines of unit rows here. On those, a softmax at temperature 1 is almost flat: to second order the loss is the
//! variance of the error of the similarity among near neighbours.
//!
//! **HAKES** (PVLDB 18(9), 2025, arXiv 2505.12524): each row against the 50 nearest of all rows, itself among them, as in the
//! authors' code (`get_nn`, `HakesIndex.forward`). It starts from an orthonormal projection that OPQ finds on the rows as they
//! are; without codes to fit, that is the one onto their uncentred principal axes. b starts at 0. AdamW with decay 0.999, batches
//! of 512, the rate rising over a tenth of the steps and falling to 0; the peak is chosen among 1e-5, 1e-4 and 1e-3 on
//! validation. Their index is built in one epoch of 65,536 rows, 128 steps; fewer rows would leave fewer steps, 32 of 16,000
//! rows, so that this takes the ten epochs that their `train_hakes_params` defaults to, and the best of them on validation. Left
//! out: the same divergence for quantised rows, as nothing is quantised here, and that only queries take the trained map.
//!
//! **ConAE** (EMNLP 2022, arXiv 2205.03284): each query against its 100 nearest documents; Adam at 1e-3, batches of 128, ten
//! epochs, PyTorch's first weights; the epoch is chosen on validation. Rows are both queries and documents here, and share one
//! map. Left out: the two margin terms, which need labelled answers; the authors' training script leaves them out as well
//! (`only_kl=True`).

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::descent::{Anchors, Best, CHUNK, Descent, Student, Task, descend};
use super::layer::{Layer, Weights};
use super::{Fitted, Peers};
use crate::backend::Program;
use crate::error::Result;
use crate::metric::Metric;
use crate::model::Map;
use crate::op::Write;
use crate::ops::ListLoss;
use crate::ops::gather::gather;
use crate::ops::gather_sum::{gather_sum, inverse};
use crate::ops::listwise_kl::{self, listwise_kl};
use crate::ops::matmul::{Layout, matmul};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// How a peer distils.
pub(super) struct Preset {
    /// Neighbours that a row is ranked against.
    list: usize,
    /// Whether the row itself is the first of them.
    itself: bool,
    batch: usize,
    epochs: u32,
    /// Peak learning rates, of which validation chooses.
    rates: &'static [f64],
    schedule: Schedule,
    weight_decay: f32,
    start: Start,
}

/// How the learning rate changes.
#[derive(Clone, Copy, PartialEq)]
enum Schedule {
    Constant,
    /// Up over the first tenth of the steps, down to 0 over the rest.
    WarmUp,
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    Uniform,
    PrincipalAxes,
}

/// The longest list of a preset.
pub(super) const LONGEST_LIST: usize = 100;

pub(super) const CONAE: Preset = Preset {
    list: LONGEST_LIST,
    itself: false,
    batch: 128,
    epochs: 10,
    rates: &[1e-3],
    schedule: Schedule::Constant,
    weight_decay: 0.0,
    start: Start::Uniform,
};

pub(super) const HAKES: Preset = Preset {
    list: 50,
    itself: true,
    batch: 512,
    epochs: 10,
    rates: &[1e-5, 1e-4, 1e-3],
    schedule: Schedule::WarmUp,
    weight_decay: 0.999,
    start: Start::PrincipalAxes,
};

impl Schedule {
    /// Factor on the peak rate.
    fn factor(self, step: u32, steps: u32) -> f64 {
        let warm_up = steps / 10;
        match self {
            Self::Constant => 1.0,
            Self::WarmUp if step < warm_up => f64::from(step) / f64::from(warm_up),
            Self::WarmUp => f64::from(steps - step) / f64::from(steps - warm_up),
        }
    }
}

pub(super) fn fit(peers: &Peers<'_>, dim_out: usize, seed: u64, preset: &Preset) -> Result<Fitted> {
    let lists = Lists::new(peers, preset);
    let batch = preset.batch.min(peers.count());
    let per_epoch = peers.count().div_ceil(batch) as u32;
    let steps = preset.epochs * per_epoch;
    let mut best: Option<(Best, f64)> = None;
    for &peak in preset.rates {
        let rate = |step| peak * preset.schedule.factor(step, steps);
        let descent = Descent { steps, rate: &rate, validate_every: per_epoch, patience: steps };
        let found = descend(peers, task(peers, dim_out, seed, preset, &lists), &descent)?;
        if best.as_ref().is_none_or(|(best, _)| found.recall > best.recall) {
            best = Some((found, peak));
        }
    }
    let (Best { map, recall, step }, peak) = best.expect("a preset has rates");
    let description = format!("rate {peak:e}, epoch {} of {}, dot", step / per_epoch, preset.epochs);
    Ok(Fitted { map, description, recall })
}

/// What every row is ranked against.
struct Lists {
    length: usize,
    /// Rows `[n, length]`.
    ids: Vec<u32>,
    /// Their cosines `[n, length]`.
    scores: Vec<f32>,
}

impl Lists {
    fn new(peers: &Peers<'_>, preset: &Preset) -> Self {
        let found = &peers.neighbours;
        let itself = usize::from(preset.itself);
        let others = (preset.list - itself).min(found.k);
        let mut lists = Self { length: others + itself, ids: Vec::new(), scores: Vec::new() };
        for (row, (ids, scores)) in (0..).zip(found.ids.chunks(found.k).zip(found.scores.chunks(found.k))) {
            lists.ids.extend(Some(row).filter(|_| preset.itself).iter().chain(&ids[..others]));
            lists.scores.extend(Some(1.0).filter(|_| preset.itself).iter().chain(&scores[..others]));
        }
        lists
    }
}

/// A linear map in training.
struct Distillation<'a> {
    peers: &'a Peers<'a>,
    lists: &'a Lists,
    anchors: Anchors,
    tables: Tables,
    layer: Layer,
    start: Weights,
}

/// What steps read beside the parameters.
struct Tables {
    /// Training rows `[n, dim]`.
    rows: Tensor,
    /// Cosines of their lists `[n, length]`.
    cosines: Tensor,
    /// Anchors `[CHUNK, batch]`.
    anchors: Tensor,
    /// The rows of their lists `[CHUNK, batch x length]`, and the inverse of that.
    candidates: Tensor,
    offsets: Tensor,
    positions: Tensor,
    /// Anchors as the loss knows them `[1, batch]`: none is an item of its own list.
    nobody: Tensor,
}

fn task<'a>(peers: &'a Peers<'a>, dim_out: usize, seed: u64, preset: &Preset, lists: &'a Lists) -> Task<Distillation<'a>> {
    let (count, dim) = (peers.count() as u32, peers.dim() as u32);
    let (batch, length) = (preset.batch.min(peers.count()) as u32, lists.length as u32);
    let mut plan = Plan::new(peers.corpus.backend.limits());
    let schedule = plan.input("schedule", [CHUNK, 3]);
    let tables = Tables {
        rows: plan.input("rows", [count, dim]),
        cosines: plan.input("cosines", [count, length]),
        anchors: plan.indices("anchors", [CHUNK, batch]),
        candidates: plan.indices("candidates", [CHUNK, batch * length]),
        offsets: plan.indices("offsets", [CHUNK, count + 1]),
        positions: plan.indices("positions", [CHUNK, batch * length]),
        nobody: plan.indices("nobody", [1, batch]),
    };
    let layer = Layer::new(&mut plan, peers.dim(), dim_out);
    let step = plan.routine();
    record(&mut plan, &tables, layer);
    layer.update(&mut plan, schedule, preset.weight_decay);
    let start = match preset.start {
        Start::Uniform => Weights::uniform(peers.dim(), dim_out, &mut ChaCha8Rng::seed_from_u64(seed)),
        Start::PrincipalAxes => {
            let Map { weight, bias, .. } = peers.corpus.spectra.projection(dim_out).expect("the teacher is cosine");
            Weights { weight, bias }
        }
    };
    let student = Distillation { peers, lists, anchors: Anchors::new(peers.count(), seed), tables, layer, start };
    Task { plan, step, schedule, student }
}

/// Records a step up to the derivatives: every row is encoded once, however many lists it is in.
fn record(plan: &mut Plan, tables: &Tables, layer: Layer) {
    let (rows, batch, length, dim_out) = (tables.rows, tables.anchors.cols(), tables.cosines.cols(), layer.dim_out());
    let anchor_rows = plan.scratch("anchor rows", [batch, rows.cols()]);
    let anchors = plan.scratch("anchors encoded", [batch, dim_out]);
    let encoded = plan.scratch("encoded", [rows.rows(), dim_out]);
    let candidates = plan.scratch("candidates encoded", [batch * length, dim_out]);
    gather(plan, rows, tables.anchors, anchor_rows);
    layer.forward(plan, anchor_rows, anchors, Write::Set);
    layer.forward(plan, rows, encoded, Write::Set);
    gather(plan, encoded, tables.candidates, candidates);

    // A product for each anchor, of one row with its own list.
    let (one, list) = ([batch, 1, dim_out], [batch, length, dim_out]);
    let cosines = plan.scratch("cosines of the lists", [batch, length]);
    let scores = plan.scratch("scores", [batch, length]);
    gather(plan, tables.cosines, tables.anchors, cosines);
    matmul(plan, Layout::NT, anchors.reshaped(one), candidates.reshaped(list), scores.reshaped([batch, 1, length]), Write::Set);
    let loss = ListLoss {
        gradient: plan.scratch("score gradient", [batch, length]),
        loss: plan.scratch("loss", [batch, 1]),
        temperature_gradient: plan.scratch("temperature gradient", [batch, 1]),
    };
    // Inputs that nobody writes are zeros: the student's temperature is 1 too, and every column takes part.
    let (log_inverse_temperature, all) = (plan.input("log 1", [1, 1]), plan.indices("all", [1, length]));
    let config = listwise_kl::Config { teacher_inverse_temperature: 1.0, weight: 1.0 / batch as f32 };
    listwise_kl(plan, cosines, scores, log_inverse_temperature, tables.nobody, all, loss, config);

    let gradient = loss.gradient.reshaped([batch, 1, length]);
    let anchor_gradient = plan.scratch("anchor gradient", [batch, dim_out]);
    let candidate_gradient = plan.scratch("candidate gradient", [batch * length, dim_out]);
    let row_gradient = plan.scratch("row gradient", [rows.rows(), dim_out]);
    matmul(plan, Layout::NN, gradient, candidates.reshaped(list), anchor_gradient.reshaped(one), Write::Set);
    matmul(plan, Layout::TN, gradient, anchors.reshaped(one), candidate_gradient.reshaped(list), Write::Set);
    gather_sum(plan, candidate_gradient, tables.offsets, tables.positions, row_gradient, Write::Set);
    layer.backward(plan, rows, row_gradient, Write::Set);
    layer.backward(plan, anchor_rows, anchor_gradient, Write::Add);
}

impl Student for Distillation<'_> {
    fn write(&self, program: &mut dyn Program) -> Result<()> {
        program.write(self.tables.rows, &self.peers.rows[..])?;
        program.write(self.tables.cosines, &self.lists.scores[..])?;
        program.write(self.tables.nobody, &vec![u32::MAX; self.tables.nobody.shape.len()][..])?;
        self.layer.write(program, &self.start)
    }

    fn feed(&mut self, program: &mut dyn Program, steps: u32) -> Result<()> {
        let Lists { length, ids, .. } = self.lists;
        let batch = self.tables.anchors.cols() as usize;
        let count = ids.len() / length;
        let anchors = self.anchors.draw(steps as usize * batch);
        let (mut candidates, mut offsets, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for anchors in anchors.chunks(batch) {
            let first = candidates.len();
            anchors.iter().for_each(|row| candidates.extend_from_slice(&ids[*row as usize * length..][..*length]));
            inverse(&candidates[first..], count, &mut offsets, &mut positions);
        }
        let tables = &self.tables;
        let content = [&anchors, &candidates, &offsets, &positions];
        for (tensor, values) in [tables.anchors, tables.candidates, tables.offsets, tables.positions].into_iter().zip(content) {
            program.write_rows(tensor, 0, values[..].into())?;
        }
        Ok(())
    }

    fn map(&self, program: &mut dyn Program) -> Result<Map> {
        self.layer.map(program, Metric::Dot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::check::{differentiate, with_peers};

    #[test]
    fn a_step_takes_the_gradient_of_its_loss() {
        for preset in [HAKES, CONAE] {
            let preset = Preset { list: 4, batch: 5, ..preset };
            with_peers(|peers| differentiate(task(peers, 3, 1, &preset, &Lists::new(peers, &preset))));
        }
    }

    #[test]
    fn lists_are_the_nearest_rows_with_the_row_itself_where_it_belongs() {
        with_peers(|peers| {
            let found = &peers.neighbours;
            let nearest = |row: usize| found.ids[row * found.k..][..3].to_vec();
            let lists = Lists::new(peers, &Preset { list: 3, ..CONAE });
            assert_eq!(lists.ids[3 * 7..][..3], nearest(7));
            let lists = Lists::new(peers, &Preset { list: 4, ..HAKES });
            assert_eq!(lists.ids[4 * 7..][..4], [vec![7], nearest(7)].concat());
            assert_eq!(lists.scores[4 * 7..][..4], [vec![1.0], found.scores[7 * found.k..][..3].to_vec()].concat());
        });
    }

    #[test]
    fn the_rate_of_hakes_rises_for_a_tenth_and_falls_to_nothing() {
        let factor = |step| Schedule::WarmUp.factor(step, 100);
        assert_eq!([0, 5, 10, 55, 99].map(factor), [0.0, 0.5, 1.0, 0.5, 1.0 / 90.0]);
        assert_eq!(Schedule::WarmUp.factor(0, 3), 1.0, "no steps to warm up");
    }
}
