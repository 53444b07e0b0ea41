//! Ranking-preserving compression of embeddings.

pub mod backend;
pub mod case;
pub mod error;
pub mod op;
pub mod ops;
pub mod plan;
pub mod tensor;

pub use error::{Error, Result};
