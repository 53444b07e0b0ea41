//! Plans on a GPU, through wgpu: Vulkan, Metal or DirectX 12.
//!
//! This file and its submodules are the only ones that name wgpu.

mod adapter;
mod device;
mod pipeline;
mod program;

use std::sync::Arc;

use crate::backend::{Backend, Feed, Program};
use crate::error::Result;
use crate::plan::{Limits, MatrixUnits, Plan};

pub use adapter::{AdapterChoice, AdapterInfo, AdapterKind, adapters};
use device::Device;
use program::GpuProgram;

/// What a [`Gpu`] tests while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Indices, divisors and the ends of loops in shaders, all of which shaders see to themselves: slower, and nothing else if they
    /// are right. `EMBEDDING_COMPRESSOR_CHECKED_SHADERS` in the environment turns it on.
    pub shaders: bool,
    /// A few elements behind every buffer, which nothing may write: reading a tensor fails if something has. For tests.
    pub guards: bool,
}

/// Dimensions and neighbours up to which a search selects scores where it computes them.
///
/// Storing a score and reading it again moves 8 bytes, which a GPU with 10 flops to the byte does in the time of 80 flops; a
/// score takes 2 dim of them. From 128 dimensions on that is a third at most, and the larger tiles of the product by itself are worth
/// more. Long lists do not stay in the caches that selection relies on. From such arithmetic, not from measurements on a GPU.
const FUSED_SEARCH: [usize; 2] = [128, 256];

/// About a second of a small GPU, which does 100 GFLOP/s of such kernels: Windows resets a device that is busy with one dispatch for two.
const PRODUCT_FLOPS: u64 = 100_000_000_000;

/// A GPU. Compiled shaders are kept for all plans.
pub struct Gpu {
    info: AdapterInfo,
    /// What plans may use of those that the adapter has.
    matrix_units: Option<MatrixUnits>,
    device: Arc<Device>,
}

impl Gpu {
    /// Opens the first adapter, in the order of [`adapters`], that is acceptable and can run the shaders.
    ///
    /// With `EMBEDDING_COMPRESSOR_MATRIX_UNITS` in the environment, one with matrix units, which then make the teacher's scores; wgpu
    /// has them as an experiment.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) with the adapters that were looked at and why none was taken.
    pub fn new(choice: AdapterChoice) -> Result<Self> {
        let with_units = std::env::var_os("EMBEDDING_COMPRESSOR_MATRIX_UNITS").is_some();
        let (device, queue, info) = adapter::open(choice, with_units)?;
        let checks = Checks { shaders: std::env::var_os("EMBEDDING_COMPRESSOR_CHECKED_SHADERS").is_some(), guards: false };
        let matrix_units = info.matrix_units.filter(|_| with_units);
        Ok(Self { info, matrix_units, device: Arc::new(Device::new(device, queue, checks)) })
    }

    /// The same GPU with other checks; it compiles its own shaders.
    #[must_use]
    pub fn with_checks(&self, checks: Checks) -> Self {
        Self { device: Arc::new(self.device.with_checks(checks)), info: self.info.clone(), ..*self }
    }

    /// The adapter that was opened.
    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }
}

impl Backend for Gpu {
    fn describe(&self) -> String {
        self.info.to_string()
    }

    fn limits(&self) -> Limits {
        Limits {
            binding_bytes: self.info.binding_bytes,
            product_flops: PRODUCT_FLOPS,
            fused_search: FUSED_SEARCH,
            half_rows: true,
            matrix_units: self.matrix_units,
        }
    }

    /// Two, so that one reads and uploads while the other computes.
    fn feed(&self) -> Feed {
        Feed { programs: 2, piece_bytes: 16 << 20, narrow: false, shows_not_finite: false }
    }

    fn compile(&self, plan: Plan) -> Result<Box<dyn Program>> {
        Ok(Box::new(GpuProgram::new(Arc::clone(&self.device), plan)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Data;

    /// wgpu ignores calls on a lost device: without a check, results would be zeros.
    #[test]
    fn a_lost_device_is_an_error() {
        let Ok(gpu) = Gpu::new(AdapterChoice::Any) else {
            return;
        };
        let mut plan = Plan::new(gpu.limits());
        let tensor = plan.state("x", [1, 4]);
        let routine = plan.routine();
        let mut program = gpu.compile(plan).expect("the plan is small");
        gpu.device.device.destroy();
        let lost = [
            program.write_rows(tensor, 0, Data::F32(&[1.0; 4])).is_err(),
            program.run(routine, 0..1).is_err(),
            program.read(tensor).is_err(),
            gpu.compile(Plan::new(gpu.limits())).is_err(),
        ];
        assert_eq!(lost, [true; 4], "writing, running, reading, compiling");
    }
}
