use std::io::Write;

use embedding_compressor::data::{Writer, atomic_write};

use super::*;

/// Writes the first three numbers of every row of `input` to `output`.
pub(super) fn truncate(input: &Source, output: &Path) -> Result<()> {
    let mut reader = input.open_carrying(0)?;
    let mut writer = Writer::create(output, &reader, 3)?;
    while let Some(block) = reader.next_block(5)? {
        let values: Vec<f32> = block.clone().into_values()?.chunks(DIM).flat_map(|row| row[..3].to_vec()).collect();
        writer.write(&block, &values)?;
    }
    writer.finish()
}

pub(super) fn truncated() -> Vec<f32> {
    matrix().chunks(DIM).flat_map(|row| row[..3].to_vec()).collect()
}

#[test]
fn every_format_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let built = |name: &&str| cfg!(feature = "parquet") || !name.ends_with(".parquet");
    let outputs: Vec<&str> = ["out.npy", "out.npz", "out.parquet"].into_iter().filter(built).collect();
    for input in ["c_le_f4.npy", "deflated.npz", "list_f8.parquet", "nested.parquet"].into_iter().filter(built) {
        for &output in &outputs {
            let path = folder.path().join(output);
            let mut input = source(fixture(input));
            input.hf_embedding_column = input.input[0].ends_with("nested.parquet").then(|| "doc.dense".to_string());
            truncate(&input, &path).unwrap();
            let column = (output == "out.parquet").then_some(input.hf_embedding_column).flatten();
            let back = Embeddings::read(&Source { hf_embedding_column: column, ..source(&path) }, 0).unwrap();
            assert_eq!((back.rows, back.dim, back.values), (ROWS, 3, truncated()));
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), outputs.len(), "nothing else is left");
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
    let bad = truncate(&source(fixture("bad_overflow.npy")), &path);
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
