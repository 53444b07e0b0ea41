//! Our side of the comparison with other libraries: `benches/peers/run.py` starts it, see there.
//!
//! The arguments are a job, `neighbours FILE QUERIES K` or `spectrum FILE COUNT`. Its file is read once. Then every line `run` on stdin
//! does the job once more and is answered with the seconds it took, and `save FILE` writes what the last run found as `.npy`, so that
//! contestants can take turns round by round. Without a job, as under `cargo bench`, it does nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Instant;

use embedding_compressor::backend::Cpu;
use embedding_compressor::data::{Embeddings, Source};
use embedding_compressor::metric::Metric;
use embedding_compressor::search::neighbours;
use embedding_compressor::spectral::{Centring, SpectralSolver};
use embedding_compressor::{Error, Result};
use npyz::WriterBuilder;

/// What a run found, as rows of some width.
enum Found {
    Ids(Vec<u32>, usize),
    Axes(Vec<f32>, usize),
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(()),
        ["neighbours", file, queries, k] => {
            let rows = read(file)?;
            let queries: Vec<u32> = (0..number(queries)? as u32).collect();
            let k = number(k)?;
            serve(|| {
                let found = neighbours(&Cpu::new(), Metric::Cosine, &rows.values, rows.dim, &queries, k)?;
                Ok(Found::Ids(found.ids, k))
            })
        }
        ["spectrum", file, count] => {
            let rows = read(file)?;
            let count = number(count)?;
            serve(|| {
                let mut solver = SpectralSolver::new(&Cpu::new(), &rows.values, rows.dim, count)?;
                Ok(Found::Axes(solver.solve(Centring::Centred)?.axes, rows.dim))
            })
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

/// Does the job whenever a line says so.
fn serve(mut job: impl FnMut() -> Result<Found>) -> Result<()> {
    let mut last = None;
    answer(r#"{"ready": true}"#)?;
    for line in io::stdin().lines() {
        let line = line.map_err(|e| failed(&e))?;
        match line.split_once(' ') {
            None if line == "run" => {
                let start = Instant::now();
                let found = job()?;
                let seconds = start.elapsed().as_secs_f64();
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
        Found::Axes(axes, width) => write_npy(path, axes, *width),
    }
}

fn write_npy<T: npyz::AutoSerialize + Copy>(path: &str, values: &[T], width: usize) -> io::Result<()> {
    let shape = [(values.len() / width) as u64, width as u64];
    let file = BufWriter::new(File::create(path)?);
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}
