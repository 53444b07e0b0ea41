//! `compress` on tables, and the run on the bundled sample, which is one.
#![cfg(feature = "parquet")]

use std::fs::File;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow_array::RecordBatch;
use arrow_schema::DataType;
use embedding_compressor::backend::Cpu;

use super::*;

#[test]
fn the_other_columns_come_along() {
    let folder = Folder::empty();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/list_f4.parquet");
    std::fs::copy(fixture, folder.path("table.parquet")).unwrap();
    folder.write("x.npy", &rows::cloud(ROWS, 8, 1), 8);
    folder.succeeds(TRAIN);
    folder.succeeds("compress --input table.parquet --output z.parquet");
    let [before, after] = ["table.parquet", "z.parquet"].map(|name| table(&folder.path(name)));
    let names = |table: &RecordBatch| table.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    assert_eq!((&before["id"], &before["text"]), (&after["id"], &after["text"]));
    assert!(matches!(after["emb"].data_type(), DataType::FixedSizeList(_, 4)), "{:?}", after.schema());
    let expected = folder.model(MODEL).compress(&Cpu::new(), &folder.embeddings("table.parquet").values).unwrap();
    assert_eq!(folder.embeddings("z.parquet").values, expected);
}

fn table(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(Result::unwrap).next().expect("the table has rows")
}

#[test]
fn the_small_end_to_end_run_passes() {
    let output = Command::new(env!("CARGO_BIN_EXE_e2e_small"))
        .args(["--device", "cpu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let record = json(&String::from_utf8(output.stdout).unwrap());
    assert!(record["metrics"]["recall@k"].as_f64() > record["metrics"]["baselines"]["best_spectral"]["recall@k"].as_f64());
}
