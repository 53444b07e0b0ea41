//! The hidden layer's activation with dropout, and its derivative in the same pass.

use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::table_step;
use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::{Limits, Plan};
use crate::simd::exp;
use crate::tensor::Tensor;

/// sqrt(2 / pi).
const SLOPE: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;
/// Elements that a thread takes at a time, at least.
const CHUNK: usize = 1 << 14;

/// `y` = dropout(gelu(`x` + `bias`)), and `x` is replaced by dy/dx, so that the backward pass is one multiplication; all `[rows, cols]` but
/// for `bias [1, cols]`, whose derivative is the [`column_sum`](super::column_sum::column_sum) of that by `x`.
///
/// gelu(x) = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel 2016, arXiv 1606.08415); dropout zeroes a
/// share `rate` of the elements and scales the others by 1 / (1 - rate), by a hash of the element's index and of the seed in the
/// step's row of `seeds [steps or 1, 1]`. `x` and `y` may span row windows.
///
/// # Panics
/// If the shapes do not fit together, or the rate is not in 0..1.
pub fn gelu(plan: &mut Plan, seeds: Tensor, bias: Tensor, x: Tensor, y: Tensor, rate: f32) {
    assert!(x.shape == y.shape && x.shape.batch == 1, "gelu: shapes differ: {x} and {y}");
    assert!(bias.rows() == 1 && bias.cols() == x.cols(), "gelu: {bias} to {x}");
    assert!((0.0..1.0).contains(&rate), "gelu: dropout of {rate}");
    let threshold = (f64::from(rate) * 4_294_967_296.0) as u32;
    let seed_stride = table_step("gelu", seeds, 1);
    let windows: Vec<_> = plan.windows(x).zip(plan.windows(y)).collect();
    for (x, y) in windows {
        let elements = |rows: u32| u32::try_from(u64::from(rows) * u64::from(x.tensor.cols())).expect("gelu: fewer than 2^32 elements");
        let (first, count) = (elements(x.first_row), elements(x.tensor.rows()));
        let cols = x.tensor.cols();
        let params = Params { step: 0, first, count, cols, threshold, scale: 1.0 / (1.0 - rate), seed_stride };
        plan.push::<Gelu>(params, &[seeds, bias], &[x.tensor, y.tensor]);
    }
}

/// The op; [`gelu`] records it.
pub struct Gelu;

/// Parameters of [`Gelu`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    /// Index of the first bound element, which the hash counts from.
    first: u32,
    count: u32,
    cols: u32,
    /// Elements whose hash lies below are dropped.
    threshold: u32,
    /// Factor of the others.
    scale: f32,
    seed_stride: u32,
}

impl Params {
    fn seed(&self, seeds: &[u32]) -> u32 {
        seeds[(self.step * self.seed_stride) as usize]
    }

    /// 0 for a dropped element, else the scale.
    #[inline(always)]
    fn factor(&self, seed: u32, index: u32) -> f32 {
        let mut x = index.wrapping_mul(0x9e37_79b9).wrapping_add(seed);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        if x ^ (x >> 16) >= self.threshold { self.scale } else { 0.0 }
    }
}

/// gelu(x) and its derivative: with u the argument of tanh, s = (1 + tanh(u)) / 2 = 1 / (1 + exp(-2 u)), they are x s and
/// s + 2 x s (1 - s) du/dx.
#[inline(always)]
fn value_and_slope(x: f32) -> (f32, f32) {
    /// Beyond, s and the derivative are 0 or 1 as far as float32 tells.
    const FAR: f32 = 9.9;
    let near = x.clamp(-FAR, FAR);
    let square = near * near;
    let e = exp(near * (-2.0 * SLOPE - 2.0 * SLOPE * CUBIC * square));
    let s = 1.0 / (1.0 + e);
    // 1 - s is e s, with all digits where it is small.
    (x.max(-FAR) * s, s + s * (e * s) * near * (2.0 * SLOPE + 6.0 * SLOPE * CUBIC * square))
}

