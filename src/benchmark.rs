//! How fast a model compresses, what the smaller vectors save in memory and in search, and how fast the ops run: the record of
//! `benchmark`.

use std::fmt::{self, Write};

use serde::Serialize;

use crate::backend::Backend;
use crate::data::Embeddings;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::model::{Compressor, DataInfo};
use crate::ops::TABLE;
use crate::roofline::{Roofline, Roofs, Row, TOO_LONG, Timed, medians};
use crate::search::neighbours;

/// Queries of a search, at most.
const MAX_QUERIES: usize = 256;

/// Numbers of vectors that savings are estimated for.
const SCALES: [u64; 3] = [1_000_000, 100_000_000, 1_000_000_000];

/// One benchmark.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// What was measured.
    pub metrics: Metrics,
    /// On what.
    pub meta: Meta,
}

/// Medians of several rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Rows compressed in a second, from host memory to host memory.
    pub compressed_rows_per_second: f64,
    /// Bytes of a vector before.
    pub bytes_in: usize,
    /// Bytes of a vector after.
    pub bytes_out: usize,
    /// How many times smaller vectors become.
    pub bytes_ratio: f64,
    /// Exact searches in a second before, vectors being in host memory.
    pub queries_per_second_in: f64,
    /// Exact searches in a second after.
    pub queries_per_second_out: f64,
    /// How many times faster search becomes.
    pub search_speedup: f64,
    /// What that comes to for 1 million, 100 million and 1 billion vectors.
    pub savings: Vec<Saving>,
    /// What the device can do: the highest roofs of the run.
    pub roofs: Roofs,
    /// Every bench case of every op.
    pub ops: Vec<Row>,
}

/// An estimate of what compression saves where there are more vectors: that all of them are in memory, and that exact search takes
/// time in proportion to their number, at the rate that was measured with queries in batches.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Saving {
    /// How many vectors there are.
    pub vectors: u64,
    /// Bytes of all of them before.
    pub bytes_in: u64,
    /// Bytes of all of them after.
    pub bytes_out: u64,
    /// Seconds that a query takes before.
    pub seconds_per_query_in: f64,
    /// Seconds that a query takes after.
    pub seconds_per_query_out: f64,
}

/// What a record was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Meta {
    /// Version of the tool.
    pub tool_version: &'static str,
    /// Where it was computed.
    pub device: String,
    /// Threads of the host.
    pub threads: usize,
    /// D.
    pub dim_in: usize,
    /// d'.
    pub dim_out: usize,
    /// Neighbours of a query.
    pub k: usize,
    /// Queries that are searched together.
    pub queries: usize,
    /// The similarity that is searched with before.
    pub teacher_metric: Metric,
    /// The similarity that is searched with after.
    pub student_metric: Metric,
    /// The rows that are compressed and searched.
    pub data: DataInfo,
}

/// Measures a model on the rows of `embeddings`, searching for `k` neighbours. `progress` is told what comes next.
///
/// # Errors
/// [`Error::Data`] when the rows do not fit the model or are too few; [`Error::Device`] when the device fails.
pub fn benchmark(
    backend: &dyn Backend,
    compressor: &Compressor,
    embeddings: &Embeddings,
    k: usize,
    progress: &mut dyn FnMut(&str),
) -> Result<Record> {
    compressor.check_dim(embeddings.dim).map_err(|e| e.at(&embeddings.source))?;
    let rows = embeddings.rows;
    if rows <= k {
        let what = format!("{rows} rows are too few for {k} neighbours");
        return Err(Error::data(what).at(&embeddings.source).hint("use more rows (--max-items) or a smaller --k"));
    }
    let (dim_in, dim_out) = (compressor.map.dim_in, compressor.map.dim_out);
    let count = rows.min(MAX_QUERIES);
    let queries: Vec<u32> = (0..count).map(|i| (i * rows / count) as u32).collect();

    progress("compression");
    let (encoded, compressed_rows_per_second) = compression(backend, compressor, embeddings)?;
    progress("search");
    let search = Search { backend, queries: &queries, k };
    let mut before = search.timed(compressor.meta.teacher_metric, &embeddings.values, dim_in)?;
    let mut after = search.timed(compressor.map.metric, &encoded, dim_out)?;
    let [before, after] = medians([&mut before, &mut after])?.map(|seconds| count as f64 / seconds);
    let (roofs, ops) = ops(backend, progress)?;

    let [bytes_in, bytes_out] = [dim_in, dim_out].map(|dim| dim * size_of::<f32>());
    let saving = |vectors: u64| {
        let share = vectors as f64 / rows as f64;
        Saving {
            vectors,
            bytes_in: vectors * bytes_in as u64,
            bytes_out: vectors * bytes_out as u64,
            seconds_per_query_in: share / before,
            seconds_per_query_out: share / after,
        }
    };
    let metrics = Metrics {
        compressed_rows_per_second,
        bytes_in,
        bytes_out,
        bytes_ratio: dim_in as f64 / dim_out as f64,
        queries_per_second_in: before,
        queries_per_second_out: after,
        search_speedup: after / before,
        savings: SCALES.map(saving).to_vec(),
        roofs,
        ops,
    };
    Ok(Record { metrics, meta: meta(backend, compressor, embeddings, k, count) })
}

