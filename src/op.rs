//! The op: one computation with its shaders, its native twin, its definition in f64, its test cases and its cost.
//!
//! To add one, write `ops/foo.rs` and `shaders/foo.wgsl`, and name it in the table of [`crate::ops`]. Parity, gradient and shader
//! tests and the bench rows walk that table.

use std::fmt::Debug;
use std::marker::PhantomData;

use bytemuck::{Pod, pod_read_unaligned};

use crate::case::Case;

/// A computation on tensors, defined four times: shader, native code, f64 oracle, cost.
pub trait Op: 'static {
    /// Label, test name and bench row.
    const NAME: &'static str;
    /// `struct Params` of the shaders. Its first field is `step: u32`, which the backend sets for every step.
    type Params: Pod + Debug + Send + Sync;
    /// How closely shader and native code must agree with the oracle.
    const TOLERANCE: Tolerance;

    /// The dispatches, in order. Binding `i` of a shader is tensor `i` of the node, inputs before outputs.
    fn passes(params: &Self::Params) -> Vec<Pass>;
    /// The computation on the CPU, in f32: what runs where there is no GPU.
    fn native(params: &Self::Params, io: Io<'_, f32>);
    /// The definition: naive loops in f64.
    fn oracle(params: &Self::Params, io: Io<'_, f64>);
    /// Work of one step, for fractions of a roof and for bounding submissions.
    fn cost(params: &Self::Params) -> Cost;
    /// Shapes and distributions that parity and gradient tests run.
    fn cases() -> Vec<Case>;
    /// Shapes worth timing.
    fn bench_cases() -> Vec<Case>;
    /// What bounds such arithmetic on the processor, where it is not what bounds [`fma`](crate::ops::fma::fma).
    fn native_peak() -> Option<Peak> {
        None
    }
}

/// Arithmetic of what lies in registers: does it so many times, and returns of how many floating-point operations.
pub type Peak = Box<dyn Fn(u32) -> u64>;

/// WGSL of one pass: parts that are joined behind a block of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// File name without `.wgsl`; the label of pipelines.
    pub name: &'static str,
    /// Sources in any order: WGSL does not mind.
    pub parts: &'static [&'static str],
}

/// A shader of `shaders/`, with the parts of `shaders/shared/` that it uses.
macro_rules! shader {
    ($name:literal $(, $part:literal)*) => {
        $crate::op::Shader {
            name: $name,
            parts: &[
                include_str!(concat!("../../shaders/", $name, ".wgsl")),
                $(include_str!(concat!("../../shaders/shared/", $part, ".wgsl")),)*
            ],
        }
    };
}
pub(crate) use shader;

/// One dispatch: a shader, the constants that make its variant, and how many workgroups.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The source.
    pub shader: Shader,
    /// `const NAME: u32 = value;` lines behind the source, whose first lines may enable extensions.
    pub constants: Vec<(&'static str, u32)>,
    /// Workgroups in x, y, z; see [`flat_grid`] for counts above 65,535.
    pub grid: [u32; 3],
}

impl Pass {
    /// The complete WGSL of this variant.
    pub fn source(&self) -> String {
        let mut source = String::new();
        for part in self.shader.parts {
            source.push_str(part);
        }
        for (name, value) in &self.constants {
            source.push_str(&format!("const {name}: u32 = {value}u;\n"));
        }
        source
    }
}

/// Most workgroups that every backend takes in one dimension.
pub const MAX_GRID: u32 = 65_535;

/// `workgroups` spread over x and y; the shader folds them back with `flat_workgroup` of `shared/grid.wgsl`.
pub fn flat_grid(workgroups: u32) -> [u32; 3] {
    let y = workgroups.div_ceil(MAX_GRID);
    [workgroups.div_ceil(y.max(1)), y, 1]
}

/// Whether a result replaces what was there or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Replace.
    Set,
    /// Add.
    Add,
}

/// Work of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a fused multiply-add counts two.
    pub flops: u64,
    /// Bytes that must move, each input read once and each output written once.
    pub bytes: u64,
}

/// How closely results must agree with the oracle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// To the bit.
    Exact,
    /// |result - oracle| <= this x the largest |oracle| of the tensor; indices to the bit.
    Relative(f64),
}

