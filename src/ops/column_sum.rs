//! Sums over rows: the gradient of a bias, and the mean of a loss into a record.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::table_step;
use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, Write, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::simd::vectorized;
use crate::tensor::Tensor;

/// Row `step` of `sum [steps, cols]` (+)= scale x the sum over rows of `x [rows, cols]`; a `sum` of one row serves every step.
/// `x` may span row windows.
///
/// # Panics
/// If the shapes do not fit together.
pub fn column_sum(plan: &mut Plan, x: Tensor, sum: Tensor, scale: f32, write: Write) {
    assert!(x.cols() == sum.cols() && x.shape.batch == 1, "column_sum: {x} -> {sum}");
    let record_stride = table_step("column_sum", sum, x.cols());
    for window in plan.windows(x) {
        let accumulate = u32::from(write == Write::Add || window.first_row > 0);
        let params = Params { step: 0, rows: window.tensor.rows(), cols: x.cols(), scale, record_stride, accumulate };
        plan.push::<ColumnSum>(params, &[window.tensor], &[sum]);
    }
}

/// The op; [`column_sum`] records it.
pub struct ColumnSum;

/// Parameters of [`ColumnSum`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    scale: f32,
    record_stride: u32,
    accumulate: u32,
}

impl Op for ColumnSum {
    const NAME: &'static str = "column_sum";
    type Params = Params;
    // A sum of hundreds of both signs may be small beside its terms.
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-5);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("column_sum", "grid"), constants: vec![], grid: flat_grid(p.cols.div_ceil(16)) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([x], [sum]) = io.take();
        let cols = p.cols as usize;
        // Chunks of rows are summed apart and then together, in order: the sum does not depend on the number of threads, and
        // rounding errors stay small.
        let chunk = |rows: &[f32]| {
            vectorized(
                #[inline(always)]
                || {
                    let mut sum = vec![0.0; cols];
                    for row in rows.chunks_exact(cols) {
                        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                    }
                    sum
                },
            )
        };
        let sums: Vec<Vec<f32>> = x.real().par_chunks(256 * cols).map(chunk).collect();
        let mut total = vec![0.0; cols];
        for sum in sums {
            total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
        }
        let sum = &mut sum.real()[(p.step * p.record_stride) as usize..][..cols];
        for (sum, total) in sum.iter_mut().zip(total) {
            *sum = p.scale * total + if p.accumulate != 0 { *sum } else { 0.0 };
        }
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([x], [sum]) = io.take();
        let (x, cols) = (x.real(), p.cols as usize);
        let sum = &mut sum.real()[(p.step * p.record_stride) as usize..];
        for c in 0..cols {
            let total: f64 = (0..p.rows as usize).map(|r| x[r * cols + c]).sum();
            sum[c] = f64::from(p.scale) * total + if p.accumulate != 0 { sum[c] } else { 0.0 };
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: elements, bytes: 4 * elements }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("row windows", [200, 9], 1, Write::Set),
            case("1x1", [1, 1], 1, Write::Set),
            case("300x1, 3 records", [300, 1], 3, Write::Set),
            case("777x33 add", [777, 33], 1, Write::Add),
            case("5x130", [5, 130], 1, Write::Set),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("4096x64", [4096, 64], 1, Write::Set)]
    }
}

fn case(name: &str, shape: [u32; 2], steps: u32, write: Write) -> Case {
    let limits = if name == "row windows" { Limits { binding_bytes: 4 * 64 * 9, ..Limits::NONE } } else { Limits::NONE };
    Case::with_limits(name, limits, |case| {
        case.steps = steps;
        let x = case.input("x", shape, Fill::Normal);
        let sum = case.in_out("sum", [steps, shape[1]], Fill::Normal);
        column_sum(&mut case.plan, x, sum, 0.5, write);
    })
}
