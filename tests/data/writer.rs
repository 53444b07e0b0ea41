use std::io::Write;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use embedding_compressor::data::{HubConfig, Writer, atomic_write};

use super::*;

/// Writes the first three numbers of every row of `input` to `output`.
fn truncate(input: &Source, output: &Path) -> Result<()> {
    let mut reader = input.open_carrying(0)?;
    let mut writer = Writer::create(output, &reader, 3)?;
    while let Some(block) = reader.next_block(5)? {
        let values: Vec<f32> = block.clone().into_values()?.chunks(DIM).flat_map(|row| row[..3].to_vec()).collect();
        writer.write(&block, &values)?;
    }
    writer.finish()
}

fn truncated() -> Vec<f32> {
    matrix().chunks(DIM).flat_map(|row| row[..3].to_vec()).collect()
}

#[test]
fn every_format_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    for input in ["c_le_f4.npy", "deflated.npz", "list_f8.parquet", "nested.parquet"] {
        for output in ["out.npy", "out.npz", "out.parquet"] {
            let path = folder.path().join(output);
            let mut input = source(fixture(input));
            input.hf_embedding_column = input.input[0].ends_with("nested.parquet").then(|| "doc.dense".to_string());
            truncate(&input, &path).unwrap();
            let column = (output == "out.parquet").then_some(input.hf_embedding_column).flatten();
            let back = Embeddings::read(&Source { hf_embedding_column: column, ..source(&path) }, 0).unwrap();
            assert_eq!((back.rows, back.dim, back.values), (ROWS, 3, truncated()));
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing else is left");
}

#[test]
fn the_other_columns_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.parquet");
    truncate(&source(fixture("large_f2.parquet")), &path).unwrap();
    let batch = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&path).unwrap()).unwrap().build().unwrap();
    let batch = batch.map(|b| b.unwrap()).next().unwrap();
    let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "emb", "text"]);
    assert_eq!(batch["id"].as_primitive::<Int64Type>().values().to_vec(), (0..12).collect::<Vec<i64>>());
    assert_eq!(batch["text"].as_string::<i32>().value(11), "text 11");
    let lists = batch["emb"].as_fixed_size_list();
    assert_eq!((lists.value_length(), lists.values().as_primitive::<Float32Type>().values().to_vec()), (3, truncated()));
}

#[test]
fn inputs_with_different_other_columns_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.parquet");
    let both = |first: &str, second: &str| Source { input: vec![fixture(first), fixture(second)], ..Source::default() };
    // The embeddings may be of any type: they are replaced.
    truncate(&both("large_f2.parquet", "fixed_f8.parquet"), &path).unwrap();
    for (first, second, part) in [
        ("list_f4.parquet", "two_columns.parquet", "where the first file has column 'id' (Int64)"),
        ("v2.parquet", "list_f4.parquet", "column 'id' (Int64) where"),
        ("list_f4.parquet", "v2.parquet", "column 'emb' (List"),
        ("list_f4.parquet", "c_le_f4.npy", "no columns"),
    ] {
        let (text, code) = message(&truncate(&both(first, second), &path).unwrap_err());
        assert!(code == 3 && text.contains("row 12") && text.contains(part), "{text}");
        assert!(text.contains(path.to_str().unwrap()) && text.contains(".npz"), "{text}");
    }
}

#[test]
fn an_error_leaves_the_target_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.npz");
    std::fs::write(&path, "old").unwrap();
    let result: Result<()> = atomic_write(&path, |file| {
        file.write_all(b"new").unwrap();
        Err(Error::data("no"))
    });
    assert!(result.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    let bad = truncate(&source(fixture("bad_nan.parquet")), &path);
    assert_eq!(bad.unwrap_err().exit_code(), 3);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn targets_that_cannot_be_written_fail_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let reader = source(fixture("c_le_f4.npy")).open(0).unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    std::fs::create_dir(folder.path().join("folder.npy")).unwrap();
    for (name, code) in [("none/out.npy", 5), ("plain/out.npy", 5), ("folder.npy", 5), ("out.csv", 2), ("out", 2)] {
        let path = folder.path().join(name);
        let error = Writer::create(&path, &reader, 3).map(drop).unwrap_err();
        assert_eq!(error.exit_code(), code, "{name}: {error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(!error.to_string().contains(".tmp\""), "the temporary name means nothing to the user: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_has_the_mode_of_any_other_and_a_link_is_followed() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (plain, ours, link) = (folder.path().join("plain"), folder.path().join("ours"), folder.path().join("link"));
    std::fs::write(&plain, "").unwrap();
    symlink(&ours, &link).unwrap();
    std::fs::write(&ours, "old").unwrap();
    atomic_write(&link, |file| file.write_all(b"new").map_err(|e| Error::io(e.to_string()))).unwrap();
    assert!(link.is_symlink() && !ours.is_symlink());
    assert_eq!(std::fs::read(&ours).unwrap(), b"new");
    assert_eq!(std::fs::metadata(&ours).unwrap().mode(), std::fs::metadata(&plain).unwrap().mode());
    let device = atomic_write(Path::new("/dev/null"), |_| Ok(()));
    assert_eq!(device.unwrap_err().exit_code(), 5);
}

#[test]
fn without_carrying_only_the_vectors_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.parquet");
    let offline = HubConfig { endpoint: String::new(), cache: PathBuf::new(), token: None, offline: true };
    let mut reader = source(fixture("list_f4.parquet")).open_with(2, false, &offline).unwrap();
    let mut writer = Writer::create(&path, &reader, DIM).unwrap();
    while let Some(block) = reader.next_block(1).unwrap() {
        writer.write(&block, &block.clone().into_values().unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let back = read(&path).unwrap();
    assert!(back.rows == 2 && back.source.contains("column embedding"), "{}", back.source);
}
