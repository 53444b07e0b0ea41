//! Draws that come out the same on every platform.

use rand::{Rng, RngExt};

/// A standard normal number, by Box and Muller.
pub fn normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}

/// A random order of the items, by Fisher and Yates.
pub fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u32 + 1, rng) as usize);
    }
}

/// A uniform index below `bound`, by a multiplication whose bias is below 2^-32. Spelled out, for [`Split`](crate::data::Split)
/// rests on it: `rand` may change how it maps bits to a range.
pub fn below(bound: u32, rng: &mut impl Rng) -> u32 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u32
}

/// `count` distinct indices below `bound`, in random order; all of them when there are fewer.
pub fn sample(bound: u32, count: usize, rng: &mut impl Rng) -> Vec<u32> {
    let count = count.min(bound as usize);
    // The head of a shuffle: only `count` swaps of an order that is not written out where the sample is small.
    let mut moved = std::collections::HashMap::new();
    let mut at = |i: u32, j: u32| {
        let picked = *moved.get(&j).unwrap_or(&j);
        let displaced = *moved.get(&i).unwrap_or(&i);
        moved.insert(j, displaced);
        picked
    };
    (0..count as u32).map(|i| at(i, i + below(bound - i, rng))).collect()
}
