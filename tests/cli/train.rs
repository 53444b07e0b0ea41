//! `train`: the model file, the metrics file, and what the flags change.

use embedding_compressor::config::{Init, SPLIT_SEED, StudentTau, Tau, TrainConfig};
use embedding_compressor::data::Split;

use super::*;

#[test]
fn a_model_and_a_line_for_every_epoch_are_written() {
    let folder = Folder::with_rows();
    std::fs::write(folder.path("metrics.jsonl"), "an older and much longer content\n".repeat(99)).unwrap();
    let run = folder.succeeds(&format!("{TRAIN} --metrics-file metrics.jsonl"));
    assert_eq!(run.stdout, "", "{run}");
    let mut lines = folder.json_lines("metrics.jsonl");
    assert_eq!(lines.len(), 21, "epoch 0 and twenty more");
    let seconds: Vec<f64> = lines.iter().map(|line| line["seconds"].as_f64().unwrap()).collect();
    assert!(seconds[0] > 0.0 && seconds.is_sorted(), "{seconds:?}");
    for (number, line) in lines.iter_mut().enumerate() {
        assert_eq!(keys(line), ["epoch", "loss", "seconds", "val_recall@10", "val_recall@k"]);
        line.as_object_mut().unwrap().remove("seconds");
        assert_eq!(line["epoch"], number);
        assert_eq!(line["loss"].is_number(), number > 0, "{line}");
    }
    let meta = folder.model(MODEL).meta;
    assert_eq!(Value::from_iter(lines), serde_json::to_value(&meta.history).unwrap(), "file and model agree");
    let best = &meta.history[meta.best_epoch as usize];
    assert!(meta.history.iter().all(|epoch| epoch.quality() <= best.quality()), "{:?}", meta.history);
    assert!(meta.history[..meta.best_epoch as usize].iter().all(|epoch| epoch.quality() < best.quality()), "the first of equals");
    assert_eq!(Split::from(meta.split), Split::new(ROWS, SPLIT_SEED));
    assert_eq!((meta.dim_in, meta.dim_out, meta.k, meta.seed), (DIM, 4, 5, 42));
    let x = folder.embeddings("x.npy");
    assert_eq!((meta.data.rows, meta.data.dim, meta.data.fingerprint), (ROWS, DIM, x.fingerprint));
    assert!(meta.device.starts_with("cpu"), "{}", meta.device);
}

#[cfg(unix)]
#[test]
fn metrics_go_to_a_pipe_as_they_come() {
    let folder = Folder::with_rows();
    let run = folder.succeeds(&format!("{TRAIN} --metrics-file /dev/stdout"));
    assert_eq!(run.json_lines().len(), 21, "{run}");
}

#[test]
fn a_seed_gives_the_same_bytes_twice() {
    let folder = Folder::with_model();
    let first = std::fs::read(folder.path(MODEL)).unwrap();
    folder.succeeds(TRAIN);
    assert!(std::fs::read(folder.path(MODEL)).unwrap() == first);
}

#[test]
fn another_seed_changes_training_and_leaves_the_split() {
    let folder = Folder::with_model();
    folder.succeeds(&format!("{TRAIN} --seed 7 --model other.npz"));
    let (model, other) = (folder.model(MODEL).meta, folder.model("other.npz").meta);
    assert_eq!(model.split, other.split);
    assert_eq!(model.history[0], other.history[0], "both start from the same spectral map");
    assert_ne!(model.history[1].loss, other.history[1].loss);
    assert_eq!((other.seed, other.config.seed), (7, 7));
}

/// What a run with `flags` recorded, beside what the standard run did.
fn histories(flags: &str) -> (TrainConfig, [Vec<embedding_compressor::model::Epoch>; 2]) {
    let folder = Folder::with_model();
    folder.succeeds(&format!("{TRAIN} {flags} --model other.npz"));
    let other = folder.model("other.npz").meta;
    (other.config, [folder.model(MODEL).meta.history, other.history])
}

#[test]
fn training_can_start_at_random() {
    let (config, [spectral, random]) = histories("--init random");
    assert_eq!(config.init, Init::Random);
    assert!(random[0].recall_k < spectral[0].recall_k, "{random:?} starts behind {spectral:?}");
    assert!(random[20].recall_10 > random[0].recall_10, "{random:?} learns");
}

