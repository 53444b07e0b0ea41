//! Ranking-preserving compression of embeddings.
//!
//! Learns a map R^D -> R^d' from a matrix of embeddings and nothing else, such that the nearest neighbours of every vector, and
//! their order, survive. Trains on a GPU through handwritten WGSL, or on the CPU with the same plan. The map is small (d' x D
//! numbers), applies to new vectors and to queries alike, and is an `.npz` that numpy reads.
//!
//! ```no_run
//! use embedding_compressor::Result;
//! use embedding_compressor::backend::{DeviceChoice, choose};
//! use embedding_compressor::config::TrainConfig;
//! use embedding_compressor::data::{AtomicFile, Embeddings, Source};
//! use embedding_compressor::train::fit;
//!
//! fn main() -> Result<()> {
//!     let source = Source { input: vec!["embeddings.npy".into()], ..Source::default() };
//!     let embeddings = Embeddings::read(&source, 0)?; // 0: all rows
//!     let (backend, _why) = choose(DeviceChoice::Auto)?;
//!     let config = TrainConfig { dim_out: 32, ..TrainConfig::default() };
//!     let compressor = fit(&*backend, &embeddings, &config, &mut |_progress| Ok(()))?;
//!     compressor.save(AtomicFile::create("compressor_model.npz".as_ref())?)?;
//!     let first = compressor.compress(&*backend, embeddings.row(0))?;
//!     assert_eq!(first.len(), 32);
//!     Ok(())
//! }
//! ```
//!
//! `examples/compress.rs` is the same with progress and loading.
//!
//! # The map
//!
//! Each line imports from the lines below it.
//!
//! ```text
//! tools/*.rs                            the commands: parse, call, print          (cli: what they share)
//! curve, target                         quality by the number of training rows; the smallest d' that suffices
//! evaluate, benchmark                   a map against the baselines on test rows; how fast it is: the records of commands
//! peers                                 published compressors, trained to be compared with
//! train                                 the only training loop
//! objective                             what a training step computes              (candidates, noise, schedule: what changes by step)
//! corpus                                data that is split, prepared for the teacher, searched and decomposed once
//! baselines                             maps without training, and the best of them to start from
//! basis                                 the subspace that wide data is trained in
//! compress, encoder                     files in, compressed files out; applying a map in blocks
//! network                               a map on a plan, as calls of ops
//! frame                                 rows as the teacher compares them, and maps taken back to rows as they are
//! model                                 the map and its file
//! eval, spectral                        metrics of rankings; PCA and SVD
//! search                                exact neighbours
//! similarity                            cosine, dot and L2 on a plan, as calls of ops
//! roofline                              times of ops beside the roofs of their device
//! config                                hyper-parameters, their defaults and limits
//! ops                                   the table of ops; each is one file and its shaders
//! backend                               where plans run: Gpu, Cpu, Oracle (f64, for tests); alone in naming wgpu
//! op, case, plan                        what an op is, and its test cases; recorded computations: these three know each other
//! data, metric, tensor                  files and the hub; similarities; handles
//! gemm                                  matrix products on the CPU
//! lanes                                 work on several threads whose results come in order
//! float16, memory, random, select      numbers in half the room; room for arrays; draws; the k best of a stream
//! moments, simd                         means of rows; loops in vectors
//! error                                 the error type
//! ```
//!
//! `ops` and `backend` do not know each other, and ops do not name each other: both see only `op`, `plan` and `tensor`.
//! `tests/structure.rs` holds these rules.
//!
//! # Where to start reading
//!
//! 1. [`plan`] and [`op`]: a computation is recorded once, and what an op has to say about itself.
//! 2. [`ops::add_bias`], the smallest op, with `shaders/add_bias.wgsl`; then [`ops::listwise_kl`], the loss.
//! 3. [`objective`]: one training step. [`train`]: the loop around it.
//! 4. [`baselines`] and [`eval`]: what it starts from and how it is judged.
//! 5. [`backend`]: how a plan becomes dispatches or calls.

pub mod backend;
pub mod baselines;
pub mod basis;
pub mod benchmark;
pub mod candidates;
pub mod case;
pub mod cli;
pub mod compress;
pub mod config;
pub mod corpus;
pub mod curve;
pub mod data;
pub mod encoder;
pub mod error;
pub mod eval;
pub mod evaluate;
pub mod float16;
pub mod frame;
mod gemm;
pub mod lanes;
pub mod memory;
pub mod metric;
pub mod model;
pub mod moments;
pub mod network;
pub mod noise;
pub mod objective;
pub mod op;
pub mod ops;
pub mod peers;
pub mod plan;
pub mod random;
pub mod roofline;
pub mod schedule;
pub mod search;
mod select;
mod simd;
pub mod similarity;
pub mod spectral;
pub mod target;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
