//! The derivative of [`l2_offset`](super::l2_offset::l2_offset).

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// Adds dL/dy by way of the offsets to `gradient [rows, cols]`: each row of it loses `offset_gradient` times the row of
/// `y [rows, cols]`. `offset_gradient [1, rows]` holds dL/d(offset).
///
/// # Panics
/// If the shapes differ.
pub fn l2_offset_backward(plan: &mut Plan, y: Tensor, offset_gradient: Tensor, gradient: Tensor) {
    assert!(y.shape == gradient.shape && y.shape.batch == 1, "l2_offset_backward: {y} and {gradient}");
    assert!(offset_gradient.shape == [1, y.rows()].into(), "l2_offset_backward: {offset_gradient} for {y}");
    let params = Params { step: 0, rows: y.rows(), cols: y.cols() };
    plan.push::<L2OffsetBackward>(params, &[y, offset_gradient], &[gradient]);
}

/// The op; [`l2_offset_backward`] records it.
pub struct L2OffsetBackward;

/// Parameters of [`L2OffsetBackward`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
}

impl Op for L2OffsetBackward {
    const NAME: &'static str = "l2_offset_backward";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        let grid = flat_grid((p.rows * p.cols).div_ceil(256));
        vec![Pass { shader: shader!("l2_offset_backward", "grid"), constants: vec![], grid }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([y, offset_gradient], [gradient]) = io.take();
        let cols = p.cols as usize;
        let rows = y.real().par_chunks(cols).zip(offset_gradient.real()).zip(gradient.real().par_chunks_mut(cols));
        rows.with_min_len(64).for_each(|((y, by_offset), gradient)| {
            gradient.iter_mut().zip(y).for_each(|(g, y)| *g -= by_offset * y);
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([y, offset_gradient], [gradient]) = io.take();
        let (y, offset_gradient) = (y.real(), offset_gradient.real());
        for (i, g) in gradient.real().iter_mut().enumerate() {
            *g -= offset_gradient[i / p.cols as usize] * y[i];
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: 2 * elements, bytes: 12 * elements }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1x1", [1, 1]),
            case("17x9", [17, 9]),
            case("66x130", [66, 130]),
            added("added to 33x7", [33, 7], Fill::Normal),
            added("added to 5x64 heavy-tailed", [5, 64], Fill::HeavyTailed),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![added("16384x64", [16_384, 64], Fill::Normal)]
    }
}

fn case(name: &str, shape: [u32; 2]) -> Case {
    use super::l2_offset::l2_offset;

    Case::new(name, |case| {
        let y = case.input("y", shape, Fill::Normal);
        let offset = case.output("offset", [1, shape[0]]);
        let g = case.input("g", [1, shape[0]], Fill::Normal);
        let gradient = case.in_out("gradient", shape, Fill::Constant(0.0));
        l2_offset(&mut case.plan, y, offset);
        l2_offset_backward(&mut case.plan, y, g, gradient);
        case.gradients.push(GradientCheck { wrt: y, output: offset, upstream: Some(g), gradient });
    })
}

fn added(name: &str, shape: [u32; 2], fill: Fill) -> Case {
    Case::new(name, |case| {
        let y = case.input("y", shape, fill);
        let g = case.input("g", [1, shape[0]], Fill::Normal);
        let gradient = case.in_out("gradient", shape, Fill::Normal);
        l2_offset_backward(&mut case.plan, y, g, gradient);
    })
}
