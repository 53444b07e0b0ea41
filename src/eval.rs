//! How much of the teacher's ranking a map keeps: recall, NDCG and overlap of exact neighbours, with confidence intervals.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::random::below;
use crate::search::{Neighbours, neighbours};

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;
/// Depths at which recall is reported beside k, where they fit.
const DEPTHS: [usize; 3] = [1, 10, 100];

/// Names of the metrics of queries among `rows` rows; where those are few, recall at a larger depth is missing.
pub fn metrics(rows: usize) -> Vec<String> {
    let recalls = DEPTHS.into_iter().filter(|d| *d < rows).map(|d| format!("recall@{d}"));
    recalls.chain(["recall@k", "neighbor_overlap@k", "ndcg@k"].map(str::to_owned)).collect()
}

/// Refuses to judge k neighbours of queries among too few rows, or of no queries.
///
/// # Errors
/// [`Error::Data`].
pub fn check_rows(rows: usize, queries: usize, k: usize) -> Result<()> {
    if rows >= k + 2 && queries > 0 {
        return Ok(());
    }
    Err(Error::data(format!("{rows} rows and {queries} queries are too few to judge {k} neighbours"))
        .hint("use more rows (--max-items) or a smaller --k"))
}

/// Queries among the rows of a database, with the teacher's exact neighbours: judges any encoding of the same rows.
pub struct Judge {
    queries: Vec<u32>,
    rows: usize,
    k: usize,
    teacher: Neighbours,
}

impl Judge {
    /// Finds the teacher's neighbours by `metric`, as [`neighbours`] does; `queries` are rows of `database [n, dim]`.
    ///
    /// # Errors
    /// [`Error::Data`] when there are too few rows for k neighbours or no queries; [`Error::Device`] when the device fails.
    pub fn new(backend: &dyn Backend, metric: Metric, database: &[f32], dim: usize, queries: Vec<u32>, k: usize) -> Result<Self> {
        let rows = database.len() / dim;
        check_rows(rows, queries.len(), k)?;
        let depth = DEPTHS.iter().fold(k, |depth, d| depth.max(*d)).min(rows - 1);
        let teacher = neighbours(backend, metric, database, dim, &queries, depth)?;
        Ok(Self { queries, rows, k, teacher })
    }

    /// Scores an encoding of the database, `[n, dim_out]`, that is compared by `metric`; of unit length where that is cosine.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn judge(&self, backend: &dyn Backend, metric: Metric, encoded: &[f32], dim_out: usize) -> Result<Scores> {
        assert_eq!(encoded.len(), self.rows * dim_out, "judge: the encoding has another number of rows than the database");
        let student = neighbours(backend, metric, encoded, dim_out, &self.queries, self.teacher.k)?;
        Ok(Scores::new(&self.teacher, &student, self.k))
    }

    /// Scores of the first m coordinates of an encoding `[n, dim_out]`, compared by `metric`, for every m of `dims`: all together, so
    /// that means are over queries and dimensions. The encoding itself is as in [`judge`](Self::judge).
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails.
    pub fn judge_prefixes(
        &self,
        backend: &dyn Backend,
        encoded: &[f32],
        dim_out: usize,
        metric: Metric,
        dims: &[usize],
    ) -> Result<Scores> {
        let mut all = Scores(BTreeMap::new());
        for &m in dims {
            let scores = if m == dim_out {
                self.judge(backend, metric, encoded, dim_out)?
            } else {
                let first: Vec<f32> = encoded.chunks(dim_out).flat_map(|row| &row[..m]).copied().collect();
                self.judge(backend, metric, &metric.prepare(&first, m), m)?
            };
            scores.0.into_iter().for_each(|(name, values)| all.0.entry(name).or_default().extend(values));
        }
        Ok(all)
    }

    /// Recall@k of a random ranking: k / (n - 1).
    pub fn chance(&self) -> f64 {
        self.k as f64 / (self.rows - 1) as f64
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.queries.len()
    }

    /// Rows of the database.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Metrics of each query.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(BTreeMap<String, Vec<f64>>);

impl Scores {
    /// Compares two rankings of the same queries: recall at k and at 1, 10 and 100 where both are that deep, NDCG and overlap at k.
    ///
    /// With A and B the first k of teacher and student: recall@k = |A n B| / k; neighbor_overlap@k = |A n B| / |A u B|; ndcg@k has
    /// gain k - r + 1 for the teacher's rank r and discount 1 / log2(1 + rank).
    pub fn new(teacher: &Neighbours, student: &Neighbours, k: usize) -> Self {
        let pairs = teacher.ids.par_chunks(teacher.k).zip(student.ids.par_chunks(student.k));
        let ranks: Vec<Vec<usize>> = pairs.map(|(teacher, student)| ranks(teacher, student)).collect();
        let mut scores = BTreeMap::new();
        let mut record = |name: String, metric: &dyn Fn(&[usize]) -> f64| {
            scores.insert(name, ranks.iter().map(|ranks| metric(ranks)).collect());
        };
        for depth in DEPTHS.into_iter().filter(|d| *d <= teacher.k.min(student.k)) {
            record(format!("recall@{depth}"), &|ranks| common(ranks, depth) / depth as f64);
        }
        record("recall@k".to_owned(), &|ranks| common(ranks, k) / k as f64);
        record("neighbor_overlap@k".to_owned(), &|ranks| {
            let common = common(ranks, k);
            common / (2.0 * k as f64 - common)
        });
        let discounts: Vec<f64> = (0..k).map(|rank| 1.0 / (rank as f64 + 2.0).log2()).collect();
        record("ndcg@k".to_owned(), &|ranks| ndcg(ranks, &discounts));
        Self(scores)
    }

