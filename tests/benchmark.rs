//! The `benchmark` command on a small model.

use std::path::Path;
use std::process::{Command, Output};

use embedding_compressor::backend::Cpu;
use embedding_compressor::config::TrainConfig;
use embedding_compressor::data::{AtomicFile, Embeddings, Source};
use embedding_compressor::ops::TABLE;
use embedding_compressor::train::fit;
use serde_json::Value;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/wordnet_minilm_384_sample.parquet");
const ROWS: usize = 300;

/// Writes the initial map of a model that was trained on the first rows of the sample.
fn write_model(path: &Path) {
    let source = Source { input: vec![SAMPLE.into()], ..Source::default() };
    let embeddings = Embeddings::read(&source, ROWS).expect("the sample is readable");
    let config = TrainConfig { dim_out: 32, k: 10, epochs: Some(0), ..TrainConfig::default() };
    let compressor = fit(&Cpu::new(), &embeddings, &config, &mut |_| Ok(())).expect("the rows suffice");
    let file = AtomicFile::create(path).expect("the folder is writable");
    compressor.save(file).expect("the folder is writable");
}

fn benchmark(model: &Path, input: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_benchmark"));
    command.args(["--device", "cpu", "--model"]).arg(model).arg("--input").arg(input).args(flags);
    command.output().expect("the command starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_record_is_one_line_of_positive_figures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model.npz");
    write_model(&model);
    let output = benchmark(&model, Path::new(SAMPLE), &["--max-items", "300", "--k", "5", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let record: Value = serde_json::from_str(&stdout).expect("stdout is JSON");
    let (metrics, meta) = (&record["metrics"], &record["meta"]);
    check_figures(metrics);
    for (name, expected) in [("dim_in", 384), ("dim_out", 32), ("k", 5), ("queries", 256)] {
        assert_eq!(meta[name], expected, "{name}");
    }
    assert_eq!(meta["data"]["rows"], ROWS);
    assert_eq!(meta["tool_version"], env!("CARGO_PKG_VERSION"));
    assert!(meta["device"].is_string() && meta["model"].is_string() && meta["threads"].as_u64() > Some(0), "{meta}");
}

fn check_figures(metrics: &Value) {
    let positive = |record: &Value, name: &str| {
        let figure = record[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {record}"));
        assert!(figure > 0.0 && figure.is_finite(), "{name} = {figure}");
        figure
    };
    for name in ["compressed_rows_per_second", "queries_per_second_in", "queries_per_second_out", "search_speedup"] {
        positive(metrics, name);
    }
    assert_eq!(["bytes_in", "bytes_out", "bytes_ratio"].map(|name| positive(metrics, name)), [1536.0, 128.0, 12.0]);
    check_savings(metrics);
    for name in ["gflop_per_second", "gbyte_per_second"] {
        positive(&metrics["roofs"], name);
    }
    let rows = metrics["ops"].as_array().expect("ops are a list");
    let names: Vec<&str> = rows.iter().filter_map(|row| row["op"].as_str()).collect();
    assert!(TABLE.iter().all(|op| names.contains(&op.name())), "ops are missing of {names:?}");
    for row in rows {
        assert!(row["case"].is_string(), "{row}");
        positive(row, "seconds");
        positive(row, "fraction_of_roof");
    }
}

/// Memory is exact; time is that of the rows at hand, as many times as there are more of them.
fn check_savings(metrics: &Value) {
    let savings = metrics["savings"].as_array().expect("savings are a list");
    let counts: Vec<_> = savings.iter().filter_map(|saving| saving["vectors"].as_u64()).collect();
    assert_eq!(counts, [1_000_000, 100_000_000, 1_000_000_000]);
    for saving in savings {
        let figure = |record: &Value, name: &str| record[name].as_f64().expect(name);
        let count = figure(saving, "vectors");
        assert_eq!((figure(saving, "bytes_in"), figure(saving, "bytes_out")), (1536.0 * count, 128.0 * count));
        for end in ["in", "out"] {
            let query = count / ROWS as f64 / figure(metrics, &format!("queries_per_second_{end}"));
            let estimate = figure(saving, &format!("seconds_per_query_{end}"));
            assert!((estimate - query).abs() <= 1e-9 * query, "{saving}");
        }
    }
}

#[test]
fn without_json_people_get_a_table() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model.npz");
    write_model(&model);
    let output = benchmark(&model, Path::new(SAMPLE), &["--max-items", "300", "--k", "5"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let stdout = String::from_utf8(output.stdout).expect("a table is UTF-8");
    let gigabytes = "1000 million vectors:    1.5 TB ->  128.0 GB";
    for part in ["rows/s", "12.0 times smaller", "queries/s", gigabytes, "in proportion", "roofs", "of the roof"] {
        assert!(stdout.contains(part), "no {part:?} in {stdout}");
    }
}

#[test]
fn data_that_does_not_fit_the_model_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = folder.path().join("model.npz");
    write_model(&model);
    let narrow = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/c_le_f4.npy");
    for (input, flags, code, message) in [
        (narrow.as_path(), &[][..], 3, "the model expects 384 dimensions"),
        (Path::new(SAMPLE), &["--max-items", "10"], 3, "10 rows are too few for 10 neighbours"),
        (Path::new(SAMPLE), &["--k", "0"], 2, "--k must be from 1"),
    ] {
        let output = benchmark(&model, input, flags);
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(message) && output.stdout.is_empty(), "{stderr}");
    }
}
