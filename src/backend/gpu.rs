//! Plans on a GPU, through wgpu: Vulkan, Metal or DirectX 12.
//!
//! This file and its submodules are the only ones that name wgpu.

mod adapter;
mod device;
mod pipeline;
mod program;

use std::sync::Arc;

use crate::backend::{Backend, Program};
use crate::error::Result;
use crate::plan::{Limits, Plan};

pub use adapter::{AdapterChoice, AdapterInfo, AdapterKind, adapters};
use device::Device;
use program::GpuProgram;

/// A GPU. Compiled shaders are kept for all plans.
pub struct Gpu {
    info: AdapterInfo,
    device: Arc<Device>,
}

impl Gpu {
    /// Opens the first adapter, in the order of [`adapters`], that is acceptable and can run the shaders.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) with the adapters that were looked at and why none was taken.
    pub fn new(choice: AdapterChoice) -> Result<Self> {
        let (device, queue, info) = adapter::open(choice)?;
        Ok(Self { info, device: Arc::new(Device::new(device, queue)) })
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
        Limits { binding_bytes: self.info.binding_bytes }
    }

    fn compile(&self, plan: Plan) -> Result<Box<dyn Program>> {
        Ok(Box::new(GpuProgram::new(Arc::clone(&self.device), plan)?))
    }
}
