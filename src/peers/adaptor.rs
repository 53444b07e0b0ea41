//! Matryoshka-Adaptor, unsupervised (EMNLP 2024, arXiv 2407.20243): a residual network x + C gelu(A x + a) + b whose first d'
//! coordinates are kept and searched by cosine.
//!
//! Three losses with weights 1, as the paper has them (its equations 1 to 4): absolute error of the cosine over all pairs of a
//! batch; the same over each row's 10 nearest neighbours; absolute size of what is added to x. Each is a mean: over pairs, and
//! over rows and all D coordinates. No code was released; the settings are those of reimplementations: Adam at 1e-3, batches of
//! 128, up to 5,000 steps, the best on validation, ending after 500 steps without a better one.
//!
//! The paper sums the first two losses over several d'; here there is one, the d' at hand, so that nothing is given up for
//! others. Coordinates beyond it then have no loss but the third, which holds them at x: they are not computed. GELU is in place
//! of ReLU. The hidden layer has D units, but no more than 2^19 / D: 384 for 384, 128 for 4096, where D would cost 32 times as much
//! (Debian 5,000 x 4096 -> 64: recall@50 on validation .479 with 128 units, .496 with 256, at step 4,900 and 5,000).
//!
//! It was made for embeddings whose first coordinates say most. Where they do not, its losses hold it back, whatever its rate and
//! its start: over 4,000 rows of WordNet and d' = 32, the first two sum to .242 for the first coordinates as they are and to .252
//! or more for PCA, centred or not, tempered or not, which keeps twice as many neighbours. They ask for the size of cosines, not
//! for their order.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::descent::{Anchors, CHUNK, Descent, Student, Task, descend};
use super::layer::{Layer, Weights};
use super::{Fitted, Peers};
use crate::backend::Program;
use crate::baselines::truncation;
use crate::error::Result;
use crate::metric::Metric;
use crate::model::{Hidden, Map};
use crate::op::Write;
use crate::ops::gather::gather;
use crate::ops::gather_sum::{gather_sum, inverse};
use crate::ops::lp_loss::{self, Power, lp_loss};
use crate::ops::matmul::{Layout, matmul};
use crate::ops::multiply::multiply;
use crate::ops::normalize::normalize;
use crate::ops::normalize_backward::normalize_backward;
use crate::plan::Plan;
use crate::tensor::Tensor;

const BATCH: usize = 128;
const NEIGHBOURS: usize = 10;
const STEPS: u32 = 5000;
const PATIENCE: u32 = 500;
const VALIDATE_EVERY: u32 = 100;
const RATE: f64 = 1e-3;
/// Most weights of the hidden layer, A.
const MAX_WEIGHTS: usize = 1 << 19;
/// Size of C at the start, beside PyTorch's: the network starts close to the identity.
const LAST_LAYER: f32 = 0.01;

struct Adaptor<'a> {
    peers: &'a Peers<'a>,
    anchors: Anchors,
    tensors: Tensors,
    start: [Weights; 2],
}

struct Tensors {
    /// Training rows `[n, dim]`, and their first d' coordinates.
    rows: Tensor,
    prefixes: Tensor,
    /// The teacher's cosines of the neighbours `[n, k]`.
    cosines: Tensor,
    /// Anchors `[CHUNK, batch]`.
    anchors: Tensor,
    /// Anchors, then the neighbours of each `[CHUNK, batch + batch x k]`.
    table: Tensor,
    /// Where the neighbours are in a row of the table, and the inverse of that.
    neighbours: Tensor,
    offsets: Tensor,
    positions: Tensor,
    /// A seed of dropout, of which there is none.
    no_seed: Tensor,
    first: Layer,
    last: Layer,
}

pub(super) fn fit(peers: &Peers<'_>, dim_out: usize, seed: u64) -> Result<Fitted> {
    let descent = Descent { steps: STEPS, rate: &|_| RATE, validate_every: VALIDATE_EVERY, patience: PATIENCE };
    let best = descend(peers, task(peers, dim_out, seed, BATCH), &descent)?;
    let width = best.map.hidden_width();
    let description = format!("{width} units, step {} of up to {STEPS}, cosine", best.step);
    Ok(Fitted { map: best.map, description, recall: best.recall })
}