fn meta(backend: &dyn Backend, compressor: &Compressor, embeddings: &Embeddings, k: usize, queries: usize) -> Meta {
    Meta {
        tool_version: env!("CARGO_PKG_VERSION"),
        device: backend.describe(),
        threads: rayon::current_num_threads(),
        dim_in: compressor.map.dim_in,
        dim_out: compressor.map.dim_out,
        k,
        queries,
        teacher_metric: compressor.meta.teacher_metric,
        student_metric: compressor.map.metric,
        data: embeddings.into(),
    }
}

/// Compresses all rows; returns them, and how many are compressed in a second.
fn compression(backend: &dyn Backend, compressor: &Compressor, embeddings: &Embeddings) -> Result<(Vec<f32>, f64)> {
    let mut encoder = Encoder::new(&compressor.map, backend, embeddings.rows)?;
    let encoded = encoder.encode(&embeddings.values)?.values;
    let mut work = Timed::new(|rounds| (0..rounds).try_for_each(|_| encoder.encode(&embeddings.values).map(drop)))?;
    let [seconds] = medians([&mut work])?;
    Ok((encoded, embeddings.rows as f64 / seconds))
}

/// The search that is timed before and after.
struct Search<'a> {
    backend: &'a dyn Backend,
    queries: &'a [u32],
    k: usize,
}

impl<'a> Search<'a> {
    /// Searches `vectors [n, dim]`, which are prepared for the metric outside of the time taken, as a database would.
    fn timed(&self, metric: Metric, vectors: &'a [f32], dim: usize) -> Result<Timed<'a>> {
        let Self { backend, queries, k } = *self;
        let database = metric.prepare(vectors, dim);
        Timed::new(move |rounds| (0..rounds).try_for_each(|_| neighbours(backend, metric, &database, dim, queries, k).map(drop)))
    }
}

/// Times every bench case of every op that the device is fast enough for.
fn ops(backend: &dyn Backend, progress: &mut dyn FnMut(&str)) -> Result<(Roofs, Vec<Row>)> {
    progress("roofs");
    let mut roofline = Roofline::new(backend)?;
    let mut rows = Vec::new();
    for op in TABLE {
        for case in op.bench_cases().into_iter().filter(|case| case.runs_on(backend.limits())) {
            if roofline.least_seconds(&case) > TOO_LONG {
                continue;
            }
            progress(&format!("{} {}", op.name(), case.name));
            rows.push(roofline.measure(*op, &case)?);
        }
    }
    Ok((roofline.best, rows))
}

impl Record {
    /// The metrics as text for people.
    pub fn table(&self) -> String {
        let Self { metrics: m, meta } = self;
        let mut table = format!(
            "compression  {:.0} rows/s\n\
             vectors      {} -> {} bytes, {:.1} times smaller\n\
             search       {:.0} -> {:.0} queries/s, {:.1} times faster ({} queries, {} rows, k = {})\n",
            m.compressed_rows_per_second,
            m.bytes_in,
            m.bytes_out,
            m.bytes_ratio,
            m.queries_per_second_in,
            m.queries_per_second_out,
            m.search_speedup,
            meta.queries,
            meta.data.rows,
            meta.k,
        );
        m.savings.iter().for_each(|saving| writeln!(table, "estimate     {saving}").expect("text takes any line"));
        let assumed = "exact search takes time in proportion to the vectors, all in memory, queries in batches as above";
        writeln!(table, "             {assumed}\nroofs        {}", m.roofs).expect("text takes any line");
        m.ops.iter().for_each(|row| writeln!(table, "{row}").expect("text takes any line"));
        table
    }
}

impl fmt::Display for Saving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bytes_in, bytes_out] = [self.bytes_in, self.bytes_out].map(bytes);
        let [before, after] = [self.seconds_per_query_in, self.seconds_per_query_out].map(duration);
        let millions = self.vectors / 1_000_000;
        write!(f, "{millions:>4} million vectors: {bytes_in:>9} -> {bytes_out:>9}, a query {before:>9} -> {after:>9}")
    }
}

/// With a unit that leaves at most four digits before the point.
fn bytes(count: u64) -> String {
    let (unit, name) = [(1e12, "TB"), (1e9, "GB")].into_iter().find(|(unit, _)| count as f64 >= *unit).unwrap_or((1e6, "MB"));
    format!("{:.1} {name}", count as f64 / unit)
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.2} ms", 1e3 * seconds) } else { format!("{seconds:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn savings_are_told_in_units_of_their_size() {
        let saving = Saving {
            vectors: 100_000_000,
            bytes_in: 1_638_400_000_000,
            bytes_out: 25_600_000_000,
            seconds_per_query_in: 12.3456,
            seconds_per_query_out: 0.4321,
        };
        let text = saving.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(text, "100 million vectors: 1.6 TB -> 25.6 GB, a query 12.35 s -> 432.10 ms");
        assert_eq!(bytes(128_000_000), "128.0 MB");
    }
}
