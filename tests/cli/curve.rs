//! `sweep --rows`: quality by the number of training rows.

use embedding_compressor::config::SPLIT_SEED;
use embedding_compressor::data::Split;

use super::*;

const SWEEP: &str = "sweep --input x.npy --dim-outs 8,2 --k 5 --batch-size 64 --epochs 20 --hidden 0 --seed 7";

#[test]
fn models_of_fewer_rows_are_compared_on_the_same_queries_and_database() {
    let folder = Folder::with_rows();
    let run = folder.succeeds(&format!("{SWEEP} --rows 240,60"));
    let points = run.json_lines();
    let kinds: Vec<_> = points.iter().map(|p| [&p["meta"]["train_rows"], &p["meta"]["dim_out"]]).collect();
    assert_eq!(kinds, [[60, 8], [60, 2], [240, 8], [240, 2]]);
    for point in &points {
        assert_eq!([&point["meta"]["database_rows"], &point["meta"]["queries"]], [300, 30]);
        for baseline in ["truncation", "random_projection"] {
            let of_all = &points[if point["meta"]["dim_out"] == 8 { 2 } else { 3 }];
            assert_eq!(point["metrics"]["baselines"][baseline], of_all["metrics"]["baselines"][baseline], "untrained maps");
        }
    }
    assert_eq!(points[2..], folder.succeeds(SWEEP).json_lines(), "all rows are the plain sweep");
    assert_ne!(
        points[0]["metrics"]["baselines"]["pca"], points[2]["metrics"]["baselines"]["pca"],
        "spectra are those of the rows"
    );

    let table: Vec<Vec<&str>> = run.stderr.lines().rev().take(5).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table[4], ["d'", "train", "rows", "recall@k", "spectral", "recall@10", "spectral"], "{run}");
    let spectral = points[1]["metrics"]["baselines"]["best_spectral"]["recall@k"].as_f64().unwrap();
    let trained = points[1]["metrics"]["recall@k"].as_f64().unwrap();
    assert_eq!(table[3][..4], ["2", "60", &format!("{trained:.4}"), &format!("{spectral:.4}")], "{run}");
    let firsts: Vec<_> = table[..4].iter().map(|row| (row[0], row[1])).collect();
    assert_eq!(firsts, [("8", "240"), ("8", "60"), ("2", "240"), ("2", "60")]);
}

/// Other rows may be searched and so sway which epoch is kept; what an epoch learns is the same.
#[test]
fn rows_beyond_the_number_teach_nothing() {
    let folder = Folder::with_rows();
    let mut values = rows::cloud(ROWS, DIM, 1);
    for row in &Split::new(ROWS, SPLIT_SEED).train[60..] {
        values[*row as usize * DIM..][..DIM].copy_from_slice(&rows::cloud(1, DIM, 100 + u64::from(*row)));
    }
    let command = format!("{SWEEP} --rows 60,240 --init random");
    let losses = |line: &Value| -> Vec<Value> {
        line["meta"]["history"].as_array().unwrap().iter().map(|epoch| epoch["loss"].clone()).collect()
    };
    let one = folder.succeeds(&command).json_lines();
    folder.write("x.npy", &values, DIM);
    let other = folder.succeeds(&command).json_lines();
    for (at, (one, other)) in one.iter().zip(&other).enumerate() {
        assert_eq!(losses(one) == losses(other), at < 2, "{} and {}", one["meta"], other["meta"]);
    }
}

#[test]
fn as_many_rows_are_read_as_it_takes() {
    let folder = Folder::empty();
    folder.write("x.npy", &rows::cloud(5100, 4, 1), 4);
    let command = "sweep --input x.npy --dim-outs 2 --k 5 --epochs 0 --rows";
    for (rows, read) in [("100", 5000), ("4040,100", 5050)] {
        assert_eq!(folder.succeeds(&format!("{command} {rows}")).json_lines()[0]["meta"]["data"]["rows"], read);
    }
    folder.fails(&format!("{command} 4040 --max-items 5000"), 2, &["4000 are for training", "read 5050 rows (--max-items)"]);
    folder.fails(&format!("{command} 5000"), 2, &["of 5100 rows, 4080 are for training", "ask for at most 4080"]);
}
