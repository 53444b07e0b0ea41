#![cfg(not(feature = "parquet"))]

use super::writer::truncate;
use super::*;

#[test]
fn parquet_files_are_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.parquet");
    let input = fixture("list_f4.parquet");
    for (result, place) in [(read(&input).map(drop), &input), (truncate(&source(fixture("c_le_f4.npy")), &output), &output)] {
        let (text, code) = message(&result.unwrap_err());
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(place.to_str().unwrap()) && text.contains("--features parquet"), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}
