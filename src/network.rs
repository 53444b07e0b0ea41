//! The map z = W x + b on a plan: its parameters, forward, backward and update.

use crate::metric::Metric;
use crate::op::Write;
use crate::ops::adamw::{Parameter, adamw};
use crate::ops::add_bias::add_bias;
use crate::ops::column_sum::column_sum;
use crate::ops::matmul::{Layout, matmul};
use crate::ops::normalize::normalize;
use crate::ops::normalize_backward::normalize_backward;
use crate::plan::Plan;
use crate::tensor::Tensor;

/// A map on a plan.
pub struct Network {
    /// W `[dim_out, dim_in]`.
    pub weight: Tensor,
    /// b `[1, dim_out]`.
    pub bias: Tensor,
    metric: Metric,
}

/// The parameters of a map that is trained, with gradients and moments.
pub struct Trainable {
    /// W.
    pub weight: Parameter,
    /// b.
    pub bias: Parameter,
}

/// Encoded rows.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    /// What is compared by inner product, `[rows, dim_out]`: z, or z / |z| where the student's metric is cosine.
    pub output: Tensor,
    /// 1 / |z| `[rows, 1]`, where the metric is cosine.
    inverse_norm: Option<Tensor>,
}

impl Network {
    /// Declares the parameters.
    pub fn new(plan: &mut Plan, dim_in: u32, dim_out: u32, metric: Metric) -> Self {
        Self { weight: plan.state("weight", [dim_out, dim_in]), bias: plan.state("bias", [1, dim_out]), metric }
    }

    /// Declares what training the parameters takes.
    pub fn trainable(&self, plan: &mut Plan) -> Trainable {
        Trainable { weight: Parameter::new(plan, self.weight), bias: Parameter::new(plan, self.bias) }
    }

    /// Records the encoding of `x [rows, dim_in]` into `output [rows, dim_out]`.
    pub fn forward(&self, plan: &mut Plan, x: Tensor, output: Tensor) -> Encoded {
        let cosine = self.metric == Metric::Cosine;
        let z = if cosine { plan.scratch("z", output.shape) } else { output };
        matmul(plan, Layout::NT, x, self.weight, z, Write::Set);
        add_bias(plan, self.bias, z);
        let inverse_norm = cosine.then(|| {
            let inverse_norm = plan.scratch("1 / |z|", [x.rows(), 1]);
            normalize(plan, z, output, inverse_norm);
            inverse_norm
        });
        Encoded { output, inverse_norm }
    }

    /// Records dL/dW and dL/db for the encoding of `x`; `gradient` holds dL/d(output) and is overwritten.
    pub fn backward(&self, plan: &mut Plan, x: Tensor, encoded: Encoded, gradient: Tensor, into: &Trainable, write: Write) {
        if let Some(inverse_norm) = encoded.inverse_norm {
            normalize_backward(plan, encoded.output, inverse_norm, gradient);
        }
        matmul(plan, Layout::TN, gradient, x, into.weight.gradient, write);
        column_sum(plan, gradient, into.bias.gradient, 1.0, write);
    }
}

impl Trainable {
    /// Records the update; rates are relative to `scale`, the root mean square of W at the start.
    pub fn update(&self, plan: &mut Plan, schedule: Tensor, scale: f32) {
        adamw(plan, schedule, self.weight, scale, 0.0);
        adamw(plan, schedule, self.bias, scale, 0.0);
    }
}
