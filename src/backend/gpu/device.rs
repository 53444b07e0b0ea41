//! The open device: its errors, its submissions, its transfers, its compiled shaders.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::backend::gpu::Checks;
use crate::backend::gpu::pipeline::Kernel;
use crate::error::{Error, Result};
use crate::op::{Pass, Shader};

/// Most bytes that are read in one piece, through a buffer of the same size.
const READ_BYTES: usize = 32 << 20;

/// Submissions that may be under way: enough to keep the GPU busy while the next one is encoded, few enough to bound staging
/// memory and the delay of errors.
const IN_FLIGHT: usize = 3;

/// A shader with its constants.
type Variant = (Shader, Vec<(&'static str, u32)>);

/// A wgpu device that reports what goes wrong as [`Error`].
pub(super) struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) checks: Checks,
    /// The first error that no error scope caught, the loss of the device included.
    fault: Arc<OnceLock<String>>,
    kernels: Mutex<HashMap<Variant, Arc<Kernel>>>,
}

impl Device {
    pub(super) fn new(device: wgpu::Device, queue: wgpu::Queue, checks: Checks) -> Self {
        let fault = Arc::new(OnceLock::new());
        let (uncaptured, lost) = (Arc::clone(&fault), Arc::clone(&fault));
        // The first report is the cause; later ones are its consequences and are not kept.
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let _ = uncaptured.set(format!("the device failed: {error}"));
        }));
        device.set_device_lost_callback(move |reason, message| {
            let _ = lost.set(format!("the device was lost ({reason:?}): {message}"));
        });
        Self { device, queue, checks, fault, kernels: Mutex::default() }
    }

    /// The same device with other checks, and no shaders compiled yet.
    pub(super) fn with_checks(&self, checks: Checks) -> Self {
        let (device, queue, fault) = (self.device.clone(), self.queue.clone(), Arc::clone(&self.fault));
        Self { device, queue, checks, fault, kernels: Mutex::default() }
    }

    /// The compiled shader of a pass, compiled at most once.
    pub(super) fn kernel(&self, pass: &Pass, params_size: u32) -> Result<Arc<Kernel>> {
        // Held while compiling, so that a shader is never compiled twice.
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (pass.shader, pass.constants.clone());
        if let Some(kernel) = kernels.get(&key) {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(Kernel::new(self, pass, params_size)?);
        kernels.insert(key, Arc::clone(&kernel));
        Ok(kernel)
    }

    /// Does `work`, and returns what the device says against it.
    pub(super) fn guarded<T>(&self, work: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let scopes = [OutOfMemory, Internal, Validation].map(|filter| self.device.push_error_scope(filter));
        let value = work();
        let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        // Every scope is popped, innermost first, whether or not one before it has caught something.
        errors.reduce(|first, _| first).map_or(Ok(value), Err)
    }

    /// Fails if the device has failed since it was opened: from then on wgpu ignores calls, and results would be zeros.
    pub(super) fn check(&self) -> Result<()> {
        // The loss is reported within a poll, which itself has nothing to say that `fault` does not.
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.fault.get().map_or(Ok(()), |fault| {
            Err(Error::device(fault.clone())
                .hint("restart the program; if it happens again use a smaller --batch-size or --device cpu"))
        })
    }

    /// Submits what `encode` records and waits until few enough submissions are under way.
    pub(super) fn submit(
        &self,
        in_flight: &mut VecDeque<wgpu::SubmissionIndex>,
        encode: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<()> {
        let submitted = self.guarded(|| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encode(&mut encoder);
            self.queue.submit([encoder.finish()])
        });
        in_flight.push_back(submitted.map_err(|error| Error::device(format!("the device refuses work: {error}")))?);
        while in_flight.len() > IN_FLIGHT
            && let Some(oldest) = in_flight.pop_front()
        {
            self.wait(oldest)?;
        }
        self.check()
    }

    /// Waits for a submission and those before it.
    fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let waited = self.device.poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: None });
        self.check()?;
        waited.map(|_| ()).map_err(|error| Error::device(format!("the device does not answer: {error}")))
    }

    /// Hands bytes of a buffer to `sink`, piece by piece, once everything submitted before is done.
    pub(super) fn read(&self, buffer: &wgpu::Buffer, bytes: Range<u64>, mut sink: impl FnMut(&[u8])) -> Result<()> {
        self.check()?;
        let refused = |what: &dyn std::fmt::Display| Error::device(format!("cannot read from the device: {what}"));
        for start in bytes.clone().step_by(READ_BYTES) {
            let size = (bytes.end - start).min(READ_BYTES as u64);
            let (staging, index) = self
                .guarded(|| {
                    let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some("read"),
                        size,
                        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                        mapped_at_creation: false,
                    });
                    let mut encoder = self.device.create_command_encoder(&Default::default());
                    encoder.copy_buffer_to_buffer(buffer, start, &staging, 0, size);
                    let index = self.queue.submit([encoder.finish()]);
                    // A failed mapping shows in `get_mapped_range`.
                    staging.map_async(wgpu::MapMode::Read, .., |_| ());
                    (staging, index)
                })
                .map_err(|error| refused(&error))?;
            self.wait(index)?;
            sink(&staging.get_mapped_range(..).map_err(|error| refused(&error))?);
        }
        Ok(())
    }
}
