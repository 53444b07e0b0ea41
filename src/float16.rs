//! float16 numbers, two to a word, which ops pick rows from.

use half::f16;
use rayon::prelude::*;

/// Rounds numbers to float16, two to a word, the first in its low bits; an odd last one is left out.
pub fn pack(values: &[f32]) -> Vec<u32> {
    let bits = |x: f32| u32::from(f16::from_f32(x).to_bits());
    values.as_chunks().0.par_iter().map(|&[low, high]| bits(low) | bits(high) << 16).collect()
}

/// Number `at` of those in `words`.
pub fn element(words: &[u32], at: usize) -> f32 {
    f16::from_bits((words[at / 2] >> (at % 2 * 16)) as u16).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_rounds_to_11_bits() {
        let words = pack(&[1.0, -0.333_333, 65_504.0, 1e-7, 0.1, 0.2]);
        let read: Vec<f32> = (0..6).map(|at| element(&words, at)).collect();
        assert_eq!(read, [1.0, -0.333_251_95, 65_504.0, 1.192_092_9e-7, 0.099_975_586, 0.199_951_17]);
    }
}
