//! Who may import whom. The rules keep an op one file and a shader, and wgpu behind one module.

use std::fs;
use std::path::{Path, PathBuf};

/// For every module, lowest first, what it may import from the crate besides itself.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("memory", &["error"]),
    ("lanes", &["error"]),
    ("simd", &[]),
    ("gemm", &["memory", "simd"]),
    ("float16", &[]),
    ("random", &[]),
    ("select", &[]),
    ("moments", &["simd"]),
    ("metric", &["error", "memory"]),
    ("data", &["lanes", "memory", "metric", "random", "simd"]),
    ("tensor", &[]),
    ("op", &["case"]),
    ("case", &["float16", "plan", "random", "tensor"]),
    ("plan", &["error", "op", "tensor"]),
    ("backend", &["error", "memory", "op", "plan", "tensor"]),
    ("ops", &["case", "float16", "gemm", "metric", "op", "plan", "random", "select", "simd", "tensor"]),
    ("config", &["error", "metric", "ops"]),
    ("roofline", &["backend", "case", "error", "op", "ops", "plan", "tensor"]),
    ("similarity", &["metric", "op", "ops", "plan", "tensor"]),
    ("search", &["backend", "error", "metric", "ops", "plan", "similarity", "tensor"]),
    ("spectral", &["backend", "error", "memory", "moments", "op", "ops", "plan", "random", "tensor"]),
    ("eval", &["backend", "error", "metric", "random", "search"]),
    ("model", &["config", "data", "error", "metric"]),
    ("frame", &["metric", "model", "moments"]),
    ("network", &["backend", "error", "metric", "model", "op", "ops", "plan", "tensor"]),
    ("encoder", &["backend", "data", "error", "lanes", "memory", "metric", "model", "network", "ops", "plan", "simd", "tensor"]),
    ("compress", &["backend", "data", "encoder", "error", "model"]),
    ("basis", &["backend", "error", "metric", "model", "random", "spectral"]),
    ("baselines", &["backend", "basis", "error", "eval", "metric", "model", "random", "spectral"]),
    ("corpus", &["backend", "baselines", "basis", "data", "error", "eval", "frame", "metric", "model"]),
    ("candidates", &["config", "random"]),
    ("noise", &["backend", "error", "metric", "random", "search"]),
    ("schedule", &["ops"]),
    (
        "objective",
        &[
            "backend",
            "config",
            "error",
            "float16",
            "metric",
            "model",
            "network",
            "noise",
            "op",
            "ops",
            "plan",
            "similarity",
            "tensor",
        ],
    ),
    (
        "train",
        &[
            "backend",
            "baselines",
            "basis",
            "candidates",
            "config",
            "corpus",
            "data",
            "encoder",
            "error",
            "eval",
            "metric",
            "model",
            "noise",
            "objective",
            "random",
            "schedule",
            "search",
        ],
    ),
    (
        "peers",
        &[
            "backend",
            "baselines",
            "corpus",
            "data",
            "error",
            "metric",
            "model",
            "op",
            "ops",
            "plan",
            "random",
            "schedule",
            "search",
            "spectral",
            "tensor",
        ],
    ),
    ("evaluate", &["baselines", "corpus", "data", "error", "eval", "metric", "model", "peers", "random"]),
    ("benchmark", &["backend", "data", "encoder", "error", "metric", "model", "ops", "roofline", "search"]),
    ("target", &["error", "eval"]),
    ("curve", &["config", "data", "error", "evaluate"]),
    ("cli", &["backend", "config", "data", "error", "model", "train"]),
];

/// What an op is, its test cases and the plan it is recorded on are defined by each other.
const TOGETHER: [&str; 3] = ["op", "case", "plan"];

/// A source file: its path below `src`, with forward slashes, and its code without comments.
struct Source {
    path: String,
    code: String,
}

impl Source {
    /// The first part of the module path.
    fn module(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    /// Names that follow `crate::`, alone or in braces.
    fn imports(&self) -> impl Iterator<Item = &str> {
        self.code.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').map(first_name).collect(),
            None => vec![first_name(rest)],
        })
    }
}

fn first_name(path: &str) -> &str {
    path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources): (Vec<PathBuf>, Vec<Source>) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("sources are text");
            let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
            let below = path.strip_prefix(&root).expect("it was found there").to_string_lossy().replace('\\', "/");
            sources.push(Source { path: below, code: code.join("\n") });
        }
    }
    sources
}

#[test]
fn only_the_gpu_backend_names_wgpu() {
    for source in sources() {
        assert!(source.path.starts_with("backend/gpu") || !source.code.contains("wgpu"), "{} names wgpu", source.path);
    }
}

#[test]
fn only_ops_include_shaders() {
    for source in sources() {
        let includes = source.code.contains("shader!(") || source.code.contains(".wgsl");
        // op.rs defines the macro.
        assert!(source.path.starts_with("ops/") || source.path == "op.rs" || !includes, "{} includes a shader", source.path);
    }
}

#[test]
fn modules_import_only_what_lies_below_them() {
    for source in sources() {
        if source.module() == "lib" {
            continue;
        }
        let known = IMPORTS.iter().find(|(module, _)| *module == source.module());
        let (_, allowed) = known.unwrap_or_else(|| panic!("{} has no place among the modules", source.path));
        // `crate::Error` and the like are public names of allowed modules. Ops are one module each: they may not name `ops`.
        for import in source.imports().filter(|import| !import.starts_with(char::is_uppercase)) {
            let itself = import == source.module() && import != "ops";
            assert!(itself || allowed.contains(&import), "{} imports crate::{import}", source.path);
        }
    }
}

#[test]
fn imports_make_no_cycle() {
    for (at, (module, allowed)) in IMPORTS.iter().enumerate() {
        for import in *allowed {
            let below = IMPORTS[..at].iter().any(|(lower, _)| lower == import);
            assert!(below || [module, import].iter().all(|m| TOGETHER.contains(m)), "{import} is not below {module}");
        }
    }
}

#[test]
fn ops_do_not_name_each_other() {
    let ops: Vec<Source> = sources().into_iter().filter(|source| source.path.starts_with("ops/")).collect();
    let modules: Vec<&str> = ops.iter().map(|source| &source.path["ops/".len()..source.path.len() - ".rs".len()]).collect();
    for source in &ops {
        // Indented, it is within a case, which may check one op's derivative with another.
        for line in source.code.lines().filter(|line| line.starts_with("use super::")) {
            let sibling =
                modules.iter().find(|module| line.contains(&format!("super::{module}")) || line.contains(&format!("{module}::")));
            assert!(sibling.is_none(), "{} imports from its sibling {sibling:?}", source.path);
        }
    }
}
