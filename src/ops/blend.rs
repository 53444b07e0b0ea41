//! Weighted sums of rows picked by a table of indices.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{Rows, columns, table_step};
use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::tensor::{DType, Tensor};

/// Row i of `out [count, cols]` = the sum over j of `weights[i, j]` x row `table[i, j]` of `source [n, cols]`, in the step's row
/// of `table [steps, count x parts]` and of `weights`, of the same shape.
///
/// Tables of one row serve every step. `source` may span row windows, and may be words that hold two float16 numbers each. Indices must
/// lie below n.
///
/// # Panics
/// If the shapes do not fit together.
pub fn blend(plan: &mut Plan, source: Tensor, table: Tensor, weights: Tensor, out: Tensor) {
    let (count, cols) = (out.rows(), out.cols());
    assert!(columns(source) == cols && table.cols().is_multiple_of(count), "blend: {source} by {table} does not make {out}");
    assert!(table.dtype == DType::U32 && weights.dtype == DType::F32, "blend: {table} by {weights}");
    assert!(table.shape == weights.shape, "blend: shapes differ: {table} and {weights}");
    let (parts, table_stride) = (table.cols() / count, table_step("blend", table, table.cols()));
    for window in plan.windows(source) {
        let (first_row, rows) = (window.first_row, window.tensor.rows());
        let halves = u32::from(source.dtype == DType::U32);
        let params = Params { step: 0, count, parts, cols, first_row, rows, table_stride, halves };
        plan.push::<Blend>(params, &[window.tensor, table, weights], &[out]);
    }
}

/// The op; [`blend`] records it once for each row window of the source.
pub struct Blend;

/// Parameters of [`Blend`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    count: u32,
    parts: u32,
    cols: u32,
    /// The bound rows of the source: `first_row .. first_row + rows`; later windows add to the first.
    first_row: u32,
    rows: u32,
    table_stride: u32,
    halves: u32,
}

impl Params {
    /// (weight, row of the bound window) of the parts of a row that lie in the window.
    fn parts<'a, F: Copy>(&self, table: &'a [u32], weights: &'a [F], i: usize) -> impl Iterator<Item = (F, usize)> + 'a {
        let Self { first_row, rows, .. } = *self;
        let first = (self.step * self.table_stride) as usize + i * self.parts as usize;
        let parts = table[first..].iter().zip(&weights[first..]).take(self.parts as usize);
        parts.filter_map(move |(row, weight)| {
            row.checked_sub(first_row).filter(|row| *row < rows).map(|row| (*weight, row as usize))
        })
    }
}

impl Op for Blend {
    const NAME: &'static str = "blend";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        let shader = match p.halves {
            0 => shader!("blend", "source_floats", "grid"),
            _ => shader!("blend", "source_halves", "grid"),
        };
        vec![Pass { shader, constants: vec![], grid: flat_grid(p.count) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([source, table, weights], [out]) = io.take();
        let (source, table, weights, cols) = (Rows::new(source), table.index(), weights.real(), p.cols as usize);
        out.real().par_chunks_mut(cols).with_min_len(16).enumerate().for_each(|(i, out)| {
            if p.first_row == 0 {
                out.fill(0.0);
            }
            for (weight, row) in p.parts(table, weights, i) {
                source.add(row, weight, out);
            }
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([source, table, weights], [out]) = io.take();
        let (source, table, weights, out) = (Rows::new(source), table.index(), weights.real(), out.real());
        let cols = p.cols as usize;
        for i in 0..p.count as usize {
            for c in 0..cols {
                let before = if p.first_row == 0 { 0.0 } else { out[i * cols + c] };
                let sum: f64 = p.parts(table, weights, i).map(|(weight, row)| weight * source.element(row * cols + c)).sum();
                out[i * cols + c] = before + sum;
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.count) * u64::from(p.cols);
        Cost { flops: 2 * u64::from(p.parts) * elements, bytes: (u64::from(4 - 2 * p.halves) * u64::from(p.parts) + 4) * elements }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1 of 1x1, 1 part", Limits::NONE, [1, 1], [1, 1, 1], Fill::Normal),
            case("70 of 33x65, 4 parts", Limits::NONE, [33, 65], [70, 4, 1], Fill::Normal),
            case("9 of 100x4, 3 parts, step 2 of 3", Limits::NONE, [100, 4], [9, 3, 3], Fill::Normal),
            case("60 of 300x12, 4 parts, row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [300, 12], [60, 4, 1], Fill::Normal),
            case("7 of 5x9, 2 parts, extremes", Limits::NONE, [5, 9], [7, 2, 1], Fill::Extreme),
            case("70 of 33x66 halves, 3 parts, step 2 of 3", Limits::NONE, [33, 66], [70, 3, 3], Fill::Halves),
            case("30 of 300x24 halves, 4 parts, row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [300, 24], [30, 4, 1], Fill::Halves),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("512 of 16384x384, 4 parts", Limits::NONE, [16_384, 384], [512, 4, 1], Fill::Normal)]
    }
}

fn case(name: &str, limits: Limits, [rows, cols]: [u32; 2], [count, parts, steps]: [u32; 3], fill: Fill) -> Case {
    Case::with_limits(name, limits, |case| {
        case.steps = steps;
        let words = if matches!(fill, Fill::Halves) { cols / 2 } else { cols };
        let source = case.input("source", [rows, words], fill);
        let table = case.input("table", [steps, count * parts], Fill::Below(rows));
        let weights = case.input("weights", [steps, count * parts], Fill::Normal);
        let out = case.output("out", [count, cols]);
        blend(&mut case.plan, source, table, weights, out);
    })
}
