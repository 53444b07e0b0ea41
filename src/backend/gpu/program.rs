//! A plan on the device: its buffers, and its nodes as dispatches that are ready to encode.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytemuck::{Pod, cast_slice};

use crate::backend::gpu::device::Device;
use crate::backend::gpu::pipeline::Kernel;
use crate::backend::{Data, Program};
use crate::error::{Error, Result};
use crate::op::{MAX_GRID, Pass};
use crate::plan::{Node, Plan, Routine, TensorInfo, Window};
use crate::tensor::{DType, Tensor};

/// Most dispatches of one submission.
const MAX_DISPATCHES: usize = 256;

/// Most work of one submission, in flops, a byte counting as [`FLOPS_PER_BYTE`]: about a millisecond of a large GPU, and a
/// fifth of a second of a small one, where a watchdog ends submissions that take two.
const MAX_WORK: u64 = 20_000_000_000;

/// A small GPU does about 100 GFLOP/s of such kernels, and moves 20 GB/s.
const FLOPS_PER_BYTE: u64 = 5;

/// Bytes that are written before a submission frees what stages them: wgpu stages every write in memory of its own, of which some GPUs
/// have 256 MiB, and a device that finds none is lost.
const STAGED_BYTES: usize = 8 << 20;

/// Elements behind every buffer of a device with guards: no number, so that what is computed from them shows.
const GUARD: [u32; 64] = [0xFFC0_DEAD; 64];

/// A compiled plan. The buffers live as long as it does.
pub(super) struct GpuProgram {
    device: Arc<Device>,
    plan: Plan,
    /// By tensor and row window.
    buffers: Vec<Vec<wgpu::Buffer>>,
    routines: Vec<Vec<Dispatch>>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// Bytes that were written since the last submission.
    staged: usize,
}

/// One pass of a node.
struct Dispatch {
    kernel: Arc<Kernel>,
    tensors: wgpu::BindGroup,
    /// The first four bytes are set for every step.
    params: Vec<u8>,
    grid: [u32; 3],
    /// Of the whole node, in flops.
    work: u64,
}

impl GpuProgram {
    pub(super) fn new(device: Arc<Device>, plan: Plan) -> Result<Self> {
        device.check()?;
        plan.check()?;
        let buffers = plan.tensors().iter().map(|info| allocate(&device, info)).collect::<Result<Vec<_>>>()?;
        let mut routines = Vec::new();
        for nodes in plan.routines() {
            let mut dispatches = Vec::new();
            for node in nodes {
                for pass in node.op.passes(&node.params) {
                    dispatches.extend(dispatch(&device, &buffers, node, &pass)?);
                }
            }
            routines.push(dispatches);
        }
        Ok(Self { device, plan, buffers, routines, in_flight: VecDeque::new(), staged: 0 })
    }

    fn read_elements<T: Pod>(&self, tensor: Tensor) -> Result<Vec<T>> {
        let mut values = Vec::with_capacity(tensor.shape.len());
        for (window, buffer) in self.plan.windows(tensor).zip(&self.buffers[tensor.id as usize]) {
            self.device.read(buffer, 0..bytes(window.tensor), |piece| values.extend_from_slice(cast_slice(piece)))?;
        }
        self.check_guards(tensor)?;
        Ok(values)
    }

    /// Fails if something has been written behind the buffers of a tensor.
    fn check_guards(&self, tensor: Tensor) -> Result<()> {
        let id = tensor.id as usize;
        for (window, buffer) in self.plan.tensors()[id].windows().zip(&self.buffers[id]) {
            let end = bytes(window.tensor);
            let mut intact = true;
            self.device.read(buffer, end..end + guard_bytes(&self.device), |piece| {
                intact &= GUARD.starts_with(cast_slice(piece));
            })?;
            if !intact {
                return Err(Error::device("an op has written behind the end").at(tensor));
            }
        }
        Ok(())
    }
}

/// Bytes behind the elements of every buffer.
fn guard_bytes(device: &Device) -> u64 {
    if device.checks.guards { size_of_val(&GUARD) as u64 } else { 0 }
}

/// Storage of the elements that are seen through a handle.
fn bytes(tensor: Tensor) -> u64 {
    tensor.shape.len() as u64 * 4
}

fn allocate(device: &Device, info: &TensorInfo) -> Result<Vec<wgpu::Buffer>> {
    use wgpu::BufferUsages as Usage;
    let buffer = |window: Window| {
        let size = bytes(window.tensor) + guard_bytes(device);
        let descriptor = wgpu::BufferDescriptor {
            label: Some(info.tensor.name),
            size,
            usage: Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST,
            mapped_at_creation: false,
        };
        let create = || {
            let buffer = device.device.create_buffer(&descriptor);
            if device.checks.guards {
                device.queue.write_buffer(&buffer, bytes(window.tensor), cast_slice(&GUARD));
            }
            buffer
        };
        device.guarded(create).map_err(|error| {
            Error::device(format!("the device cannot hold {size} bytes: {error}"))
                .at(info.tensor)
                .hint("use fewer rows (--max-items), a smaller batch (--batch-size), or --device cpu")
        })
    };
    info.windows().map(buffer).collect()
}

