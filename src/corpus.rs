//! Data that is ready to train on and to judge by: split, prepared for the teacher, searched and decomposed once, for any number of
//! models.

use std::borrow::Borrow;

use crate::backend::Backend;
use crate::baselines::Spectra;
use crate::basis::Basis;
use crate::data::{Embeddings, Split};
use crate::error::Result;
use crate::eval::Judge;
use crate::frame::Frame;
use crate::metric::Metric;
use crate::model::{DataInfo, Map};

/// Validation queries, at most: enough for a standard error of recall@k below 0.005.
const MAX_QUERIES: usize = 2000;

/// Maps to d' dimensions are trained in a basis of at least so many times d' axes.
const AXES_PER_DIMENSION: usize = 4;

/// A data set with its split, the validation queries' neighbours, and the spectra of the training rows.
pub struct Corpus<'a> {
    /// Where everything is computed.
    pub backend: &'a dyn Backend,
    /// What the rows are.
    pub info: DataInfo,
    /// Which rows are for what; those for training may be fewer than at first, see [`train_on`](Self::train_on).
    pub split: Split,
    /// What is done to rows before the teacher compares them.
    pub frame: Frame,
    /// What validation searches: the training rows that the corpus was made with, then validation rows, in the frame `[n, dim]`; of
    /// unit length where the teacher is cosine.
    pub known: Vec<f32>,
    /// Validation queries against all known rows.
    pub judge: Judge,
    /// Of the training rows.
    pub spectra: Spectra,
    /// Axes that wide data is reduced to.
    rank: usize,
    /// Where the data is wide, the basis that networks are trained in, and coordinates `[n, rank]` of the known rows.
    reduced: Option<(Basis, Vec<f32>)>,
    /// Neighbours that models are judged by.
    pub k: usize,
}

impl<'a> Corpus<'a> {
    /// Prepares `embeddings` for models of up to `max_dim_out` dimensions that are judged by recall@k of a teacher's neighbours, and
    /// trained in a basis of `rank` axes where the data is wider; 0 if none is trained, else [`rank`](crate::basis::rank). Given
    /// away, they are dropped once the corpus has its own copy of them, before memory is needed for more.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) when there are too few rows, or one is all zeros and the teacher is cosine;
    /// [`Error::Device`](crate::Error::Device) when the device fails or memory does not suffice.
    pub fn new(
        backend: &'a dyn Backend,
        embeddings: impl Borrow<Embeddings>,
        split: Split,
        teacher: Metric,
        k: usize,
        max_dim_out: usize,
        rank: usize,
    ) -> Result<Self> {
        let matrix = embeddings.borrow();
        if teacher.normalizes() {
            matrix.check_directions()?;
        }
        let (dim, info) = (matrix.dim, DataInfo::from(matrix));
        let mut known = teacher.input_rows(&matrix.values, dim, split.train.iter().chain(&split.val).copied())?;
        drop(embeddings);
        let frame = Frame::new(teacher, &known[..split.train.len() * dim], dim);
        frame.apply(&mut known);
        let (first, count) = (split.train.len() as u32, split.val.len().min(MAX_QUERIES) as u32);
        let judge = Judge::new(backend, teacher, &known, dim, (first..first + count).collect(), k)?;
        let spectra = Spectra::new(backend, teacher, &known[..split.train.len() * dim], dim, max_dim_out, rank)?;
        let mut corpus = Self { backend, info, split, frame, known, judge, spectra, rank, reduced: None, k };
        corpus.reduce()?;
        Ok(corpus)
    }

    /// The basis for maps to so many dimensions: what it leaves out must not matter to them.
    fn reduction(&self, dim_out: usize) -> Option<&(Basis, Vec<f32>)> {
        self.reduced.as_ref().filter(|(basis, _)| AXES_PER_DIMENSION * dim_out <= basis.rank())
    }

    /// What networks with so many outputs take for the known rows, `[n, inputs_dim]`, and its width: the rows, or their
    /// coordinates.
    pub fn inputs(&self, dim_out: usize) -> (&[f32], usize) {
        match self.reduction(dim_out) {
            None => (&self.known, self.info.dim),
            Some((basis, coordinates)) => (coordinates, basis.rank()),
        }
    }

    /// A map of rows as a map of [`inputs`](Self::inputs).
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn to_inputs(&self, map: &Map) -> Result<Map> {
        match self.reduction(map.dim_out) {
            None => Ok(map.clone()),
            Some((basis, _)) => basis.reduce(self.backend, map),
        }
    }

    /// A map of [`inputs`](Self::inputs) as a map of rows.
    ///
    /// # Errors
    /// As [`to_inputs`](Self::to_inputs).
    pub fn to_rows(&self, map: Map) -> Result<Map> {
        match self.reduction(map.dim_out) {
            None => Ok(map),
            Some((basis, _)) => basis.expand(self.backend, &map, self.frame.metric.normalizes()),
        }
    }

    /// Mean of the training rows' inputs.
    ///
    /// # Errors
    /// As [`to_inputs`](Self::to_inputs).
    pub fn inputs_mean(&self, dim_out: usize) -> Result<Vec<f32>> {
        let mean = self.spectra.mean();
        match self.reduction(dim_out) {
            None => Ok(mean.to_vec()),
            Some((basis, _)) => basis.coordinates(self.backend, mean),
        }
    }

    /// Prepares for models of up to `max_dim_out` dimensions, where that is more than before.
    ///
    /// # Errors
    /// As [`Spectra::new`].
    pub fn widen(&mut self, max_dim_out: usize) -> Result<()> {
        if self.spectra.axes() >= max_dim_out {
            return Ok(());
        }
        self.decompose(max_dim_out)
    }

    /// Trains on `train` from now on, which are the first of the training rows that the corpus was made with. What queries are searched
    /// among stays as it is, so that models of more and of fewer rows can be compared; so does the frame, which is a choice of units.
    ///
    /// # Errors
    /// As [`Spectra::new`].
    pub fn train_on(&mut self, train: &[u32]) -> Result<()> {
        self.split.train = train.to_vec();
        self.decompose(self.spectra.axes())
    }

    /// Computes anew what comes from the training rows.
    fn decompose(&mut self, max_dim_out: usize) -> Result<()> {
        self.spectra = Spectra::new(self.backend, self.frame.metric, self.train_rows(), self.info.dim, max_dim_out, self.rank)?;
        self.reduce()
    }

    /// Takes the known rows into the basis that the spectra give.
    fn reduce(&mut self) -> Result<()> {
        let basis = self.spectra.basis(self.rank, f64::from(self.mean_square()));
        self.reduced = match basis {
            Some(basis) => {
                let coordinates = basis.coordinates(self.backend, &self.known)?;
                Some((basis, coordinates))
            }
            None => None,
        };
        Ok(())
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
