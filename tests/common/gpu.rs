//! The one GPU of a test process.

use std::sync::OnceLock;

use embedding_compressor::backend::{AdapterChoice, Backend, Gpu};
use libtest_mimic::{Completion, Failed};

/// Runs a test on any adapter, software included. Without one the test is ignored, or fails where
/// `EMBEDDING_COMPRESSOR_REQUIRE_GPU` is set: a machine that should test on a GPU must not pass in silence.
pub(crate) fn with_gpu(test: impl FnOnce(&Gpu) -> Result<Completion, Failed>) -> Result<Completion, Failed> {
    static GPU: OnceLock<Result<Gpu, String>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| {
        let gpu = Gpu::new(AdapterChoice::Any).map_err(|error| error.to_string());
        eprintln!("{}", gpu.as_ref().map_or_else(Clone::clone, Backend::describe));
        gpu
    });
    match gpu {
        Ok(gpu) => test(gpu),
        Err(error) if std::env::var_os("EMBEDDING_COMPRESSOR_REQUIRE_GPU").is_some() => Err(error.into()),
        Err(error) => Ok(Completion::ignored_with(error)),
    }
}
