//! Anchors that are no training rows: rows moved within their neighbourhood, whose true scores the teacher knows as well.
//!
//! A query that comes later lies among the known rows as they lie among each other, so the difference of two neighbours
//! anywhere is a likely difference of a row and such a query. Training on moved rows keeps a map from learning the rows by heart.

use std::borrow::Cow;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::backend::Backend;
use crate::error::Result;
use crate::metric::{Metric, select_rows};
use crate::random::below;
use crate::search::neighbours;

/// How many nearest rows count as the neighbourhood of a row.
const NEIGHBOURS: usize = 10;
/// Rows that neighbours are looked for among, so that the search grows with the number of rows and not with its square. A map of
/// WordNet's 16,000 training rows to 32 came to the same: .6081 on validation with neighbours among 4,000, .6083 among all.
const MAX_SEARCHED: usize = 16_384;
/// Rows that make an anchor: the row itself, and the two whose difference moves it.
pub const PARTS: usize = 3;

/// Moves anchors at random; the same seed moves them alike.
pub struct Noise {
    amplitude: f32,
    metric: Metric,
    /// Of each row, and how many they are.
    near: Vec<u32>,
    /// Distances of these.
    distances: Vec<f32>,
    count: usize,
    rng: ChaCha8Rng,
}

/// Anchors as weighted sums of rows, in the tables of [`blend`](crate::ops::blend::blend), [`PARTS`] for each anchor.
#[derive(Clone, Debug, PartialEq)]
pub struct Blends {
    /// Rows.
    pub parts: Vec<u32>,
    /// Their weights; where the metric is cosine, the sums have unit length.
    pub weights: Vec<f32>,
}

impl Noise {
    /// Noise of up to `amplitude` times the distance of a neighbour, among `rows [n, dim]` that are compared by `metric`; of unit
    /// length where that is cosine.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn new(backend: &dyn Backend, metric: Metric, rows: &[f32], dim: usize, amplitude: f32, seed: u64) -> Result<Self> {
        let n = rows.len() / dim;
        let count = NEIGHBOURS.min(n - 1);
        let (near, distances) = neighbourhoods(backend, rows, dim, count, n.div_ceil(MAX_SEARCHED))?;
        Ok(Self { amplitude, metric, near, distances, count, rng: ChaCha8Rng::seed_from_u64(seed) })
    }

    /// Moves the anchors, rows of the same `rows`.
    pub fn blends(&mut self, rows: &[f32], dim: usize, anchors: &[u32]) -> Blends {
        let drawn: Vec<([u32; PARTS], f32)> = anchors.iter().map(|anchor| self.draw(*anchor)).collect();
        let weights = drawn.par_iter().flat_map_iter(|(parts, step)| {
            let scale = if self.metric.normalizes() {
                // |x + step (to - from)|^2, of x, from and to of unit length.
                let [x, from, to] = parts.map(|row| &rows[row as usize * dim..][..dim]);
                let along = product(x, to) - product(x, from);
                let square = 1.0 + 2.0 * step * (along + step * (1.0 - product(from, to)));
                1.0 / square.max(f32::MIN_POSITIVE).sqrt()
            } else {
                1.0
            };
            [scale, -step * scale, step * scale]
        });
        Blends { weights: weights.collect(), parts: drawn.iter().flat_map(|(parts, _)| *parts).collect() }
    }

    /// A row, another with a neighbour, and the factor of their difference, which is brought to the anchor's own distances first.
    fn draw(&mut self, anchor: u32) -> ([u32; PARTS], f32) {
        let from = below((self.near.len() / self.count) as u32, &mut self.rng);
        let (own, other) = (self.pick(anchor), self.pick(from));
        let [own_distance, distance] = [own, other].map(|at| self.distances[at]);
        let step = self.amplitude * self.rng.random::<f32>();
        // Repeated rows have no distance.
        let step = if distance > 0.0 { step * (own_distance / distance).min(MAX_STRETCH) } else { 0.0 };
        ([anchor, from, self.near[other]], step)
    }

    /// Where one of a row's neighbours is kept.
    fn pick(&mut self, row: u32) -> usize {
        row as usize * self.count + below(self.count as u32, &mut self.rng) as usize
    }
}

