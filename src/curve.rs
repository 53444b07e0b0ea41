//! The learning curve: what quality comes from how many training rows, with the same queries and the same rows to search.

use crate::config::SPLIT_SEED;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::evaluate::Record;

/// Training rows of a model, at least.
const MIN_ROWS: usize = 10;

/// Numbers of training rows, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(Vec<usize>);

impl Counts {
    /// Sorts the numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] when one is too small or there are none.
    pub fn new(mut counts: Vec<usize>) -> Result<Self> {
        counts.sort_unstable();
        counts.dedup();
        match counts.first() {
            Some(&smallest) if smallest >= MIN_ROWS => Ok(Self(counts)),
            _ => Err(Error::usage(format!("--rows must be at least {MIN_ROWS}")).hint("--help explains every flag")),
        }
    }

    /// The numbers.
    pub fn get(&self) -> &[usize] {
        &self.0
    }

    /// Rows of a data set whose training part is large enough for the largest.
    pub fn rows_needed(&self) -> usize {
        self.largest().saturating_mul(5).div_ceil(4)
    }

    /// The standard split of `rows` rows, which has enough of them for training.
    ///
    /// # Errors
    /// [`Error::Usage`] when it has not.
    pub fn split(&self, rows: usize) -> Result<Split> {
        let split = Split::new(rows, SPLIT_SEED);
        let (there, largest) = (split.train.len(), self.largest());
        if largest <= there {
            return Ok(split);
        }
        let what = format!("--rows {largest} is more than there are: of {rows} rows, {there} are for training");
        Err(Error::usage(what).hint(format!("ask for at most {there}, or read {} rows (--max-items)", self.rows_needed())))
    }

    fn largest(&self) -> usize {
        self.0.last().copied().unwrap_or_default()
    }
}

/// Recall of trained and of the best spectral maps by d' and number of training rows, as a table for people.
pub fn table(points: &[(usize, Record)]) -> String {
    let mut points: Vec<_> = points.iter().collect();
    points.sort_by_key(|(rows, record)| (record.meta.dim_out, *rows));
    let mut table = format!("{:>5} {:>10}", "d'", "train rows");
    // A small database has no recall@10.
    let there = |metric: &&str| points.iter().all(|(_, record)| record.metrics.map.means.contains_key(*metric));
    let metrics: Vec<&str> = ["recall@k", "recall@10"].into_iter().filter(there).collect();
    metrics.iter().for_each(|metric| table.push_str(&format!("  {metric:>9} spectral")));
    table.push('\n');
    for (rows, record) in points {
        table.push_str(&format!("{:>5} {rows:>10}", record.meta.dim_out));
        for metric in &metrics {
            let spectral = &record.metrics.baselines["best_spectral"];
            table.push_str(&format!("  {:>9.4} {:>8.4}", record.metrics.map.means[*metric], spectral.means[*metric]));
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_sorted_and_have_a_least() {
        assert_eq!(Counts::new(vec![50, 10, 20, 10]).unwrap().get(), [10, 20, 50]);
        for counts in [vec![], vec![0], vec![100, 9]] {
            assert_eq!(Counts::new(counts).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn as_many_rows_are_needed_as_leave_enough_for_training() {
        for largest in MIN_ROWS..200 {
            let counts = Counts::new(vec![largest]).unwrap();
            assert!(counts.split(counts.rows_needed()).is_ok(), "{largest}");
            let error = counts.split(counts.rows_needed() - 1).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(&format!("--rows {largest} is more")), "{error}");
        }
    }
}
