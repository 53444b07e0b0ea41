//! A map on a plan: its parameters, forward, backward and update.

use crate::backend::Program;
use crate::error::Result;
use crate::metric::Metric;
use crate::model::{Hidden, Map};
use crate::op::Write;
use crate::ops::adamw::{Parameter, adamw};
use crate::ops::add_bias::add_bias;
use crate::ops::column_sum::column_sum;
use crate::ops::first_columns::first_columns;
use crate::ops::gelu::gelu;
use crate::ops::inverse_norm::inverse_norm;
use crate::ops::matmul::{Layout, Product, matmul, matmul_coarse, matmul_rounded, times_matmul_rounded};
use crate::ops::normalize::normalize;
use crate::ops::normalize_backward::normalize_backward;
use crate::ops::scale_rows::scale_rows;
use crate::plan::Plan;
use crate::tensor::Tensor;

/// Rate of the hidden layer's first weights, beside that of all others. They start at random and have to find directions, where
/// W starts in a good place: 10 gave recall@10 .540 where 1 gave .526, 3 .537 and 30 .534 (WordNet 5,000 -> 32, 1,024 units).
const HIDDEN_RATE: f32 = 10.0;

/// The tensors of a [`Map`] on a plan.
pub struct Network {
    /// Of products of rows with weights: NT with weights as a map holds them, NN with their transposes.
    layout: Layout,
    weight: Tensor,
    bias: Tensor,
    hidden: Option<HiddenTensors>,
    metric: Metric,
    input_normalized: bool,
}

#[derive(Clone, Copy)]
struct HiddenTensors {
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    /// A seed of dropout for plans without dropout, never changed.
    no_seed: Tensor,
}

/// What is done to hidden units in training.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Seeds `[steps, 1]`.
    pub seeds: Tensor,
    /// Share of the units that are dropped.
    pub rate: f32,
    /// Whether inputs may be rounded to 8-bit integers.
    pub coarse: bool,
}

/// Encoded rows, with what the backward pass needs.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    /// z `[rows, dim_out]`.
    pub z: Tensor,
    hidden: Option<Units>,
}

/// The first coordinates of encoded rows, as they are compared.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// What is compared, `[rows, dims]`: the coordinates p, or p / |p| where the student's metric is cosine.
    pub output: Tensor,
    /// 1 / |p| `[rows, 1]`, where the metric is cosine.
    inverse_norm: Option<Tensor>,
}

/// Hidden units of encoded rows, `[rows, width]`.
#[derive(Clone, Copy, Debug)]
struct Units {
    values: Tensor,
    slopes: Tensor,
}

/// The parameters of a network that is trained, with gradients and moments.
pub struct Trainable {
    weight: Parameter,
    /// None where the metric is L2: distances do not know it, and AdamW would let it drift by rounding errors.
    bias: Option<Parameter>,
    hidden: Option<[Parameter; 3]>,
}

impl Network {
    /// Declares the parameters of a map.
    pub fn new(plan: &mut Plan, map: &Map) -> Self {
        Self::held(plan, map, Layout::NT)
    }

    /// As [`new`](Self::new), to encode alone, not to train or read back: weights are held transposed, `[dim_in, dim_out]`, as products
    /// take them in, which then need not turn them for every piece of rows.
    pub fn encoding(plan: &mut Plan, map: &Map) -> Self {
        Self::held(plan, map, Layout::NN)
    }

    fn held(plan: &mut Plan, map: &Map, layout: Layout) -> Self {
        let (dim_in, dim_out, width) = (map.dim_in as u32, map.dim_out as u32, map.hidden_width() as u32);
        let shape = |[to, from]: [u32; 2]| if layout == Layout::NN { [from, to] } else { [to, from] };
        let weight = plan.state("weight", shape([dim_out, dim_in]));
        let bias = plan.state("bias", [1, dim_out]);
        let hidden = (width > 0).then(|| HiddenTensors {
            weight: plan.state("hidden weight", shape([width, dim_in])),
            bias: plan.state("hidden bias", [1, width]),
            output: plan.state("hidden output", shape([dim_out, width])),
            no_seed: plan.indices("no seed", [1, 1]),
        });
        Self { layout, weight, bias, hidden, metric: map.metric, input_normalized: map.input_normalized }
    }