    /// Mean over queries of one metric.
    ///
    /// # Panics
    /// If there is no such metric.
    pub fn mean(&self, metric: &str) -> f64 {
        mean(&self.0[metric])
    }

    /// Means and 95 % intervals of all metrics.
    pub fn summary(&self) -> Summary {
        let means = self.0.iter().map(|(name, values)| (name.clone(), mean(values))).collect();
        let intervals = self.0.iter().map(|(name, values)| (name.clone(), bootstrap(values))).collect();
        Summary { means, intervals }
    }
}

/// Means over queries, as records show them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Metric -> mean.
    #[serde(flatten)]
    pub means: BTreeMap<String, f64>,
    /// Metric -> 95 % percentile bootstrap interval of the mean over queries.
    pub intervals: BTreeMap<String, [f64; 2]>,
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Where the teacher ranks what the student found, from 0; `usize::MAX` where it does not.
fn ranks(teacher: &[u32], student: &[u32]) -> Vec<usize> {
    let mut ranked: Vec<(u32, usize)> = teacher.iter().copied().zip(0..).collect();
    ranked.sort_unstable();
    let rank = |id: &u32| ranked.binary_search_by_key(id, |(id, _)| *id).map_or(usize::MAX, |at| ranked[at].1);
    student.iter().map(rank).collect()
}

/// How many of the first so many the two have in common.
fn common(ranks: &[usize], depth: usize) -> f64 {
    ranks[..depth].iter().filter(|rank| **rank < depth).count() as f64
}

/// With the discount of every rank up to k.
fn ndcg(ranks: &[usize], discounts: &[f64]) -> f64 {
    let k = discounts.len();
    let ideal: f64 = discounts.iter().enumerate().map(|(rank, discount)| (k - rank) as f64 * discount).sum();
    let gained = ranks.iter().zip(discounts).filter(|(rank, _)| **rank < k).map(|(rank, discount)| (k - rank) as f64 * discount);
    // A sum of nothing would be -0.
    let found = gained.fold(0.0, |a, b| a + b);
    found / ideal
}

/// 95 % percentile interval of the mean, by resampling queries.
fn bootstrap(values: &[f64]) -> [f64; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let n = values.len() as u32;
    let resample = |_| (0..n).map(|_| values[below(n, &mut rng) as usize]).sum::<f64>() / f64::from(n);
    let mut means: Vec<f64> = (0..RESAMPLES).map(resample).collect();
    means.sort_by(f64::total_cmp);
    [means[RESAMPLES / 40], means[RESAMPLES - 1 - RESAMPLES / 40]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(ids: &[u32]) -> Neighbours {
        Neighbours { k: ids.len(), ids: ids.to_vec(), scores: vec![0.0; ids.len()] }
    }

    #[test]
    fn metrics_are_those_of_their_definitions() {
        let scores = Scores::new(&ranking(&[1, 2, 3, 4]), &ranking(&[2, 9, 1, 8]), 4);
        assert_eq!(scores.mean("recall@k"), 0.5);
        assert_eq!(scores.mean("recall@1"), 0.0);
        assert_eq!(scores.mean("neighbor_overlap@k"), 2.0 / 6.0);
        let ideal = 4.0 + 3.0 / 3f64.log2() + 2.0 / 2.0 + 1.0 / 5f64.log2();
        assert!((scores.mean("ndcg@k") - (3.0 + 4.0 / 2.0) / ideal).abs() < 1e-12);
    }

    #[test]
    fn a_perfect_ranking_scores_one_everywhere() {
        let ids = ranking(&[5, 3, 7, 1, 2, 9, 8, 4, 6, 0]);
        let summary = Scores::new(&ids, &ids, 5).summary();
        assert!(summary.means.values().all(|m| *m == 1.0), "{summary:?}");
        assert_eq!(summary.means.len(), 5, "recall@100 does not fit");
    }

    #[test]
    fn metrics_are_named() {
        for rows in [6, 11, 121] {
            let ids = ranking(&(1..rows as u32).collect::<Vec<_>>());
            let mut names = metrics(rows);
            names.sort();
            assert_eq!(Scores::new(&ids, &ids, 5).0.into_keys().collect::<Vec<_>>(), names);
        }
    }

    #[test]
    fn intervals_hold_the_mean_and_narrow_with_more_queries() {
        let few: Vec<f64> = (0..20).map(|i| f64::from(i % 2)).collect();
        let many: Vec<f64> = (0..2000).map(|i| f64::from(i % 2)).collect();
        let [low, high] = bootstrap(&few);
        assert!(low < 0.5 && high > 0.5);
        assert!(bootstrap(&many)[1] - bootstrap(&many)[0] < (high - low) / 4.0);
    }
}
