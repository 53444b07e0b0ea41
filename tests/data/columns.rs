#![cfg(feature = "parquet")]

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use embedding_compressor::data::{HubConfig, Writer};

use super::writer::{truncate, truncated};
use super::*;

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
