//! From WGSL to a pipeline. Its layout is read from the shader: Rust repeats nothing.

use naga::{AddressSpace, StorageAccess};

use crate::backend::gpu::device::Device;
use crate::error::{Error, Result};
use crate::op::Pass;

/// A compiled shader.
pub(super) struct Kernel {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    /// Bindings of the shader, each the index of a tensor of the node.
    pub(super) bindings: Vec<u32>,
}

impl Kernel {
    /// Compiles a pass whose parameters take `params_size` bytes.
    pub(super) fn new(device: &Device, pass: &Pass, params_size: u32) -> Result<Self> {
        let source = pass.source();
        let bindings = bindings(&source).map_err(|text| refused(pass, &text))?;
        device.guarded(|| build(&device.device, pass, source, &bindings, params_size)).map_err(|e| refused(pass, &e.to_string()))
    }
}

fn build(device: &wgpu::Device, pass: &Pass, source: String, bindings: &[Binding], params_size: u32) -> Kernel {
    let label = Some(pass.shader.name);
    let module =
        device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(source.into()) });
    let entries: Vec<_> = bindings.iter().map(Binding::entry).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: params_size,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        // Kernels write workgroup memory before they read it; zeroing it first costs time in every workgroup.
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
        cache: None,
    });
    Kernel { pipeline, layout, bindings: bindings.iter().map(|b| b.index).collect() }
}

fn refused(pass: &Pass, text: &str) -> Error {
    let constants: Vec<String> = pass.constants.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let mut what = format!("the device refuses the shader {} ({}): {text}", pass.shader.name, constants.join(", "));
    if cfg!(debug_assertions) {
        what.push_str(&format!("\n{}", pass.source()));
    }
    Error::device(what).hint("this is a fault of this program or of the driver: please report it, and use --device cpu")
}

/// A storage buffer that a shader declares.
struct Binding {
    index: u32,
    read_only: bool,
}

impl Binding {
    fn entry(&self) -> wgpu::BindGroupLayoutEntry {
        wgpu::BindGroupLayoutEntry {
            binding: self.index,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: self.read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        }
    }
}

fn bindings(source: &str) -> Result<Vec<Binding>, String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let found = module.global_variables.iter().filter_map(|(_, global)| match (&global.binding, global.space) {
        (Some(at), AddressSpace::Storage { access }) => {
            Some(Binding { index: at.binding, read_only: !access.contains(StorageAccess::STORE) })
        }
        _ => None,
    });
    Ok(found.collect())
}
