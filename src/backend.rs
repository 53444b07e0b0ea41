//! Where plans run: compile a plan once, write its inputs, run routines for a range of steps, read results.

mod host;

use std::ops::Range;

use crate::error::Result;
use crate::plan::{Limits, Plan, Routine};
use crate::tensor::Tensor;

pub use host::{Cpu, Oracle};

/// Content that crosses between host and device.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Float elements.
    F32(&'a [f32]),
    /// Index elements.
    U32(&'a [u32]),
}

impl Data<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::U32(x) => x.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a [f32]> for Data<'a> {
    fn from(x: &'a [f32]) -> Self {
        Self::F32(x)
    }
}

impl<'a> From<&'a [u32]> for Data<'a> {
    fn from(x: &'a [u32]) -> Self {
        Self::U32(x)
    }
}

/// A device that compiles plans.
pub trait Backend {
    /// Adapter, driver and kind in one line, for messages and records.
    fn describe(&self) -> String;

    /// What plans for this backend have to split for.
    fn limits(&self) -> Limits;

    /// Allocates the tensors of a plan, zeroed, and prepares its nodes.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when memory or a limit of the device does not suffice, or a shader is refused.
    fn compile(&self, plan: Plan) -> Result<Box<dyn Program>>;
}

/// A compiled plan with its storage.
pub trait Program {
    /// Writes rows of a tensor, `data.len() / cols` of them from `first_row` on.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device is lost.
    fn write_rows(&mut self, tensor: Tensor, first_row: u32, data: Data<'_>) -> Result<()>;

    /// Runs a routine once for every step. Results are there when a later `read` returns; errors may only show then.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device is lost.
    fn run(&mut self, routine: Routine, steps: Range<u32>) -> Result<()>;

    /// Reads a float tensor as it is after everything that was run.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device is lost or ran out of memory.
    fn read(&mut self, tensor: Tensor) -> Result<Vec<f32>>;

    /// Reads an index tensor as it is after everything that was run.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_indices(&mut self, tensor: Tensor) -> Result<Vec<u32>>;
}

impl dyn Program + '_ {
    /// Writes a whole tensor.
    ///
    /// # Errors
    /// As [`write_rows`](Program::write_rows).
    pub fn write<'a>(&mut self, tensor: Tensor, data: impl Into<Data<'a>>) -> Result<()> {
        let data = data.into();
        assert_eq!(data.len(), tensor.shape.len(), "write: {tensor} is given {} elements", data.len());
        self.write_rows(tensor, 0, data)
    }
}
