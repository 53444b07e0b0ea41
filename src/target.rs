//! The smallest output dimension that suffices: a target such as recall@10 >= 0.9, and the search for the first d' that meets it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::eval::{Summary, metrics};

/// Distance of the dimensions that are tried where none are named: 8 float32 numbers fill a SIMD register.
pub const STEP: usize = 8;

/// Quality that is asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Target {
    /// Name of a metric, as records have it.
    pub metric: String,
    /// Its mean over queries must reach this.
    pub at_least: f64,
}

/// A target beside what a model has reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What was asked for.
    #[serde(flatten)]
    pub target: Target,
    /// Whether the mean over the validation queries is as high. The interval tells how sure that is.
    pub met: bool,
    /// That mean.
    pub value: f64,
    /// Its 95 % bootstrap interval.
    pub interval: [f64; 2],
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(">=").and_then(|(metric, number)| {
            let (metric, at_least) = (metric.trim().to_owned(), number.trim().parse::<f64>().ok()?);
            (metrics(usize::MAX).contains(&metric) && at_least > 0.0 && at_least <= 1.0).then_some(Self { metric, at_least })
        });
        // Without quotation marks, a shell takes what follows ">" for a file.
        parsed.ok_or_else(|| {
            let names = metrics(usize::MAX).join(", ");
            format!("expected METRIC>=NUMBER in quotation marks, with one of {names}, and a number above 0 and up to 1")
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>={}", self.metric, self.at_least)
    }
}

impl Target {
    /// Refuses a metric that looks too deep for a search among `rows` rows.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn check(&self, rows: usize) -> Result<()> {
        if metrics(rows).contains(&self.metric) {
            return Ok(());
        }
        Err(Error::data(format!("{rows} rows to search are too few for {}", self.metric))
            .hint("use more rows (--max-items), or a target at a smaller depth"))
    }

    /// Compares a model's validation with the target.
    ///
    /// # Panics
    /// If the summary lacks the metric, which [`check`](Self::check) finds out beforehand.
    pub fn judge(&self, validation: &Summary) -> Verdict {
        let (value, interval) = (validation.means[&self.metric], validation.intervals[&self.metric]);
        // A mean of tenths may miss a round number by its rounding.
        let met = value >= self.at_least - 1e-9;
        Verdict { target: self.clone(), met, value, interval }
    }
}

impl Verdict {
    /// The error where no d' of those tried has met the target and this is the one that came nearest.
    pub fn unmet(&self, dim_out: usize) -> Error {
        let nearest = format!("the highest is {self}, with d' = {dim_out}");
        Error::usage(format!("no output dimension that was tried meets --target \"{}\": {nearest}", self.target))
            .hint("ask for less, train on more rows (--max-items), or add a hidden layer (--hidden)")
    }
}

/// The mean and its interval.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.interval;
        write!(f, "{} {:.4} [{low:.4}, {high:.4}]", self.target.metric, self.value)
    }
}

/// The dimensions to try for data of `dim` columns: those named, in ascending order, or else the multiples of [`STEP`] below `dim`.
///
/// # Errors
/// [`Error::Usage`] when there are none.
pub fn candidates(named: &[usize], dim: usize) -> Result<Vec<usize>> {
    let mut candidates = if named.is_empty() { (STEP..dim).step_by(STEP).collect() } else { named.to_vec() };
    candidates.sort_unstable();
    candidates.dedup();
    if candidates.is_empty() {
        return Err(Error::usage(format!("there is no multiple of {STEP} below the data's {dim} dimensions"))
            .hint("name the dimensions to try with --dim-outs"));
    }
    Ok(candidates)
}

/// Trains models until the smallest dimension that meets a target is found, and returns that model with its verdict; where none
/// meets it, the one with the highest value. The dimensions are tried in the order of [`first`].
///
/// # Errors
/// Those of `train`.
///
/// # Panics
/// If there are no candidates.
pub fn find<M>(candidates: &[usize], train: &mut dyn FnMut(usize) -> Result<(M, Verdict)>) -> Result<(M, Verdict)> {
    let mut found: Option<(M, Verdict)> = None;
    first(candidates, &mut |dim_out| {
        let (model, verdict) = train(dim_out)?;
        let met = verdict.met;
        // Each that meets it is smaller than the one before.
        if found.as_ref().is_none_or(|(_, best)| met || (!best.met && verdict.value > best.value)) {
            found = Some((model, verdict));
        }
        Ok(met)
    })?;
    Ok(found.expect("there are candidates"))
}

