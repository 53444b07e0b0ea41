//! The first columns of a matrix, out of it and back into it: prefixes of an embedding.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, Write, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// The first columns of `y [rows, m]` (+)= those of `x [rows, n]`, min(m, n) of them; what `y` has beyond them stays as it is.
///
/// # Panics
/// If the numbers of rows differ.
pub fn first_columns(plan: &mut Plan, x: Tensor, y: Tensor, write: Write) {
    assert!(x.rows() == y.rows() && x.shape.batch == 1 && y.shape.batch == 1, "first_columns: {x} -> {y}");
    let accumulate = u32::from(write == Write::Add);
    let params = Params { step: 0, rows: x.rows(), x_cols: x.cols(), y_cols: y.cols(), accumulate };
    plan.push::<FirstColumns>(params, &[x], &[y]);
}

/// The op; [`first_columns`] records it.
pub struct FirstColumns;

/// Parameters of [`FirstColumns`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    x_cols: u32,
    y_cols: u32,
    accumulate: u32,
}

impl Params {
    /// Elements that are read of `x`, and as many that are written of `y`.
    fn elements(&self) -> u32 {
        self.rows * self.x_cols.min(self.y_cols)
    }
}

impl Op for FirstColumns {
    const NAME: &'static str = "first_columns";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        let grid = flat_grid(p.elements().div_ceil(256));
        vec![Pass { shader: shader!("first_columns", "grid"), constants: vec![], grid }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([x], [y]) = io.take();
        let rows = x.real().par_chunks(p.x_cols as usize).zip(y.real().par_chunks_mut(p.y_cols as usize));
        rows.with_min_len(256).for_each(|(x, y)| {
            let elements = y.iter_mut().zip(x);
            if p.accumulate != 0 {
                elements.for_each(|(y, x)| *y += x);
            } else {
                elements.for_each(|(y, x)| *y = *x);
            }
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([x], [y]) = io.take();
        let (x, y) = (x.real(), y.real());
        let (x_cols, y_cols) = (p.x_cols as usize, p.y_cols as usize);
        for row in 0..p.rows as usize {
            for c in 0..x_cols.min(y_cols) {
                let before = if p.accumulate != 0 { y[row * y_cols + c] } else { 0.0 };
                y[row * y_cols + c] = before + x[row * x_cols + c];
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.elements());
        Cost { flops: u64::from(p.accumulate) * elements, bytes: 4 * u64::from(2 + p.accumulate) * elements }
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for write in [Write::Set, Write::Add] {
            for (rows, cols) in [(1, [1, 1]), (33, [17, 5]), (33, [5, 17]), (300, [16, 128]), (257, [7, 7])] {
                cases.push(case(rows, cols, write));
            }
        }
        cases
    }

    fn bench_cases() -> Vec<Case> {
        vec![case(4096, [128, 32], Write::Set), case(4096, [32, 128], Write::Add)]
    }
}

fn case(rows: u32, [x_cols, y_cols]: [u32; 2], write: Write) -> Case {
    Case::new(format!("{rows}x{x_cols} to {rows}x{y_cols}, {write:?}"), |case| {
        let x = case.input("x", [rows, x_cols], Fill::Normal);
        let y = case.in_out("y", [rows, y_cols], Fill::Normal);
        first_columns(&mut case.plan, x, y, write);
        // The derivative goes the other way, and is zero beyond the common columns.
        let g = case.input("g", [rows, y_cols], Fill::Normal);
        let gradient = case.in_out("gradient", [rows, x_cols], Fill::Constant(0.0));
        first_columns(&mut case.plan, g, gradient, Write::Set);
        case.gradients.push(GradientCheck { wrt: x, output: y, upstream: Some(g), gradient });
    })
}
