//! Maps without training: what a trained map has to beat. They take rows in the [`Frame`](crate::frame::Frame) of their data.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::backend::Backend;
use crate::basis::Basis;
use crate::error::Result;
use crate::eval::{Judge, Scores};
use crate::metric::Metric;
use crate::model::Map;
use crate::random::normal;
use crate::spectral::{Centring, SpectralSolver, Spectrum};

/// Exponents of tempering that the best spectral map is chosen among: 0 is plain PCA, 1 would be whitening.
const GAMMAS: [f64; 3] = [0.0, 0.25, 0.5];

/// The first d' coordinates, compared as the teacher compares rows.
pub fn truncation(teacher: Metric, dim_in: usize, dim_out: usize) -> Map {
    let weight = (0..dim_out * dim_in).map(|i| if i / dim_in == i % dim_in { 1.0 } else { 0.0 }).collect();
    linear(teacher, dim_in, teacher, weight)
}

/// A Gaussian random projection, compared as the teacher compares rows.
pub fn random_projection(teacher: Metric, dim_in: usize, dim_out: usize, seed: u64) -> Map {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let scale = 1.0 / (dim_out as f32).sqrt();
    linear(teacher, dim_in, teacher, (0..dim_out * dim_in).map(|_| normal(&mut rng) * scale).collect())
}

/// W x, of rows as the teacher compares them.
fn linear(teacher: Metric, dim_in: usize, student: Metric, weight: Vec<f32>) -> Map {
    Map { input_normalized: teacher.normalizes(), ..Map::linear(dim_in, student, weight) }
}

/// The spectra of a data set, from which every spectral map is made.
pub struct Spectra {
    teacher: Metric,
    /// None for L2: distances do not know where the origin is.
    uncentred: Option<Spectrum>,
    centred: Spectrum,
}

/// A spectral map that was chosen on validation.
pub struct SpectralChoice {
    /// The map.
    pub map: Map,
    /// Which one it is, in words.
    pub description: String,
    /// Its scores on validation.
    pub scores: Scores,
}

impl Spectra {
    /// Computes the spectra of `rows [n, dim]`, with at least `count` axes where there are as many, and as many as a basis of this rank
    /// takes.
    ///
    /// # Errors
    /// As [`SpectralSolver::solve`].
    pub fn new(backend: &dyn Backend, teacher: Metric, rows: &[f32], dim: usize, count: usize, rank: usize) -> Result<Self> {
        // Wide data is reduced to its main axes in training: those beyond the map's own need not be accurate.
        let wanted = if dim > rank { count.max(rank) } else { count };
        let mut solver = SpectralSolver::new(backend, rows, dim, wanted, count)?;
        let uncentred = if teacher == Metric::L2 { None } else { Some(solver.solve(Centring::Uncentred)?) };
        Ok(Self { teacher, uncentred, centred: solver.solve(Centring::Centred)? })
    }

    /// The basis of this rank to train in, of rows with this mean squared length.
    pub fn basis(&self, rank: usize, mean_square: f64) -> Option<Basis> {
        Basis::new(self.uncentred.as_ref().unwrap_or(&self.centred), rank, mean_square)
    }

    /// Dimensions of a map, at most.
    pub fn axes(&self) -> usize {
        self.centred.energies.len()
    }

    /// Mean of the rows.
    pub fn mean(&self) -> &[f32] {
        &self.centred.mean
    }

    /// PCA as textbooks do it: the mean is subtracted, and what is left is compared as the teacher compares rows.
    pub fn pca(&self, dim_out: usize) -> Map {
        self.tempered_pca(dim_out, 0.0)
    }

    /// PCA with each component scaled by its energy^(-gamma / 2).
    pub fn tempered_pca(&self, dim_out: usize, gamma: f64) -> Map {
        let Spectrum { mean, dim, .. } = &self.centred;
        let mut map = linear(self.teacher, *dim, self.teacher, self.centred.map(dim_out, gamma));
        for (bias, axis) in map.bias.iter_mut().zip(map.weight.chunks(*dim)) {
            *bias = -axis.iter().zip(mean).map(|(a, m)| a * m).sum::<f32>();
        }
        map
    }

    /// The orthonormal projection onto the uncentred axes, compared by inner product: of those, the one with the smallest squared
    /// error. None where the teacher is L2.
    pub fn projection(&self, dim_out: usize) -> Option<Map> {
        let axes = self.uncentred.as_ref()?;
        Some(linear(self.teacher, axes.dim, Metric::Dot, axes.map(dim_out, 0.0)))
    }

    /// The map that keeps most of the ranking of `database [n, dim]`, by the judge's recall@k, among {centred axes applied
    /// uncentred, uncentred axes} x {cosine, dot, l2} x tempering. For a dot teacher, uncentred axes and dot give the inner products
    /// of the best approximation of the rows (Eckart and Young 1936), for L2, centred axes and L2 do so with distances. It has as
    /// many dimensions as the last of `dims`, which ascend; the recall is the mean over all of them, of the first coordinates.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    ///
    /// # Panics
    /// If `dims` is empty.
    pub fn best(&self, backend: &dyn Backend, database: &[f32], judge: &Judge, dims: &[usize]) -> Result<SpectralChoice> {
        let dim_out = *dims.last().expect("a map has dimensions");
        let mut best: Option<SpectralChoice> = None;
        let spectra = self.uncentred.iter().map(|s| ("uncentred", s)).chain([("centred", &self.centred)]);
        for (name, spectrum) in spectra {
            let plain = linear(self.teacher, spectrum.dim, Metric::Dot, spectrum.map(dim_out, 0.0));
            let projected = plain.encode(backend, database)?;
            for gamma in GAMMAS {
                let tempered = temper(&projected, &spectrum.scales(dim_out, gamma));
                for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
                    let prepared = metric.prepare(&tempered, dim_out);
                    let scores = judge.judge_prefixes(backend, &prepared, dim_out, metric, dims)?;
                    if best.as_ref().is_none_or(|best| scores.mean("recall@k") > best.scores.mean("recall@k")) {
                        let map = linear(self.teacher, spectrum.dim, metric, spectrum.map(dim_out, gamma));
                        let description = format!("{name} axes, gamma {gamma}, {}", metric.name());
                        best = Some(SpectralChoice { map, description, scores });
                    }
                }
            }
        }
        Ok(best.expect("there are candidates"))
    }
}

/// Rows `[n, scales.len()]` with each column scaled.
fn temper(rows: &[f32], scales: &[f32]) -> Vec<f32> {
    rows.chunks(scales.len()).flat_map(|row| row.iter().zip(scales).map(|(x, s)| x * s)).collect()
}
