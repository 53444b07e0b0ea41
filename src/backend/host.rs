//! Plans on the CPU: [`Cpu`] runs the native code of each op in f32, [`Oracle`] its definition in f64.

use std::marker::PhantomData;
use std::mem::take;

use bytemuck::Pod;
use rayon::prelude::*;

use crate::backend::{Backend, Data, Feed, Program};
use crate::error::Result;
use crate::memory::{self, Aligned};
use crate::op::{ErasedOp, Io, Peak, View, ViewMut};
use crate::plan::{Limits, Node, Plan, Routine, TensorInfo, Window};
use crate::tensor::{DType, Tensor};

/// The native CPU path: what runs for everybody without a GPU.
pub type Cpu = Host<f32>;

/// The f64 reference that both devices are tested against. Slow: naive loops.
pub type Oracle = Host<f64>;

/// Elements that a thread copies at a time: a megabyte.
const COPIED: usize = 1 << 18;

/// A host backend in one float type.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host<F>(PhantomData<fn() -> F>);

impl<F: Real> Host<F> {
    /// The backend; it has no state of its own.
    pub fn new() -> Self {
        Self(PhantomData)
    }

    /// As [`Backend::compile`], with the program's own type, whose tensors can be read and written in `F`.
    ///
    /// # Errors
    /// [`Error::Device`] when memory does not suffice.
    pub fn compile_host(&self, plan: Plan) -> Result<HostProgram<F>> {
        plan.check()?;
        let buffers = plan.tensors().iter().map(allocate).collect::<Result<_>>()?;
        Ok(HostProgram { plan, buffers })
    }
}

impl<F: Real> Backend for Host<F> {
    fn describe(&self) -> String {
        format!("{} ({} threads)", F::DEVICE, rayon::current_num_threads())
    }

    fn limits(&self) -> Limits {
        Limits::NONE
    }

    /// What a program computes at a time about fits into its core's second-level cache, of 1 to 2 MiB.
    fn feed(&self) -> Feed {
        Feed { programs: rayon::current_num_threads(), piece_bytes: 2 << 20, narrow: true, shows_not_finite: true }
    }

    fn compile(&self, plan: Plan) -> Result<Box<dyn Program>> {
        Ok(Box::new(self.compile_host(plan)?))
    }

    fn peak(&self, op: &dyn ErasedOp) -> Option<Peak> {
        F::peak(op)
    }
}

/// A float type that host programs compute in.
pub trait Real: Pod + Default + Send + Sync + 'static {
    /// Name of the device in this type.
    const DEVICE: &'static str;
    /// From a float that crosses the device boundary.
    fn from_f32(x: f32) -> Self;
    /// To a float that crosses the device boundary.
    fn to_f32(self) -> f32;
    /// Floats that cross the device boundary, if they are of this type.
    fn of_f32(values: &[f32]) -> Option<&[Self]>;
    /// The same floats, if that is their type.
    fn as_f32(values: &mut [Self]) -> Option<&mut [f32]>;
    /// Runs an op in this type.
    fn execute(op: &dyn ErasedOp, params: &[u8], io: Io<'_, Self>);
    /// What bounds an op in this type, where it is not what bounds [`fma`](crate::ops::fma::fma).
    fn peak(op: &dyn ErasedOp) -> Option<Peak>;
}

impl Real for f32 {
    const DEVICE: &'static str = "cpu";

    fn from_f32(x: f32) -> Self {
        x
    }

    fn to_f32(self) -> f32 {
        self
    }

    fn as_f32(values: &mut [Self]) -> Option<&mut [f32]> {
        Some(values)
    }

    fn of_f32(values: &[f32]) -> Option<&[Self]> {
        Some(values)
    }

    fn execute(op: &dyn ErasedOp, params: &[u8], io: Io<'_, Self>) {
        op.native(params, io);
    }

    fn peak(op: &dyn ErasedOp) -> Option<Peak> {
        op.native_peak()
    }
}

