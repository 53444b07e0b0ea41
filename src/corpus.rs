//! Data that is ready to train on and to judge by: split, prepared for the teacher, searched and decomposed once, for any number of
//! models.

use crate::backend::Backend;
use crate::baselines::Spectra;
use crate::data::{Embeddings, Split};
use crate::error::Result;
use crate::eval::Judge;
use crate::frame::Frame;
use crate::metric::Metric;
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
    /// What is done to rows before the teacher compares them.
    pub frame: Frame,
    /// Training rows, then validation rows, in the frame `[n, dim]`; of unit length where the teacher is cosine.
    pub known: Vec<f32>,
    /// Validation queries against all known rows.
    pub judge: Judge,
    /// Of the training rows.
    pub spectra: Spectra,
    /// Neighbours that models are judged by.
    pub k: usize,
}

impl<'a> Corpus<'a> {
    /// Prepares `embeddings` for models of up to `max_dim_out` dimensions that are judged by recall@k of a teacher's neighbours.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) when there are too few rows, or one is all zeros and the teacher is cosine;
    /// [`Error::Device`](crate::Error::Device) when the device fails or memory does not suffice.
    pub fn new(
        backend: &'a dyn Backend,
        embeddings: &Embeddings,
        split: Split,
        teacher: Metric,
        k: usize,
        max_dim_out: usize,
    ) -> Result<Self> {
        if teacher.normalizes() {
            embeddings.check_directions()?;
        }
        let dim = embeddings.dim;
        let mut known = teacher.input_rows(&embeddings.values, dim, split.train.iter().chain(&split.val).copied())?;
        let frame = Frame::new(teacher, &known[..split.train.len() * dim], dim);
        frame.apply(&mut known);
        let (first, count) = (split.train.len() as u32, split.val.len().min(MAX_QUERIES) as u32);
        let judge = Judge::new(backend, teacher, &known, dim, (first..first + count).collect(), k)?;
        let spectra = Spectra::new(backend, teacher, &known[..split.train.len() * dim], dim, max_dim_out)?;
        Ok(Self { backend, info: embeddings.into(), split, frame, known, judge, spectra, k })
    }

    /// The training rows, in the frame.
    pub fn train_rows(&self) -> &[f32] {
        &self.known[..self.split.train.len() * self.info.dim]
    }

    /// Mean squared length of the training rows, in the frame.
    pub fn mean_square(&self) -> f32 {
        if self.frame.metric.normalizes() {
            return 1.0;
        }
        let squares = self.train_rows().iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        (squares / self.split.train.len() as f64) as f32
    }
}
