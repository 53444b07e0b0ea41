use std::io::Write;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

fn with_key(name: &str, key: &str) -> Result<Embeddings> {
    Embeddings::read(&Source { npz_key: Some(key.to_string()), ..source(fixture(name)) }, 0)
}

/// An archive with one entry.
fn archive(name: &str, content: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn stored_and_deflated_read_like_npy() {
    let npy = read(fixture("c_le_f4.npy")).unwrap();
    for name in ["stored.npz", "deflated.npz", "fortran.npz"] {
        let npz = read(fixture(name)).unwrap();
        assert_eq!((npz.rows, npz.dim, &npz.values, &npz.fingerprint), (ROWS, DIM, &npy.values, &npy.fingerprint), "{name}");
    }
}

#[test]
fn the_key_decides() {
    assert_eq!(with_key("several.npz", "a").unwrap().dim, DIM);
    assert_eq!(with_key("several.npz", "b").unwrap().dim, 4);
    refused(fixture("several.npz"), &["several arrays", "a (12, 8) <f4", "b (12, 4) <f8", "c (3,) <i8", "--npz-key"]);
    // A key that is given wins over the default one, also when it does not work.
    for (key, part) in [("ids", "<i8"), ("none", "no array 'none'")] {
        let (text, code) = message(&with_key("stored.npz", key).unwrap_err());
        assert!(code == 3 && text.contains(part), "{text}");
    }
}

#[test]
fn archives_that_are_refused() {
    refused(fixture("bad_duplicate.npz"), &["same name"]);
    refused(fixture("bad_method.npz"), &["compression method"]);
    let (_folder, path) = file("x.npz", &archive("readme.txt", b"hello", CompressionMethod::Stored));
    refused(path, &["no .npy array"]);

    let npy = std::fs::read(fixture("c_le_f4.npy")).unwrap();
    let stored = archive("embeddings.npy", &npy, CompressionMethod::Stored);
    let mut bad_sum = stored.clone();
    let at = stored.len() / 2;
    bad_sum[at] ^= 1;
    let (_folder, path) = file("x.npz", &bad_sum);
    refused(path, &["checksum"]);

    let mut encrypted = stored.clone();
    let central = stored.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    encrypted[6] |= 1;
    encrypted[central + 8] |= 1;
    let (_folder, path) = file("x.npz", &encrypted);
    refused(path, &["encrypted"]);
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    // 64 MB of zeros behind a header for 2 rows, and a header for 64 MB that only 2 rows follow.
    let header = |rows: usize| {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 4), }}");
        [b"\x93NUMPY\x01\x00".as_slice(), &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
    };
    for (rows, bytes, part) in [(2, 64 << 20, "bytes follow the array"), (4 << 20, 32, "cut short")] {
        let content = [header(rows), vec![0; bytes]].concat();
        let (_folder, path) = file("x.npz", &archive("embeddings.npy", &content, CompressionMethod::Deflated));
        refused(path, &[part]);
    }
}

#[test]
fn an_entry_that_lies_about_its_size() {
    let npy = std::fs::read(fixture("c_le_f4.npy")).unwrap();
    let mut bytes = archive("embeddings.npy", &npy, CompressionMethod::Deflated);
    let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[central + 24..central + 28].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let (_folder, path) = file("x.npz", &bytes);
    refused(path, &["claims 2147483647 bytes"]);
}

#[test]
fn names_are_never_paths() {
    let npy = std::fs::read(fixture("c_le_f4.npy")).unwrap();
    let (folder, path) = file("x.npz", &archive("../../escaped.npy", &npy, CompressionMethod::Stored));
    assert_eq!(read(path).unwrap().values, matrix());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn damage() {
    survives_damage("stored.npz");
    survives_damage("deflated.npz");
    survives_damage("fortran.npz");
}
