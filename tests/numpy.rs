//! The README's lines for Python: numpy reads a model, compresses with it, and gets the recall that `eval` printed.

use std::path::Path;
use std::process::{Command, ExitCode, Output};

use embedding_compressor::data::{AtomicFile, Embeddings, Source};
use embedding_compressor::metric::Metric;
use embedding_compressor::model::Compressor;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;

#[path = "common/npy.rs"]
mod npy;

/// How the lines begin in the README.
const BEGIN: &str = "```python\nimport json, numpy as np\n";

/// The README's lines are given float32 rows `x`, and leave `meta` and `z`. Teacher and student rank all rows, ties by row.
const CHECK: &str = r#"
file = np.load("z.npy", allow_pickle=False)
assert file.dtype == np.float32 and file.shape == z.shape, (file.dtype, file.shape)

k, test = meta["k"], np.array(meta["test_indices"])
def neighbours(v, metric):
    v = v.astype(np.float64)
    scores = v[test] @ v.T
    if metric == "l2": scores -= (v**2).sum(axis=1) / 2
    scores[np.arange(len(test)), test] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]
true = neighbours(x, meta["teacher_metric"])
recall = lambda v: np.mean([len(set(a) & set(b)) / k for a, b in zip(true, neighbours(v, meta["student_metric"]))])
print(json.dumps({"difference": float(np.abs(z - file).max()), "recall": recall(z), "recall_of_file": recall(file)}))
"#;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for teacher in [Metric::Cosine, Metric::Dot, Metric::L2] {
        for student in [Metric::Cosine, Metric::Dot, Metric::L2] {
            let hidden = if teacher == student { 24 } else { 0 };
            let metrics = format!("{} teacher, {} student", teacher.name(), student.name());
            let name = format!("the readme's lines compress as the command does::{metrics}, {hidden} hidden");
            trials.push(Trial::ignorable_test(name, move || with_numpy(teacher, student, hidden)));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn with_numpy(teacher: Metric, student: Metric, hidden: usize) -> Result<Completion, Failed> {
    let found = python("import numpy", Path::new(".")).is_ok_and(|output| output.status.success());
    match (found, std::env::var_os("EMBEDDING_COMPRESSOR_REQUIRE_NUMPY")) {
        (true, _) => compare(teacher, student, hidden).map(|()| Completion::Completed),
        (false, Some(_)) => Err("python3 with numpy is required, and there is none".into()),
        (false, None) => Ok(Completion::ignored_with("there is no python3 with numpy")),
    }
}

fn python(script: &str, folder: &Path) -> std::io::Result<Output> {
    Command::new("python3").args(["-c", script]).current_dir(folder).output()
}

fn compare(teacher: Metric, student: Metric, hidden: usize) -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir()?;
    let sample = root.join("examples/data/wordnet_minilm_384_sample.parquet");
    let rows = Embeddings::read(&Source { input: vec![sample], ..Source::default() }, 1000)?;
    // For cosine, lengths must not matter.
    let length = |i: usize| if teacher.normalizes() { i as f32 } else { 1.0 + 0.001 * i as f32 };
    let values: Vec<f32> =
        rows.values.chunks(rows.dim).zip(1..).flat_map(|(row, i)| row.iter().map(move |x| x * length(i))).collect();
    npy::write_npy(&folder.path().join("x.npy"), &values, rows.dim);
    let run = |program: &str, flags: &str| -> Result<Vec<u8>, Failed> {
        let flags = flags.split_whitespace().chain(["--input", "x.npy", "--device", "cpu"]);
        let output = Command::new(program).args(flags).current_dir(folder.path()).output()?;
        output.status.success().then_some(output.stdout).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into())
    };
    run(env!("CARGO_BIN_EXE_train"), &format!("--dim-out 16 --k 20 --epochs 3 --hidden {hidden} --metric {}", teacher.name()))?;
    let model = folder.path().join("compressor_model.npz");
    let mut compressor = Compressor::load(&model)?;
    compressor.map.metric = student;
    // The start has none, and it may be the best epoch.
    compressor.map.bias.iter_mut().zip(1u8..).for_each(|(b, i)| *b += 0.01 * f32::from(i));
    if let Some(hidden) = &mut compressor.map.hidden {
        hidden.output.iter_mut().zip(1u16..).for_each(|(c, i)| *c += 0.05 * (f32::from(i)).sin());
    }
    compressor.meta.student_metric = student;
    compressor.save(AtomicFile::create(&model)?)?;
    run(env!("CARGO_BIN_EXE_compress"), "--output z.npy")?;
    let record: Value = serde_json::from_slice(&run(env!("CARGO_BIN_EXE_eval"), "")?)?;

    let readme = std::fs::read_to_string(root.join("README.md"))?.replace("\r\n", "\n");
    let (_, lines) = readme.split_once(BEGIN).ok_or("README.md has no lines for numpy")?;
    let (lines, _) = lines.split_once("```").ok_or("README.md does not end its lines for numpy")?;
    let script = format!("import json, numpy as np\nx = np.load('x.npy')\n{lines}{CHECK}");
    let output = python(&script, folder.path())?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout)?;

    let number = |value: &Value| value.as_f64().expect("a number");
    assert!(number(&result["difference"]) <= 1e-5, "numpy's vectors and the command's: {result}");
    let expected = number(&record["metrics"]["recall@k"]);
    for recall in ["recall", "recall_of_file"] {
        assert!((number(&result[recall]) - expected).abs() <= 1e-3, "eval printed {expected}, numpy finds {result}");
    }
    Ok(())
}