/// Elements that one thread takes; a type, which is inlined where it is compiled for wide vectors.
struct Chunk<'a> {
    /// By value: a reference could lead to what is written, and nothing would be vectorised.
    params: Params,
    seed: u32,
    /// Index of the first element, which the hash counts from.
    first: u32,
    bias: &'a [f32],
    /// Whole rows.
    x: &'a mut [f32],
    y: &'a mut [f32],
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { params, seed, first, bias, x, y } = self;
        let drops = params.threshold > 0;
        let rows = x.chunks_exact_mut(bias.len()).zip(y.chunks_exact_mut(bias.len()));
        for ((x, y), first) in rows.zip((first..).step_by(bias.len())) {
            for (i, ((x, y), bias)) in x.iter_mut().zip(y).zip(bias).enumerate() {
                let factor = if drops { params.factor(seed, first + i as u32) } else { 1.0 };
                let (value, slope) = value_and_slope(*x + bias);
                (*y, *x) = (factor * value, factor * slope);
            }
        }
    }
}

impl Op for Gelu {
    const NAME: &'static str = "gelu";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        let grid = flat_grid(p.count.div_ceil(256));
        vec![Pass { shader: shader!("gelu", "grid", "dropout"), constants: vec![], grid }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([seeds, bias], [x, y]) = io.take();
        let (seed, bias) = (p.seed(seeds.index()), bias.real());
        let len = CHUNK.div_ceil(bias.len()) * bias.len();
        let chunks = x.real().par_chunks_mut(len).zip(y.real().par_chunks_mut(len)).enumerate();
        chunks.for_each(|(chunk, (x, y))| {
            Arch::new().dispatch(Chunk { params: *p, seed, first: p.first + (chunk * len) as u32, bias, x, y });
        });
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([seeds, bias], [x, y]) = io.take();
        let (seed, bias) = (p.seed(seeds.index()), bias.real());
        let (slope, cubic) = ((2.0 / std::f64::consts::PI).sqrt(), 0.044_715);
        for (i, (x, y)) in x.real().iter_mut().zip(y.real()).enumerate() {
            let factor = f64::from(p.factor(seed, p.first + i as u32));
            *x += bias[i % p.cols as usize];
            let t = (slope * (*x + cubic * x.powi(3))).tanh();
            *y = factor * 0.5 * *x * (1.0 + t);
            *x = factor * (0.5 * (1.0 + t) + 0.5 * *x * (1.0 - t * t) * slope * (1.0 + 3.0 * cubic * x.powi(2)));
        }
    }

    fn cost(p: &Params) -> Cost {
        Cost { flops: 40 * u64::from(p.count), bytes: 12 * u64::from(p.count) }
    }

    fn cases() -> Vec<Case> {
        vec![
            case("1x1", Limits::NONE, [1, 1], Fill::Normal, 0.0),
            case("33x65", Limits::NONE, [33, 65], Fill::Normal, 0.0),
            case("33x65, dropout 0.2", Limits::NONE, [33, 65], Fill::Normal, 0.2),
            case("large and small", Limits::NONE, [9, 5], Fill::Exact((0..45).map(|i| 0.02 * (i as f32 - 22.0).powi(3)).collect()), 0.5),
            out_of_reach(),
            case("300x70, dropout 0.1", Limits::NONE, [300, 70], Fill::HeavyTailed, 0.1),
            case("150x12, dropout 0.5, row windows", Limits { binding_bytes: 4 * 64 * 12, ..Limits::NONE }, [150, 12], Fill::Normal, 0.5),
        ]
    }

    fn bench_cases() -> Vec<Case> {
        vec![case("4096x1024", Limits::NONE, [4096, 1024], Fill::Normal, 0.1)]
    }
}

/// Numbers whose squares are infinite, and whose finite differences vanish.
fn out_of_reach() -> Case {
    let mut case = case("out of reach", Limits::NONE, [2, 2], Fill::Exact(vec![1e20, -1e20, 1e38, 3e38]), 0.0);
    case.gradients.clear();
    case
}

fn case(name: &str, limits: Limits, shape: [u32; 2], fill: Fill, rate: f32) -> Case {
    use super::multiply::multiply;

    Case::with_limits(name, limits, |case| {
        let seeds = case.input("seeds", [2, 1], Fill::ExactIndices(vec![12_345, 67_890]));
        let bias = case.input("bias", [1, shape[1]], Fill::Normal);
        let x = case.in_out("x", shape, fill);
        let y = case.output("y", shape);
        gelu(&mut case.plan, seeds, bias, x, y, rate);
        let upstream: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i as f32).sin()).collect();
        let g = case.input("g", shape, Fill::Exact(upstream.clone()));
        let gradient = case.in_out("gradient", shape, Fill::Exact(upstream));
        multiply(&mut case.plan, x, gradient);
        case.gradients.push(GradientCheck { wrt: x, output: y, upstream: Some(g), gradient });
    })
}
