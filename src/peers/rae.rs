//! RAE (KDD 2026, arXiv 2509.25839): a linear autoencoder with weight decay, of which the encoder is kept and searched by cosine.
//!
//! The mean over rows of |W' (W x + b) + b' - x|^2, and a penalty on weights. As in the authors' code: biases, PyTorch's first
//! weights, Adam with `weight_decay`, which adds the penalty times the weights to the gradient of both layers; 3,000 steps of 128
//! rows, the rate falling along a cosine from 1e-3 to 1e-5 (there by epochs, here by steps). The last step is kept.
//!
//! The published penalty of 2e-5 can be read in two ways, and validation chooses: as it stands in equation 7 of the paper, and D
//! times as large, as the code divides the first term by D. On unit rows of 4,096 dimensions the latter outweighs what most
//! components explain: weights go to zero, and recall to that of chance. The code leaves rows as they are, with larger numbers.
//!
//! 3,000 steps are few here. WordNet 5,000 -> 32: recall@50 on validation .466, and .527 after ten times as many.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::descent::{Anchors, CHUNK, Descent, Student, Task, descend};
use super::layer::{Layer, Weights};
use super::{Fitted, Peers};
use crate::backend::Program;
use crate::error::Result;
use crate::metric::Metric;
use crate::model::Map;
use crate::op::Write;
use crate::ops::gather::gather;
use crate::ops::lp_loss::{self, Power, lp_loss};
use crate::plan::Plan;
use crate::tensor::Tensor;

const BATCH: usize = 128;
const STEPS: u32 = 3000;
const FIRST_RATE: f64 = 1e-3;
const LAST_RATE: f64 = 1e-5;
const PENALTY: f32 = 2e-5;

struct Autoencoder<'a> {
    peers: &'a Peers<'a>,
    anchors: Anchors,
    rows: Tensor,
    table: Tensor,
    encoder: Layer,
    decoder: Layer,
    start: [Weights; 2],
}

pub(super) fn fit(peers: &Peers<'_>, dim_out: usize, seed: u64) -> Result<Fitted> {
    let descent = Descent { steps: STEPS, rate: &rate, validate_every: STEPS, patience: STEPS };
    let fit = |penalty| descend(peers, task(peers, dim_out, seed, penalty), &descent);
    let (plain, scaled) = (fit(PENALTY)?, fit(PENALTY * peers.dim() as f32)?);
    let (best, reading) = if plain.recall >= scaled.recall { (plain, "") } else { (scaled, " x D") };
    Ok(Fitted { map: best.map, description: format!("penalty {PENALTY:e}{reading}, cosine"), recall: best.recall })
}

fn task<'a>(peers: &'a Peers<'a>, dim_out: usize, seed: u64, penalty: f32) -> Task<Autoencoder<'a>> {
    let (count, dim) = (peers.count(), peers.dim());
    let batch = BATCH.min(count);
    let mut plan = Plan::new(peers.corpus.backend.limits());
    let schedule = plan.input("schedule", [CHUNK, 3]);
    let rows = plan.input("rows", [count as u32, dim as u32]);
    let table = plan.indices("anchors", [CHUNK, batch as u32]);
    let (encoder, decoder) = (Layer::new(&mut plan, dim, dim_out), Layer::new(&mut plan, dim_out, dim));
    let step = plan.routine();
    let [wide, narrow] = [dim, dim_out].map(|cols| [batch as u32, cols as u32]);
    let (x, y) = (plan.scratch("batch rows", wide), plan.scratch("decoded", wide));
    let z = plan.scratch("encoded", narrow);
    gather(&mut plan, rows, table, x);
    encoder.forward(&mut plan, x, z, Write::Set);
    decoder.forward(&mut plan, z, y, Write::Set);
    let (gradient, upstream) = (plan.scratch("gradient of decoded", wide), plan.scratch("gradient of encoded", narrow));
    let loss = plan.scratch("loss", [batch as u32, 1]);
    let mean = 1.0 / batch as f32;
    lp_loss(&mut plan, y, x, gradient, loss, lp_loss::Config { power: Power::Two, weight: mean, write: Write::Set });
    decoder.backward(&mut plan, z, gradient, Write::Set);
    decoder.backward_input(&mut plan, gradient, upstream);
    encoder.backward(&mut plan, x, upstream, Write::Set);
    for layer in [encoder, decoder] {
        layer.penalise(&mut plan, penalty);
        layer.update(&mut plan, schedule, 0.0);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start = [Weights::uniform(dim, dim_out, &mut rng), Weights::uniform(dim_out, dim, &mut rng)];
    let student = Autoencoder { peers, anchors: Anchors::new(count, seed), rows, table, encoder, decoder, start };
    Task { plan, step, schedule, student }
}

fn rate(step: u32) -> f64 {
    let progress = f64::from(step) / f64::from(STEPS);
    LAST_RATE + (FIRST_RATE - LAST_RATE) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
}

impl Student for Autoencoder<'_> {
    fn write(&self, program: &mut dyn Program) -> Result<()> {
        program.write(self.rows, &self.peers.rows[..])?;
        self.encoder.write(program, &self.start[0])?;
        self.decoder.write(program, &self.start[1])
    }

    fn feed(&mut self, program: &mut dyn Program, steps: u32) -> Result<()> {
        let anchors = self.anchors.draw((steps * self.table.cols()) as usize);
        program.write_rows(self.table, 0, anchors[..].into())
    }

    fn map(&self, program: &mut dyn Program) -> Result<Map> {
        self.encoder.map(program, Metric::Cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::check::{differentiate, with_peers};

    #[test]
    fn a_step_takes_the_gradient_of_its_loss() {
        with_peers(|peers| differentiate(task(peers, 3, 1, 0.1)));
    }
}
