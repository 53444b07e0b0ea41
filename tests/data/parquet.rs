#![cfg(feature = "parquet")]

use embedding_compressor::data::{Embeddings, Source};

use super::*;

fn column(name: &str, column: &str) -> Result<Embeddings> {
    Embeddings::read(&Source { hf_embedding_column: Some(column.to_string()), ..source(fixture(name)) }, 0)
}

#[test]
fn every_list_and_float_type_reads_like_npy() {
    let npy = read(fixture("c_le_f4.npy")).unwrap();
    for list in ["list", "large", "fixed"] {
        for leaf in ["f2", "f4", "f8"] {
            let table = read(fixture(&format!("{list}_{leaf}.parquet"))).unwrap();
            assert_eq!((table.dim, &table.values, &table.fingerprint), (DIM, &npy.values, &npy.fingerprint), "{list} {leaf}");
            assert!(table.source.contains("column emb"), "{}", table.source);
        }
    }
    assert_eq!(read(fixture("v2.parquet")).unwrap().values, matrix());
}

#[test]
fn blocks_of_any_size_cross_row_groups() {
    for size in [1, 3, 7, 100] {
        let mut reader = source(fixture("list_f8.parquet")).open(11).unwrap();
        let mut values = Vec::new();
        while let Some(block) = reader.next_block(size).unwrap() {
            assert!(block.rows() <= size && block.first_row * DIM == values.len());
            values.extend(block.into_values().unwrap());
        }
        assert_eq!(values, matrix()[..11 * DIM], "blocks of {size}");
    }
    let mut reader = source(fixture("list_f8.parquet")).open(0).unwrap();
    let sizes = [7, 2, 9, 1, 50].map(|size| reader.next_block(size).unwrap().map_or(0, |b| b.rows()));
    assert_eq!(sizes.iter().sum::<usize>(), ROWS, "{sizes:?}");
}

#[test]
fn the_column_is_found_or_asked_for() {
    assert_eq!(read(fixture("two_columns.parquet")).unwrap().values, matrix(), "the one with embedding in its name");
    assert_eq!(column("nested.parquet", "doc.dense").unwrap().values, matrix());
    assert_eq!(column("nested.parquet", "scores").unwrap().row(0), &matrix()[11 * DIM..]);
    assert_eq!(column("bad_ambiguous.parquet", "b").unwrap().values, matrix());
    for name in ["bad_ambiguous.parquet", "nested.parquet"] {
        refused(fixture(name), &["cannot tell which column", "--hf-embedding-column"]);
    }
    refused(fixture("bad_ambiguous.parquet"), &["a (List", "b (List", "text (Utf8"]);
    refused(fixture("bad_text.parquet"), &["'embedding' is Utf8", "id (Int64)"]);
    for (name, part) in [("none", "no column 'none'"), ("id", "'id' is Int64")] {
        let (text, code) = message(&column("list_f4.parquet", name).unwrap_err());
        assert!(code == 3 && text.contains(part) && text.contains("emb (List"), "{text}");
    }
}

#[test]
fn bad_rows_are_named() {
    let place = "row group 1, row 7";
    refused(fixture("bad_ragged.parquet"), &["has 7 values", "have 8", place]);
    refused(fixture("bad_null_row.parquet"), &["null", place]);
    refused(fixture("bad_null_item.parquet"), &["null", place, "column 3"]);
    refused(fixture("bad_nan.parquet"), &["NaN", place, "column 3"]);
    refused(fixture("bad_overflow.parquet"), &["-1e300 does not fit", place, "column 3"]);
    refused(fixture("bad_empty.parquet"), &["no rows", "leave the file out"]);
    refused(fixture("bad_codec.parquet"), &["brotli"]);
    let hint = read(fixture("bad_codec.parquet")).expect_err("no codec").hint_text().map(str::to_owned);
    assert!(hint.is_some_and(|hint| hint.contains("zstd")), "the file is whole: to copy it again would not help");
    // Rows before the bad one can be read.
    assert_eq!(Embeddings::read(&source(fixture("bad_nan.parquet")), 5).unwrap().rows, 5);
}

