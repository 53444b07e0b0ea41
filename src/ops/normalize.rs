//! Rows of unit length: the forward half of cosine similarity.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::simd::vectorized;
use crate::tensor::Tensor;

use super::{inverse_norm_exactly, inverse_norm_of, lengths};

/// y = x / |x| for each row of `x [rows, cols]`, and `inverse_norm [rows, 1]` = 1 / |x|; both are zero for rows of zeros, and of
/// numbers below [`SMALLEST`](crate::metric::SMALLEST).
///
/// `x` and `y` may span row windows.
///
/// # Panics
/// If the shapes differ.
pub fn normalize(plan: &mut Plan, x: Tensor, y: Tensor, inverse_norm: Tensor) {
    assert!(x.shape == y.shape && x.shape.batch == 1, "normalize: {x} -> {y}");
    assert!(inverse_norm.rows() == x.rows() && inverse_norm.cols() == 1, "normalize: {inverse_norm} for {x}");
    let windows: Vec<_> = plan.windows(x).zip(plan.windows(y)).collect();
    for (x, y) in windows {
        let params = Params { step: 0, rows: x.tensor.rows(), cols: x.tensor.cols(), first_row: x.first_row };
        plan.push::<Normalize>(params, &[x.tensor], &[y.tensor, inverse_norm]);
    }
}

/// The op; [`normalize`] records it.
pub struct Normalize;

/// Parameters of [`Normalize`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    /// Row of `inverse_norm` that belongs to the first bound row.
    first_row: u32,
}

impl Op for Normalize {
    const NAME: &'static str = "normalize";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("normalize", "inverse_norm_of", "grid", "reduce"), constants: vec![], grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([x], [y, inverse_norm]) = io.take();
        let cols = p.cols as usize;
        let inverse_norm = &mut inverse_norm.real()[p.first_row as usize..];
        let rows = x.real().par_chunks(cols).zip(y.real().par_chunks_mut(cols)).zip(inverse_norm.par_iter_mut());
        rows.with_min_len(64).for_each(|((x, y), inverse)| {
            *inverse = vectorized(#[inline(always)] || {
                let factor = inverse_norm_of(x);
                y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor);
                factor
            });
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([x], [y, inverse_norm]) = io.take();
        let (x, y, inverse_norm) = (x.real(), y.real(), inverse_norm.real());
        let cols = p.cols as usize;
        for row in 0..p.rows as usize {
            let x = &x[row * cols..][..cols];
            let inverse = inverse_norm_exactly(x);
            for c in 0..cols {
                y[row * cols + c] = x[c] * inverse;
            }
            inverse_norm[p.first_row as usize + row] = inverse;
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: 4 * elements, bytes: 8 * elements }
    }

    fn cases() -> Vec<Case> {
        lengths(case)
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("16384x64", Limits::NONE, [16_384, 64], Fill::Normal)]
    }
}

fn case(name: &str, limits: Limits, shape: [u32; 2], fill: Fill) -> Case {
    Case::with_limits(name, limits, |case| {
        let x = case.input("x", shape, fill);
        let y = case.output("y", shape);
        let inverse_norm = case.output("inverse_norm", [shape[0], 1]);
        normalize(&mut case.plan, x, y, inverse_norm);
    })
}
