//! The compressor: z = W x + b with what is needed to use it and to know where it came from.

mod file;

use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::data::{Embeddings, Split};
use crate::error::{Error, Result};
use crate::metric::Metric;

/// Version of the file layout, raised when older tools could misread it.
pub const SCHEMA_VERSION: u32 = 1;

/// A map R^D -> R^d': z = W x + b + C gelu(A x + a); the second part, the hidden layer, may be absent. Rows x are scaled to unit
/// length first where `input_normalized` says so.
///
/// Where the metric is cosine, z is scaled to unit length as well, so that inner product, cosine and Euclidean distance rank alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// D.
    pub dim_in: usize,
    /// d'.
    pub dim_out: usize,
    /// The similarity to compare encoded rows with.
    pub metric: Metric,
    /// Whether rows are scaled to unit length before the map.
    pub input_normalized: bool,
    /// W `[dim_out, dim_in]`, row-major.
    pub weight: Vec<f32>,
    /// b `[dim_out]`.
    pub bias: Vec<f32>,
    /// What is added to the linear part.
    pub hidden: Option<Hidden>,
}

/// A hidden layer C gelu(A x + a), with gelu(h) = h (1 + tanh(sqrt(2 / pi) (h + 0.044715 h^3))) / 2.
#[derive(Clone, Debug, PartialEq)]
pub struct Hidden {
    /// A `[width, dim_in]`, row-major.
    pub weight: Vec<f32>,
    /// a `[width]`.
    pub bias: Vec<f32>,
    /// C `[dim_out, width]`, row-major.
    pub output: Vec<f32>,
}

impl Hidden {
    /// Number of hidden units.
    pub fn width(&self) -> usize {
        self.bias.len()
    }
}

impl Map {
    /// Number of hidden units, 0 for a linear map.
    pub fn hidden_width(&self) -> usize {
        self.hidden.as_ref().map_or(0, Hidden::width)
    }

    /// W x of rows x of unit length, without a bias.
    ///
    /// # Panics
    /// If the length of `weight` is no multiple of `dim_in`.
    pub fn linear(dim_in: usize, metric: Metric, weight: Vec<f32>) -> Self {
        assert!(weight.len().is_multiple_of(dim_in), "linear: {} values are no rows of {dim_in}", weight.len());
        let dim_out = weight.len() / dim_in;
        Self { dim_in, dim_out, metric, input_normalized: true, weight, bias: vec![0.0; dim_out], hidden: None }
    }

    /// The map onto the first `dims` coordinates.
    ///
    /// # Panics
    /// If there are none or fewer.
    #[must_use]
    pub fn prefix(&self, dims: usize) -> Self {
        assert!(dims >= 1 && dims <= self.dim_out, "prefix: {dims} of {} dimensions", self.dim_out);
        let hidden = self.hidden.as_ref().map(|hidden| {
            let output = hidden.output[..dims * hidden.width()].to_vec();
            Hidden { weight: hidden.weight.clone(), bias: hidden.bias.clone(), output }
        });
        let (weight, bias) = (self.weight[..dims * self.dim_in].to_vec(), self.bias[..dims].to_vec());
        Self {
            dim_in: self.dim_in,
            dim_out: dims,
            metric: self.metric,
            input_normalized: self.input_normalized,
            weight,
            bias,
            hidden,
        }
    }
}

/// A trained map, and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Compressor {
    /// The map.
    pub map: Map,
    /// Shapes, metrics, provenance.
    pub meta: Meta,
}

