//! Ranking-preserving compression of embeddings.

pub mod backend;
pub mod baselines;
pub mod benchmark;
pub mod candidates;
pub mod case;
pub mod cli;
pub mod config;
pub mod corpus;
pub mod data;
pub mod error;
pub mod eval;
pub mod evaluate;
pub mod metric;
pub mod model;
pub mod network;
pub mod objective;
pub mod op;
pub mod ops;
pub mod plan;
pub mod random;
pub mod roofline;
pub mod schedule;
pub mod search;
mod simd;
pub mod spectral;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
