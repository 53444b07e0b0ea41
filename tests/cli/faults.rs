//! What goes wrong outside: bad data, bad models, places that cannot be read or written. Every failure leaves all files as they were.

use std::io::{Cursor, Read, Write};

use embedding_compressor::data::AtomicFile;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::*;

#[test]
fn bad_data_is_named() {
    let folder = Folder::with_model();
    let good = rows::cloud(ROWS, DIM, 3);
    let with = |row: usize, value: f32| {
        let mut values = good.clone();
        values[row * DIM..][..DIM].fill(value);
        values
    };
    folder.write("nan.npy", &with(17, f32::NAN), DIM);
    folder.write("infinite.npy", &with(18, f32::INFINITY), DIM);
    folder.write("zero.npy", &with(19, 0.0), DIM);
    folder.write("few.npy", &good[..6 * DIM], DIM);
    folder.write("one.npy", &good[..DIM], DIM);
    folder.write("equal.npy", &vec![1.0; ROWS * DIM], DIM);
    folder.write("narrow.npy", &good, 8);
    std::fs::write(folder.path("empty.npy"), "").unwrap();
    std::fs::write(folder.path("text.npy"), "no numbers").unwrap();
    for (name, parts) in [
        ("nan.npy", &["NaN", "nan.npy", "row 17"][..]),
        ("infinite.npy", &["infinite", "infinite.npy", "row 18"]),
        ("zero.npy", &["zeros", "zero.npy", "row 19"]),
        ("few.npy", &["too few", "--max-items"]),
        ("one.npy", &["too few"]),
        ("empty.npy", &["empty.npy"]),
        ("text.npy", &["text.npy"]),
    ] {
        folder.fails(&format!("{TRAIN} --input {name}").replacen("--input x.npy", "", 1), 3, parts);
        folder.fails(&format!("sweep --input {name} --dim-outs 4,2 --k 5 --output s.jsonl"), 3, parts);
        folder.fails(&format!("eval --input {name}"), 3, parts);
    }
    for name in ["nan.npy", "infinite.npy", "empty.npy", "text.npy"] {
        folder.fails(&format!("compress --input {name} --output z.npy"), 3, &[name]);
    }
    // Wherever the value is, and whatever encodes it.
    for (metric, hidden) in [("cosine", 0), ("cosine", 8), ("dot", 0), ("dot", 8), ("l2", 0)] {
        folder.succeeds(&format!("{TRAIN} --metric {metric}").replace("--hidden 0", &format!("--hidden {hidden}")));
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 100 * DIM + 5, ROWS * DIM - 1] {
                let mut values = good.clone();
                values[at] = value;
                folder.write("odd.npy", &values, DIM);
                let place = format!("odd.npy: row {}, column {}", at / DIM, at % DIM);
                folder.fails("compress --input odd.npy --output z.npy", 3, &[&place]);
            }
        }
    }
    // Of any length: sums of equal scores need not be exact.
    folder.write("same.npy", &good[..DIM].repeat(ROWS), DIM);
    for file in ["equal.npy", "same.npy"] {
        for metric in ["cosine", "dot", "l2"] {
            folder.fails(&format!("train --input {file} --metric {metric} --dim-out 4 --k 5"), 3, &["equally near"]);
        }
    }
    for command in ["eval --input narrow.npy", "compress --input narrow.npy --output z.npy"] {
        folder.fails(command, 3, &["expects 16 dimensions", "has 8", "narrow.npy"]);
    }
    folder.fails("eval --input x.npy --k 299", 3, &["too few", "smaller --k"]);
    let sweep = "sweep --input x.npy --database test --model m.npz --target";
    folder.fails(&format!("{sweep} recall@1>=0.1 --k 50"), 3, &["30 rows and 30 queries are too few", "smaller --k"]);
    folder.fails(&format!("{sweep} recall@100>=0.1 --k 5"), 3, &["30 rows", "too few for recall@100", "--max-items"]);
}

#[test]
fn missing_and_unwritable_files_are_named() {
    let folder = Folder::with_model();
    std::fs::create_dir(folder.path("folder.npz")).unwrap();
    for (command, part) in [
        ("train --input gone.npy --k 5", "gone.npy"),
        ("eval --input gone.npy", "gone.npy"),
        ("eval --input x.npy --model gone.npz", "gone.npz"),
        ("compress --input gone.npy --output z.npy", "gone.npy"),
        ("compress --input x.npy --model gone.npz --output z.npy", "gone.npz"),
        ("train --input x.npy --dim-out 4 --model none/model.npz", "none/model.npz"),
        ("train --input x.npy --dim-out 4 --model folder.npz", "folder.npz"),
        ("train --input x.npy --dim-out 4 --metrics-file none/metrics.jsonl", "none/metrics.jsonl"),
        ("sweep --input x.npy --dim-outs 4 --output none/sweep.jsonl", "none/sweep.jsonl"),
        ("sweep --input x.npy --dim-outs 4 --output none/sweep.json --output-format json", "none/sweep.json"),
        ("sweep --input x.npy --dim-outs 4 --target recall@1>=0.1 --model none/model.npz", "none/model.npz"),
        ("compress --input x.npy --output none/z.npy", "none/z.npy"),
        ("compress --input x.npy --output folder.npz", "folder.npz"),
    ] {
        folder.fails(command, 5, &[part]);
    }
}