impl Real for f64 {
    const DEVICE: &'static str = "f64 oracle";

    fn from_f32(x: f32) -> Self {
        Self::from(x)
    }

    fn to_f32(self) -> f32 {
        self as f32
    }

    fn as_f32(_: &mut [Self]) -> Option<&mut [f32]> {
        None
    }

    fn of_f32(_: &[f32]) -> Option<&[Self]> {
        None
    }

    fn execute(op: &dyn ErasedOp, params: &[u8], io: Io<'_, Self>) {
        op.oracle(params, io);
    }

    fn peak(_: &dyn ErasedOp) -> Option<Peak> {
        None
    }
}

enum Buffer<F> {
    Real(Aligned<F>),
    Index(Vec<u32>),
}

impl<F> Default for Buffer<F> {
    fn default() -> Self {
        Self::Index(Vec::new())
    }
}

/// A plan with host storage: one buffer for each row window of each tensor.
pub struct HostProgram<F> {
    plan: Plan,
    buffers: Vec<Vec<Buffer<F>>>,
}

fn allocate<F: Real>(info: &TensorInfo) -> Result<Vec<Buffer<F>>> {
    let buffer = |window: Window| {
        let tensor = window.tensor;
        let (rows, cols) = (tensor.shape.batch as usize * tensor.rows() as usize, tensor.cols() as usize);
        let zeros = match info.tensor.dtype {
            DType::F32 => Aligned::zeros(rows, cols).map(Buffer::Real),
            DType::U32 => memory::zeros(rows, cols).map(Buffer::Index),
        };
        let hint = "use fewer rows (--max-items) or a smaller batch (--batch-size)";
        zeros.map_err(|error| error.at(tensor).hint(hint))
    };
    info.windows().map(buffer).collect()
}

impl<F: Real> HostProgram<F> {
    /// Runs a node, with other elements of an input in place of those that are stored where they are `lent`.
    fn execute(&mut self, routine: usize, node: usize, step: u32, lent: Option<(Tensor, &[F])>) {
        let Node { op, params, inputs, outputs } = &self.plan.routines()[routine][node];
        let mut params = params.clone();
        params[..4].copy_from_slice(&step.to_ne_bytes());
        // Outputs are taken out of the table while the op runs, so that inputs can be borrowed from it.
        let mut taken: Vec<Buffer<F>> =
            outputs.iter().map(|t| take(&mut self.buffers[t.id as usize][t.window as usize])).collect();
        let io = Io {
            inputs: inputs
                .iter()
                .map(|t| match (&self.buffers[t.id as usize][t.window as usize], lent) {
                    (Buffer::Real(_), Some((input, x))) if input.id == t.id => View::Real(&x[..t.shape.len()]),
                    (Buffer::Real(x), _) => View::Real(&x[..t.shape.len()]),
                    (Buffer::Index(x), _) => View::Index(&x[..t.shape.len()]),
                })
                .collect(),
            outputs: taken
                .iter_mut()
                .zip(outputs)
                .map(|(buffer, t)| match buffer {
                    Buffer::Real(x) => ViewMut::Real(&mut x[..t.shape.len()]),
                    Buffer::Index(x) => ViewMut::Index(&mut x[..t.shape.len()]),
                })
                .collect(),
        };
        F::execute(*op, &params, io);
        for (buffer, t) in taken.into_iter().zip(outputs) {
            self.buffers[t.id as usize][t.window as usize] = buffer;
        }
    }

    /// Writes a float tensor in the program's own precision.
    ///
    /// # Panics
    /// If `values` is not as long as the tensor, or the tensor holds indices.
    pub fn write_real(&mut self, tensor: Tensor, values: &[F]) {
        assert_eq!(values.len(), tensor.shape.len(), "write_real: {tensor} is given {} elements", values.len());
        let mut rest = values;
        for window in self.plan.windows(tensor) {
            let (rows, tail) = rest.split_at(window.tensor.shape.len());
            match &mut self.buffers[tensor.id as usize][window.tensor.window as usize] {
                Buffer::Real(x) => x[..rows.len()].copy_from_slice(rows),
                Buffer::Index(_) => panic!("write_real: {tensor} holds indices"),
            }
            rest = tail;
        }
    }

