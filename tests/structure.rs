//! Who may import whom. The rules keep an op one file and a shader, and wgpu behind one module.

use std::fs;
use std::path::{Path, PathBuf};

/// For a module, what it may import from the crate besides itself; modules that are not listed may import anything.
const IMPORTS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("tensor", &[]),
    ("op", &["case"]),
    ("plan", &["error", "op", "tensor"]),
    ("case", &["plan", "random", "tensor"]),
    ("ops", &["case", "op", "plan", "simd", "tensor"]),
    ("backend", &["error", "memory", "op", "plan", "tensor"]),
];

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

    /// Names that follow `crate::`.
    fn imports(&self) -> impl Iterator<Item = &str> {
        let mentions = self.code.split("crate::").skip(1);
        mentions.map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
    }
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
        let Some((_, allowed)) = IMPORTS.iter().find(|(module, _)| *module == source.module()) else {
            continue;
        };
        // `crate::Error` and the like are public names of allowed modules. Ops are one module each: they may not name `ops`.
        for import in source.imports().filter(|import| !import.starts_with(char::is_uppercase)) {
            let itself = import == source.module() && import != "ops";
            assert!(itself || allowed.contains(&import), "{} imports crate::{import}", source.path);
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
