//! `sweep`: one record for each d', the same that `train` and `eval` give.

use super::*;

const SWEEP: &str = "sweep --input x.npy --dim-outs 8,2 --k 5 --batch-size 64 --epochs 20 --hidden 0 --seed 7";

#[test]
fn a_sweep_is_train_and_eval_for_each_dimension() {
    let folder = Folder::with_rows();
    std::fs::write(folder.path("sweep.jsonl"), "an older and much longer content\n".repeat(999)).unwrap();
    for metric in ["cosine", "dot", "l2"] {
        let run = folder.succeeds(&format!("{SWEEP} --metric {metric} --output sweep.jsonl"));
        assert_eq!(run.stdout, "", "{run}");
        let lines = folder.json_lines("sweep.jsonl");
        assert_eq!(lines.len(), 2);
        for (line, dim_out) in lines.iter().zip([8, 2]) {
            let what = format!("{metric}, d' = {dim_out}");
            assert_eq!(keys(line), ["meta", "metrics"]);
            let train = format!(
                "train --input x.npy --dim-out {dim_out} --k 5 --batch-size 64 --epochs 20 --hidden 0 --seed 7 --metric {metric}"
            );
            folder.succeeds(&train);
            let record = folder.record("eval --input x.npy --seed 7");
            assert_eq!(line["metrics"], record["metrics"], "{what}");
            let trained = folder.model(MODEL).meta;
            assert_eq!(line["meta"]["history"], serde_json::to_value(trained.history).unwrap(), "{what}");
            assert_eq!(line["meta"]["config"], serde_json::to_value(trained.config).unwrap(), "{what}");
            for key in ["dim_in", "dim_out", "k", "database", "database_rows", "queries", "best_epoch", "data"] {
                assert_eq!(line["meta"][key], record["meta"][key], "{key}, {what}");
            }
            for meta in [&line["meta"], &record["meta"]] {
                assert_eq!(meta["teacher_metric"], metric, "{what}");
                assert_eq!(meta["student_metric"], trained.student_metric.name(), "{what}");
            }
        }
    }
}

#[test]
fn published_compressors_are_trained_for_each_dimension() {
    let folder = Folder::with_model();
    let lines: Vec<Value> = folder.succeeds(&format!("{SWEEP} --baselines all")).stdout.lines().map(json).collect();
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert_eq!(keys(&line["meta"]["peers"]), ["conae", "hakes", "matryoshka_adaptor", "rae", "spectemp"]);
    }
    folder.succeeds("train --input x.npy --dim-out 2 --k 5 --batch-size 64 --epochs 20 --hidden 0 --seed 7");
    assert_eq!(lines[1]["metrics"], folder.record("eval --input x.npy --seed 7 --baselines all")["metrics"]);
}

#[test]
fn formats_and_places_hold_the_same_records() {
    let folder = Folder::with_rows();
    folder.succeeds(&format!("{SWEEP} --output sweep.jsonl"));
    folder.succeeds(&format!("{SWEEP} --output sweep.json --output-format json"));
    let lines = folder.text("sweep.jsonl");
    assert_eq!(json(&folder.text("sweep.json")), Value::from_iter(lines.lines().map(json)));
    assert_eq!(folder.succeeds(SWEEP).stdout, lines);
    assert_eq!(folder.succeeds(&format!("{SWEEP} --output-format json")).stdout, folder.text("sweep.json"));
}

#[test]
fn the_test_rows_can_be_the_whole_database() {
    let folder = Folder::with_rows();
    let run = folder.succeeds(&format!("{SWEEP} --database test"));
    for line in run.stdout.lines().map(json) {
        assert_eq!(line["meta"]["database_rows"], 30);
    }
}
