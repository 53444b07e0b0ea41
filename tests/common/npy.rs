//! Files for commands and for numpy to read.

use std::path::Path;

/// Writes `values [n, dim]` as numpy's format, version 1.0.
pub(crate) fn write_npy(path: &Path, values: &[f32], dim: usize) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dim}), }}", values.len() / dim);
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:117}\n").bytes());
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    std::fs::write(path, bytes).expect("the folder is writable");
}