fn task<'a>(peers: &'a Peers<'a>, dim_out: usize, seed: u64, batch: usize) -> Task<Adaptor<'a>> {
    let (count, dim) = (peers.count(), peers.dim());
    let (batch, k) = (batch.min(count), NEIGHBOURS.min(peers.neighbours.k));
    let width = dim.min(MAX_WEIGHTS / dim).max(1);
    let mut plan = Plan::new(peers.corpus.backend.limits());
    let schedule = plan.input("schedule", [CHUNK, 3]);
    let tensors = Tensors::new(&mut plan, [count, dim, dim_out, width], [batch, k]);
    let step = plan.routine();
    tensors.record(&mut plan, [batch as u32, k as u32]);
    for layer in [tensors.first, tensors.last] {
        layer.update(&mut plan, schedule, 0.0);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut start = [Weights::uniform(dim, width, &mut rng), Weights::uniform(width, dim_out, &mut rng)];
    let Weights { weight, bias } = &mut start[1];
    weight.iter_mut().chain(bias).for_each(|x| *x *= LAST_LAYER);
    Task { plan, step, schedule, student: Adaptor { peers, anchors: Anchors::new(count, seed), tensors, start } }
}

impl Tensors {
    fn new(plan: &mut Plan, [count, dim, dim_out, width]: [usize; 4], [batch, k]: [usize; 2]) -> Self {
        let [n, d, b, listed] = [count, dim, batch, batch * k].map(|x| x as u32);
        Self {
            rows: plan.input("rows", [n, d]),
            prefixes: plan.input("prefixes", [n, dim_out as u32]),
            cosines: plan.input("cosines", [n, k as u32]),
            anchors: plan.indices("anchors", [CHUNK, b]),
            table: plan.indices("table", [CHUNK, b + listed]),
            neighbours: plan.indices("neighbours", [1, listed]),
            offsets: plan.indices("offsets", [1, b + listed + 1]),
            positions: plan.indices("positions", [1, listed]),
            no_seed: plan.indices("no seed", [1, 1]),
            first: Layer::new(plan, dim, width),
            last: Layer::new(plan, width, dim_out),
        }
    }

    /// A step up to the derivatives, with anchors and their neighbours encoded together.
    fn record(&self, plan: &mut Plan, [batch, k]: [u32; 2]) {
        let (count, dim, dim_out) = (self.table.cols(), self.rows.cols(), self.prefixes.cols());
        let x = plan.scratch("batch rows", [count, dim]);
        let base = plan.scratch("batch prefixes", [count, dim_out]);
        let z = plan.scratch("adapted", [count, dim_out]);
        let unit = plan.scratch("adapted, of unit length", [count, dim_out]);
        let inverse_norm = plan.scratch("1 / |z|", [count, 1]);
        let width = [count, self.first.dim_out()];
        let (slopes, units) = (plan.scratch("slopes", width), plan.scratch("units", width));
        gather(plan, self.rows, self.table, x);
        gather(plan, self.prefixes, self.table, base);
        gather(plan, self.prefixes, self.table, z);
        self.first.activate(plan, self.no_seed, x, slopes, units);
        self.last.forward(plan, units, z, Write::Add);
        normalize(plan, z, unit, inverse_norm);

        let gradient = plan.scratch("gradient of adapted", [count, dim_out]);
        self.record_neighbours(plan, unit, gradient, [batch, k]);
        record_pairs(plan, x.first_rows(batch), unit.first_rows(batch), gradient.first_rows(batch));
        normalize_backward(plan, unit, inverse_norm, gradient);
        let mean = 1.0 / (count as f32 * dim as f32);
        absolute_error(plan, [z, base], gradient, mean, Write::Add);

        self.last.backward(plan, units, gradient, Write::Set);
        let upstream = plan.scratch("gradient of units", width);
        self.last.backward_input(plan, gradient, upstream);
        multiply(plan, slopes, upstream);
        self.first.backward(plan, x, upstream, Write::Set);
    }

    /// The error of each anchor's cosines with its neighbours; sets the gradient of all rows.
    fn record_neighbours(&self, plan: &mut Plan, unit: Tensor, gradient: Tensor, [batch, k]: [u32; 2]) {
        let dim_out = unit.cols();
        let (one, list, pairs) = ([batch, 1, dim_out], [batch, k, dim_out], [batch, 1, k]);
        let candidates = plan.scratch("neighbours adapted", [batch * k, dim_out]);
        let teacher = plan.scratch("cosines of neighbours", [batch, k]);
        let scores = plan.scratch("scores of neighbours", [batch, k]);
        let score_gradient = plan.scratch("score gradient", [batch, k]);
        let candidate_gradient = plan.scratch("gradient of neighbours", [batch * k, dim_out]);
        let anchors = unit.first_rows(batch).reshaped(one);
        gather(plan, unit, self.neighbours, candidates);
        gather(plan, self.cosines, self.anchors, teacher);
        matmul(plan, Layout::NT, anchors, candidates.reshaped(list), scores.reshaped(pairs), Write::Set);
        absolute_error(plan, [scores, teacher], score_gradient, 1.0 / (batch * k) as f32, Write::Set);
        let score_gradient = score_gradient.reshaped(pairs);
        matmul(plan, Layout::TN, score_gradient, anchors, candidate_gradient.reshaped(list), Write::Set);
        gather_sum(plan, candidate_gradient, self.offsets, self.positions, gradient, Write::Set);
        let anchor_gradient = gradient.first_rows(batch).reshaped(one);
        matmul(plan, Layout::NN, score_gradient, candidates.reshaped(list), anchor_gradient, Write::Add);
    }
}

/// The error of the cosines between all anchors; adds to their gradient.
fn record_pairs(plan: &mut Plan, rows: Tensor, unit: Tensor, gradient: Tensor) {
    let pairs = [rows.rows(), rows.rows()];
    let teacher = plan.scratch("cosines of pairs", pairs);
    let scores = plan.scratch("scores of pairs", pairs);
    let score_gradient = plan.scratch("gradient of pairs", pairs);
    matmul(plan, Layout::NT, rows, rows, teacher, Write::Set);
    matmul(plan, Layout::NT, unit, unit, scores, Write::Set);
    let mean = 1.0 / (rows.rows() * rows.rows()) as f32;
    absolute_error(plan, [scores, teacher], score_gradient, mean, Write::Set);
    matmul(plan, Layout::NN, score_gradient, unit, gradient, Write::Add);
    matmul(plan, Layout::TN, score_gradient, unit, gradient, Write::Add);
}

fn absolute_error(plan: &mut Plan, [prediction, target]: [Tensor; 2], gradient: Tensor, weight: f32, write: Write) {
    let loss = plan.scratch("loss", [prediction.rows(), 1]);
    lp_loss(plan, prediction, target, gradient, loss, lp_loss::Config { power: Power::One, weight, write });
}

impl Student for Adaptor<'_> {
    fn write(&self, program: &mut dyn Program) -> Result<()> {
        let (found, tensors) = (&self.peers.neighbours, &self.tensors);
        let (k, dim_out) = (tensors.cosines.cols() as usize, tensors.prefixes.cols() as usize);
        let prefixes: Vec<f32> = self.peers.rows.chunks(self.peers.dim()).flat_map(|row| &row[..dim_out]).copied().collect();
        let cosines: Vec<f32> = found.scores.chunks(found.k).flat_map(|row| &row[..k]).copied().collect();
        let (batch, count) = (tensors.anchors.cols(), tensors.table.cols());
        let neighbours: Vec<u32> = (batch..count).collect();
        let (mut offsets, mut positions) = (Vec::new(), Vec::new());
        inverse(&neighbours, count as usize, &mut offsets, &mut positions);
        program.write(tensors.rows, &self.peers.rows[..])?;
        program.write(tensors.prefixes, &prefixes[..])?;
        program.write(tensors.cosines, &cosines[..])?;
        program.write(tensors.neighbours, &neighbours[..])?;
        program.write(tensors.offsets, &offsets[..])?;
        program.write(tensors.positions, &positions[..])?;
        tensors.first.write(program, &self.start[0])?;
        tensors.last.write(program, &self.start[1])
    }

    fn feed(&mut self, program: &mut dyn Program, steps: u32) -> Result<()> {
        let (batch, k) = (self.tensors.anchors.cols() as usize, self.tensors.cosines.cols() as usize);
        let found = &self.peers.neighbours;
        let anchors = self.anchors.draw(steps as usize * batch);
        let mut table = Vec::with_capacity(anchors.len() * (k + 1));
        for anchors in anchors.chunks(batch) {
            table.extend_from_slice(anchors);
            table.extend(anchors.iter().flat_map(|row| &found.ids[*row as usize * found.k..][..k]));
        }
        program.write_rows(self.tensors.anchors, 0, anchors[..].into())?;
        program.write_rows(self.tensors.table, 0, table[..].into())
    }

    fn map(&self, program: &mut dyn Program) -> Result<Map> {
        let Weights { weight, bias: hidden_bias } = self.tensors.first.read(program)?;
        let Weights { weight: output, bias } = self.tensors.last.read(program)?;
        let hidden = Some(Hidden { weight, bias: hidden_bias, output });
        Ok(Map { bias, hidden, ..truncation(Metric::Cosine, self.peers.dim(), self.tensors.prefixes.cols() as usize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::check::{differentiate, with_peers};

    #[test]
    fn a_step_takes_the_gradient_of_its_loss() {
        with_peers(|peers| differentiate(task(peers, 3, 1, 5)));
    }
}