    /// Reads a float tensor in the program's own precision.
    ///
    /// # Panics
    /// If the tensor holds indices.
    pub fn read_real(&self, tensor: Tensor) -> Vec<F> {
        let mut values = Vec::with_capacity(tensor.shape.len());
        for window in self.plan.windows(tensor) {
            match &self.buffers[tensor.id as usize][window.tensor.window as usize] {
                Buffer::Real(x) => values.extend_from_slice(&x[..window.tensor.shape.len()]),
                Buffer::Index(_) => panic!("read_real: {tensor} holds indices"),
            }
        }
        values
    }
}

impl<F: Real> Program for HostProgram<F> {
    fn write_rows(&mut self, tensor: Tensor, first_row: u32, data: Data<'_>) -> Result<()> {
        for span in self.plan.spans(tensor, first_row, data.len()) {
            let stored = span.at..span.at + span.data.len();
            match (&mut self.buffers[tensor.id as usize][span.window], data) {
                (Buffer::Real(x), Data::F32(values)) => {
                    let pieces = x[stored].par_chunks_mut(COPIED).zip(values[span.data].par_chunks(COPIED));
                    pieces.for_each(|(x, v)| x.iter_mut().zip(v).for_each(|(x, v)| *x = F::from_f32(*v)));
                }
                (Buffer::Index(x), Data::U32(values)) => x[stored].copy_from_slice(&values[span.data]),
                _ => panic!("write: {tensor} is given elements of the other type"),
            }
        }
        Ok(())
    }

    fn fill_rows(&mut self, tensor: Tensor, rows: usize, fill: &mut dyn FnMut(&mut [f32]) -> Result<()>) -> Result<()> {
        let len = rows * tensor.cols() as usize;
        // One window, unless the plan was made for the limits of another device.
        if let [Buffer::Real(x)] = &mut self.buffers[tensor.id as usize][..]
            && let Some(x) = F::as_f32(&mut x[..len])
        {
            return fill(x);
        }
        let mut values = memory::zeros(len, 1)?;
        fill(&mut values)?;
        self.write_rows(tensor, 0, Data::F32(&values))
    }

    fn run_on(&mut self, routine: Routine, input: Tensor, rows: &[f32]) -> Result<()> {
        assert_eq!(rows.len(), input.shape.len(), "run_on: {input} is given {} elements", rows.len());
        let in_place = F::of_f32(rows).filter(|_| self.buffers[input.id as usize].len() == 1);
        let Some(rows) = in_place else {
            self.write_rows(input, 0, Data::F32(rows))?;
            return self.run(routine, 0..1);
        };
        for node in 0..self.plan.routines()[routine.0].len() {
            self.execute(routine.0, node, 0, Some((input, rows)));
        }
        Ok(())
    }

    fn run_steps(&mut self, routine: Routine, steps: &mut dyn Iterator<Item = u32>) -> Result<()> {
        for step in steps {
            for node in 0..self.plan.routines()[routine.0].len() {
                self.execute(routine.0, node, step, None);
            }
        }
        Ok(())
    }

    fn read(&mut self, tensor: Tensor) -> Result<Vec<f32>> {
        Ok(self.read_real(tensor).into_iter().map(F::to_f32).collect())
    }

    fn read_indices(&mut self, tensor: Tensor) -> Result<Vec<u32>> {
        let mut values = Vec::with_capacity(tensor.shape.len());
        for window in self.plan.windows(tensor) {
            match &self.buffers[tensor.id as usize][window.tensor.window as usize] {
                Buffer::Index(x) => values.extend_from_slice(&x[..window.tensor.shape.len()]),
                Buffer::Real(_) => panic!("read_indices: {tensor} holds floats"),
            }
        }
        Ok(values)
    }
}
