//! What a device does besides computing: it is chosen, it runs steps in order, and it says what is wrong.

use std::process::ExitCode;

use embedding_compressor::backend::{AdapterKind, Backend, Checks, Cpu, DeviceChoice, Gpu, adapters, choose};
use embedding_compressor::case::Case;
use embedding_compressor::op::{Cost, Io, Op, Pass, Shader, Tolerance};
use embedding_compressor::plan::{Limits, Plan};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[path = "common/gpu.rs"]
mod gpu;

fn main() -> ExitCode {
    let on_gpu = |name: &str, test: fn(&Gpu)| {
        Trial::ignorable_test(name, move || {
            gpu::with_gpu(|gpu| {
                test(gpu);
                Ok(Completion::Completed)
            })
        })
    };
    let trials = vec![
        Trial::test("auto takes no software adapter", auto_takes_no_software_adapter),
        Trial::test("bindings are within reach of shaders", bindings_are_within_reach_of_shaders),
        Trial::test("a demanded gpu is taken or missed aloud", a_demanded_gpu_is_taken_or_missed_aloud),
        Trial::test("steps run in order::native", || {
            steps_run_in_order(&Cpu::new());
            Ok(())
        }),
        on_gpu("steps run in order::gpu", |gpu| steps_run_in_order(gpu)),
        on_gpu("too large a tensor is named", too_large_a_tensor_is_named),
        on_gpu("a refused shader is named", a_refused_shader_is_named),
        on_gpu("a write behind the end is seen", a_write_behind_the_end_is_seen),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn auto_takes_no_software_adapter() -> Result<(), Failed> {
    let (backend, why) = choose(DeviceChoice::Auto)?;
    let hardware = adapters().iter().any(|adapter| adapter.kind != AdapterKind::Software);
    assert!(hardware || backend.describe().starts_with("cpu"), "{why}");
    assert!(why.starts_with(&backend.describe()), "{why} does not say which device was taken");
    Ok(())
}

/// Drivers may bind more than offsets in u32 address.
fn bindings_are_within_reach_of_shaders() -> Result<(), Failed> {
    for adapter in adapters() {
        assert!(
            adapter.binding_bytes < 1 << 32 && adapter.binding_bytes.is_multiple_of(4),
            "{adapter}: {}",
            adapter.binding_bytes
        );
    }
    Ok(())
}

fn a_demanded_gpu_is_taken_or_missed_aloud() -> Result<(), Failed> {
    let usable = adapters().iter().any(|adapter| adapter.lacks.is_none());
    match choose(DeviceChoice::Gpu) {
        Ok((backend, _)) => assert!(usable && !backend.describe().starts_with("cpu")),
        Err(error) => assert!(!usable && error.exit_code() == 4 && error.hint_text().is_some(), "{error}"),
    }
    Ok(())
}

/// More dispatches than one submission takes, each reading what the one before it wrote.
fn steps_run_in_order(backend: &dyn Backend) {
    let mut plan = Plan::new(backend.limits());
    let digest = plan.state_indices("digest", [1, 1]);
    let routine = plan.routine();
    plan.push::<Digest<WHOLE>>([0], &[], &[digest]);
    let mut program = backend.compile(plan).expect("the plan is small");
    program.run(routine, 0..700).expect("the device works");
    program.run(routine, 700..701).expect("the device works");
    let expected = (0..701).fold(0, |digest: u32, step| digest.wrapping_mul(31).wrapping_add(step));
    assert_eq!(program.read_indices(digest).expect("the device works"), [expected]);
}

fn too_large_a_tensor_is_named(gpu: &Gpu) {
    let mut plan = Plan::new(Limits::NONE);
    plan.state("terabyte", [1 << 20, 1 << 18]);
    let error = gpu.compile(plan).err().expect("no device has a terabyte");
    assert!(error.to_string().contains("terabyte") && error.exit_code() == 4, "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--max-items")));
    steps_run_in_order(gpu);
}

fn a_refused_shader_is_named(gpu: &Gpu) {
    let mut plan = Plan::new(gpu.limits());
    let digest = plan.state_indices("digest", [1, 1]);
    plan.routine();
    plan.push::<Digest<WITHOUT_ENTRY>>([0], &[], &[digest]);
    let error = gpu.compile(plan).err().expect("the shader has no entry point");
    assert!(error.to_string().contains("digest of steps") && error.exit_code() == 4, "{error}");
    steps_run_in_order(gpu);
}

/// Parity tests rely on guards, which are elements like others to a device.
fn a_write_behind_the_end_is_seen(gpu: &Gpu) {
    let gpu = gpu.with_checks(Checks { guards: true, ..Checks::default() });
    let mut plan = Plan::new(gpu.limits());
    let digest = plan.state_indices("digest", [1, 1]);
    let other = plan.state_indices("other", [1, 1]);
    let routine = plan.routine();
    plan.push::<Digest<ASTRAY>>([0], &[], &[digest]);
    let mut program = gpu.compile(plan).expect("the plan is small");
    program.run(routine, 0..1).expect("the device works");
    let error = program.read_indices(digest).expect_err("it is written behind the end");
    assert!(error.to_string().contains("digest"), "{error}");
    assert!(program.read_indices(other).is_ok(), "the other tensor is whole");
}

/// Folds the step into a number, such that the order of steps shows.
struct Digest<const KIND: usize>;

const WHOLE: usize = 0;
/// A shader without an entry point is well-formed, and refused only by the device.
const WITHOUT_ENTRY: usize = 1;
/// Writes behind the end of its tensor.
const ASTRAY: usize = 2;

const DECLARATIONS: &str = "
    struct Params { step: u32 }
    var<immediate> p: Params;
    @group(0) @binding(0) var<storage, read_write> digest: array<u32>;";
const ENTRY: &str = "
    @compute @workgroup_size(1)
    fn main() { digest[0] = digest[0] * 31u + p.step; }";

const ASTRAY_ENTRY: &str = "
    @compute @workgroup_size(1)
    fn main() { digest[1] = p.step; }";

impl<const KIND: usize> Op for Digest<KIND> {
    const NAME: &'static str = "digest";
    type Params = [u32; 1];
    const TOLERANCE: Tolerance = Tolerance::Exact;

    fn passes(_: &[u32; 1]) -> Vec<Pass> {
        let parts: &[&str] = [&[DECLARATIONS, ENTRY] as &[&str], &[DECLARATIONS], &[DECLARATIONS, ASTRAY_ENTRY]][KIND];
        vec![Pass { shader: Shader { name: "digest of steps", parts }, constants: Vec::new(), grid: [1, 1, 1] }]
    }

    fn native(&[step]: &[u32; 1], io: Io<'_, f32>) {
        let ([], [digest]) = io.take();
        let digest = &mut digest.index()[0];
        *digest = digest.wrapping_mul(31).wrapping_add(step);
    }

    fn oracle(_: &[u32; 1], _: Io<'_, f64>) {
        unreachable!("native code and shader are compared with the sum itself");
    }

    fn cost(_: &[u32; 1]) -> Cost {
        Cost::default()
    }

    fn cases() -> Vec<Case> {
        Vec::new()
    }

    fn bench_cases() -> Vec<Case> {
        Vec::new()
    }
}
