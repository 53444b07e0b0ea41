//! Embeddings in and out: `.npy`, `.npz`, parquet and the Hugging Face hub.
//!
//! [`Source`] says where the vectors are, [`Reader`] streams them as `f32` blocks in file order,
//! [`Embeddings`] holds them in memory with a fingerprint, [`Split`] divides their rows, and
//! [`Writer`] streams compressed vectors out through [`AtomicFile`].
//!
//! Files are hostile until proven otherwise: every size a header claims is compared with the file
//! before memory is asked for, and a panic inside the parquet crate becomes a data error, without a
//! message of its own. That needs unwinding, so do not set `panic = "abort"`.
//!
//! Rows and columns in messages count from 0.

mod atomic;
#[cfg(feature = "hub")]
mod dataset;
mod embeddings;
#[cfg(feature = "hub")]
mod fetch;
mod hub;
mod npy;
mod npz;
#[cfg_attr(not(feature = "parquet"), path = "parquet/absent.rs")]
mod parquet;
mod reader;
mod shards;
mod sniff;
mod source;
mod split;
mod writer;

pub use atomic::{AtomicFile, atomic_write};
pub use embeddings::Embeddings;
pub use hub::{HubConfig, Token};
pub use reader::{Block, Reader};
pub use source::{DEFAULT_DATASET, Source};
pub use split::Split;
pub use writer::Writer;

use crate::memory::{allocate, zeros};