#[test]
fn encodings_that_are_infinite_are_an_error() {
    let folder = Folder::with_rows();
    folder.succeeds(&format!("{TRAIN} --metric dot"));
    let mut compressor = folder.model(MODEL);
    compressor.map.weight.iter_mut().for_each(|weight| *weight *= 1e3);
    compressor.save(AtomicFile::create(&folder.path("steep.npz")).unwrap()).unwrap();
    let mut values = rows::cloud(ROWS, DIM, 1);
    folder.write("large.npy", &values, DIM);
    folder.succeeds("compress --input large.npy --model steep.npz --output z.npy");
    values[70 * DIM..][..DIM].iter_mut().for_each(|x| *x *= 1e37);
    folder.write("large.npy", &values, DIM);
    folder.fails("compress --input large.npy --model steep.npz --output z.npy", 3, &["infinite", "row 70"]);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_replaced_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::with_model();
    let mode = |name: &str| std::fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
    for output in OUTPUTS {
        std::fs::write(folder.path(output), "an older content").unwrap();
        std::fs::set_permissions(folder.path(output), std::fs::Permissions::from_mode(0o640)).unwrap();
        folder.succeeds(&format!("compress --input x.npy --output {output}"));
        assert_eq!(mode(output), 0o640, "{output}");
    }
    std::fs::write(folder.path("any"), "").unwrap();
    folder.succeeds("compress --input x.npy --output new.npy");
    assert_eq!(mode("new.npy"), mode("any"), "a new file is as open as any other");
}

/// On Linux files have no name until they are whole, where the file system knows such files.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_of_a_file_whose_writer_is_killed() {
    let folder = Folder::empty();
    let mut file = AtomicFile::create(&folder.path("z.npy")).unwrap();
    file.write_all(b"some").unwrap();
    // Its destructor is not run, as when the process is killed.
    std::mem::forget(file);
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
    let nameless = rustix::fs::open(folder.0.path(), flags, rustix::fs::Mode::RUSR).is_ok();
    assert_eq!(folder.files().is_empty(), nameless, "{:?}", folder.files().keys());
}

