//! The state in which a case starts.

use embedding_compressor::Result;
use embedding_compressor::backend::Program;
use embedding_compressor::case::{Case, Values};
use embedding_compressor::plan::Role;
use embedding_compressor::tensor::DType;

/// Writes the values of a case, and poison wherever it has none: what an op reads without anybody having written it then shows
/// in the results.
pub(crate) fn prepare(program: &mut dyn Program, case: &Case) -> Result<()> {
    for info in case.plan.tensors() {
        let tensor = info.tensor;
        if case.values.iter().any(|(t, _)| *t == tensor) {
            continue;
        }
        assert!(info.role != Role::Input, "case {}: input {tensor} has no values", case.name);
        match tensor.dtype {
            DType::F32 => program.write(tensor, vec![f32::NAN; tensor.shape.len()].as_slice())?,
            DType::U32 => program.write(tensor, vec![0xDEAD_BEEF_u32; tensor.shape.len()].as_slice())?,
        }
    }
    for (tensor, values) in &case.values {
        match values {
            Values::F32(x) => program.write(*tensor, x.as_slice())?,
            Values::U32(x) => program.write(*tensor, x.as_slice())?,
        }
    }
    Ok(())
}