/// The `count` nearest of each of `rows [n, dim]` among every so many-th row, itself not among them, and their distances.
fn neighbourhoods(backend: &dyn Backend, rows: &[f32], dim: usize, count: usize, groups: usize) -> Result<(Vec<u32>, Vec<f32>)> {
    let n = rows.len() / dim;
    let (mut near, mut distances) = (vec![0; n * count], vec![0.0; n * count]);
    for group in 0..groups {
        let members = (group..n).step_by(groups);
        let chosen = match groups {
            1 => Cow::Borrowed(rows),
            _ => Cow::Owned(select_rows(rows, dim, members.clone().map(|row| row as u32))?),
        };
        let all: Vec<u32> = (0..members.len() as u32).collect();
        // Places are near each other by their distance, whatever the metric. A score is x . y - |y|^2 / 2.
        let found = neighbours(backend, Metric::L2, &chosen, dim, &all, count)?;
        for (row, at) in members.zip((0..).step_by(count)) {
            let square = product(&rows[row * dim..][..dim], &rows[row * dim..][..dim]);
            for i in 0..count {
                near[row * count + i] = group as u32 + found.ids[at + i] * groups as u32;
                distances[row * count + i] = (square - 2.0 * found.scores[at + i]).max(0.0).sqrt();
            }
        }
    }
    Ok((near, distances))
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A difference is stretched to at most so many times its length: of rows that are almost the same, only rounding is left.
const MAX_STRETCH: f32 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::metric::normalize_rows;
    use crate::random::normal;

    /// 40 rows of unit length, in 6 dimensions.
    fn rows() -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut rows: Vec<f32> = (0..240).map(|_| normal(&mut rng)).collect();
        normalize_rows(&mut rows, 6);
        rows
    }

    fn sum(rows: &[f32], blends: &Blends, anchor: usize) -> Vec<f32> {
        let parts = blends.parts.iter().zip(&blends.weights).skip(anchor * PARTS).take(PARTS);
        parts.fold(vec![0.0; 6], |sum, (row, weight)| {
            sum.iter().zip(&rows[*row as usize * 6..]).map(|(s, x)| s + weight * x).collect()
        })
    }

    #[test]
    fn anchors_are_moved_no_further_than_the_amplitude_and_keep_their_length() {
        let rows = rows();
        let anchors: Vec<u32> = (0..40).chain(0..40).collect();
        let mut noise = Noise::new(&Cpu::new(), Metric::Cosine, &rows, 6, 0.5, 1).unwrap();
        let blends = noise.blends(&rows, 6, &anchors);
        let mut moved = 0;
        for (i, anchor) in anchors.iter().enumerate() {
            let x = sum(&rows, &blends, i);
            let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((norm - 1.0).abs() < 1e-5, "anchor {i} has length {norm}");
            let own = &rows[*anchor as usize * 6..][..6];
            let distance = |other: &[f32]| own.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
            let farthest = noise.distances[*anchor as usize * noise.count..][..noise.count].iter().fold(0.0f32, |a, b| a.max(*b));
            // Normalising at most doubles a step that is shorter than half the length.
            assert!(distance(&x) <= farthest, "anchor {i} went {} with neighbours up to {farthest}", distance(&x));
            moved += usize::from(distance(&x) > 1e-3);
        }
        assert!(moved > 70, "{moved} of 80 anchors moved");
        assert_ne!(blends, noise.blends(&rows, 6, &anchors), "every call draws anew");
        assert_eq!(blends, Noise::new(&Cpu::new(), Metric::Cosine, &rows, 6, 0.5, 1).unwrap().blends(&rows, 6, &anchors));
    }

    #[test]
    fn neighbours_are_the_nearest_of_a_group() {
        let rows = rows();
        let (near, distances) = neighbourhoods(&Cpu::new(), &rows, 6, 4, 3).unwrap();
        for row in 0..40 {
            let place = |row: usize| &rows[row * 6..][..6];
            let distance = |other: usize| place(row).iter().zip(place(other)).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
            let mut group: Vec<usize> = (row % 3..40).step_by(3).filter(|other| *other != row).collect();
            group.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
            for (i, other) in group[..4].iter().enumerate() {
                assert_eq!(near[row * 4 + i] as usize, *other, "neighbour {i} of row {row}");
                assert!((distances[row * 4 + i] - distance(*other)).abs() < 1e-3, "neighbour {i} of row {row}");
            }
        }
    }

    #[test]
    fn repeated_rows_stay_where_they_are() {
        let rows = [[1.0f32, 0.0]; 8].concat();
        let blends = Noise::new(&Cpu::new(), Metric::Cosine, &rows, 2, 0.8, 1).unwrap().blends(&rows, 2, &[5, 6]);
        assert_eq!(blends.weights, [1.0, 0.0, 0.0].repeat(2));
    }
}
