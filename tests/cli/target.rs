//! `sweep --target`: the smallest d' that meets it.

use embedding_compressor::config::SPLIT_SEED;
use embedding_compressor::data::Split;

use super::*;

const SWEEP: &str = "sweep --input w.npy --k 5 --batch-size 64 --epochs 3 --hidden 0 --seed 7";
const WIDTH: usize = 40;

/// With 300 x 40 embeddings in `w.npy`.
fn folder() -> Folder {
    let folder = Folder::empty();
    folder.write("w.npy", &rows::cloud(ROWS, WIDTH, 1), WIDTH);
    folder
}

fn dims(lines: &[Value]) -> Vec<&Value> {
    lines.iter().map(|line| &line["meta"]["dim_out"]).collect()
}

/// Validation recall@k of the epoch that was kept.
fn recall(line: &Value) -> f64 {
    let epoch = &line["meta"]["history"][line["meta"]["best_epoch"].as_u64().unwrap() as usize];
    epoch["val_recall@k"].as_f64().unwrap()
}

#[test]
fn the_smallest_dimension_that_meets_a_target_is_found_and_evaluated() {
    for metric in ["cosine", "l2"] {
        the_smallest_is_found(&format!("--metric {metric}"));
    }
}

fn the_smallest_is_found(metric: &str) {
    let folder = folder();
    let sweep = format!("{SWEEP} {metric}");
    let all = folder.succeeds(&format!("{sweep} --dim-outs 8,16,24,32")).json_lines();
    let recalls: Vec<f64> = all.iter().map(recall).collect();
    assert!(recalls.is_sorted_by(|a, b| a < b), "the test needs rising quality: {recalls:?}");
    let target = format!("--target recall@k>={}", recalls[2]);
    let run = folder.succeeds(&format!("{sweep} {target} --model chosen.npz"));
    let found = run.json_lines();
    assert_eq!(dims(&found), [8, 16, 32, 24, 24], "{run}");
    for (line, dim_out) in found[..4].iter().zip([8usize, 16, 32, 24]) {
        assert_eq!(keys(line), ["meta", "target", "validation"], "test rows are closed");
        let of = &all[dim_out / 8 - 1];
        assert_eq!(line["meta"]["history"], of["meta"]["history"], "d' = {dim_out}");
        assert_eq!((&line["meta"]["bytes_in"], &line["meta"]["bytes_out"]), (&160.into(), &(4 * dim_out).into()));
        let (verdict, value) = (&line["target"], recall(of));
        assert_eq!(verdict["met"], dim_out >= 24);
        assert_eq!((&verdict["metric"], &verdict["at_least"]), (&"recall@k".into(), &recalls[2].into()));
        assert_eq!((&verdict["value"], &line["validation"]["recall@k"]), (&value.into(), &value.into()));
        let [low, high] = [0, 1].map(|end| verdict["interval"][end].as_f64().unwrap());
        assert!(low <= value && value <= high && (low < high || value == 1.0), "{verdict}");
    }
    let answer = &found[4];
    assert_eq!((&answer["target"], &answer["validation"]), (&found[3]["target"], &found[3]["validation"]));
    assert_eq!((&answer["metrics"], &answer["meta"]), (&all[2]["metrics"], &all[2]["meta"]));
    for part in ["answer  d' = 24: validation recall@k", "size    96 bytes a vector against 160, 1.7 times smaller", "note"] {
        assert!(run.stderr.contains(part), "no {part:?}: {run}");
    }
    folder.succeeds(&format!("{} {metric} --dim-out 24", SWEEP.replacen("sweep", "train", 1)));
    assert_eq!(folder.model("chosen.npz"), folder.model(MODEL), "train makes the same model");

    let named = folder.succeeds(&format!("{sweep} {target} --dim-outs 32,8,16")).json_lines();
    assert_eq!(dims(&named), [8, 16, 32, 32]);
    assert_eq!(json(&folder.succeeds(&format!("{sweep} {target} --output-format json")).stdout), Value::Array(found));
}

#[test]
fn test_rows_are_not_looked_at_for_the_choice() {
    let folder = folder();
    let mut values = rows::cloud(ROWS, WIDTH, 1);
    for row in Split::new(ROWS, SPLIT_SEED).test {
        values[row as usize * WIDTH..][..WIDTH].copy_from_slice(&rows::cloud(1, WIDTH, 100 + u64::from(row)));
    }
    let command = format!("{SWEEP} --target recall@1>=0.5");
    let one = folder.succeeds(&command).json_lines();
    folder.write("w.npy", &values, WIDTH);
    let other = folder.succeeds(&command).json_lines();
    assert_eq!(one[..one.len() - 1], other[..other.len() - 1], "validation");
    let [one, other] = [&one, &other].map(|lines| &lines[lines.len() - 1]);
    assert_ne!(one["metrics"], other["metrics"]);
}

#[test]
fn a_target_that_is_not_met_is_an_error_with_the_nearest() {
    let folder = folder();
    std::fs::write(folder.path("older.npz"), "an older model").unwrap();
    for (format, output) in [("jsonl", "sweep.jsonl"), ("json", "sweep.json")] {
        let flags = format!("--target ndcg@k>=1 --model older.npz --output {output} --output-format {format}");
        let run = folder.run(&format!("{SWEEP} {flags}"));
        assert_eq!(run.code, Some(2), "{run}");
        for part in ["no output dimension that was tried meets --target \"ndcg@k>=1\"", "ndcg@k 0.", "with d' = 32\nhint: "] {
            assert!(run.stderr.contains(part), "no {part:?}: {run}");
        }
    }
    let tried = folder.json_lines("sweep.jsonl");
    assert_eq!(dims(&tried), [8, 16, 32], "what was measured stays");
    assert_eq!(json(&folder.text("sweep.json")), Value::Array(tried));
    assert_eq!(folder.text("older.npz"), "an older model");
}
