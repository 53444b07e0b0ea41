//! Configuration: the hyper-parameters of training with their defaults, checked in one place.

mod temperature;

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::ops::{hard_negative, top_k};

pub use temperature::{StudentTau, Tau};

/// Seed of the split into training, validation and test rows. Not a flag: every command and every run must see the same rows.
pub const SPLIT_SEED: u64 = 42;

/// Where training starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// The best spectral map on validation.
    Spectral,
    /// Gaussian random projection.
    Random,
}

/// Hyper-parameters of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default)]
pub struct TrainConfig {
    /// Output dimension d'; commands have a flag of their own for it
    #[arg(skip = Self::default().dim_out)]
    pub dim_out: usize,
    /// Dimensions m, in ascending order up to d', for which the first m coordinates shall be an embedding by themselves; empty for a
    /// model of d' dimensions alone. Only `train` has a flag for it
    #[arg(skip)]
    pub nested: Vec<usize>,
    /// Width of the hidden layer that is added to the linear map; 0 for none
    #[arg(long, default_value_t = Self::default().hidden, value_name = "N")]
    pub hidden: usize,
    /// Share of the hidden units that a training step leaves out
    #[arg(long, default_value_t = Self::default().dropout, value_name = "RATE")]
    pub dropout: f64,
    /// How far anchors are moved from their rows at random, in distances of near neighbours; 0 leaves them where they are
    #[arg(long, default_value_t = Self::default().noise, value_name = "RATIO")]
    pub noise: f64,
    /// Similarity whose ranking is to survive: how rows are compared before compression
    #[arg(long, value_enum, default_value_t = Self::default().metric)]
    pub metric: Metric,
    /// Neighbours whose ranking is to survive; validation picks the epoch by recall@k and recall@10
    #[arg(long, default_value_t = Self::default().k, value_name = "N")]
    pub k: usize,
    /// Passes over the training rows; 0 keeps the initial map [default: as many as make 1,000 steps, from 5 to 100]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u32>,
    /// Anchors in a step
    #[arg(long, default_value_t = Self::default().batch_size, value_name = "N")]
    pub batch_size: usize,
    /// Peak learning rate, relative to the size of the weights
    #[arg(long, default_value_t = Self::default().lr, value_name = "RATE")]
    pub lr: f64,
    /// Temperature of the teacher's softmax: "auto" for the spread of the teacher's top-k similarities, or a number in units of --metric
    /// (cosine, x . y, or |x - y|^2 / 2; of the last two it depends on how long the rows are)
    #[arg(long, default_value_t = Self::default().tau, value_name = "TAU")]
    pub tau: Tau,
    /// Temperature of the student's softmax: "learnt", or a number in units of the student's similarity
    #[arg(long, default_value_t = Self::default().student_tau, value_name = "TAU")]
    pub student_tau: StudentTau,
    /// Weight of the listwise KL divergence
    #[arg(long, default_value_t = Self::default().lambda_list, value_name = "WEIGHT")]
    pub lambda_list: f64,
    /// Weight of the hard-negative margin; 0 leaves it out
    #[arg(long, default_value_t = Self::default().lambda_hard, value_name = "WEIGHT")]
    pub lambda_hard: f64,
    /// Rows of the student's ranking that are looked at for hard negatives, which are those that are none of the teacher's top k
    /// [default: as many as it takes]
    #[arg(long, value_name = "L")]
    pub hard_neg_l: Option<usize>,
    /// Hard negatives for each anchor, at most: those that the student ranks highest; 8 are too few for the default --lambda-hard
    #[arg(long, default_value_t = Self::default().hard_neg_per_anchor, value_name = "N")]
    pub hard_neg_per_anchor: usize,
    /// Rows of recent batches that join the candidates of an anchor, encoded anew; without effect where every training row is a candidate already
    #[arg(long, default_value_t = Self::default().listwise_queue_size, value_name = "N")]
    pub listwise_queue_size: usize,
    /// Seed of batches and candidates; the split into training, validation and test rows never changes
    #[arg(long, default_value_t = Self::default().seed, value_name = "N")]
    pub seed: u64,
    /// Where training starts
    #[arg(long, value_enum, default_value_t = Self::default().init)]
    pub init: Init,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            dim_out: 64,
            nested: Vec::new(),
            hidden: 1024,
            dropout: 0.0,
            noise: 0.8,
            metric: Metric::Cosine,
            k: 50,
            epochs: None,
            batch_size: 512,
            lr: 0.01,
            tau: Tau::Auto,
            student_tau: StudentTau::Learnt,
            lambda_list: 1.0,
            lambda_hard: 10.0,
            hard_neg_l: None,
            hard_neg_per_anchor: 64,
            listwise_queue_size: 0,
            seed: 42,
            init: Init::Spectral,
        }
    }
}

