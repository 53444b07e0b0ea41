//! A copy, which does nothing but move bytes: the memory roof that other ops are measured against.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::tensor::Tensor;

/// Elements that a thread copies at a time.
const GRAIN: usize = 1 << 16;

/// `y` = `x`, both `[rows, cols]` with `cols` a multiple of 4; they may span row windows.
///
/// # Panics
/// If the shapes differ or `cols` is no multiple of 4.
pub fn copy(plan: &mut Plan, x: Tensor, y: Tensor) {
    assert!(x.shape == y.shape && x.shape.batch == 1 && x.cols().is_multiple_of(4), "copy: {x} -> {y}");
    let windows: Vec<_> = plan.windows(x).zip(plan.windows(y)).collect();
    for (x, y) in windows {
        let params = Params { step: 0, vectors: x.tensor.rows() * (x.tensor.cols() / 4) };
        plan.push::<CopyElements>(params, &[x.tensor], &[y.tensor]);
    }
}

/// The op; [`copy`] records it.
pub struct CopyElements;

/// Parameters of [`CopyElements`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    /// Groups of four elements.
    vectors: u32,
}

impl Op for CopyElements {
    const NAME: &'static str = "copy";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Exact;

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("copy", "grid"), constants: vec![], grid: flat_grid(p.vectors.div_ceil(256)) }]
    }

    fn native(_: &Params, io: Io<'_, f32>) {
        let ([x], [y]) = io.take();
        x.real().par_chunks(GRAIN).zip(y.real().par_chunks_mut(GRAIN)).for_each(|(x, y)| y.copy_from_slice(x));
    }

    fn oracle(_: &Params, io: Io<'_, f64>) {
        let ([x], [y]) = io.take();
        y.real().copy_from_slice(x.real());
    }

    fn cost(p: &Params) -> Cost {
        Cost { flops: 0, bytes: 32 * u64::from(p.vectors) }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1x4", Limits::NONE, [1, 4], Fill::Normal),
            case("33x68", Limits::NONE, [33, 68], Fill::Extreme),
            case("row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [150, 12], Fill::Normal),
        ]
    }

    /// 512 MiB in all, beyond the caches, in bindings that every device takes.
    fn bench_cases() -> Vec<Case> {
        vec![Case::with_limits("65536x1024", Limits { binding_bytes: 128 << 20, ..Limits::NONE }, |case| {
            let shape = [65_536, 1024];
            // Zeros, as programs start with: a quarter of a gigabyte need not be drawn.
            let x = case.plan.input("x", shape);
            let y = case.output("y", shape);
            copy(&mut case.plan, x, y);
        })]
    }
}

fn case(name: &str, limits: Limits, shape: [u32; 2], fill: Fill) -> Case {
    Case::with_limits(name, limits, |case| {
        let x = case.input("x", shape, fill);
        let y = case.output("y", shape);
        copy(&mut case.plan, x, y);
    })
}
