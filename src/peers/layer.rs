//! A linear layer as its authors' frameworks have it, with absolute learning rates.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::backend::Program;
use crate::error::Result;
use crate::metric::Metric;
use crate::model::Map;
use crate::op::Write;
use crate::ops::adamw::{Parameter, adamw};
use crate::ops::add_bias::add_bias;
use crate::ops::column_sum::column_sum;
use crate::ops::gelu::gelu;
use crate::ops::lp_loss::{self, Power, lp_loss};
use crate::ops::matmul::{Layout, matmul};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// y = W x + b with gradients and moments: W `[dim_out, dim_in]`, b `[1, dim_out]`.
#[derive(Clone, Copy)]
pub(super) struct Layer {
    weight: Parameter,
    bias: Parameter,
}

/// The numbers of a layer.
pub(super) struct Weights {
    /// W `[dim_out, dim_in]`.
    pub(super) weight: Vec<f32>,
    /// b `[dim_out]`.
    pub(super) bias: Vec<f32>,
}

impl Weights {
    /// Uniform up to 1 / sqrt(dim_in) in size, as PyTorch starts a linear layer.
    pub(super) fn uniform(dim_in: usize, dim_out: usize, rng: &mut ChaCha8Rng) -> Self {
        let bound = 1.0 / (dim_in as f32).sqrt();
        let mut draw = |count: usize| (0..count).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)).collect();
        Self { weight: draw(dim_in * dim_out), bias: draw(dim_out) }
    }
}

impl Layer {
    pub(super) fn new(plan: &mut Plan, dim_in: usize, dim_out: usize) -> Self {
        let weight = plan.state("weight", [dim_out as u32, dim_in as u32]);
        let bias = plan.state("bias", [1, dim_out as u32]);
        Self { weight: Parameter::new(plan, weight), bias: Parameter::new(plan, bias) }
    }

    pub(super) fn dim_out(&self) -> u32 {
        self.bias.value.cols()
    }

    /// `y` (+)= W `x` + b for rows `x [n, dim_in]`.
    pub(super) fn forward(&self, plan: &mut Plan, x: Tensor, y: Tensor, write: Write) {
        matmul(plan, Layout::NT, x, self.weight.value, y, write);
        add_bias(plan, self.bias.value, y);
    }

    /// `units` = gelu(W `x` + b), and the derivative of these in `slopes`.
    pub(super) fn activate(&self, plan: &mut Plan, no_seed: Tensor, x: Tensor, slopes: Tensor, units: Tensor) {
        matmul(plan, Layout::NT, x, self.weight.value, slopes, Write::Set);
        gelu(plan, no_seed, self.bias.value, slopes, units, 0.0);
    }

    /// The derivatives by W and b, of dL/dy in `gradient`.
    pub(super) fn backward(&self, plan: &mut Plan, x: Tensor, gradient: Tensor, write: Write) {
        matmul(plan, Layout::TN, gradient, x, self.weight.gradient, write);
        column_sum(plan, gradient, self.bias.gradient, 1.0, write);
    }

    /// The derivative by `x`, of dL/dy in `gradient`.
    pub(super) fn backward_input(&self, plan: &mut Plan, gradient: Tensor, into: Tensor) {
        matmul(plan, Layout::NN, gradient, self.weight.value, into, Write::Set);
    }

    /// Adds the derivative of `weight` / 2 x the sum of squares of W and b: the `weight_decay` of PyTorch's Adam.
    pub(super) fn penalise(&self, plan: &mut Plan, weight: f32) {
        for parameter in [self.weight, self.bias] {
            let zeros = plan.input("zeros", parameter.value.shape);
            let penalty = plan.scratch("penalty", [parameter.value.rows(), 1]);
            let config = lp_loss::Config { power: Power::Two, weight: 0.5 * weight, write: Write::Add };
            lp_loss(plan, parameter.value, zeros, parameter.gradient, penalty, config);
        }
    }

    /// A step of Adam, or of AdamW with a decay.
    pub(super) fn update(&self, plan: &mut Plan, schedule: Tensor, decay: f32) {
        adamw(plan, schedule, self.weight, 1.0, decay);
        adamw(plan, schedule, self.bias, 1.0, decay);
    }

    pub(super) fn write(&self, program: &mut dyn Program, weights: &Weights) -> Result<()> {
        program.write(self.weight.value, &weights.weight[..])?;
        program.write(self.bias.value, &weights.bias[..])
    }

    /// The layer as a map.
    pub(super) fn map(&self, program: &mut dyn Program, metric: Metric) -> Result<Map> {
        let Weights { weight, bias } = self.read(program)?;
        let [dim_out, dim_in] = [self.weight.value.rows(), self.weight.value.cols()].map(|dim| dim as usize);
        Ok(Map { dim_in, dim_out, metric, input_normalized: true, weight, bias, hidden: None })
    }

    pub(super) fn read(&self, program: &mut dyn Program) -> Result<Weights> {
        Ok(Weights { weight: program.read(self.weight.value)?, bias: program.read(self.bias.value)? })
    }
}