/// The first of the ascending `candidates` that meets a target, by exponential search (Bentley and Yao 1976): the 1st, 2nd, 4th, 8th
/// and so on up to the last, until one meets it, then bisection between that and the last that did not. None is tried twice.
///
/// Where quality does not rise with the dimension everywhere, what is returned meets the target still, the candidate before
/// it does not, and nothing smaller that was tried does. None: the last one misses it, and so does everything that was tried.
///
/// # Errors
/// Those of `meets`.
pub fn first(candidates: &[usize], meets: &mut dyn FnMut(usize) -> Result<bool>) -> Result<Option<usize>> {
    let count = candidates.len();
    // `low` candidates are taken to miss the target; the one at `high` meets it, if there is one.
    let (mut low, mut high) = (0, count);
    while low < high {
        let at = if high == count { (2 * low).clamp(1, count) - 1 } else { (low + high) / 2 };
        if meets(candidates[at])? {
            high = at;
        } else {
            low = at + 1;
        }
    }
    Ok(candidates.get(high).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiples(dim: usize) -> Vec<usize> {
        candidates(&[], dim).expect("there are some")
    }

    /// What was found, and what was tried in this order.
    fn search(candidates: &[usize], meets: impl Fn(usize) -> bool) -> (Option<usize>, Vec<usize>) {
        let mut tried = Vec::new();
        let found = first(candidates, &mut |dim_out| {
            tried.push(dim_out);
            Ok(meets(dim_out))
        });
        (found.expect("nothing fails"), tried)
    }

    #[test]
    fn rising_quality_gives_the_smallest() {
        for dim in [9, 16, 17, 100, 384, 4096] {
            let candidates = multiples(dim);
            for &smallest in &candidates {
                let (found, tried) = search(&candidates, |dim_out| dim_out >= smallest);
                assert_eq!(found, Some(smallest), "of {dim}");
                let doublings = candidates.len().ilog2() as usize + 2;
                assert!(tried.len() < 2 * doublings, "{} runs for {smallest} of {dim}", tried.len());
                assert!(tried.iter().all(|d| *d < 2 * smallest), "more than twice the answer was trained: {tried:?}");
            }
        }
    }

    #[test]
    fn dimensions_are_doubled_and_then_halved() {
        let candidates = multiples(384);
        assert_eq!(search(&candidates, |d| d >= 100), (Some(104), vec![8, 16, 32, 64, 128, 96, 112, 104]));
        assert_eq!(search(&candidates, |d| d >= 370), (Some(376), vec![8, 16, 32, 64, 128, 256, 376, 320, 352, 368]));
        assert_eq!(search(&candidates, |_| false), (None, vec![8, 16, 32, 64, 128, 256, 376]));
        assert_eq!(search(&[3, 10, 50], |d| d >= 20), (Some(50), vec![3, 10, 50]));
        assert_eq!(search(&[], |_| true), (None, vec![]));
    }

    /// Quality that rises and falls: whatever the pattern, what comes out meets the target and its neighbour below does not.
    #[test]
    fn uneven_quality_gives_one_that_meets_it_after_one_that_does_not() {
        let candidates: Vec<usize> = (1..=12).collect();
        for pattern in 0u32..1 << 12 {
            let meets = |dim_out: usize| pattern >> (dim_out - 1) & 1 == 1;
            let (found, tried) = search(&candidates, meets);
            let mut once = tried.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), tried.len(), "{pattern:b}: {tried:?}");
            assert_eq!(found, once.iter().copied().find(|d| meets(*d)), "{pattern:b}: the smallest tried that meets it");
            match found {
                Some(found) => assert!(found == 1 || (tried.contains(&(found - 1)) && !meets(found - 1)), "{pattern:b}"),
                None => assert!(tried.contains(&12), "{pattern:b}: {tried:?}"),
            }
        }
    }

    #[test]
    fn named_dimensions_are_tried_alone() {
        assert_eq!(candidates(&[64, 16, 64, 4], 100).unwrap(), [4, 16, 64]);
        assert_eq!(multiples(24), [8, 16]);
        assert!(candidates(&[], 8).unwrap_err().hint_text().is_some_and(|hint| hint.contains("--dim-outs")));
    }

    fn verdict(value: f64) -> Verdict {
        let target: Target = "recall@10>=0.9".parse().expect("a target");
        let name = || target.metric.clone();
        target.judge(&Summary { means: [(name(), value)].into(), intervals: [(name(), [0.0, 1.0])].into() })
    }

    #[test]
    fn the_model_that_is_returned_is_the_smallest_or_the_nearest() {
        let found =
            |recall: &dyn Fn(usize) -> f64| find(&multiples(64), &mut |d| Ok((d, verdict(recall(d))))).expect("nothing fails");
        let (dim_out, reached) = found(&|d| d as f64 / 40.0);
        assert_eq!((dim_out, reached.met, reached.value), (40, true, 1.0));
        let (dim_out, reached) = found(&|d| 0.5 - (d as f64 - 30.0).abs() / 100.0);
        assert_eq!((dim_out, reached.met), (32, false));
        let error = reached.unmet(dim_out);
        assert!(
            error.exit_code() == 2 && error.to_string().contains("recall@10 0.4800 [0.0000, 1.0000], with d' = 32"),
            "{error}"
        );
        assert!(verdict(0.9).met && verdict(0.9 - 1e-12).met && !verdict(0.8999).met);
    }

    #[test]
    fn targets_are_read_or_refused_with_what_is_allowed() {
        for (text, metric, at_least) in [("recall@10>=0.9", "recall@10", 0.9), ("ndcg@k >= 1", "ndcg@k", 1.0)] {
            assert_eq!(text.parse(), Ok(Target { metric: metric.to_owned(), at_least }));
        }
        for text in
            ["recall@10", "recall@50>=0.9", "recall@10>0.9", "recall@10>=0", "recall@10>=1.1", "recall@k>=nan", ">=0.5", ""]
        {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains("recall@1, recall@10, recall@100, recall@k") && error.contains("quotation"), "{error}");
        }
    }
}
