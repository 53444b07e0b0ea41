//! A row vector added to every row.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, Write, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// `x [rows, cols]` += `bias [1, cols]`, in place; `x` may span row windows. The derivative for the bias is `column_sum`.
///
/// # Panics
/// If the shapes do not fit together.
pub fn add_bias(plan: &mut Plan, bias: Tensor, x: Tensor) {
    assert!(bias.rows() == 1 && bias.cols() == x.cols() && x.shape.batch == 1, "add_bias: {bias} to {x}");
    for window in plan.windows(x) {
        let params = Params { step: 0, rows: window.tensor.rows(), cols: x.cols() };
        plan.push::<AddBias>(params, &[bias], &[window.tensor]);
    }
}

/// The op; [`add_bias`] records it.
pub struct AddBias;

/// Parameters of [`AddBias`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
}

impl Op for AddBias {
    const NAME: &'static str = "add_bias";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("add_bias", "grid"), constants: vec![], grid: flat_grid((p.rows * p.cols).div_ceil(256)) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([bias], [x]) = io.take();
        let bias = bias.real();
        x.real().par_chunks_mut(p.cols as usize).with_min_len(64).for_each(|x| x.iter_mut().zip(bias).for_each(|(x, b)| *x += b));
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([bias], [x]) = io.take();
        let bias = bias.real();
        x.real().iter_mut().enumerate().for_each(|(i, x)| *x += bias[i % p.cols as usize]);
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: elements, bytes: 8 * elements }
    }

    fn cases() -> Vec<Case> {
        vec![case("1x1", [1, 1]), case("33x65", [33, 65]), case("300x7", [300, 7])]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("16384x64", [16_384, 64])]
    }
}

fn case(name: &str, shape: [u32; 2]) -> Case {
    use super::column_sum::column_sum;
    Case::new(name, |case| {
        let bias = case.input("bias", [1, shape[1]], Fill::Normal);
        let x = case.in_out("x", shape, Fill::Normal);
        let g = case.input("g", shape, Fill::Normal);
        let gradient = case.output("gradient", [1, shape[1]]);
        add_bias(&mut case.plan, bias, x);
        column_sum(&mut case.plan, g, gradient, 1.0, Write::Set);
        case.gradients.push(GradientCheck { wrt: bias, output: x, upstream: Some(g), gradient });
    })
}
