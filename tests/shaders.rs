//! Every shader that a case uses, without a GPU: it is valid, it translates to SPIR-V, MSL and HLSL, it keeps to the default
//! limits of WebGPU, and its `struct Params` is the op's.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use embedding_compressor::op::Pass;
use embedding_compressor::ops::TABLE;
use embedding_compressor::plan::Node;
use libtest_mimic::{Arguments, Failed, Trial};
use naga::back::{hlsl, msl, spv};
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, Scalar, StorageAccess, TypeInner};

/// Workgroup memory that every device has.
const WORKGROUP_BYTES: u32 = 16_384;

/// Invocations of a workgroup that every device takes.
const INVOCATIONS: u32 = 256;

/// Parameters that every device with immediates takes, in bytes.
const IMMEDIATE_BYTES: u32 = 128;

/// Storage buffers that every device binds at once.
const BUFFERS: usize = 8;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    let mut reached = HashSet::new();
    let mut sources = HashSet::new();
    for op in TABLE {
        for case in op.cases().into_iter().chain(op.bench_cases()) {
            for node in case.plan.routines().iter().flatten() {
                for pass in node.op.passes(&node.params) {
                    reached.extend(pass.shader.parts);
                    let source = pass.source();
                    // A variant is checked once, under the name of the first case that has it.
                    if sources.insert(source.clone()) {
                        let name = format!("{}::{}::{}", node.op.name(), case.name, variant(&pass));
                        let node = node.clone();
                        trials.push(Trial::test(name, move || check(&node, &source)));
                    }
                }
            }
        }
    }
    trials.push(Trial::test("every file is reached", move || every_file_is_reached(&reached)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn variant(pass: &Pass) -> String {
    let constants = pass.constants.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{}{}", pass.shader.name, constants.collect::<String>())
}

fn check(node: &Node, source: &str) -> Result<(), Failed> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let units = source.contains("enable wgpu_cooperative_matrix;");
    let mut validator =
        Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES | if units { UNITS } else { Capabilities::empty() });
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(source))?;
    translate(&module, &info, units)?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx())?;
    check_params(&module, &layouter, node.params.len())?;
    check_bindings(&module, node)?;
    check_workgroup(&module, &layouter)
}

/// What the shader for matrix units takes beyond the rest.
const UNITS: Capabilities = Capabilities::COOPERATIVE_MATRIX.union(Capabilities::SHADER_FLOAT16).union(Capabilities::SUBGROUP);

fn translate(module: &Module, info: &ModuleInfo, units: bool) -> Result<(), Failed> {
    spv::write_vec(module, info, &spv::Options::default(), None)?;
    // Metal has matrix units from 2.3 on, DirectX none.
    let default = msl::Options::default();
    let options = msl::Options { lang_version: if units { (2, 3) } else { default.lang_version }, ..default };
    msl::write_string(module, info, &options, &msl::PipelineOptions::default())?;
    if units {
        return Ok(());
    }
    let options = hlsl::Options {
        // naga panics without a place for the immediates.
        immediates_target: Some(hlsl::BindTarget::default()),
        fake_missing_bindings: true,
        ..Default::default()
    };
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut String::new(), &options, &pipeline).write(module, info, None)?;
    Ok(())
}

/// The parameters are four-byte scalars, so that their layout in Rust and in WGSL is the same by construction.
fn check_params(module: &Module, layouter: &Layouter, params_size: usize) -> Result<(), Failed> {
    let params = module.global_variables.iter().find(|(_, global)| global.space == AddressSpace::Immediate);
    let (_, params) = params.ok_or("no `var<immediate>`")?;
    let TypeInner::Struct { members, span } = &module.types[params.ty].inner else {
        return Err("the immediates are no struct".into());
    };
    ensure(module.types[params.ty].name.as_deref() == Some("Params"), || "the immediates are no `Params`".to_owned())?;
    ensure(*span as usize == params_size, || format!("`Params` has {span} bytes, in Rust {params_size}"))?;
    ensure(*span <= IMMEDIATE_BYTES, || format!("`Params` has {span} bytes, more than {IMMEDIATE_BYTES}"))?;
    for (index, member) in members.iter().enumerate() {
        let name = member.name.as_deref().unwrap_or_default();
        let scalar = matches!(module.types[member.ty].inner, TypeInner::Scalar(_)) && layouter[member.ty].size == 4;
        ensure(scalar && member.offset as usize == 4 * index, || format!("`Params.{name}` is no four-byte scalar"))?;
    }
    let first = &members[0];
    let step = first.name.as_deref() == Some("step") && module.types[first.ty].inner == TypeInner::Scalar(Scalar::U32);
    ensure(step, || "the first field of `Params` is not `step: u32`".to_owned())
}

/// Binding i is tensor i of the node; inputs are bound read-only.
fn check_bindings(module: &Module, node: &Node) -> Result<(), Failed> {
    let buffers: Vec<_> = module.global_variables.iter().filter_map(|(_, g)| Some((g.binding.as_ref()?, g.space))).collect();
    ensure(buffers.len() <= BUFFERS, || format!("{} buffers are bound, more than {BUFFERS}", buffers.len()))?;
    for (at, space) in buffers {
        let AddressSpace::Storage { access } = space else {
            return Err(format!("binding {} is no storage buffer", at.binding).into());
        };
        let binding = at.binding as usize;
        ensure(at.group == 0, || format!("binding {binding} is in group {}", at.group))?;
        let tensors = node.inputs.len() + node.outputs.len();
        ensure(binding < tensors, || format!("binding {binding} is none of the {tensors} tensors"))?;
        let written = access.contains(StorageAccess::STORE);
        ensure(!written || binding >= node.inputs.len(), || format!("binding {binding}, an input, is not `read`"))?;
    }
    Ok(())
}

fn check_workgroup(module: &Module, layouter: &Layouter) -> Result<(), Failed> {
    let globals = module.global_variables.iter().filter(|(_, global)| global.space == AddressSpace::WorkGroup);
    let bytes: u32 = globals.map(|(_, global)| layouter[global.ty].size).sum();
    ensure(bytes <= WORKGROUP_BYTES, || format!("{bytes} bytes of workgroup memory, more than {WORKGROUP_BYTES}"))?;
    let entry = module.entry_points.iter().find(|entry| entry.name == "main").ok_or("no entry point `main`")?;
    let [x, y, z] = entry.workgroup_size;
    ensure(x * y * z <= INVOCATIONS && z <= 64, || format!("{x} x {y} x {z} invocations, more than {INVOCATIONS}"))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

fn every_file_is_reached(reached: &HashSet<&str>) -> Result<(), Failed> {
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    for folder in [shaders.join("shared"), shaders] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wgsl") {
                let text = fs::read_to_string(&path)?;
                ensure(reached.contains(text.as_str()), || format!("no case reaches {}", path.display()))?;
            }
        }
    }
    Ok(())
}