#[test]
fn nobody_has_to_read_messages() {
    let folder = Folder::with_rows();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let words = TRAIN.split_whitespace().skip(1).chain(["--device", "cpu"]);
    let mut process = Command::new(env!("CARGO_BIN_EXE_train"));
    let status = process.args(words).current_dir(folder.0.path()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    folder.model(MODEL);
}

#[test]
fn older_results_outlive_a_failing_run() {
    let folder = Folder::with_model();
    folder.write("nan.npy", &[f32::NAN; 10 * DIM], DIM);
    for name in ["metrics.jsonl", "sweep.jsonl", "sweep.json"].iter().chain(OUTPUTS) {
        std::fs::write(folder.path(name), "older results").unwrap();
    }
    folder.fails("train --input nan.npy --dim-out 4 --metrics-file metrics.jsonl", 3, &["NaN"]);
    folder.fails("sweep --input nan.npy --dim-outs 4 --output sweep.jsonl", 3, &["NaN"]);
    folder.fails("sweep --input nan.npy --dim-outs 4 --output sweep.json --output-format json", 3, &["NaN"]);
    for output in OUTPUTS {
        folder.fails(&format!("compress --input nan.npy --output {output}"), 3, &["NaN"]);
    }
    // Nor does a failing run leave files that were not there.
    folder.fails("train --input nan.npy --dim-out 4 --metrics-file new.jsonl --model new.npz", 3, &["NaN"]);
    folder.fails("sweep --input nan.npy --dim-outs 4 --output new.jsonl", 3, &["NaN"]);
}

#[test]
fn a_demanded_gpu_that_is_missing_is_an_error() {
    if !cfg!(target_os = "linux") {
        return; // Elsewhere the driver cannot be hidden.
    }
    let folder = Folder::with_model();
    for command in [TRAIN, "eval --input x.npy", "sweep --input x.npy --dim-outs 4", "compress --input x.npy --output z.npy"] {
        folder.fails(&format!("{command} --device gpu"), 4, &["GPU", "--device cpu"]);
    }
}

#[cfg(feature = "hub")]
#[test]
fn without_input_and_hub_the_ways_out_are_named() {
    let folder = Folder::with_model();
    let parts = ["huggingface", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "--input", "examples/data/wordnet_minilm_384_sample.parquet"];
    for command in ["train", "eval", "sweep", "compress --output z.npy"] {
        folder.fails(command, 5, &parts);
    }
}

/// Writes a changed copy of the model to `bad.npz`.
fn change_model(folder: &Folder, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
    let mut zip = ZipArchive::new(Cursor::new(std::fs::read(folder.path(MODEL)).unwrap())).unwrap();
    let mut entries = BTreeMap::new();
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        entries.insert(entry.name().unwrap().into_owned(), bytes);
    }
    change(&mut entries);
    let mut zip = ZipWriter::new(std::fs::File::create(folder.path("bad.npz")).unwrap());
    for (name, bytes) in entries {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// Replaces text in the meta block by text of the same length.
fn change_meta(folder: &Folder, from: &str, to: &str) {
    change_model(folder, |entries| {
        let meta = entries.get_mut("meta.npy").unwrap();
        let at = meta.windows(from.len()).position(|part| part == from.as_bytes()).expect(from);
        meta[at..][..from.len()].copy_from_slice(to.as_bytes());
    });
}

#[test]
fn bad_models_are_refused() {
    let folder = Folder::with_model();
    let refused = |part: &str| {
        folder.fails("eval --input x.npy --model bad.npz", 3, &["bad.npz", part]);
        folder.fails("compress --input x.npy --model bad.npz --output z.npy", 3, &["bad.npz", part]);
    };
    change_model(&folder, |_| ());
    folder.succeeds("eval --input x.npy --model bad.npz");
    for (from, to, part) in [
        ("\"dim_out\":4", "\"dim_out\":5", "contradicts itself"),
        ("\"dim_in\":16", "\"dim_in\":17", "contradicts itself"),
        ("\"schema_version\":1", "\"schema_version\":9", "schema version 9"),
        ("\"student_metric\":\"", "\"student_metric\":!", "meta"),
        ("\"k\":", "\"q\":", "meta"),
        ("\"input_normalized\":true", "\"input_normalized\":null", "meta"),
        ("\"teacher_metric\":\"cosine\"", "\"teacher_metric\":   \"dot\"", "contradicts itself in whether rows are normalised"),
        ("\"val_indices\":[", "\"bal_indices\":[", "meta"),
    ] {
        change_meta(&folder, from, to);
        refused(part);
    }
    for array in ["weight.npy", "bias.npy"] {
        change_model(&folder, |entries| {
            let bytes = entries.get_mut(array).unwrap();
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        refused("not finite");
    }
    for array in ["meta.npy", "weight.npy", "bias.npy"] {
        change_model(&folder, |entries| drop(entries.remove(array)));
        refused(array.trim_end_matches(".npy"));
    }
    std::fs::write(folder.path("bad.npz"), "no model").unwrap();
    refused("not a model");
    std::fs::copy(folder.path("x.npy"), folder.path("bad.npz")).unwrap();
    refused("not a model");
}

#[test]
fn bad_nested_dimensions_are_refused() {
    let folder = Folder::with_rows();
    folder.succeeds("train --input x.npy --nested 2,4 --k 5 --epochs 1");
    for nested in ["0,4", "2,5", "4,2", "2,2"] {
        change_meta(&folder, "\"nested\":[2,4],\"hidden\"", &format!("\"nested\":[{nested}],\"hidden\""));
        folder.fails("compress --input x.npy --model bad.npz --output z.npy", 3, &["bad.npz", "nested dimensions"]);
    }
}

#[test]
fn older_models_are_read() {
    let folder = Folder::with_model();
    let without = "\"metric\":\"cosine\",";
    change_meta(&folder, without, &" ".repeat(without.len()));
    assert!(folder.model("bad.npz") == folder.model(MODEL));
}

#[test]
fn bad_hidden_layers_are_refused() {
    let folder = Folder::with_rows();
    folder.succeeds("train --input x.npy --dim-out 4 --k 5 --epochs 5 --hidden 8 --init random");
    let refused = |part: &str| folder.fails("compress --input x.npy --model bad.npz --output z.npy", 3, &["bad.npz", part]);
    change_model(&folder, |_| ());
    folder.succeeds("compress --input x.npy --model bad.npz --output good.npy");
    change_meta(&folder, "\"hidden\":8,\"input", "\"hidden\":9,\"input");
    refused("contradicts itself: hidden_weight");
    change_meta(&folder, "\"hidden\":8,\"input", "\"hidden\":0,\"input");
    refused("contradicts itself: it has hidden weights");
    for array in ["hidden_weight", "hidden_bias", "hidden_output"] {
        change_model(&folder, |entries| drop(entries.remove(&format!("{array}.npy"))));
        refused(array);
    }
}

#[test]
fn damaged_models_are_refused_wherever_the_damage_is() {
    let folder = Folder::with_model();
    let good = std::fs::read(folder.path(MODEL)).unwrap();
    let bad = folder.path("bad.npz");
    for part in 0..64 {
        std::fs::write(&bad, &good[..good.len() * part / 64]).unwrap();
        let error = Compressor::load(&bad).expect_err("a part of a model");
        assert_eq!(error.exit_code(), 3, "cut at {part}/64: {error}");
    }
    let model = folder.model(MODEL);
    for at in (0..good.len()).step_by(7) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        std::fs::write(&bad, flipped).unwrap();
        // A flip in what zip does not check, such as a date, changes nothing.
        match Compressor::load(&bad) {
            Ok(loaded) => assert!(loaded == model, "byte {at} changed the model unnoticed"),
            Err(error) => assert_eq!(error.exit_code(), 3, "byte {at}: {error}"),
        }
    }
}
