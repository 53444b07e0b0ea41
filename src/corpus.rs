//! Data that is ready to train on and to judge by: split, normalised, searched and decomposed once, for any number of models.

use crate::backend::Backend;
use crate::baselines::Spectra;
use crate::data::{Embeddings, Split};
use crate::error::Result;
use crate::eval::Judge;
use crate::metric::unit_rows;
use crate::model::DataInfo;

/// Validation queries, at most: enough for a standard error of recall@k below 0.005.
const MAX_QUERIES: usize = 2000;

/// A data set with its split, the validation queries' neighbours, and the spectra of the training rows.
pub struct Corpus<'a> {
    /// Where everything is computed.
    pub backend: &'a dyn Backend,
    /// What the rows are.
    pub info: DataInfo,
    /// Which rows are for what.
    pub split: Split,
    /// Training rows, then validation rows, all of unit length `[n, dim]`.
    pub known: Vec<f32>,
    /// Validation queries against all known rows.
    pub judge: Judge,
    /// Of the training rows.
    pub spectra: Spectra,
    /// Neighbours that models are judged by.
    pub k: usize,
}

impl<'a> Corpus<'a> {
    /// Prepares `embeddings` for models of up to `max_dim_out` dimensions that are judged by recall@k.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) when there are too few rows or one is all zeros; [`Error::Device`](crate::Error::Device)
    /// when the device fails or memory does not suffice.
    pub fn new(backend: &'a dyn Backend, embeddings: &Embeddings, split: Split, k: usize, max_dim_out: usize) -> Result<Self> {
        embeddings.check_directions()?;
        let dim = embeddings.dim;
        let known = unit_rows(&embeddings.values, dim, split.train.iter().chain(&split.val).copied())?;
        let (first, count) = (split.train.len() as u32, split.val.len().min(MAX_QUERIES) as u32);
        let judge = Judge::new(backend, &known, dim, (first..first + count).collect(), k)?;
        let spectra = Spectra::new(backend, &known[..split.train.len() * dim], dim, max_dim_out)?;
        Ok(Self { backend, info: embeddings.into(), split, known, judge, spectra, k })
    }

    /// The training rows, of unit length.
    pub fn train_rows(&self) -> &[f32] {
        &self.known[..self.split.train.len() * self.info.dim]
    }
}
