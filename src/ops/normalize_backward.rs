//! The derivative of [`normalize`](super::normalize::normalize).

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// In place on `gradient [rows, cols]`, which holds dL/dy and becomes dL/dx = (dL/dy - y (y . dL/dy)) / |x|.
///
/// `y` and `inverse_norm [rows, 1]` are the results of `normalize`.
///
/// # Panics
/// If the shapes differ.
pub fn normalize_backward(plan: &mut Plan, y: Tensor, inverse_norm: Tensor, gradient: Tensor) {
    assert!(y.shape == gradient.shape && y.shape.batch == 1, "normalize_backward: {y} and {gradient}");
    assert!(inverse_norm.rows() == y.rows() && inverse_norm.cols() == 1, "normalize_backward: {inverse_norm} for {y}");
    let params = Params { step: 0, rows: y.rows(), cols: y.cols() };
    plan.push::<NormalizeBackward>(params, &[y, inverse_norm], &[gradient]);
}

/// The op; [`normalize_backward`] records it.
pub struct NormalizeBackward;

/// Parameters of [`NormalizeBackward`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
}

impl Op for NormalizeBackward {
    const NAME: &'static str = "normalize_backward";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("normalize_backward", "grid", "reduce"), constants: vec![], grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([y, inverse_norm], [gradient]) = io.take();
        let cols = p.cols as usize;
        let rows = y.real().par_chunks(cols).zip(inverse_norm.real()).zip(gradient.real().par_chunks_mut(cols));
        rows.with_min_len(64).for_each(|((y, inverse), gradient)| {
            let along: f32 = y.iter().zip(&*gradient).map(|(y, g)| y * g).sum();
            gradient.iter_mut().zip(y).for_each(|(g, y)| *g = (*g - y * along) * inverse);
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([y, inverse_norm], [gradient]) = io.take();
        let (y, inverse_norm, gradient) = (y.real(), inverse_norm.real(), gradient.real());
        let cols = p.cols as usize;
        for (row, inverse_norm) in inverse_norm.iter().enumerate().take(p.rows as usize) {
            let at = row * cols..(row + 1) * cols;
            let along: f64 = at.clone().map(|i| y[i] * gradient[i]).sum();
            for i in at {
                gradient[i] = (gradient[i] - y[i] * along) * inverse_norm;
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: 5 * elements, bytes: 12 * elements }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1x2", [1, 2], Fill::Normal),
            case("17x9", [17, 9], Fill::Normal),
            case("66x130", [66, 130], Fill::Normal),
            case("5x64 heavy-tailed", [5, 64], Fill::HeavyTailed),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("16384x64", [16_384, 64], Fill::Normal)]
    }
}

fn case(name: &str, shape: [u32; 2], fill: Fill) -> Case {
    use super::normalize::normalize;

    Case::new(name, |case| {
        let x = case.input("x", shape, fill);
        let y = case.output("y", shape);
        let inverse_norm = case.output("inverse_norm", [shape[0], 1]);
        let upstream: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i as f32).sin()).collect();
        let g = case.input("g", shape, Fill::Exact(upstream.clone()));
        let gradient = case.in_out("gradient", shape, Fill::Exact(upstream));
        normalize(&mut case.plan, x, y, inverse_norm);
        normalize_backward(&mut case.plan, y, inverse_norm, gradient);
        case.gradients.push(GradientCheck { wrt: x, output: y, upstream: Some(g), gradient });
    })
}
