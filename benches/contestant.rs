//! Our side of the comparison with other libraries: `benches/peers/run.py` starts it, see there.
//!
//! The arguments are a job: `neighbours FILE QUERIES K`, `spectrum FILE COUNT` or `steps FILE DIM_OUT HIDDEN EPOCHS DEVICE`. Its file is read
//! once. Then every line `run` on stdin does the job once more and is answered with the seconds it took, and `save FILE` writes what the
//! last run found as `.npy`, so that contestants can take turns round by round. Without a job, as under `cargo bench`, it does nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use embedding_compressor::backend::{Cpu, DeviceChoice, choose};
use embedding_compressor::basis::rank;
use embedding_compressor::cli::keep_large_pages_whole;
use embedding_compressor::config::{SPLIT_SEED, TrainConfig};
use embedding_compressor::corpus::Corpus;
use embedding_compressor::data::{Embeddings, Source, Split};
use embedding_compressor::metric::Metric;
use embedding_compressor::search::neighbours;
use embedding_compressor::spectral::{Centring, SpectralSolver};
use embedding_compressor::train::{Progress, train};
use embedding_compressor::{Error, Result};
use mimalloc::MiMalloc;
use npyz::WriterBuilder;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What a run found, as rows of some width.
enum Found {
    Ids(Vec<u32>, usize),
    Numbers(Vec<f32>, usize),
}

fn main() -> Result<()> {
    keep_large_pages_whole();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(()),
        ["neighbours", file, queries, k] => {
            let rows = read(file)?;
            let queries: Vec<u32> = (0..number(queries)? as u32).collect();
            let k = number(k)?;
            serve(|| {
                let start = Instant::now();
                let found = neighbours(&Cpu::new(), Metric::Cosine, &rows.values, rows.dim, &queries, k)?;
                Ok((start.elapsed().as_secs_f64(), Found::Ids(found.ids, k)))
            })
        }
        ["spectrum", file, count] => {
            let rows = read(file)?;
            let count = number(count)?;
            serve(|| {
                let start = Instant::now();
                let mut solver = SpectralSolver::new(&Cpu::new(), &rows.values, rows.dim, count, count)?;
                let axes = solver.solve(Centring::Centred)?.axes;
                Ok((start.elapsed().as_secs_f64(), Found::Numbers(axes, rows.dim)))
            })
        }
        ["steps", file, dim_out, hidden, epochs, device] => {
            let rows = read(file)?;
            let epochs = number(epochs)? as u32;
            let config = TrainConfig {
                dim_out: number(dim_out)?,
                hidden: number(hidden)?,
                epochs: Some(epochs),
                ..TrainConfig::default()
            };
            let choice = DeviceChoice::from_str(device, false).map_err(Error::usage)?;
            let (backend, _) = choose(choice)?;
            let split = Split::new(rows.rows, SPLIT_SEED);
            let corpus = Corpus::new(&*backend, &rows, split, config.metric, config.k, config.dim_out, rank(config.hidden))?;
            serve(|| steps(&corpus, &config, epochs))
        }
        _ => Err(Error::usage(format!("no job: {}", arguments.join(" ")))),
    }
}

fn read(file: &str) -> Result<Embeddings> {
    Embeddings::read(&Source { input: vec![PathBuf::from(file)], ..Source::default() }, 0)
}

fn number(text: &str) -> Result<usize> {
    text.parse().map_err(|_| Error::usage(format!("no number: {text}")))
}

/// Trains and returns the seconds of a step in all epochs but the first, without their validation, and the loss of the last epoch.
fn steps(corpus: &Corpus<'_>, config: &TrainConfig, epochs: u32) -> Result<(f64, Found)> {
    let (mut of_epoch, mut seconds, mut loss) = (0, 0.0, 0.0);
    let mut begin = None;
    train(corpus, config, &mut |event| {
        match event {
            Progress::Start { steps, .. } => of_epoch = steps / epochs,
            Progress::Steps { done } if done.is_multiple_of(of_epoch) => {
                seconds += begin.map_or(0.0, |begin: Instant| begin.elapsed().as_secs_f64());
            }
            Progress::Steps { .. } => {}
            Progress::Epoch { epoch, .. } => {
                loss = epoch.loss.unwrap_or(f64::NAN);
                begin = Some(Instant::now());
            }
        }
        Ok(())
    })?;
    Ok((seconds / f64::from((epochs - 1) * of_epoch), Found::Numbers(vec![loss as f32], 1)))
}

/// Does the job, which says how long it took, whenever a line says so.
fn serve(mut job: impl FnMut() -> Result<(f64, Found)>) -> Result<()> {
    let mut last = None;
    answer(r#"{"ready": true}"#)?;
    for line in io::stdin().lines() {
        let line = line.map_err(|e| failed(&e))?;
        match line.split_once(' ') {
            None if line == "run" => {
                let (seconds, found) = job()?;
                last = Some(found);
                answer(&format!(r#"{{"seconds": {seconds}}}"#))?;
            }
            Some(("save", path)) => {
                let found = last.as_ref().ok_or_else(|| Error::usage("nothing was run"))?;
                save(found, path).map_err(|e| failed(&e))?;
                answer(r#"{"saved": true}"#)?;
            }
            _ => return Err(Error::usage(format!("no command: {line}"))),
        }
    }
    Ok(())
}

fn answer(line: &str) -> Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|e| failed(&e))
}

fn failed(reason: &io::Error) -> Error {
    Error::io(reason.to_string())
}

fn save(found: &Found, path: &str) -> io::Result<()> {
    match found {
        Found::Ids(ids, width) => write_npy(path, ids, *width),
        Found::Numbers(numbers, width) => write_npy(path, numbers, *width),
    }
}

fn write_npy<T: npyz::AutoSerialize + Copy>(path: &str, values: &[T], width: usize) -> io::Result<()> {
    let shape = [(values.len() / width) as u64, width as u64];
    let file = BufWriter::new(File::create(path)?);
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}
