//! What turns inner products into a similarity that ranks by Euclidean distance.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::tensor::Tensor;

/// `offset [1, rows]` = -|y|^2 / 2 for each row y of `y [rows, cols]`, which may span row windows.
///
/// From -|x - y|^2 / 2 = x . y - |y|^2 / 2 - |x|^2 / 2, where the last term is the same for every y: x . y + offset ranks rows y
/// by their distance from x.
///
/// # Panics
/// If the shapes do not fit together.
pub fn l2_offset(plan: &mut Plan, y: Tensor, offset: Tensor) {
    assert!(y.shape.batch == 1 && offset.shape == [1, y.rows()].into(), "l2_offset: {y} -> {offset}");
    for window in plan.windows(y) {
        let params = Params { step: 0, rows: window.tensor.rows(), cols: y.cols(), first_row: window.first_row };
        plan.push::<L2Offset>(params, &[window.tensor], &[offset]);
    }
}

/// The op; [`l2_offset`] records it.
pub struct L2Offset;

/// Parameters of [`L2Offset`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    /// Place in `offset` that belongs to the first bound row.
    first_row: u32,
}

impl Op for L2Offset {
    const NAME: &'static str = "l2_offset";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("l2_offset", "grid", "reduce"), constants: vec![], grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([y], [offset]) = io.take();
        let offset = &mut offset.real()[p.first_row as usize..];
        let rows = y.real().par_chunks(p.cols as usize).zip(offset).with_min_len(64);
        // In f64: distances are differences of these numbers.
        rows.for_each(|(y, offset)| *offset = (-0.5 * y.iter().map(|y| f64::from(*y) * f64::from(*y)).sum::<f64>()) as f32);
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([y], [offset]) = io.take();
        let (y, offset, cols) = (y.real(), offset.real(), p.cols as usize);
        for row in 0..p.rows as usize {
            offset[p.first_row as usize + row] = -0.5 * y[row * cols..][..cols].iter().map(|y| y * y).sum::<f64>();
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        Cost { flops: 2 * elements, bytes: 4 * (elements + u64::from(p.rows)) }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1x1", Limits::NONE, [1, 1], Fill::Normal),
            case("33x65", Limits::NONE, [33, 65], Fill::Normal),
            case("70x32 heavy-tailed", Limits::NONE, [70, 32], Fill::HeavyTailed),
            case("5x300 ties", Limits::NONE, [5, 300], Fill::Ties),
            case("zero rows", Limits::NONE, [4, 8], Fill::Constant(0.0)),
            case("large", Limits::NONE, [3, 7], Fill::Constant(-1e18)),
            case("row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [150, 12], Fill::Normal),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("16384x64", Limits::NONE, [16_384, 64], Fill::Normal)]
    }
}

fn case(name: &str, limits: Limits, shape: [u32; 2], fill: Fill) -> Case {
    Case::with_limits(name, limits, |case| {
        let y = case.input("y", shape, fill);
        let offset = case.output("offset", [1, shape[0]]);
        l2_offset(&mut case.plan, y, offset);
    })
}
