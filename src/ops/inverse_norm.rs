//! 1 / |x| of rows, by itself: where what is computed from rows of unit length is computed from rows as they are, and then scaled.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::simd::vectorized;
use crate::tensor::Tensor;

use super::{inverse_norm_exactly, inverse_norm_of, lengths};

/// `inverse_norm [rows, 1]` = 1 / |x| for each row of `x [rows, cols]`; 0 for rows of zeros, and of numbers below
/// [`SMALLEST`](crate::metric::SMALLEST). Where |x| is above 8.5e37, which makes it subnormal, shaders give that number.
///
/// `x` may span row windows.
///
/// # Panics
/// If the shapes differ.
pub fn inverse_norm(plan: &mut Plan, x: Tensor, inverse_norm: Tensor) {
    assert!(x.shape.batch == 1 && inverse_norm.shape == [x.rows(), 1].into(), "inverse_norm: {x} -> {inverse_norm}");
    for window in plan.windows(x) {
        let params = Params { step: 0, rows: window.tensor.rows(), cols: x.cols(), first_row: window.first_row };
        plan.push::<InverseNorm>(params, &[window.tensor], &[inverse_norm]);
    }
}

/// The op; [`inverse_norm`] records it.
pub struct InverseNorm;

/// Parameters of [`InverseNorm`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    /// Row of `inverse_norm` that belongs to the first bound row.
    first_row: u32,
}

impl Op for InverseNorm {
    const NAME: &'static str = "inverse_norm";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        let shader = shader!("inverse_norm", "inverse_norm_of", "grid", "reduce");
        vec![Pass { shader, constants: vec![], grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([x], [inverse_norm]) = io.take();
        let inverse_norm = &mut inverse_norm.real()[p.first_row as usize..];
        let rows = x.real().par_chunks(p.cols as usize).zip(inverse_norm).with_min_len(64);
        rows.for_each(|(x, inverse)| *inverse = vectorized(#[inline(always)] || inverse_norm_of(x)));
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([x], [inverse_norm]) = io.take();
        let rows = x.real().chunks(p.cols as usize).zip(&mut inverse_norm.real()[p.first_row as usize..]);
        rows.for_each(|(x, inverse)| *inverse = inverse_norm_exactly(x));
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: 2 * elements, bytes: 4 * (elements + u64::from(p.rows)) }
    }

    fn cases() -> Vec<Case> {
        lengths(case)
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("4096x4096", Limits::NONE, [4096, 4096], Fill::Normal)]
    }
}

fn case(name: &str, limits: Limits, shape: [u32; 2], fill: Fill) -> Case {
    Case::with_limits(name, limits, |case| {
        let x = case.input("x", shape, fill);
        let norms = case.output("inverse_norm", [shape[0], 1]);
        inverse_norm(&mut case.plan, x, norms);
    })
}
