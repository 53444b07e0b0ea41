//! Rows picked by a table of indices.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{Rows, columns, table_step};
use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::tensor::{DType, Tensor};

/// `out [count, cols]` = rows of `source [n, cols]` at `table [steps, count]`, in the step's row of the table.
///
/// A table of one row serves every step. `source` may span row windows, and may be words that hold two float16 numbers each. Indices
/// must lie below n.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gather(plan: &mut Plan, source: Tensor, table: Tensor, out: Tensor) {
    assert!(columns(source) == out.cols() && table.cols() == out.rows(), "gather: {source} by {table} does not make {out}");
    assert!(table.dtype == DType::U32, "gather: {table} holds floats");
    for window in plan.windows(source) {
        let params = Params {
            step: 0,
            count: out.rows(),
            cols: out.cols(),
            first_row: window.first_row,
            rows: window.tensor.rows(),
            table_stride: table_step("gather", table, out.rows()),
            halves: u32::from(source.dtype == DType::U32),
        };
        plan.push::<Gather>(params, &[window.tensor, table], &[out]);
    }
}

/// The op; [`gather`] records it once for each row window of the source.
pub struct Gather;

/// Parameters of [`Gather`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    count: u32,
    cols: u32,
    /// The bound rows of the source: `first_row .. first_row + rows`.
    first_row: u32,
    rows: u32,
    table_stride: u32,
    halves: u32,
}

impl Params {
    /// (row of the result, row of the bound window) for every index that lies in the window.
    fn pairs<'a>(&'a self, table: &'a [u32]) -> impl Fn(usize) -> Option<usize> + 'a {
        let table = &table[(self.step * self.table_stride) as usize..];
        move |i| table[i].checked_sub(self.first_row).filter(|row| *row < self.rows).map(|row| row as usize)
    }
}

impl Op for Gather {
    const NAME: &'static str = "gather";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Exact;

    fn passes(p: &Params) -> Vec<Pass> {
        let shader = match p.halves {
            0 => shader!("gather", "source_floats", "grid"),
            _ => shader!("gather", "source_halves", "grid"),
        };
        vec![Pass { shader, constants: vec![], grid: flat_grid(p.count) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([source, table], [out]) = io.take();
        let (source, cols, row_of) = (Rows::new(source), p.cols as usize, p.pairs(table.index()));
        out.real().par_chunks_mut(cols).with_min_len(16).enumerate().for_each(|(i, out)| {
            if let Some(row) = row_of(i) {
                source.copy(row, out);
            }
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([source, table], [out]) = io.take();
        let (source, table, out) = (Rows::new(source), table.index(), out.real());
        let cols = p.cols as usize;
        for i in 0..p.count as usize {
            let row = table[(p.step * p.table_stride) as usize + i];
            if (p.first_row..p.first_row + p.rows).contains(&row) {
                for c in 0..cols {
                    out[i * cols + c] = source.element((row - p.first_row) as usize * cols + c);
                }
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        Cost { flops: 0, bytes: u64::from(8 - 2 * p.halves) * u64::from(p.count) * u64::from(p.cols) }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1 of 1x1", Limits::NONE, [1, 1], 1, 1),
            case("70 of 33x65", Limits::NONE, [33, 65], 70, 1),
            case("9 of 100x4, step 2 of 3", Limits::NONE, [100, 4], 9, 3),
            case("60 of 300x12, row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [300, 12], 60, 1),
            halves("70 of 33x66 halves", Limits::NONE, [33, 66], 70),
            halves("30 of 300x24 halves, row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [300, 24], 30),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("4096 of 16384x384", Limits::NONE, [16_384, 384], 4096, 1)]
    }
}

fn case(name: &str, limits: Limits, [rows, cols]: [u32; 2], count: u32, steps: u32) -> Case {
    Case::with_limits(name, limits, |case| {
        case.steps = steps;
        let source = case.input("source", [rows, cols], Fill::Normal);
        let table = case.input("table", [steps, count], Fill::Below(rows));
        let out = case.output("out", [count, cols]);
        gather(&mut case.plan, source, table, out);
    })
}

fn halves(name: &str, limits: Limits, [rows, cols]: [u32; 2], count: u32) -> Case {
    Case::with_limits(name, limits, |case| {
        let source = case.input("source", [rows, cols / 2], Fill::Halves);
        let table = case.input("table", [1, count], Fill::Below(rows));
        let out = case.output("out", [count, cols]);
        gather(&mut case.plan, source, table, out);
    })
}
