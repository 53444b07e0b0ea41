//! Rows to train on, and files of them.

use std::path::Path;

use embedding_compressor::random::normal;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// `[rows, dim]` numbers with a spectrum as embeddings have it: a common mean, a few strong directions, a long tail.
pub(crate) fn cloud(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mixing: Vec<f32> = (0..dim * dim).map(|_| normal(&mut rng)).collect();
    let row = |_| {
        let latent: Vec<f32> = (0..dim).map(|i| normal(&mut rng) / (1.0 + i as f32)).collect();
        let mixed = mixing.chunks(dim).map(|m| 0.3 + m.iter().zip(&latent).map(|(m, l)| m * l).sum::<f32>());
        mixed.collect::<Vec<f32>>()
    };
    (0..rows).flat_map(row).collect()
}

/// Writes `values [n, dim]` as numpy's format, version 1.0.
pub(crate) fn write_npy(path: &Path, values: &[f32], dim: usize) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dim}), }}", values.len() / dim);
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:117}\n").bytes());
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    std::fs::write(path, bytes).expect("the folder is writable");
}