/// A pass, ready to encode; none if its grid is empty.
fn dispatch(device: &Device, buffers: &[Vec<wgpu::Buffer>], node: &Node, pass: &Pass) -> Result<Option<Dispatch>> {
    let name = node.op.name();
    if pass.grid.contains(&0) {
        return Ok(None);
    }
    assert!(pass.grid.iter().all(|n| *n <= MAX_GRID), "{name}: a grid of {:?} workgroups is too large", pass.grid);
    let limit = device.device.limits().max_immediate_size as usize;
    let params = node.params.clone();
    if params.len() > limit {
        return Err(Error::device(format!("{name} has {} bytes of parameters, the device takes {limit}", params.len()))
            .hint("use --device cpu"));
    }
    let kernel = device.kernel(pass, params.len() as u32)?;
    let tensors: Vec<Tensor> = node.inputs.iter().chain(&node.outputs).copied().collect();
    let entry = |&binding: &u32| {
        let tensor = tensors[binding as usize];
        let buffer = &buffers[tensor.id as usize][tensor.window as usize];
        // Guards are bound too, for what lies outside of a binding may be out of reach of a fault.
        let size = NonZeroU64::new(bytes(tensor) + guard_bytes(device));
        let resource = wgpu::BufferBinding { buffer, offset: 0, size };
        wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(resource) }
    };
    let entries: Vec<_> = kernel.bindings.iter().map(entry).collect();
    let descriptor = wgpu::BindGroupDescriptor { label: Some(name), layout: &kernel.layout, entries: &entries };
    let tensors = device
        .guarded(|| device.device.create_bind_group(&descriptor))
        .map_err(|error| Error::device(format!("the device refuses the tensors of {name}: {error}")))?;
    let cost = node.op.cost(&params);
    let work = cost.flops + cost.bytes * FLOPS_PER_BYTE;
    Ok(Some(Dispatch { kernel, tensors, params, grid: pass.grid, work }))
}

impl Dispatch {
    fn encode(&mut self, pass: &mut wgpu::ComputePass<'_>, step: u32) {
        self.params[..4].copy_from_slice(&step.to_ne_bytes());
        let [x, y, z] = self.grid;
        pass.set_pipeline(&self.kernel.pipeline);
        pass.set_bind_group(0, &self.tensors, &[]);
        pass.set_immediates(0, &self.params);
        pass.dispatch_workgroups(x, y, z);
    }
}

impl Program for GpuProgram {
    fn write_rows(&mut self, tensor: Tensor, first_row: u32, data: Data<'_>) -> Result<()> {
        let values: &[u8] = match (data, tensor.dtype) {
            (Data::F32(values), DType::F32) => cast_slice(values),
            (Data::U32(values), DType::U32) => cast_slice(values),
            _ => panic!("write: {tensor} is given elements of the other type"),
        };
        for span in self.plan.spans(tensor, first_row, data.len()) {
            let buffer = &self.buffers[tensor.id as usize][span.window];
            let mut at = span.at as u64 * 4;
            for piece in values[4 * span.data.start..4 * span.data.end].chunks(STAGED_BYTES) {
                let queue = &self.device.queue;
                self.device
                    .guarded(|| queue.write_buffer(buffer, at, piece))
                    .map_err(|error| Error::device(format!("cannot write to the device: {error}")).at(tensor))?;
                at += piece.len() as u64;
                self.staged += piece.len();
                if self.staged >= STAGED_BYTES {
                    self.device.submit(&mut self.in_flight, |_| ())?;
                    self.staged = 0;
                }
            }
        }
        self.device.check()
    }

    fn run_steps(&mut self, routine: Routine, steps: &mut dyn Iterator<Item = u32>) -> Result<()> {
        let dispatches = &mut self.routines[routine.0];
        let count = dispatches.len();
        let mut queued = steps.flat_map(|step| (0..count).map(move |index| (step, index))).peekable();
        while queued.peek().is_some() {
            self.staged = 0;
            self.device.submit(&mut self.in_flight, |encoder| {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                let (mut work, mut encoded) = (0, 0);
                while let Some((step, index)) = queued.next_if(|_| work < MAX_WORK && encoded < MAX_DISPATCHES) {
                    let dispatch = &mut dispatches[index];
                    dispatch.encode(&mut pass, step);
                    work += dispatch.work;
                    encoded += 1;
                }
            })?;
        }
        self.device.check()
    }

    fn read(&mut self, tensor: Tensor) -> Result<Vec<f32>> {
        assert!(tensor.dtype == DType::F32, "read: {tensor} holds indices");
        self.read_elements(tensor)
    }

    fn read_indices(&mut self, tensor: Tensor) -> Result<Vec<u32>> {
        assert!(tensor.dtype == DType::U32, "read_indices: {tensor} holds floats");
        self.read_elements(tensor)
    }
}
