//! The elementwise product.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// `y` *= `x`, element by element; both may span row windows.
///
/// # Panics
/// If the shapes differ.
pub fn multiply(plan: &mut Plan, x: Tensor, y: Tensor) {
    assert!(x.shape == y.shape, "multiply: shapes differ: {x} and {y}");
    let windows: Vec<_> = plan.windows(x).zip(plan.windows(y)).collect();
    for (x, y) in windows {
        let count = u32::try_from(x.tensor.shape.len()).expect("multiply: fewer than 2^32 elements in a window");
        plan.push::<Multiply>(Params { step: 0, count }, &[x.tensor], &[y.tensor]);
    }
}

/// The op; [`multiply`] records it.
pub struct Multiply;

/// Parameters of [`Multiply`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    count: u32,
}

impl Op for Multiply {
    const NAME: &'static str = "multiply";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Exact;

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("multiply", "grid"), constants: vec![], grid: flat_grid(p.count.div_ceil(256)) }]
    }

    fn native(_: &Params, io: Io<'_, f32>) {
        let ([x], [y]) = io.take();
        y.real().par_iter_mut().zip(x.real()).with_min_len(1 << 14).for_each(|(y, x)| *y *= x);
    }

    fn oracle(_: &Params, io: Io<'_, f64>) {
        let ([x], [y]) = io.take();
        y.real().iter_mut().zip(x.real()).for_each(|(y, x)| *y *= x);
    }

    fn cost(p: &Params) -> Cost {
        Cost { flops: u64::from(p.count), bytes: 12 * u64::from(p.count) }
    }

    fn cases() -> Vec<Case> {
        vec![case("1x1", [1, 1]), case("33x65", [33, 65]), case("300x7", [300, 7])]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("4096x1024", [4096, 1024])]
    }
}

fn case(name: &str, shape: [u32; 2]) -> Case {
    Case::new(name, |case| {
        let x = case.input("x", shape, Fill::Normal);
        let y = case.in_out("y", shape, Fill::Normal);
        multiply(&mut case.plan, x, y);
    })
}
