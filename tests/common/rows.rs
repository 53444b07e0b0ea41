//! Rows to train on.

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