/// Most neighbours that selection on the device supports.
pub const MAX_K: usize = top_k::MAX_K as usize;
// Hard negatives take as many positives, and rankings as long.
const _: () = assert!(hard_negative::MAX_RANKING == top_k::MAX_K);
/// Most hard negatives of an anchor.
pub const MAX_NEGATIVES: usize = hard_negative::MAX_NEGATIVES as usize;

/// Steps that training takes where the epochs are not given, and between how many epochs.
const STEPS: u32 = 1000;
const EPOCHS: RangeInclusive<u32> = 5..=100;

impl TrainConfig {
    /// Passes over the training rows, where one takes so many steps.
    pub fn epochs(&self, steps: u32) -> u32 {
        self.epochs.unwrap_or(STEPS.div_ceil(steps).clamp(*EPOCHS.start(), *EPOCHS.end()))
    }

    /// Dimensions of the embeddings that the output shall hold, ascending: the nested ones, or d' alone.
    pub fn dims(&self) -> &[usize] {
        if self.nested.is_empty() { std::slice::from_ref(&self.dim_out) } else { &self.nested }
    }

    /// Checks the values by themselves.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag.
    pub fn validate(&self) -> Result<()> {
        let weight = |x: f64| x.is_finite() && x >= 0.0;
        let ascending = !self.nested.contains(&0) && self.nested.is_sorted_by(|a, b| a < b);
        require(ascending, "--nested", "must be different dimensions of at least 1, in ascending order")?;
        require(self.dim_out >= 1, "--dim-out", "must be at least 1")?;
        let largest = self.dims().last().copied().unwrap_or_default();
        require(largest == self.dim_out, "--dim-out", format!("must be the largest of --nested, {largest}, or be left out"))?;
        require((1..=MAX_K).contains(&self.k), "--k", format!("must be from 1 to {MAX_K}"))?;
        require((0.0..1.0).contains(&self.dropout), "--dropout", "must be at least 0 and below 1")?;
        require((0.0..=10.0).contains(&self.noise), "--noise", "must be from 0 to 10")?;
        require(self.batch_size >= 1, "--batch-size", "must be at least 1")?;
        require(self.lr.is_finite() && self.lr > 0.0, "--lr", "must be positive")?;
        require(weight(self.lambda_list), "--lambda-list", "must not be negative")?;
        require(weight(self.lambda_hard), "--lambda-hard", "must not be negative")?;
        require(self.lambda_list + self.lambda_hard > 0.0, "--lambda-list", "and --lambda-hard are 0: nothing to train")?;
        if self.lambda_hard > 0.0 {
            let negatives = self.hard_neg_per_anchor;
            require(
                (1..=MAX_NEGATIVES).contains(&negatives),
                "--hard-neg-per-anchor",
                format!("must be from 1 to {MAX_NEGATIVES}"),
            )?;
            let depth = self.hard_neg_l.is_none_or(|length| (1..=MAX_K).contains(&length));
            require(depth, "--hard-neg-l", format!("must be from 1 to {MAX_K}"))?;
        }
        Ok(())
    }

    /// Checks the values, and that they fit data of `dim` columns.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag.
    pub fn validate_for(&self, dim: usize) -> Result<()> {
        self.validate()?;
        require(self.dim_out < dim, "--dim-out", format!("must be below the data's {dim} dimensions"))
    }
}

fn require(holds: bool, flag: &str, rule: impl fmt::Display) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::usage(format!("{flag} {rule}")).hint("--help explains every flag")) }
}
