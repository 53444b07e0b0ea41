//! Loops in the widest vectors of the machine they run on, and the functions that vectorise in them.

/// Runs a loop compiled for the widest instruction set that this machine has (AVX-512, AVX2, NEON or the baseline).
///
/// What the loop calls must be inlined into it: `#[inline(always)]`.
#[inline]
pub(crate) fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Index of the first value that is NaN or infinite, found in a pass without branches where there is none.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    let found = vectorized(
        #[inline(always)]
        || values.iter().fold(false, |found, v| found | (v.to_bits() & EXPONENT == EXPONENT)),
    );
    if found { values.iter().position(|v| !v.is_finite()) } else { None }
}

/// Inner product, in four vectors of sums.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    const LANES: usize = 64;
    let [(x, x_rest), (y, y_rest)] = [x, y].map(|values| values.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (x, y) in x.iter().zip(y) {
        sums.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (x, y))| *sum += x * y);
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// exp(x) within 2 units in the last place, 0 below -87, the largest powers from 88 on; without calls or branches, so that loops
/// become vectors.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, and the polynomial of Cephes' `expf` for exp(r).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.0, 88.0);
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = bounded - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let high = (1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3;
    let polynomial = ((high * r + 4.166_579_6e-2) * r + 0.166_666_65) * r + 0.5;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let value = (polynomial * r * r + r + 1.0) * power;
    if x < -87.0 { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::{exp, first_not_finite};

    #[test]
    fn the_first_value_that_is_not_finite() {
        let mut values = vec![f32::MAX; 1000];
        values[5] = f32::MIN_POSITIVE;
        assert_eq!(first_not_finite(&values), None);
        for (bad, at) in [(f32::NAN, 999), (f32::INFINITY, 431), (-f32::NAN, 430), (f32::NEG_INFINITY, 0)] {
            values[at] = bad;
            assert_eq!(first_not_finite(&values), Some(at));
        }
    }

    #[test]
    fn exp_is_close_over_its_range() {
        for i in -8_600..8_800 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 2.5e-7 * exact, "exp({x}) = {} instead of {exact}", exp(x));
        }
        assert_eq!(exp(-100.0), 0.0);
    }
}
