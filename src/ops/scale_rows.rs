//! Every row multiplied by a number of its own.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::tensor::Tensor;

/// `x [rows, cols]` *= `factors [rows, 1]`, row by row, in place; `x` may span row windows.
///
/// # Panics
/// If the shapes do not fit together.
pub fn scale_rows(plan: &mut Plan, factors: Tensor, x: Tensor) {
    assert!(x.shape.batch == 1 && factors.shape == [x.rows(), 1].into(), "scale_rows: {x} by {factors}");
    for window in plan.windows(x) {
        let params = Params { step: 0, rows: window.tensor.rows(), cols: x.cols(), first_row: window.first_row };
        plan.push::<ScaleRows>(params, &[factors], &[window.tensor]);
    }
}

/// The op; [`scale_rows`] records it.
pub struct ScaleRows;

/// Parameters of [`ScaleRows`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    /// Row of `factors` that belongs to the first bound row.
    first_row: u32,
}

impl Op for ScaleRows {
    const NAME: &'static str = "scale_rows";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-7);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("scale_rows", "grid"), constants: vec![], grid: flat_grid((p.rows * p.cols).div_ceil(256)) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([factors], [x]) = io.take();
        let factors = &factors.real()[p.first_row as usize..];
        let rows = x.real().par_chunks_mut(p.cols as usize).zip(factors).with_min_len(64);
        rows.for_each(|(x, factor)| x.iter_mut().for_each(|x| *x *= factor));
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([factors], [x]) = io.take();
        let factors = &factors.real()[p.first_row as usize..];
        x.real().iter_mut().enumerate().for_each(|(i, x)| *x *= factors[i / p.cols as usize]);
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: elements, bytes: 8 * elements + 4 * u64::from(p.rows) }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1x1", Limits::NONE, [1, 1]),
            case("33x65", Limits::NONE, [33, 65]),
            case("300x7", Limits::NONE, [300, 7]),
            case("row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [150, 12]),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("16384x64", Limits::NONE, [16_384, 64])]
    }
}

fn case(name: &str, limits: Limits, shape: [u32; 2]) -> Case {
    Case::with_limits(name, limits, |case| {
        let factors = case.input("factors", [shape[0], 1], Fill::HeavyTailed);
        let x = case.in_out("x", shape, Fill::Normal);
        scale_rows(&mut case.plan, factors, x);
    })
}