/// A folder with copies of fixtures under other names.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, fixture_name) in files {
        std::fs::copy(fixture(fixture_name), folder.path().join(name)).unwrap();
    }
    folder
}

#[test]
fn shards_in_name_order() {
    let folder = folder(&[
        ("train-00001-of-00002.parquet", "fixed_f4.parquet"),
        ("train-00000-of-00002.parquet", "list_f4.parquet"),
        ("readme.txt", "make.py"),
    ]);
    let glob = folder.path().join("train-*.parquet");
    for input in [folder.path(), &glob] {
        let both = read(input).unwrap();
        assert_eq!((both.rows, &both.values[..96], &both.values[96..]), (24, &matrix()[..], &matrix()[..]));
        assert!(both.source.contains("(2 files)"), "{}", both.source);
    }
    let reader = source(folder.path()).open(3).unwrap();
    assert!(reader.describe().contains("3 x 8"), "{}", reader.describe());
    // In the order given, however the folder is spelled.
    std::fs::create_dir(folder.path().join("x")).unwrap();
    let input = ["train-00001-of-00002.parquet", "x/../train-00000-of-00002.parquet"].map(|name| folder.path().join(name));
    assert_eq!(Embeddings::read(&Source { input: input.to_vec(), ..Source::default() }, 0).unwrap().rows, 24);
    // One shard, named outright.
    assert_eq!(read(&input[0]).unwrap().rows, ROWS);
}

#[test]
fn files_after_the_last_row_wanted_are_not_opened() {
    let folder = folder(&[("a.parquet", "list_f4.parquet"), ("b.parquet", "make.py")]);
    assert_eq!(Embeddings::read(&source(folder.path()), 12).unwrap().rows, 12);
    assert!(Embeddings::read(&source(folder.path()), 13).is_err());
}

#[test]
fn a_missing_shard_is_an_error() {
    for (names, missing) in [
        (&["t-00000-of-00002.parquet"][..], "t-00001-of-00002"),
        (&["t-00001-of-00002.parquet"], "t-00000-of-00002"),
        (&["t-00000-of-00003-0a1b.parquet", "t-00002-of-00003-9c8d.parquet"], "t-00001-of-00003"),
        (&["s-00000-of-00002.parquet", "t-00000-of-00001.parquet"], "s-00001-of-00002"),
    ] {
        let files: Vec<_> = names.iter().map(|n| (*n, "list_f4.parquet")).collect();
        let folder = folder(&files);
        // As the shell expands a pattern; one name alone is a shard named outright.
        let expanded: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
        let expanded = Some(expanded).filter(|files| files.len() > 1);
        for input in [vec![folder.path().to_path_buf()], vec![folder.path().join("*-of-*")]].into_iter().chain(expanded) {
            let (text, code) = message(&Embeddings::read(&Source { input, ..Source::default() }, 0).unwrap_err());
            assert!(code == 3 && text.contains(missing), "{text}");
        }
    }
}

#[test]
fn shards_that_disagree_name_both() {
    let input = vec![fixture("list_f4.parquet"), fixture("several.npz")];
    let both = Source { input, npz_key: Some("b".to_string()), ..Source::default() };
    let (text, code) = message(&Embeddings::read(&both, 0).unwrap_err());
    assert_eq!(code, 3);
    assert!(text.contains("list_f4.parquet has 8") && text.contains("several.npz [b] has 4"), "{text}");
}

#[test]
fn damage() {
    for name in ["list_f4.parquet", "fixed_f8.parquet", "large_f2.parquet", "nested.parquet", "v2.parquet"] {
        survives_damage(name);
    }
}

#[test]
fn the_bundled_sample() {
    let sample = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/wordnet_minilm_384_sample.parquet")).unwrap();
    assert_eq!((sample.rows, sample.dim), (3000, 384));
}
