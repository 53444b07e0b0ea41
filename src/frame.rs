//! Rows of a data set as the teacher compares them and training takes them, and the way back.

use rayon::prelude::*;

use crate::metric::Metric;
use crate::model::{Hidden, Map};
use crate::moments::{mean, mean_square};

/// Scales are powers of two with exponents up to this: numbers of all sizes stay far from the ends of float32.
const MAX_EXPONENT: f64 = 100.0;

/// x -> scale (x - origin), the same for all rows: it changes no ranking of the teacher.
///
/// Training wants rows of a length about 1, and distances in float32 want rows about the origin. So rows are scaled for inner
/// product, centred and scaled for L2, and left as they are for cosine, which has them scaled to unit length. Scale and origin are
/// rounded to powers of two and their multiples, such that whole numbers and the like keep their exact differences, and ties stay ties.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The teacher.
    pub metric: Metric,
    origin: Vec<f32>,
    scale: f64,
}

impl Frame {
    /// The frame of data with these `rows [n, dim]`, which are of unit length for cosine.
    pub fn new(metric: Metric, rows: &[f32], dim: usize) -> Self {
        let mean = match metric {
            Metric::Cosine => return Self { metric, origin: vec![0.0; dim], scale: 1.0 },
            Metric::Dot => vec![0.0; dim],
            Metric::L2 => mean(rows, dim),
        };
        let length = mean_square(rows, &mean).sqrt();
        if length == 0.0 {
            let origin = mean.iter().map(|m| *m as f32).collect();
            return Self { metric, origin, scale: 1.0 };
        }
        // About the standard deviation of a coordinate: the origin lies near enough to the mean.
        let grid = (length / (dim as f64).sqrt()).log2().floor().exp2();
        let origin = mean.iter().map(|m| ((m / grid).round() * grid) as f32).collect();
        let scale = (-length.log2().round()).clamp(-MAX_EXPONENT, MAX_EXPONENT).exp2();
        Self { metric, origin, scale }
    }

    /// Takes `rows [n, dim]` into the frame, in place.
    pub fn apply(&self, rows: &mut [f32]) {
        if self.metric == Metric::Cosine {
            return;
        }
        rows.par_chunks_mut(self.origin.len()).for_each(|row| {
            row.iter_mut().zip(&self.origin).for_each(|(x, o)| *x = ((f64::from(*x) - f64::from(*o)) * self.scale) as f32);
        });
    }

    /// The map that does to rows as they are what `map` does to rows in the frame.
    pub fn fold(&self, map: Map) -> Map {
        if self.metric == Metric::Cosine {
            return map;
        }
        let (weight, bias) = self.fold_layer(&map.weight, &map.bias);
        let hidden = map.hidden.map(|hidden| {
            let (weight, bias) = self.fold_layer(&hidden.weight, &hidden.bias);
            Hidden { weight, bias, output: hidden.output }
        });
        Map { weight, bias, hidden, ..map }
    }

    /// W scale (x - origin) + b = (scale W) x + (b - (scale W) origin).
    fn fold_layer(&self, weight: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let rows = weight.chunks(self.origin.len()).zip(bias);
        let moved = rows.map(|(w, b)| {
            let image = w.iter().zip(&self.origin).map(|(w, o)| f64::from(*w) * f64::from(*o)).sum::<f64>();
            (f64::from(*b) - self.scale * image) as f32
        });
        (weight.iter().map(|w| (f64::from(*w) * self.scale) as f32).collect(), moved.collect())
    }

    /// What similarities are multiplied by in the frame.
    pub fn similarity_scale(&self) -> f64 {
        self.scale * self.scale
    }
}
