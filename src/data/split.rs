//! The seeded division of rows into train, validation and test.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::random::shuffle;

/// Row numbers of the three parts, 80/10/10, each in shuffled order; together every row exactly once.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Split {
    /// Rows `0 .. floor(0.8 N)` of the shuffled order: what training sees.
    pub train: Vec<u32>,
    /// Rows up to `floor(0.9 N)`: early stopping and every choice.
    pub val: Vec<u32>,
    /// The rest: opened once, at the end.
    pub test: Vec<u32>,
}

impl Split {
    /// Splits rows `0..rows`; the same `rows` and `seed` give the same split on every platform and version.
    ///
    /// # Panics
    /// If `rows` does not fit in a `u32`; [`Embeddings`](super::Embeddings) never holds more.
    pub fn new(rows: usize, seed: u64) -> Self {
        let count = u32::try_from(rows).expect("split: more than u32::MAX rows");
        let mut order: Vec<u32> = (0..count).collect();
        shuffle(&mut order, &mut ChaCha8Rng::seed_from_u64(seed));
        let test = order.split_off(rows * 9 / 10);
        let val = order.split_off(rows * 8 / 10);
        Self { train: order, val, test }
    }
}
