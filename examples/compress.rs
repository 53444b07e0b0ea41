//! The library in one go: read embeddings, fit a compressor, save and load it, compress.
//!
//!     cargo run --release --example compress

use std::path::Path;

use embedding_compressor::Result;
use embedding_compressor::backend::{DeviceChoice, choose};
use embedding_compressor::config::TrainConfig;
use embedding_compressor::data::{AtomicFile, Embeddings, Source};
use embedding_compressor::model::Compressor;
use embedding_compressor::train::{Progress, fit};

fn main() -> Result<()> {
    let source = Source { input: vec!["examples/data/wordnet_minilm_384_sample.parquet".into()], ..Source::default() };
    let embeddings = Embeddings::read(&source, 0)?;
    let (backend, why) = choose(DeviceChoice::Auto)?;
    println!("{} x {} on {why}", embeddings.rows, embeddings.dim);

    let config = TrainConfig { dim_out: 32, epochs: Some(5), ..TrainConfig::default() };
    let compressor = fit(&*backend, &embeddings, &config, &mut |event| {
        if let Progress::Epoch { epoch, .. } = event {
            println!("epoch {}: recall@{} {:.4}", epoch.epoch, config.k, epoch.recall_k);
        }
        Ok(())
    })?;

    let path = std::env::temp_dir().join("example_model.npz");
    compressor.save(AtomicFile::create(&path)?)?;
    let loaded = Compressor::load(Path::new(&path))?;
    let vectors = loaded.compress(&*backend, embeddings.row(0))?;
    println!("row 0 in {} dimensions, for {} search: {vectors:?}", loaded.map.dim_out, loaded.map.metric.name());
    Ok(())
}
