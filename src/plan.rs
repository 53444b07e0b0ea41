//! A plan: what to compute, as plain data. Recorded once by the mathematics, run by any [`Backend`](crate::backend::Backend).

use std::fmt;
use std::ops::Range;

use bytemuck::bytes_of;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::op::{Erased, ErasedOp, Op};
use crate::tensor::{DType, Shape, Tensor};

/// What plans for a backend have to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest binding in bytes (128 MiB on some adapters): a plan splits larger tensors into row windows.
    pub binding_bytes: u64,
    /// Most flops of one product: a plan splits larger ones, for watchdogs of drivers end what keeps a device busy for seconds.
    pub product_flops: u64,
    /// Dimensions and neighbours up to which searching with [`nearest`](crate::ops::nearest) is faster than storing all scores.
    pub fused_search: [usize; 2],
    /// Whether rows that stay on the device are better stored in float16: half the memory and half of what is sent there.
    pub half_rows: bool,
    /// Matrix units that products whose factors may be float16 are made on, if they are to be used.
    pub matrix_units: Option<MatrixUnits>,
}

/// Units that multiply small matrices of float16 numbers and sum in float32, a subgroup at a time: tensor cores, which shaders reach as
/// cooperative matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MatrixUnits {
    /// Rows and columns of the matrices: 8 or 16.
    pub side: u32,
    /// Invocations of every subgroup.
    pub subgroup: u32,
}

impl fmt::Display for MatrixUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{0}x{0} float16 units of {1} invocations", self.side, self.subgroup)
    }
}

impl Limits {
    /// No limit: host memory. There, scores are best selected from while they are in a cache, whatever their number.
    pub const NONE: Self = Self {
        binding_bytes: u64::MAX,
        product_flops: u64::MAX,
        fused_search: [usize::MAX; 2],
        half_rows: false,
        matrix_units: None,
    };

    /// Whether scores of rows of so many dimensions are best selected from where they are computed.
    pub fn fuses_search(&self, dim: usize, k: usize) -> bool {
        let [max_dim, max_k] = self.fused_search;
        dim <= max_dim && k <= max_k
    }
}

/// Who writes a tensor, and how long its content lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Written by the host between runs, only read by nodes.
    Input,
    /// Lives across steps and runs: parameters, optimiser state, results, records of losses.
    State,
    /// Undefined at the start of every step.
    Scratch,
}

/// One array of a plan.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// The handle of the whole array.
    pub tensor: Tensor,
    /// Who writes it.
    pub role: Role,
    /// Rows of every row window but the last, which may be shorter.
    window_rows: u32,
}

impl TensorInfo {
    /// The row windows of storage: one buffer each.
    pub fn windows(&self) -> impl Iterator<Item = Window> + use<> {
        windows(self.tensor, self.window_rows)
    }
}

/// A run of rows of a tensor that fits one binding.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Handle of these rows.
    pub tensor: Tensor,
    /// Their first row in the whole tensor.
    pub first_row: u32,
}

/// A run of elements that the host writes, within one row window.
pub(crate) struct Span {
    /// Index of the row window.
    pub(crate) window: usize,
    /// First element within the window.
    pub(crate) at: usize,
    /// Which elements of the written data.
    pub(crate) data: Range<usize>,
}

/// An operation of a plan: an op, its parameters as bytes, and what it reads and writes.
#[derive(Clone)]
pub struct Node {
    /// What to compute.
    pub op: &'static dyn ErasedOp,
    /// `Op::Params`; the first four bytes are the step, set anew for every step.
    pub params: Vec<u8>,
    /// What is read.
    pub inputs: Vec<Tensor>,
    /// What is written.
    pub outputs: Vec<Tensor>,
}

/// A named list of nodes, run as a whole for every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routine(pub(crate) usize);

/// Tensors, and the routines that compute with them.
#[derive(Clone)]
pub struct Plan {
    limits: Limits,
    tensors: Vec<TensorInfo>,
    routines: Vec<Vec<Node>>,
    /// The first tensor that would have to be bound at once and is too large for that.
    misfit: Option<Tensor>,
}

