//! A map against the baselines, on queries that took no part in training: the records of `eval` and `sweep`.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::baselines::{random_projection, truncation};
use crate::corpus::Corpus;
use crate::data::{Embeddings, Split};
use crate::error::Result;
use crate::eval::{Judge, Summary};
use crate::metric::Metric;
use crate::model::{DataInfo, Map};
use crate::peers::Peer;
use crate::random::shuffle;

/// What queries are searched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Database {
    /// All rows: new queries, known corpus.
    All,
    /// The test rows alone: everything is new.
    Test,
}

/// What a map is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Baselines {
    /// Truncation, random projection, PCA and the best spectral map.
    Basic,
    /// Those and published compressors, trained for the comparison.
    All,
}

/// The test queries of a corpus with the teacher's neighbours.
pub struct Evaluator<'a> {
    corpus: &'a Corpus<'a>,
    kind: Database,
    /// Rows as maps take them `[n, dim]`.
    database: Vec<f32>,
    judge: Judge,
}

/// One evaluation.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// What was measured.
    pub metrics: Metrics,
    /// On what.
    pub meta: RecordMeta,
}

/// Metrics of a map and of the baselines with as many dimensions.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Of the map.
    #[serde(flatten)]
    pub map: Summary,
    /// Recall@k of a random ranking.
    #[serde(rename = "chance_recall@k")]
    pub chance: f64,
    /// Of maps without training and of peers, by name.
    pub baselines: BTreeMap<&'static str, Summary>,
}

/// What a record was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct RecordMeta {
    /// Version of the tool.
    pub tool_version: &'static str,
    /// D.
    pub dim_in: usize,
    /// d'.
    pub dim_out: usize,
    /// k.
    pub k: usize,
    /// The similarity whose ranking is the truth.
    pub teacher_metric: Metric,
    /// The similarity that compressed vectors are compared with.
    pub student_metric: Metric,
    /// Bytes of a vector before.
    pub bytes_in: usize,
    /// Bytes of a vector after.
    pub bytes_out: usize,
    /// The data.
    pub data: DataInfo,
    /// What was searched.
    pub database: Database,
    /// Its rows.
    pub database_rows: usize,
    /// Queries.
    pub queries: usize,
    /// Which spectral map is the best.
    pub best_spectral: String,
    /// What was chosen for each peer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<&'static str, String>,
    /// Where it was computed.
    pub device: String,
}

impl<'a> Evaluator<'a> {
    /// Finds the teacher's neighbours of the test rows.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) when there are too few rows; [`Error::Device`](crate::Error::Device) when the device fails
    /// or memory does not suffice.
    pub fn new(corpus: &'a Corpus<'a>, embeddings: &Embeddings, kind: Database) -> Result<Self> {
        let (dim, test) = (embeddings.dim, &corpus.split.test);
        let (rows, queries): (Vec<u32>, _) = match kind {
            Database::All => ((0..embeddings.rows as u32).collect(), test.clone()),
            Database::Test => (test.clone(), (0..test.len() as u32).collect()),
        };
        let teacher = corpus.frame.metric;
        let database = || teacher.input_rows(&embeddings.values, dim, rows.iter().copied());
        let mut framed = database()?;
        corpus.frame.apply(&mut framed);
        let judge = Judge::new(corpus.backend, teacher, &framed, dim, queries, corpus.k)?;
        drop(framed);
        Ok(Self { corpus, kind, database: database()?, judge })
    }

    /// Judges a map, the baselines with as many dimensions, and peers that were trained for as many.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    pub fn evaluate(&self, map: &Map, seed: u64, peers: &[Peer]) -> Result<Record> {
        let corpus = self.corpus;
        let (dim_in, dim_out) = (map.dim_in, map.dim_out);
        let spectral = corpus.spectra.best(corpus.backend, &corpus.known, &corpus.judge, &[dim_out])?;
        let teacher = corpus.frame.metric;
        let basic = [
            ("truncation", &truncation(teacher, dim_in, dim_out)),
            ("random_projection", &random_projection(teacher, dim_in, dim_out, seed)),
            ("pca", &corpus.spectra.pca(dim_out)),
            ("best_spectral", &spectral.map),
        ];
        let maps = basic.into_iter().chain(peers.iter().map(|peer| (peer.name, &peer.map)));
        let judged = |(name, map): (_, &Map)| Ok((name, self.judge(&corpus.frame.fold(map.clone()))?));
        let baselines = maps.map(judged).collect::<Result<_>>()?;
        let metrics = Metrics { map: self.judge(map)?, chance: self.judge.chance(), baselines };
        let meta = RecordMeta {
            tool_version: env!("CARGO_PKG_VERSION"),
            dim_in,
            dim_out,
            k: corpus.k,
            teacher_metric: teacher,
            student_metric: map.metric,
            bytes_in: 4 * dim_in,
            bytes_out: 4 * dim_out,
            data: corpus.info.clone(),
            database: self.kind,
            database_rows: self.judge.rows(),
            queries: self.judge.queries(),
            best_spectral: spectral.description,
            peers: peers.iter().map(|peer| (peer.name, peer.description.clone())).collect(),
            device: corpus.backend.describe(),
        };
        Ok(Record { metrics, meta })
    }

    fn judge(&self, map: &Map) -> Result<Summary> {
        let encoded = map.encode(self.corpus.backend, &self.database)?;
        Ok(self.judge.judge(self.corpus.backend, map.metric, &encoded, map.dim_out)?.summary())
    }
}

/// A split of rows that no model has seen: `queries` test rows (at most a quarter), as many to choose baselines by, and the
/// rest to fit baselines to.
pub fn split_of_new_rows(rows: usize, queries: usize, seed: u64) -> Split {
    let mut train: Vec<u32> = (0..rows as u32).collect();
    shuffle(&mut train, &mut ChaCha8Rng::seed_from_u64(seed));
    let count = queries.min(rows / 4);
    let test = train.split_off(rows - count);
    let val = train.split_off(rows - 2 * count);
    Split { train, val, test }
}

impl Record {
    /// A table for people: one line a map, the trained one first.
    pub fn table(&self) -> String {
        let columns = ["recall@k", "recall@1", "recall@10", "recall@100", "ndcg@k", "neighbor_overlap@k"];
        let columns: Vec<&str> = columns.into_iter().filter(|c| self.metrics.map.means.contains_key(*c)).collect();
        let head: String = columns.iter().map(|c| format!("  {c:>10}")).collect();
        let line = |name: &str, summary: &Summary| {
            let cells: String =
                columns.iter().map(|c| format!("  {:>width$.4}", summary.means[*c], width = c.len().max(10))).collect();
            format!("{name:<18}{cells}\n")
        };
        let meta = &self.meta;
        let mut table = format!(
            "{} -> {} dimensions, {} queries against {} rows, k = {}, chance recall@k {:.4}\n{:<18}{head}\n",
            meta.dim_in, meta.dim_out, meta.queries, meta.database_rows, meta.k, self.metrics.chance, ""
        );
        table.push_str(&line("trained", &self.metrics.map));
        let mut baselines: Vec<_> = self.metrics.baselines.iter().collect();
        baselines.sort_by(|a, b| b.1.means["recall@k"].total_cmp(&a.1.means["recall@k"]));
        baselines.into_iter().for_each(|(name, summary)| table.push_str(&line(name, summary)));
        table
    }
}
