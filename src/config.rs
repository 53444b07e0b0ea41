//! Configuration: the hyper-parameters of training with their defaults, checked in one place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Seed of the split into training, validation and test rows. Not a flag: every command and every run must see the same rows.
pub const SPLIT_SEED: u64 = 42;

/// Temperature of the teacher's softmax over candidate similarities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Tau {
    /// In units of similarity, as given.
    Absolute(f32),
    /// The spread of the teacher's top-k similarities: the mean over rows of their standard deviation.
    Auto,
}

impl FromStr for Tau {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Self::Auto),
            _ => match s.parse() {
                Ok(tau) if tau > 0.0 && f32::is_finite(tau) => Ok(Self::Absolute(tau)),
                _ => Err("expected a positive number or \"auto\"".to_owned()),
            },
        }
    }
}

impl fmt::Display for Tau {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(tau) => tau.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl From<Tau> for String {
    fn from(tau: Tau) -> Self {
        tau.to_string()
    }
}

impl TryFrom<String> for Tau {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

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
    /// Output dimension d'
    #[arg(long, default_value_t = Self::default().dim_out, value_name = "N")]
    pub dim_out: usize,
    /// Neighbours whose ranking is to survive; validation picks the epoch by recall@k
    #[arg(long, default_value_t = Self::default().k, value_name = "N")]
    pub k: usize,
    /// Passes over the training rows; 0 keeps the initial map
    #[arg(long, default_value_t = Self::default().epochs, value_name = "N")]
    pub epochs: u32,
    /// Anchors in a step
    #[arg(long, default_value_t = Self::default().batch_size, value_name = "N")]
    pub batch_size: usize,
    /// Peak learning rate, relative to the size of the weights
    #[arg(long, default_value_t = Self::default().lr, value_name = "RATE")]
    pub lr: f64,
    /// Temperature of the teacher's softmax: a number in units of similarity, or "auto" for the spread of the teacher's top-k similarities
    #[arg(long, default_value_t = Self::default().tau, value_name = "TAU")]
    pub tau: Tau,
    /// Weight of the listwise KL divergence
    #[arg(long, default_value_t = Self::default().lambda_list, value_name = "WEIGHT")]
    pub lambda_list: f32,
    /// Weight of the hard-negative margin; 0 leaves it out
    #[arg(long, default_value_t = Self::default().lambda_hard, value_name = "WEIGHT")]
    pub lambda_hard: f32,
    /// Hard negatives come from the teacher's top L
    #[arg(long, default_value_t = Self::default().hard_neg_l, value_name = "L")]
    pub hard_neg_l: usize,
    /// Hard negatives for each anchor: those that the student ranks highest
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
            k: 50,
            epochs: 20,
            batch_size: 512,
            lr: 0.01,
            tau: Tau::Absolute(0.05),
            lambda_list: 1.0,
            lambda_hard: 0.0,
            hard_neg_l: 200,
            hard_neg_per_anchor: 1,
            listwise_queue_size: 0,
            seed: 42,
            init: Init::Spectral,
        }
    }
}

/// Most neighbours that selection on the device supports.
pub const MAX_K: usize = 1024;

impl TrainConfig {
    /// Checks the values by themselves, and against `dim`, the width of the data.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag.
    pub fn validate(&self, dim: usize) -> Result<()> {
        let positive = |x: f32| x.is_finite() && x >= 0.0;
        let checks = [
            (
                self.dim_out >= 1 && self.dim_out < dim,
                "--dim-out",
                format!("must be at least 1 and below the data's {dim} dimensions"),
            ),
            (self.k >= 1 && self.k <= MAX_K, "--k", format!("must be from 1 to {MAX_K}")),
            (self.batch_size >= 1, "--batch-size", "must be at least 1".to_owned()),
            (self.lr.is_finite() && self.lr > 0.0, "--lr", "must be positive".to_owned()),
            (positive(self.lambda_list), "--lambda-list", "must not be negative".to_owned()),
            (positive(self.lambda_hard), "--lambda-hard", "must not be negative".to_owned()),
            (
                self.lambda_list + self.lambda_hard > 0.0,
                "--lambda-list",
                "and --lambda-hard are both 0: nothing to train".to_owned(),
            ),
            (
                self.hard_neg_l > self.k && self.hard_neg_l <= MAX_K,
                "--hard-neg-l",
                format!("must be above --k and at most {MAX_K}"),
            ),
            (
                (1..=64).contains(&self.hard_neg_per_anchor) && self.hard_neg_per_anchor + self.k <= self.hard_neg_l,
                "--hard-neg-per-anchor",
                "must be from 1 to 64, and at most --hard-neg-l less --k".to_owned(),
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            // The pool of hard negatives matters only where it is used.
            Some((_, flag, _)) if flag.starts_with("--hard-neg") && self.lambda_hard == 0.0 => Ok(()),
            Some((_, flag, rule)) => Err(Error::usage(format!("{flag} {rule}"))),
            None => Ok(()),
        }
    }
}
