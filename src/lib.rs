//! Ranking-preserving compression of embeddings.

pub mod backend;
pub mod case;
pub mod data;
pub mod error;
pub mod metric;
pub mod network;
pub mod op;
pub mod ops;
pub mod plan;
pub mod random;
pub mod schedule;
pub mod spectral;
pub mod tensor;

pub use error::{Error, Result};
