use embedding_compressor::data::Embeddings;

use super::*;

/// A version 1 file with this dictionary, padded so that numbers are aligned.
fn npy(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let dictionary = format!("{dictionary:width$}", width = (10 + dictionary.len()).next_multiple_of(16) - 10);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((dictionary.len() as u16).to_le_bytes());
    bytes.extend(dictionary.bytes());
    bytes.extend(data);
    bytes
}

fn with_shape(shape: &str) -> Vec<u8> {
    npy(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"), &[0; 32])
}

#[test]
fn every_float_type_byte_order_and_layout_reads_the_same() {
    let first = read(fixture("c_le_f4.npy")).unwrap();
    assert_eq!((first.rows, first.dim, &first.values), (ROWS, DIM, &matrix()));
    assert!(first.fingerprint.starts_with("sha256:") && first.fingerprint.len() == 71);
    for layout in ["c", "fortran"] {
        for kind in ["le_f2", "le_f4", "le_f8", "be_f2", "be_f4", "be_f8"] {
            let other = read(fixture(&format!("{layout}_{kind}.npy"))).unwrap();
            assert_eq!(other.values, first.values, "{layout} {kind}");
            assert_eq!(other.fingerprint, first.fingerprint, "{layout} {kind}");
        }
    }
}

#[test]
fn blocks_are_the_rows_in_order() {
    for name in ["c_be_f8.npy", "fortran_le_f4.npy"] {
        for size in [1, 5, 12, 100] {
            let mut reader = source(fixture(name)).open(11).unwrap();
            assert_eq!((reader.rows(), reader.dim()), (11, DIM));
            let mut values = Vec::new();
            while let Some(block) = reader.next_block(size).unwrap() {
                assert!(block.rows() <= size && block.first_row * DIM == values.len());
                values.extend(block.into_values().unwrap());
            }
            assert_eq!(values, matrix()[..11 * DIM], "{name} in blocks of {size}");
        }
    }
}

/// Whether this system lends rows of files where they lie: Linux from 5.14 on.
fn lends() -> bool {
    #[cfg(target_os = "linux")]
    return memmap2::MmapMut::map_anon(4096).is_ok_and(|map| map.advise(memmap2::Advice::PopulateRead).is_ok());
    #[cfg(not(target_os = "linux"))]
    false
}

/// More than are mapped at a time, in blocks that begin anywhere.
#[test]
fn rows_lie_in_a_file_as_they_are_read() {
    let dim = 1000;
    let values: Vec<f32> = (0..5000 * dim).map(|i| i as f32).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let (_folder, path) = file("x.npy", &npy("{'descr': '<f4', 'fortran_order': False, 'shape': (5000, 1000), }", &bytes));
    let mut reader = source(path).open(0).unwrap();
    let mut seen = 0;
    while let Some(block) = reader.next_block(700).unwrap() {
        seen += block.rows();
        let expected = lends().then(|| &values[block.first_row * dim..][..block.rows() * dim]);
        assert!(block.in_place() == expected, "from row {} on", block.first_row);
        block.check().unwrap();
    }
    assert_eq!(seen, 5000);
    for name in ["c_be_f4.npy", "c_le_f8.npy", "c_le_f2.npy"] {
        let block = source(fixture(name)).open(0).unwrap().next_block(ROWS).unwrap().unwrap();
        assert!(block.in_place().is_none() && block.check().is_ok(), "{name}");
    }
}

#[test]
fn the_first_rows_alone() {
    let source = source(fixture("c_le_f4.npy"));
    let some = Embeddings::read(&source, 5).unwrap();
    assert_eq!((some.rows, &some.values[..]), (5, &matrix()[..5 * DIM]));
    assert_eq!(some.row(3), &matrix()[3 * DIM..4 * DIM]);
    assert_ne!(some.fingerprint, Embeddings::read(&source, 6).unwrap().fingerprint);
    assert_eq!(Embeddings::read(&source, 99).unwrap().rows, ROWS);
}

#[test]
fn claims_beyond_the_file_are_refused_before_memory_is_asked_for() {
    for (shape, part) in [
        ("(1000000000, 4096)", "16384000000000"),
        ("(4611686018427387904, 4611686018427387904)", "cut short"),
        ("(18446744073709551615, 18446744073709551615)", "cut short"),
        ("(99999999999999999999, 2)", "expected 2-D"),
        ("(3, 4)", "row 2 of 3 is incomplete"),
        ("(-2, 4)", "expected 2-D"),
        ("(2.0, 4)", "expected 2-D"),
        ("(0, 4)", "empty"),
        ("(2, 0)", "empty"),
        ("()", "expected 2-D (rows, dim), got ()"),
        ("(8,)", "expected 2-D (rows, dim), got (8,)"),
        ("(2, 2, 2)", "expected 2-D (rows, dim), got (2, 2, 2)"),
        ("(1, 4)", "16 bytes follow the array"),
    ] {
        let (_folder, path) = file("x.npy", &with_shape(shape));
        refused(path, &[part]);
    }
    let (_folder, path) = file("x.npy", &with_shape("(2, 4)"));
    assert_eq!(read(path).unwrap().values, [0.0; 8]);
}

#[test]
fn damaged_headers() {
    let claims_4_gib = [b"\x93NUMPY\x02\x00".as_slice(), &[0xff; 4], &[b' '; 100]].concat();
    for (bytes, part) in [
        (b"\x93NUM".to_vec(), "not .npy"),
        (b"\x93NUMPY\x01".to_vec(), "cut short"),
        (b"\x93NUMPY\x09\x09\x00\x00".to_vec(), "version 9.9"),
        (claims_4_gib, "claims 4294967295 bytes"),
        (npy("{'descr': '<f4', 'shape': (2, 4), }", &[0; 32]), "fortran_order"),
        (npy(&"(".repeat(60000), &[]), "no 'descr'"),
    ] {
        let (_folder, path) = file("x.npy", &bytes);
        refused(path, &[part]);
    }
}

#[test]
fn other_types_are_refused() {
    refused(fixture("bad_object.npy"), &["dtype object", "re-save"]);
    refused(fixture("bad_int.npy"), &["<i8", "astype"]);
    refused(fixture("bad_complex.npy"), &["<c8"]);
    refused(fixture("bad_structured.npy"), &["structured"]);
    refused(fixture("bad_1d.npy"), &["expected 2-D (rows, dim), got (96,)"]);
    refused(fixture("bad_3d.npy"), &["expected 2-D (rows, dim), got (3, 4, 8)"]);
}

#[test]
fn values_that_are_no_finite_f32() {
    refused(fixture("bad_overflow.npy"), &["1e300 does not fit", "row 7, column 3"]);
    for (value, part) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "infinite")] {
        for order in ["False", "True"] {
            let mut data = [0.5_f32; 12];
            data[if order == "True" { 5 * 2 + 1 } else { 3 }] = value;
            let dictionary = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': (6, 2), }}");
            let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
            let (_folder, path) = file("x.npy", &npy(&dictionary, &bytes));
            if order == "False" {
                let block = source(&path).open(0).unwrap().next_block(6).unwrap().unwrap();
                assert_eq!(block.in_place().is_some(), lends());
                let (text, code) = message(&block.check().unwrap_err());
                assert!(code == 3 && text.contains(part) && text.contains("row 1, column 1"), "{text}");
            }
            refused(path, &[part, if order == "True" { "row 5, column 1" } else { "row 1, column 1" }]);
        }
    }
}

