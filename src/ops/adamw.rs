//! The optimiser's update.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// Exponential decay of the mean of gradients.
pub const BETA1: f32 = 0.9;
/// Exponential decay of the mean of squared gradients.
pub const BETA2: f32 = 0.999;
/// Added to the root of the mean square.
const EPSILON: f32 = 1e-8;

/// A parameter with its gradient and moments, all of one shape; moments start at zero.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The parameter, updated in place.
    pub value: Tensor,
    /// dL/d(value) of this step.
    pub gradient: Tensor,
    /// Running mean of gradients.
    pub mean: Tensor,
    /// Running mean of squared gradients.
    pub square: Tensor,
}

impl Parameter {
    /// A value with a gradient and moments of its shape.
    pub fn new(plan: &mut Plan, value: Tensor) -> Self {
        Self {
            value,
            gradient: plan.scratch("gradient", value.shape),
            mean: plan.state("mean of gradients", value.shape),
            square: plan.state("mean of squared gradients", value.shape),
        }
    }
}

/// One update of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2).
///
/// Row `step` of `schedule [steps, 3]` holds the learning rate and the bias corrections 1 / (1 - beta1^t), 1 / (1 - beta2^t);
/// the rate is multiplied by `rate_scale` and `weight_decay` is decoupled: value -= rate x (direction + weight_decay x value).
///
/// # Panics
/// If the shapes differ.
pub fn adamw(plan: &mut Plan, schedule: Tensor, parameter: Parameter, rate_scale: f32, weight_decay: f32) {
    let Parameter { value, gradient, mean, square } = parameter;
    assert!([gradient, mean, square].iter().all(|t| t.shape == value.shape), "adamw: {value}, {gradient}, {mean}, {square}");
    assert!(schedule.cols() == 3, "adamw: {schedule} is no schedule");
    let count = u32::try_from(value.shape.len()).expect("a parameter has fewer than 2^32 elements");
    let params = Params { step: 0, count, rate_scale, beta1: BETA1, beta2: BETA2, epsilon: EPSILON, weight_decay };
    plan.push::<AdamW>(params, &[gradient, schedule], &[value, mean, square]);
}

/// The op; [`adamw`] records it.
pub struct AdamW;

/// Parameters of [`AdamW`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    count: u32,
    rate_scale: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
}

impl Op for AdamW {
    const NAME: &'static str = "adamw";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("adamw", "grid"), constants: vec![], grid: flat_grid(p.count.div_ceil(256)) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([gradient, schedule], [value, mean, square]) = io.take();
        let [rate, mean_factor, square_factor] = schedule.real()[3 * p.step as usize..][..3] else { unreachable!("three columns") };
        let rate = rate * p.rate_scale;
        let elements = value.real().par_iter_mut().zip(gradient.real()).zip(mean.real()).zip(square.real());
        elements.with_min_len(16_384).for_each(|(((value, g), mean), square)| {
            *mean = p.beta1 * *mean + (1.0 - p.beta1) * g;
            *square = p.beta2 * *square + (1.0 - p.beta2) * g * g;
            let direction = *mean * mean_factor / ((*square * square_factor).sqrt() + p.epsilon);
            *value -= rate * (direction + p.weight_decay * *value);
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([gradient, schedule], [value, mean, square]) = io.take();
        let (g, s, value, mean, square) = (gradient.real(), schedule.real(), value.real(), mean.real(), square.real());
        let (s, beta1, beta2) = (&s[3 * p.step as usize..], f64::from(p.beta1), f64::from(p.beta2));
        for i in 0..p.count as usize {
            mean[i] = beta1 * mean[i] + (1.0 - beta1) * g[i];
            square[i] = beta2 * square[i] + (1.0 - beta2) * g[i] * g[i];
            let direction = mean[i] * s[1] / ((square[i] * s[2]).sqrt() + f64::from(p.epsilon));
            value[i] -= s[0] * f64::from(p.rate_scale) * (direction + f64::from(p.weight_decay) * value[i]);
        }
    }

    fn cost(p: &Params) -> Cost {
        Cost { flops: 15 * u64::from(p.count), bytes: 28 * u64::from(p.count) }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1x1", [1, 1], Fill::Normal, 0.0),
            case("33x17", [33, 17], Fill::Normal, 0.1),
            case("40x20 heavy-tailed", [40, 20], Fill::HeavyTailed, 0.01),
            case("no gradient", [3, 3], Fill::Constant(0.0), 0.0),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("64x4096", [64, 4096], Fill::Normal, 0.0)]
    }
}

fn case(name: &str, shape: [u32; 2], fill: Fill, weight_decay: f32) -> Case {
    Case::new(name, |case| {
        case.steps = 3;
        let steps = (1..=3).flat_map(|t| [0.01 / t as f32, 1.0 / (1.0 - BETA1.powi(t)), 1.0 / (1.0 - BETA2.powi(t))]);
        let schedule = case.input("schedule", [3, 3], Fill::Exact(steps.collect()));
        let parameter = Parameter {
            gradient: case.input("gradient", shape, fill),
            value: case.in_out("value", shape, Fill::Normal),
            mean: case.in_out("mean", shape, Fill::Constant(0.0)),
            square: case.in_out("square", shape, Fill::Constant(0.0)),
        };
        adamw(&mut case.plan, schedule, parameter, 2.0, weight_decay);
    })
}
