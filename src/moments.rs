//! Mean and mean square of rows, in f64 and the same for any number of threads.

use rayon::prelude::*;

use crate::simd::vectorized;

/// Rows whose sums are taken together: the order of additions must not depend on the number of threads.
const SUMMED_ROWS: usize = 1024;

/// Mean of `rows [n, dim]`.
pub fn mean(rows: &[f32], dim: usize) -> Vec<f64> {
    let sum = |rows: &[f32]| {
        vectorized(
            #[inline(always)]
            || {
                let mut sum = vec![0.0; dim];
                for row in rows.chunks_exact(dim) {
                    sum.iter_mut().zip(row).for_each(|(s, x)| *s += f64::from(*x));
                }
                sum
            },
        )
    };
    let sums: Vec<Vec<f64>> = rows.par_chunks(SUMMED_ROWS * dim).map(sum).collect();
    let count = (rows.len() / dim) as f64;
    (0..dim).map(|i| sums.iter().map(|sum| sum[i]).sum::<f64>() / count).collect()
}

/// Mean squared distance of `rows [n, dim]` from a point.
pub fn mean_square(rows: &[f32], point: &[f64]) -> f64 {
    let distance = |row: &[f32]| row.iter().zip(point).map(|(x, p)| (f64::from(*x) - p).powi(2)).sum::<f64>();
    let chunks = rows.par_chunks(SUMMED_ROWS * point.len());
    let sums: Vec<f64> = chunks.map(|rows| rows.chunks(point.len()).map(distance).sum()).collect();
    sums.into_iter().sum::<f64>() / (rows.len() / point.len()) as f64
}
