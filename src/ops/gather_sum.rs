//! Sums of rows picked by a ragged table: the derivative of [`gather`](super::gather::gather).

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::table_step;
use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, Write, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::{DType, Tensor};

/// Row r of `out [n, cols]` (+)= the sum of the rows of `source [count, cols]` at `positions[offsets[r] .. offsets[r + 1]]`, in
/// that order, by the step's rows of `offsets [steps or 1, n + 1]` and `positions [steps or 1, count]`; [`inverse`] makes both.
///
/// Where `source` holds derivatives by the rows that `gather` picked, `out` holds those by the rows it picked from. Every row of
/// the result is summed by one workgroup, so that there are no atomics and every run gives the same bits.
///
/// # Panics
/// If the shapes do not fit together.
pub fn gather_sum(plan: &mut Plan, source: Tensor, offsets: Tensor, positions: Tensor, out: Tensor, write: Write) {
    assert!(source.cols() == out.cols() && source.shape.batch == 1 && out.shape.batch == 1, "gather_sum: {source} -> {out}");
    assert!([offsets, positions].iter().all(|t| t.dtype == DType::U32), "gather_sum: {offsets} or {positions} holds floats");
    let params = Params {
        step: 0,
        rows: out.rows(),
        cols: out.cols(),
        offsets_stride: table_step("gather_sum", offsets, out.rows() + 1),
        positions_stride: table_step("gather_sum", positions, source.rows()),
        accumulate: u32::from(write == Write::Add),
    };
    plan.push::<GatherSum>(params, &[source, offsets, positions], &[out]);
}

/// Appends the offsets `[rows + 1]` and positions `[table.len()]` that undo a table of indices below `rows`: for each row, where
/// in the table it stands.
///
/// # Panics
/// If an index is not below `rows`.
pub fn inverse(table: &[u32], rows: usize, offsets: &mut Vec<u32>, positions: &mut Vec<u32>) {
    let mut ends = vec![0u32; rows + 1];
    table.iter().for_each(|row| ends[*row as usize + 1] += 1);
    for row in 0..rows {
        ends[row + 1] += ends[row];
    }
    offsets.extend_from_slice(&ends);
    let first = positions.len();
    positions.resize(first + table.len(), 0);
    for (position, row) in (0..).zip(table) {
        let next = &mut ends[*row as usize];
        positions[first + *next as usize] = position;
        *next += 1;
    }
}

/// The op; [`gather_sum`] records it.
pub struct GatherSum;

/// Parameters of [`GatherSum`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    /// Elements from a step's row of the offsets to the next.
    offsets_stride: u32,
    positions_stride: u32,
    accumulate: u32,
}

impl Params {
    /// The rows of the source that a row of the result is the sum of.
    fn picked<'a>(&self, offsets: &'a [u32], positions: &'a [u32]) -> impl Fn(usize) -> &'a [u32] + use<'a> {
        let offsets = &offsets[(self.step * self.offsets_stride) as usize..];
        let positions = &positions[(self.step * self.positions_stride) as usize..];
        move |row| &positions[offsets[row] as usize..offsets[row + 1] as usize]
    }
}

impl Op for GatherSum {
    const NAME: &'static str = "gather_sum";
    type Params = Params;
    // A sum of both signs may be small beside its terms.
    const TOLERANCE: Tolerance = Tolerance::Relative(5e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("gather_sum", "grid"), constants: vec![], grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([source, offsets, positions], [out]) = io.take();
        let (source, cols) = (source.real(), p.cols as usize);
        let picked = p.picked(offsets.index(), positions.index());
        out.real().par_chunks_mut(cols).with_min_len(64).enumerate().for_each(|(row, out)| {
            if p.accumulate == 0 {
                out.fill(0.0);
            }
            for at in picked(row) {
                out.iter_mut().zip(&source[*at as usize * cols..][..cols]).for_each(|(out, x)| *out += x);
            }
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([source, offsets, positions], [out]) = io.take();
        let (source, out, cols) = (source.real(), out.real(), p.cols as usize);
        let picked = p.picked(offsets.index(), positions.index());
        for row in 0..p.rows as usize {
            for c in 0..cols {
                let sum: f64 = picked(row).iter().map(|at| source[*at as usize * cols + c]).sum();
                out[row * cols + c] = sum + if p.accumulate != 0 { out[row * cols + c] } else { 0.0 };
            }
        }
    }

    /// As if every row were picked once: how many are is not known before the run.
    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: elements, bytes: 8 * elements }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1 of 1x1", [1, 1], 1, 1, Write::Set),
            case("70 of 33x65", [33, 65], 70, 1, Write::Set),
            case("300 of 5x7 add", [5, 7], 300, 1, Write::Add),
            case("9 of 100x4, step 2 of 3", [100, 4], 9, 3, Write::Set),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("16384 of 16384x64", [16_384, 64], 16_384, 1, Write::Set)]
    }
}

fn case(name: &str, [rows, cols]: [u32; 2], count: u32, steps: u32, write: Write) -> Case {
    use super::gather::gather;

    Case::new(name, |case| {
        case.steps = steps;
        // Spread without a pattern; some rows are picked often, some never.
        let table: Vec<u32> = (0..steps * count).map(|i| (i * i + 3 * i) % (7 * rows + 5) % rows).collect();
        let (mut offsets, mut positions) = (Vec::new(), Vec::new());
        table.chunks(count as usize).for_each(|table| inverse(table, rows as usize, &mut offsets, &mut positions));
        let x = case.input("x", [rows, cols], Fill::Normal);
        let table = case.input("table", [steps, count], Fill::ExactIndices(table));
        let y = case.output("y", [count, cols]);
        let g = case.input("g", [count, cols], Fill::Normal);
        let offsets = case.input("offsets", [steps, rows + 1], Fill::ExactIndices(offsets));
        let positions = case.input("positions", [steps, count], Fill::ExactIndices(positions));
        let gradient = case.in_out("gradient", [rows, cols], Fill::Normal);
        gather(&mut case.plan, x, table, y);
        gather_sum(&mut case.plan, g, offsets, positions, gradient, write);
        if write == Write::Set {
            case.gradients.push(GradientCheck { wrt: x, output: y, upstream: Some(g), gradient });
        }
    })
}
