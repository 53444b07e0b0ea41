//! Every case of every op: native code and shaders against the f64 oracle. Shaders run trusted, as they do in use, and with the tests of
//! indices that wgpu adds; in both modes nothing may be written behind the end of any tensor.

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use embedding_compressor::Result;
use embedding_compressor::backend::{Backend, Checks, Cpu, Gpu, Oracle, Program};
use embedding_compressor::case::{Case, Values};
use embedding_compressor::op::Tolerance;
use embedding_compressor::ops::TABLE;
use embedding_compressor::plan::Role;
use embedding_compressor::tensor::{DType, Tensor};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/prepare.rs"]
mod prepare;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for op in TABLE {
        for case in op.cases() {
            let name = format!("{}::{}", op.name(), case.name);
            let subject = Arc::new(Subject { case, tolerance: op.tolerance(), expected: OnceLock::new() });
            let native = Arc::clone(&subject);
            trials.push(Trial::test(format!("{name}::native"), move || native.check(&Cpu::new())));
            for (mode, checked) in [("gpu trusted", false), ("gpu checked", true)] {
                let subject = Arc::clone(&subject);
                trials
                    .push(Trial::ignorable_test(format!("{name}::{mode}"), move || on_gpu(checked, |gpu| subject.check_on(gpu))));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs a test on the GPU with guards behind its buffers, and with shaders checked or trusted.
fn on_gpu(checked: bool, test: impl Fn(&Gpu) -> Result<Completion, Failed>) -> Result<Completion, Failed> {
    static MODES: [OnceLock<Gpu>; 2] = [const { OnceLock::new() }; 2];
    gpu::with_gpu(|gpu| {
        let gpu = MODES[usize::from(checked)].get_or_init(|| gpu.with_checks(Checks { shaders: checked, guards: true }));
        test(gpu)
    })
}

/// A case and what the oracle makes of it.
struct Subject {
    case: Case,
    tolerance: Tolerance,
    expected: OnceLock<Vec<Expected>>,
}

/// An output according to the oracle.
enum Expected {
    Real(Vec<f64>),
    Index(Vec<u32>),
}

impl Subject {
    /// [`check`](Self::check), of what this GPU has: a case may be for units that another has.
    fn check_on(&self, gpu: &Gpu) -> Result<Completion, Failed> {
        if !self.case.runs_on(gpu.limits()) {
            return Ok(Completion::ignored_with("for other matrix units, or without EMBEDDING_COMPRESSOR_MATRIX_UNITS"));
        }
        self.check(gpu).map(|()| Completion::Completed)
    }

    /// Runs the case on a backend and compares all outputs with the oracle's, which bounds the distance between backends too.
    fn check(&self, backend: &dyn Backend) -> Result<(), Failed> {
        let case = &self.case;
        let mut program = backend.compile(case.plan.clone())?;
        prepare::prepare(&mut *program, case)?;
        program.run(case.routine, 0..case.steps)?;
        assert!(!case.outputs.is_empty(), "case {} has no outputs", case.name);
        for (&tensor, expected) in case.outputs.iter().zip(self.expected()) {
            match expected {
                Expected::Real(expected) => compare_real(self.tolerance, tensor, &program.read(tensor)?, expected)?,
                Expected::Index(expected) => compare_index(tensor, &program.read_indices(tensor)?, expected)?,
            }
        }
        self.check_inputs(&mut *program)?;
        // Reading a tensor from the GPU tells whether something was written behind it.
        for info in case.plan.tensors() {
            match info.tensor.dtype {
                DType::F32 => program.read(info.tensor).map(drop)?,
                DType::U32 => program.read_indices(info.tensor).map(drop)?,
            }
        }
        Ok(())
    }

    fn check_inputs(&self, program: &mut dyn Program) -> Result<(), Failed> {
        for info in self.case.plan.tensors().iter().filter(|info| info.role == Role::Input) {
            let unchanged = self.case.values.iter().filter(|(t, _)| *t == info.tensor).all(|(t, values)| match values {
                Values::F32(x) => program.read(*t).is_ok_and(|y| x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits())),
                Values::U32(x) => program.read_indices(*t).is_ok_and(|y| *x == y),
            });
            if !unchanged {
                return Err(format!("the input {} is changed by the run", info.tensor).into());
            }
        }
        Ok(())
    }

    fn expected(&self) -> &[Expected] {
        self.expected.get_or_init(|| self.run_oracle().expect("the oracle has memory for a test case"))
    }

    fn run_oracle(&self) -> Result<Vec<Expected>> {
        let case = &self.case;
        let mut program = Oracle::new().compile_host(case.plan.clone())?;
        prepare::prepare(&mut program, case)?;
        program.run(case.routine, 0..case.steps)?;
        let output = |&tensor: &Tensor| match tensor.dtype {
            DType::F32 => Ok(Expected::Real(program.read_real(tensor))),
            DType::U32 => program.read_indices(tensor).map(Expected::Index),
        };
        case.outputs.iter().map(output).collect()
    }
}

fn compare_real(tolerance: Tolerance, tensor: Tensor, got: &[f32], expected: &[f64]) -> Result<(), Failed> {
    let largest = expected.iter().map(|x| x.abs()).filter(|x| *x <= f64::from(f32::MAX)).fold(0.0, f64::max);
    let agree = |got: f32, expected: f64| {
        let rounded = expected as f32;
        match tolerance {
            _ if rounded.is_nan() => got.is_nan(),
            Tolerance::Exact => got.to_bits() == rounded.to_bits(),
            Tolerance::Relative(_) if rounded.is_infinite() => got == rounded,
            Tolerance::Relative(tolerance) => (f64::from(got) - expected).abs() <= tolerance * largest,
        }
    };
    let wrong = (0..expected.len()).filter(|&i| !agree(got[i], expected[i]));
    report(tensor, wrong, |i| {
        let distance = (f64::from(got[i]) - expected[i]).abs() / largest;
        format!("{:e} instead of {:e}, {distance:.1e} of the largest", got[i], expected[i])
    })
}

fn compare_index(tensor: Tensor, got: &[u32], expected: &[u32]) -> Result<(), Failed> {
    let wrong = (0..expected.len()).filter(|&i| got[i] != expected[i]);
    report(tensor, wrong, |i| format!("{} instead of {}", got[i], expected[i]))
}

/// Fails if there is a wrong element, and says what the first few are.
fn report(tensor: Tensor, wrong: impl Iterator<Item = usize>, explain: impl Fn(usize) -> String) -> Result<(), Failed> {
    let wrong: Vec<usize> = wrong.collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let cols = tensor.cols() as usize;
    let shown = wrong.iter().take(3).map(|i| format!("\n  row {}, column {}: {}", i / cols, i % cols, explain(*i)));
    Err(format!("{tensor}: {} of {} elements differ{}", wrong.len(), tensor.shape.len(), shown.collect::<String>()).into())
}
