//! Principal axes against their definition, and the maps that are made of them.

use embedding_compressor::backend::Cpu;
use embedding_compressor::baselines::{Spectra, random_projection, truncation};
use embedding_compressor::metric::{Metric, normalize_rows};
use embedding_compressor::random::normal;
use embedding_compressor::spectral::{Centring, SpectralSolver, Spectrum, energies};
use libtest_mimic::Trial;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::rows::cloud;
use crate::test;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("axes::are those of the second moments", axes_are_those_of_the_second_moments),
        test("axes::planted ones are found in narrow data", || planted_axes_are_found(300, 40)),
        test("axes::planted ones are found in data wider than their number", || planted_axes_are_found(60, 1100)),
        test("axes::planted ones are found in wide data", || planted_axes_are_found(1500, 1100)),
        test("axes::whole spectra are those of the solver", whole_spectra_are_those_of_the_solver),
        test("axes::tempering scales each by its energy", tempering_scales_each_axis_by_its_energy),
        test("baselines::pca subtracts the mean", pca_subtracts_the_mean),
        test("baselines::truncation keeps the first coordinates", truncation_keeps_the_first_coordinates),
        test("baselines::random projections keep lengths", random_projections_keep_lengths),
    ]
}

fn solve(rows: &[f32], dim: usize, wanted: usize, centring: Centring) -> Spectrum {
    let spectrum = SpectralSolver::new(&Cpu::new(), rows, dim, wanted, wanted).unwrap().solve(centring).unwrap();
    let axes: Vec<&[f32]> = spectrum.axes.chunks(dim).collect();
    assert_eq!((axes.len(), spectrum.energies.len()), (wanted, wanted));
    for (i, a) in axes.iter().enumerate() {
        for (j, b) in axes.iter().enumerate() {
            let expected = if i == j { 1.0 } else { 0.0 };
            assert!((dot(a, b) - expected).abs() < 1e-5, "axes {i} and {j} have inner product {}", dot(a, b));
        }
    }
    assert!(spectrum.energies.is_sorted_by(|a, b| a >= b), "{:?}", spectrum.energies);
    spectrum
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    (0..dim).map(|i| rows.chunks(dim).map(|row| f64::from(row[i])).sum::<f64>() as f32 / (rows.len() / dim) as f32).collect()
}

fn minus(rows: &[f32], mean: &[f32]) -> Vec<f32> {
    rows.chunks(mean.len()).flat_map(|row| row.iter().zip(mean).map(|(x, m)| x - m)).collect()
}

/// All axes of a small matrix are eigenvectors of its second moments, with the energies as eigenvalues.
fn axes_are_those_of_the_second_moments() {
    let (rows, dim) = (100, 12);
    let x = cloud(rows, dim, 5);
    let mean = mean(&x, dim);
    for (centring, moved) in [(Centring::Uncentred, x.clone()), (Centring::Centred, minus(&x, &mean))] {
        let spectrum = solve(&x, dim, dim, centring);
        for (axis, energy) in spectrum.axes.chunks(dim).zip(&spectrum.energies) {
            let projected: Vec<f64> = moved.chunks(dim).map(|row| dot(row, axis)).collect();
            for (i, a) in axis.iter().enumerate() {
                let image = moved.chunks(dim).zip(&projected).map(|(row, p)| f64::from(row[i]) * p).sum::<f64>() / rows as f64;
                let expected = energy * f64::from(*a);
                assert!((image - expected).abs() < 1e-5 * spectrum.energies[0], "{centring:?}: {image} is not {expected}");
            }
        }
        assert!(spectrum.mean.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-5), "{:?} is not {mean:?}", spectrum.mean);
    }
}

