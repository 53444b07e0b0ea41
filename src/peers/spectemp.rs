//! SpecTemp (SIGIR 2026, arXiv 2603.19339): principal components, each scaled by its variance^(-gamma / 2), by cosine.
//!
//! In closed form: the exponent follows from the spectrum of the training rows alone. With the noise floor s, the mean of the last
//! tenth of the variances, SNR(k) = max(0, variance_k / s - 1), and gamma = min(1, SNR(d') / SNR(knee)) for the knee of that
//! curve over the first nine tenths, found by Kneedle with S = 0.5. The authors take every variance of the covariance matrix;
//! where there are fewer rows than dimensions the last of them are zeros, which are no noise, and are left out here. They add
//! 1e-6 to variances, which is left out too.

use super::{Fitted, Peers};
use crate::error::Result;

/// Sensitivity of Kneedle.
const SENSITIVITY: f64 = 0.5;
/// Share of the spectrum before the noise floor.
const HEAD: f64 = 0.9;

pub(super) fn fit(peers: &Peers<'_>, dim_out: usize) -> Result<Fitted> {
    let (gamma, knee) = exponent(&peers.energies, dim_out);
    let map = peers.corpus.spectra.tempered_pca(dim_out, gamma);
    let knee = knee.map_or("no knee".to_owned(), |knee| format!("knee at {knee}"));
    let recall = peers.validate(&map)?;
    Ok(Fitted { map, description: format!("gamma {gamma:.3}, {knee} of {}, cosine", peers.energies.len()), recall })
}

/// Gamma for a spectrum (descending) and d', and where the knee of the signal-to-noise curve is, counted from 1; without one,
/// d' / 2 is taken in its place.
pub fn exponent(energies: &[f64], dim_out: usize) -> (f64, Option<usize>) {
    let head = ((HEAD * energies.len() as f64) as usize).max(1);
    let tail = &energies[head.min(energies.len() - 1)..];
    let floor = tail.iter().sum::<f64>() / tail.len() as f64;
    let signal: Vec<f64> = energies[..head].iter().map(|e| (e / floor - 1.0).max(0.0)).collect();
    let knee = knee(&signal);
    let at_knee = signal[knee.unwrap_or((dim_out / 2).max(1)).min(head) - 1];
    let at_target = signal[dim_out.min(head) - 1];
    // Not above 1, and 1 where the curve is zero at its knee.
    (if at_target < at_knee { at_target / at_knee } else { 1.0 }, knee)
}

/// The first knee of a decreasing convex curve over 1, 2, ..: Kneedle (Satopaa et al. 2011) offline, without smoothing.
fn knee(curve: &[f64]) -> Option<usize> {
    let (first, last) = (curve.iter().copied().fold(0.0, f64::max), curve.iter().copied().fold(f64::INFINITY, f64::min));
    let steps = curve.len().checked_sub(1).filter(|steps| *steps > 0 && first > last)? as f64;
    // How far the curve, both axes scaled to 0..1 and turned to rise, lies above the diagonal.
    let lead: Vec<f64> = curve.iter().enumerate().map(|(i, y)| (first - y) / (first - last) - i as f64 / steps).collect();
    let around = |i: usize| [lead[i.saturating_sub(1)], lead[(i + 1).min(lead.len() - 1)]];
    // A knee is a maximum after which the lead falls by the mean step before a minimum resets the threshold.
    let mut candidate: Option<(usize, f64)> = None;
    for i in 0..lead.len() - 1 {
        if around(i).iter().all(|other| lead[i] >= *other) {
            candidate = Some((i, lead[i] - SENSITIVITY / steps));
        }
        if around(i).iter().all(|other| lead[i] <= *other) {
            candidate = candidate.map(|(at, _)| (at, 0.0));
        }
        if let Some((at, _)) = candidate.filter(|(_, threshold)| lead[i + 1] < *threshold) {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_the_curve_bends_most() {
        // Farthest from the line between its ends.
        let curve: Vec<f64> =
            (0..100).map(|i| if i < 10 { 100.0 - 9.0 * f64::from(i) } else { 10.0 - 0.1 * f64::from(i - 10) }).collect();
        assert_eq!(knee(&curve), Some(11));
        assert_eq!(knee(&[1.0, 1.0, 1.0]), None, "a level line");
        assert_eq!(knee(&[3.0, 2.0, 1.0]), None, "a straight line");
        assert_eq!(knee(&[1.0]), None);
    }

    #[test]
    fn tempering_is_full_up_to_the_knee_and_fades_beyond() {
        let energies: Vec<f64> = (1..=200).map(|i| 1.0 / f64::from(i)).collect();
        let gamma = |dim_out| exponent(&energies, dim_out).0;
        let knee = exponent(&energies, 1).1.expect("the curve has a knee");
        assert_eq!(gamma(1), 1.0);
        assert_eq!(gamma(knee), 1.0);
        let floor = (181..=200).map(|i| 1.0 / f64::from(i)).sum::<f64>() / 20.0;
        let signal = |k: usize| 1.0 / (k as f64 * floor) - 1.0;
        assert!((gamma(2 * knee) - signal(2 * knee) / signal(knee)).abs() < 1e-9);
        assert!(gamma(199) < 0.01, "beyond the noise floor's first: {}", gamma(199));
    }
}
