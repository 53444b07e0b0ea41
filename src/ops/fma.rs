//! Chains of fused multiply-adds in registers, which do nothing but compute: the arithmetic roof that other ops are measured against.

use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::case::{Case, Fill};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// A and B of a round x = A x + B, exact in every float type. Chains swing towards 1 slowly enough that the result still shows
/// the start and the number of rounds, and rounding errors fade.
const A: f64 = -63.0 / 64.0;
const B: f64 = 127.0 / 64.0;

/// Rounds that the shader runs between two looks at its counter.
const UNROLLED: u32 = 128;

/// Elements that a thread takes at a time: whole blocks of chains for every vector length.
const GRAIN: usize = 32 * 384;

/// `y` = `x` after `rounds` times x = -63/64 x + 127/64, for each element.
///
/// # Panics
/// If the shapes differ, the number of elements is no multiple of 4, or `rounds` is no multiple of 128.
pub fn fma(plan: &mut Plan, x: Tensor, y: Tensor, rounds: u32) {
    assert!(x.shape == y.shape && x.shape.len().is_multiple_of(4), "fma: {x} -> {y}");
    assert!(rounds.is_multiple_of(UNROLLED), "fma: {rounds} rounds are no multiple of {UNROLLED}");
    let vectors = u32::try_from(x.shape.len() / 4).expect("a binding has fewer than 2^32 elements");
    plan.push::<Fma>(Params { step: 0, vectors, rounds }, &[x], &[y]);
}

/// The op; [`fma`] records it.
pub struct Fma;

/// Parameters of [`Fma`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    /// Groups of four elements.
    vectors: u32,
    rounds: u32,
}

impl Op for Fma {
    const NAME: &'static str = "fma";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-5);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("fma", "grid"), constants: vec![], grid: flat_grid(p.vectors.div_ceil(256)) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([x], [y]) = io.take();
        let arch = Arch::new();
        let chunks = x.real().par_chunks(GRAIN).zip(y.real().par_chunks_mut(GRAIN));
        chunks.for_each(|(x, y)| arch.dispatch(Chains { x, y, rounds: p.rounds }));
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([x], [y]) = io.take();
        for (x, y) in x.real().iter().zip(y.real()) {
            *y = (0..p.rounds).fold(*x, |x, _| x.mul_add(A, B));
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = 4 * u64::from(p.vectors);
        Cost { flops: 2 * elements * u64::from(p.rounds), bytes: 8 * elements }
    }

    fn cases() -> Vec<Case> {
        vec![case("1x4", [1, 4], 128), case("33x68", [33, 68], 256), case("no rounds", [3, 4], 0)]
    }

    /// Enough chains to fill the largest GPU several times, and rounds to make their memory traffic vanish.
    fn bench_cases() -> Vec<Case> {
        vec![Case::new("4096x1024 rounds=1024", |case| {
            let x = case.plan.input("x", [4096, 1024]);
            let y = case.output("y", [4096, 1024]);
            fma(&mut case.plan, x, y, 1024);
        })]
    }
}

/// What a thread computes in registers, with the widest instructions that the processor has.
struct Chains<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    rounds: u32,
}

impl WithSimd for Chains<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // More chains than latency x units (16 on current cores) where registers allow, which A and B share.
        if S::REGISTER_COUNT >= 32 { self.run::<S, 24>(simd) } else { self.run::<S, 12>(simd) }
    }
}

impl Chains<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let (a, b) = (simd.splat_f32s(A as f32), simd.splat_f32s(B as f32));
        let block = N * S::F32_LANES;
        for (x, y) in self.x.chunks(block).zip(self.y.chunks_mut(block)) {
            let mut chains = [b; N];
            for (chain, x) in chains.iter_mut().zip(x.chunks(S::F32_LANES)) {
                *chain = simd.partial_load_f32s(x);
            }
            for _ in 0..self.rounds {
                for chain in &mut chains {
                    *chain = simd.mul_add_e_f32s(*chain, a, b);
                }
            }
            for (chain, y) in chains.into_iter().zip(y.chunks_mut(S::F32_LANES)) {
                simd.partial_store_f32s(y, chain);
            }
        }
    }
}

fn case(name: &str, shape: [u32; 2], rounds: u32) -> Case {
    Case::new(name, |case| {
        let x = case.input("x", shape, Fill::Normal);
        let y = case.output("y", shape);
        fma(&mut case.plan, x, y, rounds);
    })
}