/// A tensor that an op reads.
#[derive(Clone, Copy, Debug)]
pub enum View<'a, F> {
    /// Float elements.
    Real(&'a [F]),
    /// Index elements.
    Index(&'a [u32]),
}

impl<'a, F> View<'a, F> {
    /// The elements, of a float tensor.
    pub fn real(self) -> &'a [F] {
        match self {
            Self::Real(x) => x,
            Self::Index(_) => panic!("an op expects a float tensor and was given indices"),
        }
    }

    /// The elements, of an index tensor.
    pub fn index(self) -> &'a [u32] {
        match self {
            Self::Index(x) => x,
            Self::Real(_) => panic!("an op expects indices and was given a float tensor"),
        }
    }
}

/// A tensor that an op writes.
#[derive(Debug)]
pub enum ViewMut<'a, F> {
    /// Float elements.
    Real(&'a mut [F]),
    /// Index elements.
    Index(&'a mut [u32]),
}

impl<'a, F> ViewMut<'a, F> {
    /// The elements, of a float tensor.
    pub fn real(self) -> &'a mut [F] {
        match self {
            Self::Real(x) => x,
            Self::Index(_) => panic!("an op writes a float tensor and was given indices"),
        }
    }

    /// The elements, of an index tensor.
    pub fn index(self) -> &'a mut [u32] {
        match self {
            Self::Index(x) => x,
            Self::Real(_) => panic!("an op writes indices and was given a float tensor"),
        }
    }
}

/// What an op reads and writes, in the order of [`Plan::push`](crate::plan::Plan::push).
pub struct Io<'a, F> {
    pub(crate) inputs: Vec<View<'a, F>>,
    pub(crate) outputs: Vec<ViewMut<'a, F>>,
}

impl<'a, F> Io<'a, F> {
    /// The views, as arrays to destructure.
    pub fn take<const I: usize, const O: usize>(self) -> ([View<'a, F>; I], [ViewMut<'a, F>; O]) {
        let inputs =
            self.inputs.try_into().unwrap_or_else(|v: Vec<_>| panic!("an op expects {I} inputs and was given {}", v.len()));
        let outputs =
            self.outputs.try_into().unwrap_or_else(|v: Vec<_>| panic!("an op expects {O} outputs and was given {}", v.len()));
        (inputs, outputs)
    }
}

/// [`Op`] with its types erased: what plans hold and tables list.
pub trait ErasedOp: Send + Sync {
    /// [`Op::NAME`].
    fn name(&self) -> &'static str;
    /// [`Op::TOLERANCE`].
    fn tolerance(&self) -> Tolerance;
    /// Size of [`Op::Params`] in bytes.
    fn params_size(&self) -> usize;
    /// [`Op::passes`].
    fn passes(&self, params: &[u8]) -> Vec<Pass>;
    /// [`Op::native`].
    fn native(&self, params: &[u8], io: Io<'_, f32>);
    /// [`Op::oracle`].
    fn oracle(&self, params: &[u8], io: Io<'_, f64>);
    /// [`Op::cost`].
    fn cost(&self, params: &[u8]) -> Cost;
    /// [`Op::cases`].
    fn cases(&self) -> Vec<Case>;
    /// [`Op::bench_cases`].
    fn bench_cases(&self) -> Vec<Case>;
    /// [`Op::native_peak`].
    fn native_peak(&self) -> Option<Peak>;
}

/// An op as a value.
pub struct Erased<O>(PhantomData<fn() -> O>);

impl<O: Op> Erased<O> {
    /// The value.
    pub const NEW: Self = Self(PhantomData);
}

impl<O: Op> ErasedOp for Erased<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn tolerance(&self) -> Tolerance {
        O::TOLERANCE
    }

    fn params_size(&self) -> usize {
        size_of::<O::Params>()
    }

    fn passes(&self, params: &[u8]) -> Vec<Pass> {
        O::passes(&pod_read_unaligned(params))
    }

    fn native(&self, params: &[u8], io: Io<'_, f32>) {
        O::native(&pod_read_unaligned(params), io);
    }

    fn oracle(&self, params: &[u8], io: Io<'_, f64>) {
        O::oracle(&pod_read_unaligned(params), io);
    }

    fn cost(&self, params: &[u8]) -> Cost {
        O::cost(&pod_read_unaligned(params))
    }

    fn cases(&self) -> Vec<Case> {
        O::cases()
    }

    fn bench_cases(&self) -> Vec<Case> {
        O::bench_cases()
    }

    fn native_peak(&self) -> Option<Peak> {
        O::native_peak()
    }
}
