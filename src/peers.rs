//! Published compressors as presets of this crate's own ops and devices: a comparison with them is a run on the same rows, not a quote.
//!
//! Every peer sees training rows alone, chooses what its authors chose (epoch, learning rate) on validation by recall@k, as
//! [`train`](crate::train) does, and is searched with the similarity that it uses itself. What is simplified is said in its module.
//!
//! | name | |
//! |---|---|
//! | `spectemp` | [spectral tempering](spectemp) (arXiv 2603.19339) |
//! | `rae` | [linear autoencoder](rae) with weight decay (arXiv 2509.25839) |
//! | `matryoshka_adaptor` | [residual network](adaptor), unsupervised losses (arXiv 2407.20243) |
//! | `hakes`, `conae` | [listwise distillation](distillation) at temperature 1 (arXiv 2505.12524, 2205.03284) |

pub mod adaptor;
#[cfg(test)]
mod check;
mod descent;
pub mod distillation;
mod layer;
pub mod rae;
pub mod spectemp;

use std::borrow::Cow;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::corpus::Corpus;
use crate::error::{Error, Result};
use crate::metric::{Metric, select_rows};
use crate::model::Map;
use crate::random::sample;
use crate::search::{Neighbours, neighbours};
use crate::spectral::energies;

/// Training rows that peers are trained on, at most: a sample of as many as HAKES takes.
const MAX_ROWS: usize = 65_536;

/// A published compressor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// [`spectemp`].
    SpecTemp,
    /// [`rae`].
    Rae,
    /// [`adaptor`].
    MatryoshkaAdaptor,
    /// [`distillation`].
    Hakes,
    /// [`distillation`].
    ConAe,
}

impl Preset {
    /// Every one, the fastest first.
    pub const ALL: [Self; 5] = [Self::SpecTemp, Self::Hakes, Self::ConAe, Self::Rae, Self::MatryoshkaAdaptor];
}

/// A trained peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its name in records.
    pub name: &'static str,
    /// Its map.
    pub map: Map,
    /// What was chosen, in words.
    pub description: String,
    /// Recall@k on validation.
    pub recall: f64,
}

/// What a peer's training returns: a map, what was chosen, and its recall@k on validation.
struct Fitted {
    map: Map,
    description: String,
    recall: f64,
}

/// A corpus with what its peers share, for any number of dimensions.
pub struct Peers<'a> {
    corpus: &'a Corpus<'a>,
    /// The training rows, or a sample of them, of unit length `[n, dim]`.
    rows: Cow<'a, [f32]>,
    /// The nearest of these rows to each of them.
    neighbours: Neighbours,
    /// Of the training rows about their mean.
    energies: Vec<f64>,
}

/// Refuses a teacher other than cosine, which the peers were made for.
///
/// # Errors
/// [`Error::Usage`].
pub fn check_metric(teacher: Metric) -> Result<()> {
    if teacher == Metric::Cosine {
        return Ok(());
    }
    let what = format!("the published compressors of --baselines all keep cosine similarity, not {}", teacher.name());
    Err(Error::usage(what).hint("use --baselines basic"))
}

impl<'a> Peers<'a> {
    /// Finds the neighbours and the whole spectrum of the training rows.
    ///
    /// # Errors
    /// As [`check_metric`]; [`Error::Device`] when the device fails or memory does not suffice.
    pub fn new(corpus: &'a Corpus<'a>) -> Result<Self> {
        check_metric(corpus.frame.metric)?;
        let (backend, dim, rows) = (corpus.backend, corpus.info.dim, corpus.train_rows());
        let count = rows.len() / dim;
        let energies = energies(backend, rows, dim)?;
        let rows = if count <= MAX_ROWS {
            Cow::Borrowed(rows)
        } else {
            let chosen = sample(count as u32, MAX_ROWS, &mut ChaCha8Rng::seed_from_u64(0));
            Cow::Owned(select_rows(rows, dim, chosen.into_iter())?)
        };
        let count = count.min(MAX_ROWS);
        let queries: Vec<u32> = (0..count as u32).collect();
        let neighbours = neighbours(backend, Metric::Cosine, &rows, dim, &queries, distillation::LONGEST_LIST.min(count - 1))?;
        Ok(Self { corpus, rows, neighbours, energies })
    }

    /// Trains every peer, and reports each in a line when it is done.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails or memory does not suffice.
    pub fn train_all(&self, dim_out: usize, seed: u64, report: &mut dyn FnMut(&str)) -> Result<Vec<Peer>> {
        let trained = Preset::ALL.into_iter().map(|preset| {
            let started = Instant::now();
            let peer = self.train(preset, dim_out, seed)?;
            let Peer { name, recall, description, .. } = &peer;
            let seconds = started.elapsed().as_secs_f64();
            report(&format!("{name}: validation recall@k {recall:.4}, {description} ({seconds:.0} s)"));
            Ok(peer)
        });
        trained.collect()
    }

    /// Trains one peer.
    ///
    /// # Errors
    /// As [`train_all`](Self::train_all).
    pub fn train(&self, preset: Preset, dim_out: usize, seed: u64) -> Result<Peer> {
        let (name, Fitted { map, description, recall }) = match preset {
            Preset::SpecTemp => ("spectemp", spectemp::fit(self, dim_out)?),
            Preset::Rae => ("rae", rae::fit(self, dim_out, seed)?),
            Preset::MatryoshkaAdaptor => ("matryoshka_adaptor", adaptor::fit(self, dim_out, seed)?),
            Preset::Hakes => ("hakes", distillation::fit(self, dim_out, seed, &distillation::HAKES)?),
            Preset::ConAe => ("conae", distillation::fit(self, dim_out, seed, &distillation::CONAE)?),
        };
        Ok(Peer { name, map, description, recall })
    }

    fn dim(&self) -> usize {
        self.corpus.info.dim
    }

    fn count(&self) -> usize {
        self.rows.len() / self.dim()
    }

    /// Recall@k on validation.
    fn validate(&self, map: &Map) -> Result<f64> {
        let Corpus { backend, known, judge, .. } = self.corpus;
        Ok(judge.judge(*backend, map.metric, &map.encode(*backend, known)?, map.dim_out)?.mean("recall@k"))
    }
}
