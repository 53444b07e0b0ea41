//! What is compared in training, and at which temperatures.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::config::{StudentTau, Tau, TrainConfig};
use crate::corpus::Corpus;
use crate::error::{Error, Result};
use crate::model::Map;
use crate::objective::{Prefix, Term};
use crate::random::sample;
use crate::search::neighbours;

/// Rows whose neighbours measure the spread of similarities.
const SPREAD_ROWS: usize = 512;
/// Temperatures of the second divergence, beside those of the first.
const WIDE: f32 = 4.0;

/// The prefixes of a run that starts from `map`. The teacher's temperature is as configured; a student's that is learnt starts at
/// the same number of its own spreads.
pub(super) fn prefixes(corpus: &Corpus<'_>, config: &TrainConfig, map: &Map) -> Result<Vec<Prefix>> {
    let train = corpus.train_rows();
    let teacher_spread = spread(corpus, train, corpus.info.dim)?;
    if teacher_spread == 0.0 {
        return Err(Error::data("the nearest neighbours of every row are equally near: there is no ranking to keep")
            .hint("check that the rows differ"));
    }
    let teacher = match config.tau {
        Tau::Absolute(tau) => tau as f32,
        Tau::Auto => teacher_spread,
    };
    let student = match config.student_tau {
        StudentTau::Fixed(tau) => tau as f32,
        // In one dimension all cosines may be equal at the start.
        StudentTau::Learnt => match spread(corpus, &map.encode(corpus.backend, train)?, map.dim_out)? {
            0.0 => teacher,
            spread => teacher * spread / teacher_spread,
        },
    };
    let term = |factor: f32, weight: f64| Term { teacher: factor * teacher, student: factor * student, weight: weight as f32 };
    let mut terms = vec![term(1.0, config.lambda_list)];
    if config.lambda_wide > 0.0 {
        terms.push(term(WIDE, config.lambda_wide));
    }
    Ok(vec![Prefix { dims: map.dim_out, weight: 1.0, terms }])
}

/// Mean over rows of the standard deviation of their top-k similarities.
fn spread(corpus: &Corpus<'_>, rows: &[f32], dim: usize) -> Result<f32> {
    let count = rows.len() / dim;
    let queries = sample(count as u32, SPREAD_ROWS, &mut ChaCha8Rng::seed_from_u64(0));
    let k = corpus.k.clamp(2, count - 1);
    let found = neighbours(corpus.backend, rows, dim, &queries, k)?;
    let deviation = |scores: &[f32]| {
        let mean = scores.iter().sum::<f32>() / k as f32;
        (scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f32>() / (k - 1) as f32).sqrt()
    };
    Ok(found.scores.chunks(k).map(deviation).sum::<f32>() / queries.len() as f32)
}
