//! The subspace that holds all but a little of wide data: networks are trained on coordinates in it, which costs less and leaves
//! out directions that training rows say nothing about.

use crate::backend::Backend;
use crate::error::Result;
use crate::metric::Metric;
use crate::model::{Hidden, Map};
use crate::spectral::Spectrum;

/// Axes that networks of a hidden layer of so many units are trained in; data that is not wider is taken as it is.
///
/// A linear map gains by axes that a hidden layer overfits to, and costs little: of Debian's 4,000 training rows x 4096, to 64, the mean
/// of validation recall@50 and @10 with 512, 768 and 1,024 axes is .7334, .7348 and .7369 without a hidden layer; with one of 1,024 units
/// it is .7441 with 512 axes and .7423 with 1,024.
pub fn rank(hidden: usize) -> usize {
    if hidden == 0 { 1024 } else { 512 }
}

/// A basis may lose this share of the data's variance.
const MAX_LOST: f64 = 0.1;

/// An orthonormal basis of a subspace.
pub struct Basis {
    /// `[rank, dim]`.
    axes: Vec<f32>,
    rank: usize,
    dim: usize,
}

impl Basis {
    /// The first `rank` axes, where they hold enough of the data: `mean_square` is the mean squared length of its rows.
    pub fn new(spectrum: &Spectrum, rank: usize, mean_square: f64) -> Option<Self> {
        let Spectrum { axes, energies, mean, dim } = spectrum;
        if rank == 0 || *dim <= rank || energies.len() < rank {
            return None;
        }
        let lost = mean_square - energies[..rank].iter().sum::<f64>();
        let variance = mean_square - mean.iter().map(|m| f64::from(*m) * f64::from(*m)).sum::<f64>();
        (lost <= MAX_LOST * variance).then(|| Self { axes: axes[..rank * dim].to_vec(), rank, dim: *dim })
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Coordinates `[n, rank]` of `rows [n, dim]`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails or memory does not suffice.
    pub fn coordinates(&self, backend: &dyn Backend, rows: &[f32]) -> Result<Vec<f32>> {
        product(backend, rows, &self.axes, self.dim)
    }

    /// The map of coordinates that does what `map` does to rows within the subspace.
    ///
    /// # Errors
    /// As [`coordinates`](Self::coordinates).
    pub fn reduce(&self, backend: &dyn Backend, map: &Map) -> Result<Map> {
        let change = |weight: &[f32]| self.coordinates(backend, weight);
        Ok(Map { dim_in: self.rank, input_normalized: false, ..changed(map, change)? })
    }

    /// The map of rows that does what `map` does to their coordinates; `input_normalized` is that of the rows.
    ///
    /// # Errors
    /// As [`coordinates`](Self::coordinates).
    pub fn expand(&self, backend: &dyn Backend, map: &Map, input_normalized: bool) -> Result<Map> {
        let columns: Vec<f32> = (0..self.dim * self.rank).map(|i| self.axes[i % self.rank * self.dim + i / self.rank]).collect();
        let change = |weight: &[f32]| product(backend, weight, &columns, self.rank);
        Ok(Map { dim_in: self.dim, input_normalized, ..changed(map, change)? })
    }
}

/// The map with other weights in place of W and A.
fn changed(map: &Map, change: impl Fn(&[f32]) -> Result<Vec<f32>>) -> Result<Map> {
    let hidden = match &map.hidden {
        None => None,
        Some(hidden) => Some(Hidden { weight: change(&hidden.weight)?, ..hidden.clone() }),
    };
    Ok(Map { weight: change(&map.weight)?, hidden, ..map.clone() })
}

/// Inner products `[n, m]` of `rows [n, dim]` and `others [m, dim]`.
fn product(backend: &dyn Backend, rows: &[f32], others: &[f32], dim: usize) -> Result<Vec<f32>> {
    let map = Map { input_normalized: false, ..Map::linear(dim, Metric::Dot, others.to_vec()) };
    map.encode(backend, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::random::normal;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const RANK: usize = 20;
    const DIM: usize = RANK + 8;

    /// Unit axes, and energies that hold all but `rest`.
    fn spectrum(rest: f64) -> Spectrum {
        let axes = (0..RANK * DIM).map(|i| f32::from(u8::from(i / DIM + 3 == i % DIM))).collect();
        Spectrum { axes, energies: vec![(1.0 - rest) / RANK as f64; RANK], mean: vec![0.0; DIM], dim: DIM }
    }

    #[test]
    fn maps_of_coordinates_are_maps_of_rows() {
        let cpu = Cpu::new();
        let basis = Basis::new(&spectrum(0.05), RANK, 1.0).expect("little is lost");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut cloud = |count: usize| (0..count).map(|_| normal(&mut rng)).collect::<Vec<f32>>();
        let hidden = Hidden { weight: cloud(5 * RANK), bias: cloud(5), output: cloud(10) };
        let reduced = Map {
            bias: cloud(2),
            hidden: Some(hidden),
            input_normalized: false,
            ..Map::linear(RANK, Metric::Dot, cloud(2 * RANK))
        };
        let rows = cloud(7 * DIM);
        let expanded = basis.expand(&cpu, &reduced, false).unwrap();
        let coordinates = basis.coordinates(&cpu, &rows).unwrap();
        let (a, b) = (reduced.encode(&cpu, &coordinates).unwrap(), expanded.encode(&cpu, &rows).unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?} {b:?}");
        assert_eq!(basis.reduce(&cpu, &expanded).unwrap(), reduced);
        assert!(basis.expand(&cpu, &reduced, true).unwrap().input_normalized);
    }

    #[test]
    fn data_that_would_lose_much_is_not_reduced() {
        assert!(Basis::new(&spectrum(0.2), RANK, 1.0).is_none());
    }
}