/// Rows that vary along four known axes about a mean far from the origin, with a little noise everywhere.
fn planted_axes_are_found(rows: usize, dim: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let unit = |i: usize, x: f32| (0..dim).map(|j| if j == i { x } else { 0.0 }).collect::<Vec<f32>>();
    // The mean lies across all four.
    let places = [3, dim - 1, dim / 2, 7];
    let strengths = [4.0f32, 2.0, 1.0, 0.5];
    let mut x = Vec::new();
    for _ in 0..rows {
        let mut row = unit(20, 9.0);
        row.iter_mut().for_each(|v| *v += 1e-3 * normal(&mut rng));
        places.iter().zip(strengths).for_each(|(i, s)| row[*i] += s * normal(&mut rng));
        x.extend(row);
    }
    let centred = solve(&x, dim, 4, Centring::Centred);
    let uncentred = solve(&x, dim, 4, Centring::Uncentred);
    // A sample of few rows has axes near the planted ones: together they span the same space.
    for place in places {
        let seen: f64 = centred.axes.chunks(dim).map(|axis| f64::from(axis[place]).powi(2)).sum();
        assert!(seen > 0.999, "axis {place} is seen to {seen}");
    }
    assert!(uncentred.axes[20].abs() > 0.99, "uncentred, the mean comes first");
    for (axis, energy) in centred.axes.chunks(dim).zip(&centred.energies) {
        let moved = minus(&x, &mean(&x, dim));
        let measured = moved.chunks(dim).map(|row| dot(row, axis).powi(2)).sum::<f64>() / rows as f64;
        assert!((measured - energy).abs() < 1e-3 * measured, "energy {energy}, measured {measured}");
    }
}

/// By the smaller of the two products, whichever it is; rows less than dimensions leave zeros, which are left out.
fn whole_spectra_are_those_of_the_solver() {
    for (rows, dim) in [(100, 12), (8, 12), (12, 12)] {
        let x = cloud(rows, dim, 5);
        let expected = solve(&x, dim, dim, Centring::Centred).energies;
        let found = energies(&Cpu::new(), &x, dim).unwrap();
        assert_eq!(found.len(), dim.min(rows - 1));
        for (i, found) in found.iter().enumerate() {
            assert!((found - expected[i]).abs() < 1e-6 * expected[0], "{found} is not {}", expected[i]);
        }
    }
}

fn tempering_scales_each_axis_by_its_energy() {
    let spectrum = solve(&cloud(100, 12, 5), 12, 4, Centring::Uncentred);
    let map = spectrum.map(3, 0.5);
    assert_eq!(map.len(), 3 * 12);
    for (i, (row, axis)) in map.chunks(12).zip(spectrum.axes.chunks(12)).enumerate() {
        let scale = spectrum.energies[i].powf(-0.25);
        assert!(row.iter().zip(axis).all(|(a, b)| (f64::from(*a) - scale * f64::from(*b)).abs() < 1e-5 * scale), "axis {i}");
    }
}

/// Textbook PCA: project what is left of the rows without their mean, and compare by cosine.
fn pca_subtracts_the_mean() {
    let (dim, dim_out) = (12, 5);
    let mut x = cloud(100, dim, 5);
    normalize_rows(&mut x, dim);
    let cpu = Cpu::new();
    let pca = Spectra::new(&cpu, Metric::Cosine, &x, dim, dim_out, 0).unwrap().pca(dim_out);
    assert_eq!(pca.metric, Metric::Cosine);
    let axes = solve(&x, dim, dim_out, Centring::Centred).axes;
    let moved = minus(&x, &mean(&x, dim));
    let mut expected: Vec<f32> = moved.chunks(dim).flat_map(|row| axes.chunks(dim).map(|axis| dot(row, axis) as f32)).collect();
    normalize_rows(&mut expected, dim_out);
    let encoded = pca.encode(&cpu, &x).unwrap();
    for (i, (a, b)) in encoded.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() < 1e-4, "value {i}: {a} is not {b}");
    }
}

fn truncation_keeps_the_first_coordinates() {
    let x = cloud(20, 6, 5);
    let mut expected: Vec<f32> = x.chunks(6).flat_map(|row| row[..2].to_vec()).collect();
    normalize_rows(&mut expected, 2);
    let encoded = truncation(Metric::Cosine, 6, 2).encode(&Cpu::new(), &x).unwrap();
    assert!(encoded.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{encoded:?} is not {expected:?}");
}

fn random_projections_keep_lengths() {
    let map = random_projection(Metric::Cosine, 400, 300, 1);
    assert_eq!((map.dim_in, map.dim_out, map.weight.len()), (400, 300, 300 * 400));
    // Squared entries have mean 1 / d', so that squared lengths are kept on average.
    let mean = map.weight.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / map.weight.len() as f64;
    assert!((mean * 300.0 - 1.0).abs() < 0.02, "{mean}");
    assert_eq!(map, random_projection(Metric::Cosine, 400, 300, 1));
    assert_ne!(map, random_projection(Metric::Cosine, 400, 300, 2));
}
