//! Which adapters there are, and which one is taken.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::plan::MatrixUnits;

/// Which adapters are acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterChoice {
    /// Real GPUs only.
    Hardware,
    /// Also software adapters (llvmpipe, WARP), which are for tests: the native CPU path is many times faster.
    Any,
}

/// What an adapter is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A graphics card.
    Discrete,
    /// A GPU that shares the memory of the CPU.
    Integrated,
    /// A GPU of the host, seen from a virtual machine.
    Virtual,
    /// The driver does not say.
    Other,
    /// The CPU pretends to be a GPU.
    Software,
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Other => "unknown kind",
            Self::Software => "software adapter",
        })
    }
}

/// An adapter, as listed for the user. Displayed in one line.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterInfo {
    /// Name of the device.
    pub name: String,
    /// Name and version of the driver.
    pub driver: String,
    /// The interface it is reached through: Vulkan, Metal or Dx12.
    pub backend: String,
    /// What it is.
    pub kind: AdapterKind,
    /// Largest binding in bytes: larger tensors are split by rows.
    pub binding_bytes: u64,
    /// Units that multiply float16 matrices, if shaders reach them.
    pub matrix_units: Option<MatrixUnits>,
    /// What it lacks to run the shaders, if anything.
    pub lacks: Option<String>,
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}, {})", self.name, self.kind, self.backend, self.driver)
    }
}

impl AdapterInfo {
    fn new(adapter: &wgpu::Adapter) -> Self {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Other => AdapterKind::Other,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
        };
        let lacks = !adapter.features().contains(FEATURES);
        Self {
            name: info.name,
            driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
            backend: format!("{:?}", info.backend),
            kind,
            binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(ADDRESSED_BYTES),
            matrix_units: matrix_units(adapter),
            lacks: lacks.then(|| "it has no immediates (push constants)".to_owned()),
        }
    }
}

/// Most bytes of a binding that shaders reach, in whole elements: they count elements in u32, which DirectX turns into bytes in u32.
const ADDRESSED_BYTES: u64 = (1 << 32) - 4;

/// Parameters travel with each dispatch.
const FEATURES: wgpu::Features = wgpu::Features::IMMEDIATES;

/// What shaders take that use matrix units.
const UNIT_FEATURES: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16).union(wgpu::Features::SUBGROUP);

/// The largest square matrices of float16 that an adapter multiplies into float32. Shaders count on the size of subgroups.
fn matrix_units(adapter: &wgpu::Adapter) -> Option<MatrixUnits> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let info = adapter.get_info();
    if !adapter.features().contains(UNIT_FEATURES) || info.subgroup_min_size != info.subgroup_max_size {
        return None;
    }
    let properties = adapter.cooperative_matrix_properties();
    let has = |side: &u32| {
        let sides = [*side; 3];
        properties.iter().any(|p| [p.m_size, p.n_size, p.k_size] == sides && p.ab_type == F16 && p.cr_type == F32)
    };
    [16, 8].into_iter().find(has).map(|side| MatrixUnits { side, subgroup: info.subgroup_min_size })
}

/// All adapters, in the order in which they are tried: graphics cards first, software last.
///
/// The environment narrows the list: `WGPU_BACKEND` (vulkan, metal or dx12) and `WGPU_ADAPTER_NAME` (a part of the name).
pub fn adapters() -> Vec<AdapterInfo> {
    candidates().into_iter().map(|(_, info)| info).collect()
}

fn candidates() -> Vec<(wgpu::Adapter, AdapterInfo)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    let native = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.backends = wgpu::Backends::from_env().unwrap_or(native);
    // Drivers rather swap than fail; an error leaves the choice to the user.
    descriptor.memory_budget_thresholds.for_resource_creation = Some(90);
    let instance = wgpu::Instance::new(descriptor);
    let wanted = std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default().to_lowercase();
    let found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let described = found.into_iter().map(|adapter| {
        let info = AdapterInfo::new(&adapter);
        (adapter, info)
    });
    let mut found: Vec<_> = described.filter(|(_, info)| info.name.to_lowercase().contains(&wanted)).collect();
    // Vulkan goes before DirectX 12 where a device has both: its compilers take seconds less.
    found.sort_by_key(|(adapter, info)| (info.kind, adapter.get_info().backend != wgpu::Backend::Vulkan));
    found
}

/// Opens the first acceptable adapter, with its matrix units or without.
pub(super) fn open(choice: AdapterChoice, with_units: bool) -> Result<(wgpu::Device, wgpu::Queue, AdapterInfo)> {
    let mut refused = Vec::new();
    for (adapter, info) in candidates() {
        match open_one(choice, with_units, &adapter, &info) {
            Ok((device, queue)) => return Ok((device, queue, info)),
            Err(reason) => refused.push(format!("{info}: {reason}")),
        }
    }
    if refused.is_empty() {
        let set = |name: &str| std::env::var(name).map(|value| format!(" with {name}={value}")).unwrap_or_default();
        let narrowed = set("WGPU_BACKEND") + &set("WGPU_ADAPTER_NAME");
        refused.push(format!("Vulkan, Metal and DirectX 12 offer no adapter{narrowed}"));
    }
    Err(Error::device("no usable GPU")
        .at(refused.join("; "))
        .hint("install the driver of the GPU, or run with --device cpu; WGPU_BACKEND and WGPU_ADAPTER_NAME narrow the search"))
}

#[expect(unsafe_code, reason = "experiments of wgpu are unsafe to turn on; see below")]
fn open_one(
    choice: AdapterChoice,
    with_units: bool,
    adapter: &wgpu::Adapter,
    info: &AdapterInfo,
) -> Result<(wgpu::Device, wgpu::Queue), String> {
    if choice == AdapterChoice::Hardware && info.kind == AdapterKind::Software {
        return Err("taken only when asked for by --device gpu".to_owned());
    }
    if let Some(lacks) = &info.lacks {
        return Err(lacks.clone());
    }
    if with_units && info.matrix_units.is_none() {
        return Err("it has no matrix units for float16, which EMBEDDING_COMPRESSOR_MATRIX_UNITS asks for".to_owned());
    }
    let descriptor = wgpu::DeviceDescriptor {
        required_features: if with_units { FEATURES | UNIT_FEATURES } else { FEATURES },
        experimental_features: if with_units {
            // SAFETY: faults of the experiment itself are the risk of whoever asks for it. The one shader that uses it loads and
            // stores whole matrices within its own workgroup memory, with all invocations of each subgroup.
            unsafe { wgpu::ExperimentalFeatures::enabled() }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        },
        // What the adapter has; the default limits are those of a phone.
        required_limits: adapter.limits(),
        // Blocks of memory that buffers are cut from, of a few MiB: some GPUs have little that the host can write to.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| error.to_string())
}
