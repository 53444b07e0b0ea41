//! Cases of an op: a small plan with its inputs, which tests run on every backend and compare, and benches time.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::float16;
use crate::plan::{Limits, Plan, Routine};
use crate::random::normal;
use crate::tensor::{DType, Shape, Tensor};

/// Content of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Float elements.
    F32(Vec<f32>),
    /// Index elements.
    U32(Vec<u32>),
}

/// How the content of a case's tensor is drawn. The same case draws the same numbers everywhere.
#[derive(Clone, Debug)]
pub enum Fill {
    /// Standard normal.
    Normal,
    /// Normal with standard deviation exp(3 z), z normal: a few elements dwarf the rest.
    HeavyTailed,
    /// Few distinct values: most comparisons are ties.
    Ties,
    /// The same value everywhere.
    Constant(f32),
    /// Magnitudes up to 1e30 and down to 1e-30, both signs, and zeros.
    Extreme,
    /// Exactly these.
    Exact(Vec<f32>),
    /// Words of two float16 numbers, standard normal.
    Halves,
    /// Uniform indices below a bound.
    Below(u32),
    /// Exactly these.
    ExactIndices(Vec<u32>),
}

/// A derivative to check: `gradient` must be d(sum of upstream x output)/d(wrt), by central differences on the oracle.
#[derive(Clone, Copy, Debug)]
pub struct GradientCheck {
    /// The tensor that is varied.
    pub wrt: Tensor,
    /// The tensor whose sum, weighted by `upstream`, is differentiated.
    pub output: Tensor,
    /// Weights of that sum, shaped as `output`; all ones when absent.
    pub upstream: Option<Tensor>,
    /// The tensor that the plan fills with the derivative.
    pub gradient: Tensor,
}

/// A plan with inputs, and what to look at when it has run.
pub struct Case {
    /// Shape and distribution in a few words: the test's name.
    pub name: String,
    /// What to compute.
    pub plan: Plan,
    /// Run for the steps `0..steps`.
    pub routine: Routine,
    /// Steps to run.
    pub steps: u32,
    /// Content of inputs and states before the run.
    pub values: Vec<(Tensor, Values)>,
    /// Tensors that backends must agree on after the run.
    pub outputs: Vec<Tensor>,
    /// Derivatives to check.
    pub gradients: Vec<GradientCheck>,
    rng: ChaCha8Rng,
}

impl Case {
    /// A case built by `build`, with tensors as large as they are.
    pub fn new(name: impl Into<String>, build: impl FnOnce(&mut Self)) -> Self {
        Self::with_limits(name, Limits::NONE, build)
    }

    /// Whether a backend with these limits has what the case is for: a shader for matrix units runs on no others.
    pub fn runs_on(&self, limits: Limits) -> bool {
        self.plan.limits().matrix_units.is_none_or(|units| limits.matrix_units == Some(units))
    }

    /// A case whose plan splits tensors above `limits` into row windows.
    pub fn with_limits(name: impl Into<String>, limits: Limits, build: impl FnOnce(&mut Self)) -> Self {
        let mut plan = Plan::new(limits);
        let routine = plan.routine();
        let mut case = Self {
            name: name.into(),
            plan,
            routine,
            steps: 1,
            values: Vec::new(),
            outputs: Vec::new(),
            gradients: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(0),
        };
        build(&mut case);
        case
    }

    /// An input of the plan.
    pub fn input(&mut self, name: &'static str, shape: impl Into<Shape>, fill: Fill) -> Tensor {
        let tensor = match fill {
            Fill::Halves | Fill::Below(_) | Fill::ExactIndices(_) => self.plan.indices(name, shape),
            _ => self.plan.input(name, shape),
        };
        self.fill(tensor, fill);
        tensor
    }

    /// A float result: compared after the run, poisoned before it.
    pub fn output(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        let tensor = self.plan.state(name, shape);
        self.outputs.push(tensor);
        tensor
    }

    /// A result of indices: compared after the run, poisoned before it.
    pub fn output_indices(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        let tensor = self.plan.state_indices(name, shape);
        self.outputs.push(tensor);
        tensor
    }

    /// A float tensor that is read and overwritten: filled before the run, compared after it.
    pub fn in_out(&mut self, name: &'static str, shape: impl Into<Shape>, fill: Fill) -> Tensor {
        let tensor = self.output(name, shape);
        self.fill(tensor, fill);
        tensor
    }

    fn fill(&mut self, tensor: Tensor, fill: Fill) {
        let len = tensor.shape.len();
        let rng = &mut self.rng;
        let values = match fill {
            Fill::Normal => Values::F32((0..len).map(|_| normal(rng)).collect()),
            Fill::HeavyTailed => Values::F32((0..len).map(|_| normal(rng) * (3.0 * normal(rng)).exp()).collect()),
            Fill::Ties => Values::F32((0..len).map(|_| rng.random_range(0..5u32) as f32 * 0.25 - 0.5).collect()),
            Fill::Constant(value) => Values::F32(vec![value; len]),
            Fill::Extreme => {
                let scales = [1e30, 1e-30, 1.0, 0.0];
                Values::F32((0..len).map(|_| normal(rng) * scales[rng.random_range(0..scales.len())]).collect())
            }
            Fill::Exact(values) => Values::F32(values),
            Fill::Halves => Values::U32(float16::pack(&(0..2 * len).map(|_| normal(rng)).collect::<Vec<_>>())),
            Fill::Below(bound) => Values::U32((0..len).map(|_| rng.random_range(0..bound)).collect()),
            Fill::ExactIndices(values) => Values::U32(values),
        };
        let (count, dtype) = match &values {
            Values::F32(v) => (v.len(), DType::F32),
            Values::U32(v) => (v.len(), DType::U32),
        };
        assert!(
            count == len && dtype == tensor.dtype,
            "case {}: content of {tensor} has {count} elements of {dtype:?}",
            self.name
        );
        self.values.push((tensor, values));
    }
}