#[test]
fn hard_negatives_add_to_the_loss() {
    let (config, [more, fewer]) = histories("--lambda-hard 0.5 --hard-neg-l 20 --hard-neg-per-anchor 2");
    assert_eq!((config.lambda_hard, config.hard_neg_l, config.hard_neg_per_anchor), (0.5, Some(20), 2));
    let (_, [_, none]) = histories("--lambda-hard 0");
    assert!(more[1].loss > fewer[1].loss && fewer[1].loss > none[1].loss, "{more:?}, {fewer:?} and {none:?}");
    // 24 training rows: an anchor with 23 positives has no row left to be a negative, and learns from the list alone.
    let folder = Folder::empty();
    folder.write("x.npy", &rows::cloud(30, DIM, 1), DIM);
    for k in [22, 23] {
        folder.succeeds(&format!("train --input x.npy --dim-out 4 --k {k} --epochs 1"));
    }
}

#[test]
fn the_students_temperature_can_be_fixed() {
    let (config, [learnt, fixed]) = histories("--student-tau 0.3");
    assert_eq!(config.student_tau, StudentTau::Fixed(0.3));
    assert!(fixed[1].loss != learnt[1].loss && fixed[20].loss < fixed[1].loss, "{fixed:?} and {learnt:?}");
}

#[test]
fn an_automatic_temperature_comes_from_the_data() {
    let folder = Folder::with_rows();
    folder.succeeds(&format!("{TRAIN} --tau auto"));
    let meta = folder.model(MODEL).meta;
    assert_eq!(meta.config.tau, Tau::Auto);
    assert!(meta.teacher_temperature > 0.0 && meta.teacher_temperature < 0.5, "{}", meta.teacher_temperature);
    folder.succeeds(&format!("{TRAIN} --tau {} --model fixed.npz", meta.teacher_temperature));
    assert_eq!(folder.model("fixed.npz").map, folder.model(MODEL).map, "the same number gives the same training");
}

#[test]
fn a_temperature_is_in_units_of_the_metric() {
    let folder = Folder::with_rows();
    for metric in ["dot", "l2"] {
        folder.succeeds(&format!("{TRAIN} --metric {metric} --tau auto"));
        let model = folder.model(MODEL);
        folder.succeeds(&format!("{TRAIN} --metric {metric} --tau {} --model fixed.npz", model.meta.teacher_temperature));
        assert_eq!(folder.model("fixed.npz").map, model.map, "{metric}");
    }
}

#[test]
fn a_queue_joins_the_candidates_of_large_data() {
    let folder = Folder::empty();
    folder.write("x.npy", &rows::cloud(6000, 8, 1), 8);
    let train = "train --input x.npy --max-items 0 --dim-out 4 --k 5 --epochs 1";
    folder.succeeds(&format!("{train} --model without.npz"));
    folder.succeeds(&format!("{train} --listwise-queue-size 256 --model with.npz"));
    let (without, with) = (folder.model("without.npz").meta, folder.model("with.npz").meta);
    assert_eq!((without.data.rows, with.config.listwise_queue_size), (6000, 256));
    assert_ne!(without.history[1].loss, with.history[1].loss);
}

#[test]
fn only_the_first_rows_are_read() {
    let folder = Folder::with_rows();
    folder.succeeds(&format!("{TRAIN} --max-items 100"));
    let first = folder.model(MODEL);
    assert_eq!(first.meta.data.rows, 100);
    folder.write("x.npy", &rows::cloud(ROWS, DIM, 1)[..100 * DIM], DIM);
    folder.succeeds(&format!("{TRAIN} --model other.npz"));
    assert_eq!(folder.model("other.npz").map, first.map);
}

#[test]
fn no_epochs_keep_the_initial_map() {
    let folder = Folder::with_rows();
    folder.succeeds(&TRAIN.replace("--epochs 20", "--epochs 0"));
    let meta = folder.model(MODEL).meta;
    assert_eq!((meta.best_epoch, meta.history.len()), (0, 1));
}