    /// Writes the parameters of a map of the same shapes.
    ///
    /// # Errors
    /// As [`Program::write_rows`].
    pub fn write(&self, program: &mut dyn Program, map: &Map) -> Result<()> {
        self.write_weight(program, self.weight, &map.weight)?;
        program.write(self.bias, &map.bias[..])?;
        if let (Some(tensors), Some(hidden)) = (self.hidden, &map.hidden) {
            self.write_weight(program, tensors.weight, &hidden.weight)?;
            program.write(tensors.bias, &hidden.bias[..])?;
            self.write_weight(program, tensors.output, &hidden.output)?;
        }
        Ok(())
    }

    fn write_weight(&self, program: &mut dyn Program, tensor: Tensor, weight: &[f32]) -> Result<()> {
        if self.layout == Layout::NT {
            return program.write(tensor, weight);
        }
        let (from, to) = (tensor.rows() as usize, tensor.cols() as usize);
        let transposed: Vec<f32> = (0..from * to).map(|i| weight[i % to * from + i / to]).collect();
        program.write(tensor, &transposed[..])
    }

    /// Reads the parameters back.
    ///
    /// # Errors
    /// As [`Program::read`].
    pub fn read(&self, program: &mut dyn Program) -> Result<Map> {
        let hidden = match self.hidden {
            None => None,
            Some(HiddenTensors { weight, bias, output, .. }) => {
                Some(Hidden { weight: program.read(weight)?, bias: program.read(bias)?, output: program.read(output)? })
            }
        };
        let (dim_in, dim_out) = (self.weight.cols() as usize, self.weight.rows() as usize);
        let (weight, bias) = (program.read(self.weight)?, program.read(self.bias)?);
        let Self { metric, input_normalized, .. } = *self;
        Ok(Map { dim_in, dim_out, metric, input_normalized, weight, bias, hidden })
    }

    /// Declares what training the parameters takes.
    pub fn trainable(&self, plan: &mut Plan) -> Trainable {
        let hidden = self.hidden.map(|h| [h.weight, h.bias, h.output].map(|value| Parameter::new(plan, value)));
        let bias = (self.metric != Metric::L2).then(|| Parameter::new(plan, self.bias));
        Trainable { weight: Parameter::new(plan, self.weight), bias, hidden }
    }

    /// Records the encoding of `x [rows, dim_in]` into `output [rows, dim_out]`, as it is compared.
    pub fn encode(&self, plan: &mut Plan, x: Tensor, output: Tensor) {
        self.compare(plan, output, |plan, z| {
            self.forward(plan, x, z, None);
        });
    }

    /// [`encode`](Self::encode) of x / |x| for rows x that are not of unit length, and `inverse_norms [rows, 1]` = 1 / |x|: what they are
    /// multiplied with is scaled in their place, which takes no copy of them. Where |x| or its inverse is near the ends of float32, products
    /// may be infinite or vanish.
    ///
    /// # Panics
    /// If there is a hidden layer.
    pub fn encode_directions(&self, plan: &mut Plan, x: Tensor, inverse_norms: Tensor, output: Tensor) {
        assert!(self.hidden.is_none(), "encode_directions: units are no multiples of what they are made of");
        self.compare(plan, output, |plan, z| {
            matmul(plan, self.layout, x, self.weight, z, Write::Set);
            // After the product, which brings rows into the caches while it computes.
            inverse_norm(plan, x, inverse_norms);
            scale_rows(plan, inverse_norms, z);
            add_bias(plan, self.bias, z);
        });
    }

    /// Records `z [rows, dim_out]` by `record`, and how it is compared in `output`.
    fn compare(&self, plan: &mut Plan, output: Tensor, record: impl FnOnce(&mut Plan, Tensor)) {
        match self.metric {
            Metric::Dot | Metric::L2 => record(plan, output),
            Metric::Cosine => {
                let z = plan.scratch("z", output.shape);
                record(plan, z);
                let inverse_norm = plan.scratch("1 / |z|", [z.rows(), 1]);
                normalize(plan, z, output, inverse_norm);
            }
        }
    }

