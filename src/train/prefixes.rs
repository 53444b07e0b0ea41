//! What is compared in training, and at which temperatures.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::config::{StudentTau, Tau, TrainConfig};
use crate::corpus::Corpus;
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::model::Map;
use crate::objective::{Prefix, Temperatures};
use crate::random::sample;
use crate::search::neighbours;

/// Rows whose neighbours measure the spread of similarities.
const SPREAD_ROWS: usize = 512;

/// The prefixes of a run that starts from `map`. The teacher's temperature is as configured; a student's that is learnt starts at
/// the same number of its own spreads.
pub(super) fn prefixes(corpus: &Corpus<'_>, config: &TrainConfig, map: &Map) -> Result<Vec<Prefix>> {
    let train = corpus.train_rows();
    let teacher_spread = spread(corpus, config.metric, train, corpus.info.dim)?;
    if teacher_spread == 0.0 {
        return Err(Error::data("the nearest neighbours of every row are equally near: there is no ranking to keep")
            .hint("check that the rows differ"));
    }
    let teacher = match config.tau {
        Tau::Absolute(tau) => (tau * corpus.frame.similarity_scale()) as f32,
        Tau::Auto => teacher_spread,
    };
    let weights: f32 = config.dims().iter().map(weight).sum();
    let prefix = |&dims: &usize| {
        let student = match config.student_tau {
            StudentTau::Fixed(tau) => tau as f32,
            // In one dimension all cosines may be equal at the start.
            StudentTau::Learnt => match spread(corpus, map.metric, &map.prefix(dims).encode(corpus.backend, train)?, dims)? {
                0.0 => teacher,
                spread => teacher * spread / teacher_spread,
            },
        };
        Ok(Prefix { dims, weight: weight(&dims) / weights, temperatures: Temperatures { teacher, student } })
    };
    config.dims().iter().map(prefix).collect()
}

/// How much a prefix counts beside others: the fewer dimensions, the larger are losses and gradients by themselves. The mean
/// validation recall@10 of 16, 32, 64 and 128 was .568 with these weights and .562 with weights of m, which took .027 from 16 and
/// gave .013 to 128 (WordNet 20,000 rows, 512 hidden units, 5 epochs).
fn weight(dims: &usize) -> f32 {
    (*dims as f32).sqrt()
}

/// Mean over rows of the standard deviation of their top-k similarities, 0 where it is no more than rounding makes of equal ones.
fn spread(corpus: &Corpus<'_>, metric: Metric, rows: &[f32], dim: usize) -> Result<f32> {
    let count = rows.len() / dim;
    let queries = sample(count as u32, SPREAD_ROWS, &mut ChaCha8Rng::seed_from_u64(0));
    let k = corpus.k.clamp(2, count - 1);
    let found = neighbours(corpus.backend, metric, rows, dim, &queries, k)?;
    let deviation = |scores: &[f32]| {
        let mean = scores.iter().sum::<f32>() / k as f32;
        (scores.iter().map(|s| (s - mean) * (s - mean)).sum::<f32>() / (k - 1) as f32).sqrt()
    };
    let spread = found.scores.chunks(k).map(deviation).sum::<f32>() / queries.len() as f32;
    let size = found.scores.iter().map(|s| s.abs()).sum::<f32>() / found.scores.len() as f32;
    Ok(if spread > 4.0 * f32::EPSILON * size { spread } else { 0.0 })
}
