//! `eval`: the record, and what it was measured on.

use super::*;

const BASELINES: [&str; 4] = ["best_spectral", "pca", "random_projection", "truncation"];
const PEERS: [&str; 5] = ["conae", "hakes", "matryoshka_adaptor", "rae", "spectemp"];
const METRICS: [&str; 6] = ["ndcg@k", "neighbor_overlap@k", "recall@1", "recall@10", "recall@100", "recall@k"];

/// Sorted, with the intervals of the metrics that there are.
fn assert_summary(summary: &Value, metrics: &[&str], others: &[&str]) {
    let mut expected: Vec<&str> = [metrics, others, &["intervals"]].concat();
    expected.sort_unstable();
    assert_eq!(keys(summary), expected);
    assert_eq!(keys(&summary["intervals"]), metrics);
    for metric in metrics {
        let mean = summary[*metric].as_f64().unwrap();
        let [low, high] = [0, 1].map(|end| summary["intervals"][*metric][end].as_f64().unwrap());
        assert!(0.0 <= low && low <= mean && mean <= high && high <= 1.0, "{metric}: {low} {mean} {high}");
    }
}

#[test]
fn a_record_has_the_metrics_of_model_and_baselines() {
    let record = Folder::with_model().record("eval --input x.npy");
    assert_eq!(keys(&record), ["meta", "metrics"]);
    let metrics = &record["metrics"];
    assert_summary(metrics, &METRICS, &["baselines", "chance_recall@k"]);
    assert_eq!(keys(&metrics["baselines"]), BASELINES);
    BASELINES.iter().for_each(|name| assert_summary(&metrics["baselines"][name], &METRICS, &[]));
    assert_eq!(metrics["chance_recall@k"], 5.0 / 299.0);
    let meta = &record["meta"];
    for (key, value) in [("dim_in", 16), ("dim_out", 4), ("k", 5), ("queries", 30), ("database_rows", 300), ("bytes_out", 16)] {
        assert_eq!(meta[key], value, "{key}");
    }
    assert_eq!((&meta["split"], &meta["database"]), (&json("\"model\""), &json("\"all\"")));
}

#[test]
fn published_compressors_are_compared_with_where_asked() {
    let folder = Folder::with_model();
    let basic = folder.record("eval --input x.npy");
    assert_eq!(basic["meta"]["peers"], Value::Null);
    let run = folder.succeeds("eval --input x.npy --baselines all");
    let record = json(&run.stdout);
    let baselines = &record["metrics"]["baselines"];
    let mut names = [&BASELINES[..], &PEERS].concat();
    names.sort_unstable();
    assert_eq!(keys(baselines), names);
    PEERS.iter().for_each(|name| assert_summary(&baselines[name], &METRICS, &[]));
    BASELINES.iter().for_each(|name| assert_eq!(baselines[name], basic["metrics"]["baselines"][name], "{name}"));
    assert_eq!(keys(&record["meta"]["peers"]), PEERS);
    for name in PEERS {
        let line = run.stderr.lines().find(|line| line.starts_with(&format!("peer    {name}: ")));
        let chosen = record["meta"]["peers"][name].as_str().unwrap();
        assert!(line.is_some_and(|line| line.contains(chosen)), "{name}: {run}");
    }
    assert_eq!(record, folder.record("eval --input x.npy --baselines all"), "the same seed trains the same peers");
}

#[test]
fn a_model_that_was_not_trained_is_the_best_spectral_map() {
    let folder = Folder::with_rows();
    folder.succeeds(&TRAIN.replace("--epochs 20", "--epochs 0"));
    let record = folder.record("eval --input x.npy");
    for metric in METRICS {
        assert_eq!(record["metrics"][metric], record["metrics"]["baselines"]["best_spectral"][metric], "{metric}");
    }
    assert_eq!(record["meta"]["best_spectral"], folder.model(MODEL).meta.init);
}

#[test]
fn the_test_rows_can_be_the_whole_database() {
    let record = Folder::with_model().record("eval --input x.npy --database test");
    assert_eq!(record["meta"]["database_rows"], 30);
    assert_eq!(record["meta"]["queries"], 30);
    assert_eq!(record["metrics"]["chance_recall@k"], 5.0 / 29.0);
    assert!(!keys(&record["metrics"]).contains(&"recall@100"), "30 rows have no 100 neighbours");
    assert!(keys(&record["metrics"]).contains(&"recall@10"));
}

#[test]
fn another_k_can_be_asked_for() {
    let folder = Folder::with_model();
    let [own, ten] = ["", "--k 10"].map(|flag| folder.record(&format!("eval --input x.npy {flag}"))["metrics"].clone());
    assert_eq!(ten["recall@k"], ten["recall@10"]);
    assert_eq!(ten["recall@10"], own["recall@10"]);
    assert_ne!(own["recall@k"], ten["recall@k"]);
}

#[test]
fn rows_are_known_by_their_numbers_not_by_their_file() {
    let folder = Folder::with_model();
    let numbers = std::fs::read(folder.path("x.npy")).unwrap();
    std::fs::write(folder.path("renamed.npy"), numbers).unwrap();
    assert_eq!(folder.record("eval --input renamed.npy")["meta"]["split"], "model");
    // More rows than the model saw: only its own are read.
    let longer = [rows::cloud(ROWS, DIM, 1), rows::cloud(50, DIM, 9)].concat();
    folder.write("longer.npy", &longer, DIM);
    assert_eq!(folder.record("eval --input longer.npy")["meta"]["split"], "model");
    assert_eq!(folder.record("eval --input longer.npy --max-items 0")["meta"]["split"], "new");
}

#[test]
fn queries_are_sampled_from_other_data() {
    let folder = Folder::with_model();
    folder.write("y.npy", &rows::cloud(200, DIM, 2), DIM);
    let run = folder.succeeds("eval --input y.npy --queries 20");
    assert!(run.stderr.contains("queries are sampled"), "{run}");
    let record = json(&run.stdout);
    for (key, value) in [("queries", 20), ("database_rows", 200)] {
        assert_eq!(record["meta"][key], value, "{key}");
    }
    assert_eq!(record["meta"]["split"], "new");
    assert_eq!(record, folder.record("eval --input y.npy --queries 20"), "the same seed draws the same queries");
    let other = folder.record("eval --input y.npy --queries 20 --seed 1");
    assert_ne!(record["metrics"]["recall@k"], other["metrics"]["recall@k"]);
    assert_eq!(folder.record("eval --input y.npy")["meta"]["queries"], 50, "at most a quarter of the rows");
    folder.fails("eval --input y.npy --queries 0", 2, &["--queries"]);
}