    /// Records `z [rows, dim_out]` of `x [rows, dim_in]`; with dropout, for a training step.
    pub fn forward(&self, plan: &mut Plan, x: Tensor, z: Tensor, dropout: Option<Dropout>) -> Encoded {
        matmul(plan, self.layout, x, self.weight, z, Write::Set);
        add_bias(plan, self.bias, z);
        let hidden = self.hidden.map(|hidden| {
            let shape = [x.rows(), hidden.bias.cols()];
            let units = Units { values: plan.scratch("hidden units", shape), slopes: plan.scratch("slopes", shape) };
            // Rows are encoded as exactly as they can be; steps have more noise than rounding adds.
            let product: Product = match dropout {
                None => matmul,
                Some(Dropout { coarse: false, .. }) => matmul_rounded,
                Some(Dropout { coarse: true, .. }) => matmul_coarse,
            };
            product(plan, self.layout, x, hidden.weight, units.slopes, Write::Set);
            let (seeds, rate) = dropout.map_or((hidden.no_seed, 0.0), |d| (d.seeds, d.rate));
            gelu(plan, seeds, hidden.bias, units.slopes, units.values, rate);
            matmul(plan, self.layout, units.values, hidden.output, z, Write::Add);
            units
        });
        Encoded { z, hidden }
    }

    /// Records what is compared in the first `dims` coordinates of `z`.
    pub fn prefix(&self, plan: &mut Plan, z: Tensor, dims: u32) -> Prefix {
        let mut p = z;
        if dims < z.cols() {
            p = plan.scratch("prefix", [z.rows(), dims]);
            first_columns(plan, z, p, Write::Set);
        }
        match self.metric {
            Metric::Dot | Metric::L2 => Prefix { output: p, inverse_norm: None },
            Metric::Cosine => {
                let output = plan.scratch("unit prefix", p.shape);
                let inverse_norm = plan.scratch("1 / |prefix|", [z.rows(), 1]);
                normalize(plan, p, output, inverse_norm);
                Prefix { output, inverse_norm: Some(inverse_norm) }
            }
        }
    }

    /// Records the derivatives by the parameters for the encoding of `x`; `gradient` holds dL/dz. Factors may be rounded: what that adds is
    /// without direction, and steps have more noise.
    pub fn backward(&self, plan: &mut Plan, x: Tensor, encoded: Encoded, gradient: Tensor, into: &Trainable, write: Write) {
        matmul_rounded(plan, Layout::TN, gradient, x, into.weight.gradient, write);
        if let Some(bias) = into.bias {
            column_sum(plan, gradient, bias.gradient, 1.0, write);
        }
        if let (Some(hidden), Some(units), Some([weight, bias, output])) = (self.hidden, encoded.hidden, &into.hidden) {
            matmul_rounded(plan, Layout::TN, gradient, units.values, output.gradient, write);
            // The derivative by the hidden units before their activation, in place of its slopes.
            times_matmul_rounded(plan, Layout::NN, gradient, hidden.output, units.slopes);
            matmul_rounded(plan, Layout::TN, units.slopes, x, weight.gradient, write);
            column_sum(plan, units.slopes, bias.gradient, 1.0, write);
        }
    }
}

impl Prefix {
    /// Where the derivative by the output goes: for the prefix that is all of z that is `z_gradient` itself.
    pub fn gradient(self, plan: &mut Plan, z_gradient: Tensor) -> Tensor {
        if self.output.cols() == z_gradient.cols() { z_gradient } else { plan.scratch("prefix gradient", self.output.shape) }
    }

    /// Records the derivative by `z` from `gradient`, that by the output, which is overwritten. The prefix that is all of z comes
    /// first and sets `z_gradient`; shorter ones add to it.
    pub fn backward(self, plan: &mut Plan, gradient: Tensor, z_gradient: Tensor) {
        if let Some(inverse_norm) = self.inverse_norm {
            normalize_backward(plan, self.output, inverse_norm, gradient);
        }
        if gradient != z_gradient {
            first_columns(plan, gradient, z_gradient, Write::Add);
        }
    }
}

impl Trainable {
    /// Records the update; rates are relative to the root mean square of the weights at the start.
    pub fn update(&self, plan: &mut Plan, schedule: Tensor, start: &Map) {
        let scale = root_mean_square(&start.weight);
        adamw(plan, schedule, self.weight, scale, 0.0);
        if let Some(bias) = self.bias {
            adamw(plan, schedule, bias, scale, 0.0);
        }
        if let (Some([weight, bias, output]), Some(hidden)) = (self.hidden, &start.hidden) {
            let hidden_scale = HIDDEN_RATE * root_mean_square(&hidden.weight);
            adamw(plan, schedule, weight, hidden_scale, 0.0);
            adamw(plan, schedule, bias, 1.0, 0.0);
            // C starts at zero; h is about 1, as W x is of the size of W.
            adamw(plan, schedule, output, scale, 0.0);
        }
    }
}

fn root_mean_square(values: &[f32]) -> f32 {
    (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt()
}
