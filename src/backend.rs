//! Where plans run: compile a plan once, write its inputs, run routines for a range of steps, read results.

mod gpu;
mod host;

use std::ops::Range;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::memory::zeros;
use crate::op::{ErasedOp, Peak};
use crate::plan::{Limits, Plan, Routine};
use crate::tensor::Tensor;

pub use gpu::{AdapterChoice, AdapterInfo, AdapterKind, Checks, Gpu, adapters};
pub use host::{Cpu, Oracle};

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU if there is one, else the CPU; never a software adapter.
    #[default]
    Auto,
    /// A GPU, software adapters included; fails if there is none.
    Gpu,
    /// The native CPU path.
    Cpu,
}

/// The backend for a choice, and in one line which it is and why.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) when a GPU is demanded and none is usable.
pub fn choose(choice: DeviceChoice) -> Result<(Box<dyn Backend>, String)> {
    let gpu = match choice {
        DeviceChoice::Auto => Gpu::new(AdapterChoice::Hardware),
        DeviceChoice::Gpu => Gpu::new(AdapterChoice::Any),
        DeviceChoice::Cpu => {
            let cpu = Cpu::new();
            let why = format!("{}, as asked", cpu.describe());
            return Ok((Box::new(cpu), why));
        }
    };
    match (gpu, choice) {
        (Ok(gpu), _) => {
            let slow = gpu.info().kind == AdapterKind::Software;
            let why = if slow { "a software adapter, for tests: --device cpu is faster" } else { "the best GPU found" };
            let why = format!("{}, {why}", gpu.describe());
            Ok((Box::new(gpu), why))
        }
        (Err(error), DeviceChoice::Auto) => {
            let cpu = Cpu::new();
            let why = format!("{}, because there is {error}", cpu.describe());
            Ok((Box::new(cpu), why))
        }
        (Err(error), _) => Err(error),
    }
}

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

/// How a backend takes many rows best.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// Programs that work at the same time, each on rows of its own.
    pub programs: usize,
    /// Bytes of rows for a program at a time.
    pub piece_bytes: usize,
    /// Whether a program shall keep to one thread.
    pub narrow: bool,
    /// Whether a number that is not finite shows in all that is computed from it; shaders may take it for another.
    pub shows_not_finite: bool,
}

/// A device that compiles plans.
pub trait Backend {
    /// Adapter, driver and kind in one line, for messages and records.
    fn describe(&self) -> String;

    /// What plans for this backend have to split for.
    fn limits(&self) -> Limits;

    /// How it takes many rows best.
    fn feed(&self) -> Feed;

    /// Allocates the tensors of a plan, zeroed, and prepares its nodes.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when memory or a limit of the device does not suffice, or a shader is refused.
    fn compile(&self, plan: Plan) -> Result<Box<dyn Program>>;

    /// What bounds an op's arithmetic here, where it is not what bounds [`fma`](crate::ops::fma::fma).
    fn peak(&self, _: &dyn ErasedOp) -> Option<Peak> {
        None
    }
}

/// A compiled plan with its storage.
pub trait Program: Send {
    /// Writes rows of a tensor, `data.len() / cols` of them from `first_row` on.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device is lost.
    fn write_rows(&mut self, tensor: Tensor, first_row: u32, data: Data<'_>) -> Result<()>;

    /// Writes the first `rows` rows of a float tensor by letting `fill` write them, where they are stored if that is host memory.
    ///
    /// # Errors
    /// Those of `fill`; [`Error::Device`](crate::Error::Device) when the device is lost or memory does not suffice.
    fn fill_rows(&mut self, tensor: Tensor, rows: usize, fill: &mut dyn FnMut(&mut [f32]) -> Result<()>) -> Result<()> {
        let mut values = zeros(rows, tensor.cols() as usize)?;
        fill(&mut values)?;
        self.write_rows(tensor, 0, Data::F32(&values))
    }

    /// Runs a routine once for every step, in their order. Results are there when a later `read` returns; errors may only show then.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device is lost.
    fn run_steps(&mut self, routine: Routine, steps: &mut dyn Iterator<Item = u32>) -> Result<()>;

    /// Runs a routine once on all rows of an input, which are `rows` and stay where they lie if the device can have them there. What the
    /// input holds afterwards is undefined.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device is lost.
    ///
    /// # Panics
    /// If `rows` is not as long as the input, which is no output of the routine.
    fn run_on(&mut self, routine: Routine, input: Tensor, rows: &[f32]) -> Result<()> {
        self.write_rows(input, 0, Data::F32(rows))?;
        self.run(routine, 0..1)
    }

    /// Runs a routine for a range of steps.
    ///
    /// # Errors
    /// As [`run_steps`](Self::run_steps).
    fn run(&mut self, routine: Routine, mut steps: Range<u32>) -> Result<()> {
        self.run_steps(routine, &mut steps)
    }

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
