//! Exact search against its definition: sort everything.

use embedding_compressor::backend::{Backend, Cpu};
use embedding_compressor::metric::Metric;
use embedding_compressor::random::sample;
use embedding_compressor::search::{Neighbours, neighbours};
use libtest_mimic::{Completion, Trial};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::gpu::with_gpu;

pub(crate) fn trials() -> Vec<Trial> {
    // Rows fill no block, one, several, and several with a rest; queries the same; down to one neighbour and up to all. On GPUs, more
    // than 256 neighbours are searched by scores that are stored, and a database that several blocks of queries search is kept.
    let shapes = [
        (2, 3, 2, 1),
        (50, 2, 50, 49),
        (1000, 4, 200, 1),
        (4096, 2, 10, 7),
        (4097, 2, 10, 100),
        (9000, 3, 30, 1024),
        (2600, 2, 2600, 5),
        (4200, 2, 1100, 257),
    ];
    let mut trials = Vec::new();
    for metric in [Metric::Dot, Metric::L2] {
        for (rows, dim, queries, k) in shapes {
            let name = format!("exact search::{}, {queries} queries in {rows} x {dim}, k = {k}", metric.name());
            trials.push(Trial::test(format!("{name}::native"), move || {
                compare(&Cpu::new(), metric, rows, dim, queries, k);
                Ok(())
            }));
            trials.push(Trial::ignorable_test(format!("{name}::gpu"), move || {
                with_gpu(|gpu| {
                    compare(gpu, metric, rows, dim, queries, k);
                    Ok(Completion::Completed)
                })
            }));
        }
    }
    trials
}

fn compare(backend: &dyn Backend, metric: Metric, rows: usize, dim: usize, queries: usize, k: usize) {
    // Few small whole numbers: similarities are exact, and most of them tie.
    let mut rng = ChaCha8Rng::seed_from_u64(rows as u64);
    let draw = |_| embedding_compressor::random::below(7, &mut rng) as f32 - 3.0;
    let database: Vec<f32> = (0..rows * dim).map(draw).collect();
    let queries = sample(rows as u32, queries, &mut ChaCha8Rng::seed_from_u64(0));
    let found = neighbours(backend, metric, &database, dim, &queries, k).expect("the device works");
    let expected = naive(metric, &database, dim, &queries, k);
    for (i, query) in queries.iter().enumerate() {
        let at = i * k..(i + 1) * k;
        assert_eq!(found.ids[at.clone()], expected.ids[at.clone()], "rows next to row {query}");
        assert_eq!(found.scores[at.clone()], expected.scores[at], "their scores");
    }
    assert_eq!(found, expected);
}

fn naive(metric: Metric, database: &[f32], dim: usize, queries: &[u32], k: usize) -> Neighbours {
    let mut found = Neighbours { k, ids: Vec::new(), scores: Vec::new() };
    let row = |i: u32| &database[i as usize * dim..][..dim];
    for &query in queries {
        let others = (0..(database.len() / dim) as u32).filter(|i| *i != query);
        let dot = |i: u32, j: u32| row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f32>();
        let distance = |i: u32, j: u32| row(i).iter().zip(row(j)).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let score = |i: u32| match metric {
            Metric::L2 => (dot(query, query) - distance(query, i)) / 2.0,
            _ => dot(query, i),
        };
        let mut scored: Vec<(f32, u32)> = others.map(|i| (score(i), i)).collect();
        scored.sort_by(|a, b| b.0.partial_cmp(&a.0).expect("finite scores").then(a.1.cmp(&b.1)));
        found.ids.extend(scored[..k].iter().map(|(_, i)| i));
        found.scores.extend(scored[..k].iter().map(|(score, _)| score));
    }
    found
}
