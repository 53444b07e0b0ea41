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
        device.guarded(|| build(device, pass, source, &bindings, params_size)).map_err(|e| refused(pass, &e.to_string()))
    }
}

fn build(owner: &Device, pass: &Pass, source: String, bindings: &[Binding], params_size: u32) -> Kernel {
    let label = Some(pass.shader.name);
    let device = &owner.device;
    let module = module(owner, wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(source.into()) });
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

/// Shaders are part of this crate, and trusted unless they are to be checked: wgpu then adds no tests of indices, divisors and loops,
/// which keep compilers from unrolling and cost a clamp for each access to workgroup memory.
#[expect(unsafe_code, reason = "leaving the tests out is unsafe, and what they would catch is tested for; see below")]
fn module(device: &Device, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
    if device.checks.shaders {
        return device.device.create_shader_module(descriptor);
    }
    // SAFETY: the sources are those of `shaders/` alone. Every invocation compares its rows and columns with the sizes in its
    // parameters, which the functions beside each op take from the shapes of the tensors bound; rows that are named by tables of
    // indices come from this crate and lie within what they index. Loops count up to such sizes, or halve or double a number. Divisors
    // are constants or sizes, none of which is 0. `tests/parity.rs` runs every case with and without the tests, among elements that
    // nothing may read or write.
    unsafe { device.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
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