/// What a model file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// [`SCHEMA_VERSION`] of the tool that wrote it.
    pub schema_version: u32,
    /// Version of the tool that wrote it.
    pub tool_version: String,
    /// D.
    pub dim_in: usize,
    /// d'.
    pub dim_out: usize,
    /// Dimensions m, ascending, for which the first m coordinates are an embedding by themselves; empty if d' alone is.
    #[serde(default)]
    pub nested: Vec<usize>,
    /// Hidden units; 0 for a linear map.
    #[serde(default)]
    pub hidden: usize,
    /// Whether rows are scaled to unit length before the map: where the teacher is cosine.
    pub input_normalized: bool,
    /// The similarity in D dimensions whose ranking is kept.
    pub teacher_metric: Metric,
    /// The similarity to search the compressed vectors with.
    pub student_metric: Metric,
    /// Neighbours that training was judged by.
    pub k: usize,
    /// Every hyper-parameter.
    pub config: TrainConfig,
    /// The seed, as in `config`.
    pub seed: u64,
    /// The temperature that `config.tau` came to, in units of the teacher's similarity.
    pub teacher_temperature: f64,
    /// The spectral map that training started from, in words.
    pub init: String,
    /// Rows by their part in training.
    #[serde(flatten)]
    pub split: SplitIndices,
    /// The data.
    pub data: DataInfo,
    /// Where it was trained.
    pub device: String,
    /// The epoch that was kept; 0 is the start.
    pub best_epoch: u32,
    /// Validation by epoch, from epoch 0 on.
    pub history: Vec<Epoch>,
}

/// The split under the names of the model file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitIndices {
    /// Rows that training saw.
    pub train_indices: Vec<u32>,
    /// Rows that choices were made on.
    pub val_indices: Vec<u32>,
    /// Rows held out from both.
    pub test_indices: Vec<u32>,
}

impl From<Split> for SplitIndices {
    fn from(split: Split) -> Self {
        Self { train_indices: split.train, val_indices: split.val, test_indices: split.test }
    }
}

impl From<SplitIndices> for Split {
    fn from(split: SplitIndices) -> Self {
        Self { train: split.train_indices, val: split.val_indices, test: split.test_indices }
    }
}

/// The data that a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataInfo {
    /// File or data set.
    pub source: String,
    /// Rows read.
    pub rows: usize,
    /// Columns.
    pub dim: usize,
    /// Hash of the rows read; equal for equal numbers whatever the file format.
    pub fingerprint: String,
}

impl From<&Embeddings> for DataInfo {
    fn from(embeddings: &Embeddings) -> Self {
        let Embeddings { rows, dim, fingerprint, source, .. } = embeddings;
        Self { source: source.clone(), rows: *rows, dim: *dim, fingerprint: fingerprint.clone() }
    }
}

/// One line of the training history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number of the epoch; 0 is the state before training.
    pub epoch: u32,
    /// Mean loss over the epoch's steps; none before training.
    pub loss: Option<f64>,
    /// Validation recall@k, queries against all training and validation rows; the mean over the dimensions of a nested model.
    #[serde(rename = "val_recall@k")]
    pub recall_k: f64,
    /// Validation recall@10, as above.
    #[serde(rename = "val_recall@10")]
    pub recall_10: f64,
}

impl Epoch {
    /// What epochs are chosen by: the mean of recall@k and recall@10.
    pub fn quality(&self) -> f64 {
        (self.recall_k + self.recall_10) / 2.0
    }
}

impl Compressor {
    /// The model of the first `dims` coordinates, where those are an embedding by themselves.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the dimensions for which they are.
    pub fn prefix(mut self, dims: usize) -> Result<Self> {
        let Meta { dim_out, nested, .. } = &mut self.meta;
        if dims != *dim_out && !nested.contains(&dims) {
            let there = if nested.is_empty() { std::slice::from_ref(dim_out) } else { nested };
            let there = there.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::usage(format!("the model has no embedding of --dim {dims}, only of {there} dimensions"))
                .hint("name one of those, or train a model with --nested"));
        }
        *dim_out = dims;
        nested.retain(|m| *m <= dims);
        self.map = self.map.prefix(dims);
        Ok(self)
    }

    /// Refuses data of another width.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn check_dim(&self, dim: usize) -> Result<()> {
        let (expected, compressed) = (self.map.dim_in, self.map.dim_out);
        if dim == expected {
            return Ok(());
        }
        let hint =
            if dim == compressed { "these may be compressed already" } else { "use the model that was trained on such data" };
        Err(Error::data(format!("the model expects {expected} dimensions, the data has {dim}")).hint(hint))
    }
}
