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
mod column;
#[cfg(feature = "hub")]
mod dataset;
mod embeddings;
#[cfg(feature = "hub")]
mod fetch;
mod hub;
mod npy;
mod npz;
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

use crate::{Error, Result};

/// An empty vector with room for `rows * dim` values, or an error where a plain allocation would abort.
fn allocate<T>(rows: usize, dim: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let room = rows.checked_mul(dim).filter(|&count| values.try_reserve_exact(count).is_ok());
    room.map(|_| values).ok_or_else(|| {
        let bytes = rows as f64 * dim as f64 * size_of::<T>() as f64;
        Error::device("not enough memory")
            .at(format!("{rows} x {dim} values need {:.1} GB", bytes / 1e9))
            .hint("read fewer rows with --max-items")
    })
}