#[test]
fn what_the_file_really_is() {
    for (bytes, part) in [
        (b"".as_slice(), "empty"),
        (b"  <!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"{\"error\": 1}", "JSON"),
        (b"\x80\x04\x95", "pickle"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"PAREabc", "encrypted"),
        (b"hello world", "begins with \"hello wo\""),
    ] {
        let (_folder, path) = file("x.npy", bytes);
        refused(path, &[part]);
    }
    // The content counts, not the extension.
    let (_folder, path) = file("x.parquet", &std::fs::read(fixture("c_le_f4.npy")).unwrap());
    assert_eq!(read(path).unwrap().values, matrix());
}

#[test]
fn paths_that_do_not_work() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("no.npy"), folder.path().join("*.npy"), folder.path().to_path_buf()] {
        let (text, code) = message(&read(&path).unwrap_err());
        assert_eq!(code, 5, "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
    for spelling in ["tests/fixtures/c_le_f4.npy", "./tests/fixtures/../fixtures/c_le_f4.npy"] {
        let twice = Source { input: vec![fixture("c_le_f4.npy"), spelling.into()], ..Source::default() };
        let (text, code) = message(&Embeddings::read(&twice, 0).unwrap_err());
        assert!(code == 2 && text.contains("named twice"), "{text}");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let (_folder, path) = file("x.npy", &std::fs::read(fixture("c_le_f4.npy")).unwrap());
    let mut reader = source(&path).open(0).unwrap();
    let [first, second] = [6, 6].map(|rows| reader.next_block(rows).unwrap().unwrap());
    let shrunk = std::fs::File::options().write(true).open(&path).unwrap();
    shrunk.set_len(shrunk.metadata().unwrap().len() - 4).unwrap();
    assert!(second.in_place().is_none() && second.check().is_err());
    assert_eq!(first.into_values().unwrap(), matrix()[..6 * DIM]);
    let (text, code) = message(&second.into_values().unwrap_err());
    assert!(code == 3 && text.contains("cut short") && text.contains(path.to_str().unwrap()), "{text}");
}

#[test]
fn damage() {
    survives_damage("c_le_f4.npy");
    survives_damage("fortran_be_f8.npy");
}
