//! Distances to targets, element by element: absolute and squared errors, and penalties on parameters.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, Write, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// Exponent of the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Absolute error.
    One = 1,
    /// Squared error.
    Two = 2,
}

/// Which error, how much it counts, and whether its gradient replaces what was there.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Exponent.
    pub power: Power,
    /// Factor of the loss and its gradient.
    pub weight: f32,
    /// Of the gradient.
    pub write: Write,
}

/// Errors of predictions, with d = prediction - target:
///
/// ```text
/// loss_i = weight * sum_j |d_ij|^power            gradient_ij (+)= weight * power * |d_ij|^(power - 1) * sign(d_ij)
/// ```
///
/// `prediction`, `target` and `gradient` are `[rows, cols]`, `loss` is `[rows, 1]`. The derivative of an absolute error of zero
/// is zero.
///
/// # Panics
/// If the shapes do not fit together.
pub fn lp_loss(plan: &mut Plan, prediction: Tensor, target: Tensor, gradient: Tensor, loss: Tensor, config: Config) {
    let same = [target, gradient].iter().all(|t| t.shape == prediction.shape) && prediction.shape.batch == 1;
    assert!(same, "lp_loss: shapes differ: {prediction}, {target} and {gradient}");
    assert!(loss.shape == [prediction.rows(), 1].into(), "lp_loss: {loss} is not one number for each row of {prediction}");
    let params = Params {
        step: 0,
        rows: prediction.rows(),
        cols: prediction.cols(),
        power: config.power as u32,
        weight: config.weight,
        accumulate: u32::from(config.write == Write::Add),
    };
    plan.push::<LpLoss>(params, &[prediction, target], &[gradient, loss]);
}

/// The op; [`lp_loss`] records it.
pub struct LpLoss;

/// Parameters of [`LpLoss`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    power: u32,
    weight: f32,
    accumulate: u32,
}

impl Op for LpLoss {
    const NAME: &'static str = "lp_loss";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("lp_loss", "grid", "reduce"), constants: vec![], grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([prediction, target], [gradient, loss]) = io.take();
        let cols = p.cols as usize;
        let (squared, accumulate) = (p.power == 2, p.accumulate != 0);
        let pairs = prediction.real().par_chunks(cols).zip(target.real().par_chunks(cols));
        let results = gradient.real().par_chunks_mut(cols).zip(loss.real());
        pairs.zip(results).with_min_len((1 << 14) / cols + 1).for_each(|((prediction, target), (gradient, loss))| {
            if !accumulate {
                gradient.fill(0.0);
            }
            let mut sum = 0.0;
            for ((x, t), g) in prediction.iter().zip(target).zip(gradient) {
                let d = x - t;
                let sign = if d == 0.0 { 0.0 } else { d.signum() };
                sum += if squared { d * d } else { d.abs() };
                *g += p.weight * if squared { 2.0 * d } else { sign };
            }
            *loss = p.weight * sum;
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([prediction, target], [gradient, loss]) = io.take();
        let (prediction, target, gradient, loss) = (prediction.real(), target.real(), gradient.real(), loss.real());
        let (cols, power, weight) = (p.cols as usize, p.power as i32, f64::from(p.weight));
        for (i, loss) in loss.iter_mut().enumerate().take(p.rows as usize) {
            *loss = 0.0;
            for at in i * cols..(i + 1) * cols {
                let d = prediction[at] - target[at];
                let sign = if d == 0.0 { 0.0 } else { d.signum() };
                *loss += weight * d.abs().powi(power);
                let slope = weight * f64::from(power) * d.abs().powi(power - 1) * sign;
                gradient[at] = slope + if p.accumulate != 0 { gradient[at] } else { 0.0 };
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: 5 * elements, bytes: 4 * (3 * elements + u64::from(p.rows)) }
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (name, power) in [("absolute", Power::One), ("squared", Power::Two)] {
            for [rows, cols] in [[1, 1], [33, 65], [2, 700], [300, 3]] {
                cases.push(case(format!("{name} {rows}x{cols}"), [rows, cols], Fill::Normal, power, Write::Set));
            }
            cases.push(case(format!("{name} add 7x9"), [7, 9], Fill::Normal, power, Write::Add));
            cases.push(case(format!("{name} ties 9x20"), [9, 20], Fill::Ties, power, Write::Set));
            cases.push(case(format!("{name} heavy-tailed 5x40"), [5, 40], Fill::HeavyTailed, power, Write::Set));
        }
        cases
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("squared 4096x1024".to_owned(), [4096, 1024], Fill::Normal, Power::Two, Write::Set)]
    }
}

fn case(name: String, shape: [u32; 2], fill: Fill, power: Power, write: Write) -> Case {
    Case::new(name, |case| {
        // Beside a row's largest errors, differences cannot tell what its smallest change.
        let measurable = write == Write::Set && !matches!(fill, Fill::HeavyTailed);
        let prediction = case.input("prediction", shape, fill.clone());
        let target = case.input("target", shape, fill);
        let gradient = case.in_out("gradient", shape, Fill::Normal);
        let loss = case.output("loss", [shape[0], 1]);
        lp_loss(&mut case.plan, prediction, target, gradient, loss, Config { power, weight: 0.3, write });
        if measurable {
            case.gradients.push(GradientCheck { wrt: prediction, output: loss, upstream: None, gradient });
        }
    })
}
