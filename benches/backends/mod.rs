//! What benches run on.

use embedding_compressor::backend::{AdapterChoice, Backend, Cpu, Gpu};
use embedding_compressor::cli::keep_large_pages_whole;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The CPU, unless it is left out, and the GPU, if there is one; a software adapter only where `WGPU_ADAPTER_NAME` names it.
pub(crate) fn all(gpu_only: bool) -> Vec<Box<dyn Backend>> {
    keep_large_pages_whole();
    let mut backends: Vec<Box<dyn Backend>> = if gpu_only { vec![] } else { vec![Box::new(Cpu::new())] };
    let asked = std::env::var_os("WGPU_ADAPTER_NAME").is_some();
    match Gpu::new(if asked { AdapterChoice::Any } else { AdapterChoice::Hardware }) {
        Ok(gpu) => backends.push(Box::new(gpu)),
        Err(error) => eprintln!("no GPU: {error}"),
    }
    backends
}