impl Plan {
    /// An empty plan for a backend with these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, tensors: Vec::new(), routines: Vec::new(), misfit: None }
    }

    /// A float tensor that the host writes and nodes only read.
    pub fn input(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        self.tensor(name, shape.into(), DType::F32, Role::Input)
    }

    /// A tensor of indices that the host writes and nodes only read.
    pub fn indices(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        self.tensor(name, shape.into(), DType::U32, Role::Input)
    }

    /// A float tensor that lives across steps: a parameter, a result, a record.
    pub fn state(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        self.tensor(name, shape.into(), DType::F32, Role::State)
    }

    /// A tensor of indices that lives across steps.
    pub fn state_indices(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        self.tensor(name, shape.into(), DType::U32, Role::State)
    }

    /// A float tensor within a step; its content is undefined when a step starts.
    pub fn scratch(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        self.tensor(name, shape.into(), DType::F32, Role::Scratch)
    }

    /// A tensor of indices within a step; its content is undefined when a step starts.
    pub fn scratch_indices(&mut self, name: &'static str, shape: impl Into<Shape>) -> Tensor {
        self.tensor(name, shape.into(), DType::U32, Role::Scratch)
    }

    fn tensor(&mut self, name: &'static str, shape: Shape, dtype: DType, role: Role) -> Tensor {
        assert!(!shape.is_empty(), "tensor {name} {shape} is empty");
        let id = u32::try_from(self.tensors.len()).expect("a plan has fewer than 2^32 tensors");
        let tensor = Tensor { id, window: 0, shape, dtype, name };
        let window_rows = self.window_rows(tensor).unwrap_or_else(|| {
            self.misfit.get_or_insert(tensor);
            shape.rows
        });
        self.tensors.push(TensorInfo { tensor, role, window_rows });
        tensor
    }

    /// Rows that fit one binding, none if a single one does not: a multiple of 64 where possible, so that tiles of a kernel
    /// stay whole.
    fn window_rows(&self, tensor: Tensor) -> Option<u32> {
        let row_bytes = u64::from(tensor.shape.batch) * u64::from(tensor.shape.cols) * 4;
        let fit = self.limits.binding_bytes / row_bytes;
        if fit >= u64::from(tensor.shape.rows) {
            return Some(tensor.shape.rows);
        }
        let fit = u32::try_from(fit).expect("fewer rows than the tensor has");
        let rows = if fit >= 64 { fit / 64 * 64 } else { fit };
        (rows > 0 && tensor.shape.batch == 1).then_some(rows)
    }

    /// The row windows of a tensor (or of its first rows), each of which fits one binding; one, for most tensors.
    pub fn windows(&self, tensor: Tensor) -> impl Iterator<Item = Window> + use<> {
        windows(tensor, self.tensors[tensor.id as usize].window_rows)
    }

    /// Where `len` elements from row `first_row` on are stored.
    ///
    /// # Panics
    /// If the tensor ends before them.
    pub(crate) fn spans(&self, tensor: Tensor, first_row: u32, len: usize) -> impl Iterator<Item = Span> + use<> {
        let row_len = tensor.shape.batch as usize * tensor.shape.cols as usize;
        let start = first_row as usize * row_len;
        assert!(start + len <= tensor.shape.len(), "write: {tensor} is given {len} elements from row {first_row} on");
        self.windows(tensor).enumerate().filter_map(move |(window, w)| {
            let first = w.first_row as usize * row_len;
            let from = start.max(first);
            let to = (start + len).min(first + w.tensor.shape.len());
            (from < to).then(|| Span { window, at: from - first, data: from - start..to - start })
        })
    }

    /// Starts a routine: the nodes pushed from here on belong to it.
    pub fn routine(&mut self) -> Routine {
        self.routines.push(Vec::new());
        Routine(self.routines.len() - 1)
    }

    /// Appends an operation to the routine begun last. Typed functions beside each op call this after checking shapes.
    ///
    /// An op that takes a tensor whole may meet one above the limits: sizes come from users, and [`check`](Self::check) tells them.
    ///
    /// # Panics
    /// Before the first [`routine`](Self::routine); when an input is written, or a tensor is both read and written by the node.
    pub fn push<O: Op>(&mut self, params: O::Params, inputs: &[Tensor], outputs: &[Tensor]) {
        for tensor in inputs.iter().chain(outputs) {
            if tensor.shape.rows > self.tensors[tensor.id as usize].window_rows {
                self.misfit.get_or_insert(*tensor);
            }
        }
        for output in outputs {
            let role = self.tensors[output.id as usize].role;
            assert!(role != Role::Input, "{}: {output} is an input of the plan and cannot be written", O::NAME);
            let same = |t: &&Tensor| t.id == output.id && t.window == output.window;
            let uses = inputs.iter().chain(outputs).filter(same).count();
            assert!(uses == 1, "{}: {output} is bound {uses} times", O::NAME);
        }
        let node = Node {
            op: const { &Erased::<O>::NEW },
            params: bytes_of(&params).to_vec(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        };
        self.routines.last_mut().expect("a routine is begun before nodes are pushed").push(node);
    }

    /// Refuses a plan in which an op takes more of a tensor at once than can be bound; backends call this before they compile.
    ///
    /// # Errors
    /// [`Error::Device`] naming the tensor, its size and the limit.
    pub fn check(&self) -> Result<()> {
        let Some(tensor) = self.misfit else {
            return Ok(());
        };
        let (needed, limit) = (tensor.shape.len() as u64 * 4, self.limits.binding_bytes);
        Err(Error::device(format!("the device binds {limit} bytes at once, not the {needed} that a tensor needs")).at(tensor).hint(
            "use a smaller --batch-size, --listwise-queue-size, --hidden or --dim-out, fewer rows (--max-items), or --device cpu",
        ))
    }

    /// All tensors, in the order of their creation.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// All routines, in the order of their creation.
    pub fn routines(&self) -> &[Vec<Node>] {
        &self.routines
    }

    /// The limits that tensors were split for.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

fn windows(tensor: Tensor, window_rows: u32) -> impl Iterator<Item = Window> + use<> {
    let rows = tensor.shape.rows;
    (0..rows.div_ceil(window_rows)).map(move |i| {
        let first_row = i * window_rows;
        let shape = Shape { rows: window_rows.min(rows - first_row), ..tensor.shape };
        Window { tensor: Tensor { window: tensor.window + i, shape, ..tensor }, first_row }
    })
}
