//! Published compressors, trained for comparison.

use embedding_compressor::backend::{Backend, Cpu};
use embedding_compressor::baselines::random_projection;
use embedding_compressor::config::SPLIT_SEED;
use embedding_compressor::corpus::Corpus;
use embedding_compressor::data::{Embeddings, Split};
use embedding_compressor::metric::Metric;
use embedding_compressor::peers::{Peer, Peers, Preset};
use libtest_mimic::{Completion, Trial};

use crate::gpu::with_gpu;
use crate::rows::cloud;
use crate::runs::{overwrite, sample};
use crate::{test, test_on_sample};

const NAMES: [&str; 5] = ["spectemp", "hakes", "conae", "rae", "matryoshka_adaptor"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test_on_sample("peers::each beats a random projection", each_beats_a_random_projection),
        test("peers::the seed decides", the_seed_decides),
        test("peers::test rows take no part", test_rows_take_no_part),
        Trial::ignorable_test("peers::a gpu trains as the cpu does", || {
            with_gpu(|gpu| {
                a_gpu_trains_as_the_cpu_does(gpu);
                Ok(Completion::Completed)
            })
        }),
    ]
}

fn with_corpus<R>(backend: &dyn Backend, embeddings: &Embeddings, k: usize, dim_out: usize, run: impl Fn(&Corpus<'_>) -> R) -> R {
    let split = Split::new(embeddings.rows, SPLIT_SEED);
    run(&Corpus::new(backend, embeddings, split, Metric::Cosine, k, dim_out, 0).expect("the rows are sound"))
}

fn fitted(corpus: &Corpus<'_>, dim_out: usize, seed: u64) -> Vec<Peer> {
    let mut lines = Vec::new();
    let peers = Peers::new(corpus).unwrap().train_all(dim_out, seed, &mut |line| lines.push(line.to_owned())).unwrap();
    assert!(lines.iter().zip(NAMES).all(|(line, name)| line.starts_with(name)), "{lines:?}");
    assert_eq!(peers.iter().map(|peer| peer.name).collect::<Vec<_>>(), NAMES);
    peers
}

fn small(values: Vec<f32>) -> Embeddings {
    Embeddings::from_values(values.len() / 16, 16, values, "a cloud").expect("finite values")
}

fn small_peers(values: Vec<f32>, seed: u64) -> Vec<Peer> {
    with_corpus(&Cpu::new(), &small(values), 5, 4, |corpus| fitted(corpus, 4, seed))
}

/// The first 64 of 384 coordinates of real rows; the metric is each peer's own.
fn each_beats_a_random_projection() {
    let sample = sample(1000);
    let narrow = sample.values.chunks(sample.dim).flat_map(|row| &row[..64]).copied().collect();
    let embeddings = Embeddings::from_values(sample.rows, 64, narrow, "a sample").unwrap();
    with_corpus(&Cpu::new(), &embeddings, 20, 12, |corpus| {
        let random = random_projection(Metric::Cosine, 64, 12, 1).encode(corpus.backend, &corpus.known).unwrap();
        let floor = corpus.judge.judge(corpus.backend, Metric::Cosine, &random, 12).unwrap().mean("recall@k");
        for peer in fitted(corpus, 12, 1) {
            assert!(peer.recall > floor + 0.03, "{peer:?} beside {floor}");
            let encoded = peer.map.encode(corpus.backend, &corpus.known).unwrap();
            assert_eq!(
                corpus.judge.judge(corpus.backend, peer.map.metric, &encoded, 12).unwrap().mean("recall@k"),
                peer.recall,
                "{}",
                peer.name
            );
            let metric = if ["hakes", "conae"].contains(&peer.name) { Metric::Dot } else { Metric::Cosine };
            assert_eq!((peer.map.metric, peer.map.hidden_width() > 0), (metric, peer.name == "matryoshka_adaptor"));
        }
    });
}

fn the_seed_decides() {
    let [first, again, other] = [1, 1, 2].map(|seed| small_peers(cloud(300, 16, 1), seed));
    assert_eq!(first, again);
    for (a, b) in first.iter().zip(&other) {
        assert_eq!(a.map == b.map, a.name == "spectemp", "{}", a.name);
    }
}

fn test_rows_take_no_part() {
    let mut values = cloud(300, 16, 1);
    let before = small_peers(values.clone(), 1);
    overwrite(&mut values, &Split::new(300, SPLIT_SEED).test);
    assert_eq!(before, small_peers(values, 1));
}

/// Those of few steps: a software adapter takes minutes for the others, whose ops are compared one by one.
fn a_gpu_trains_as_the_cpu_does(gpu: &dyn Backend) {
    let embeddings = small(cloud(300, 16, 1));
    for preset in [Preset::Hakes, Preset::ConAe] {
        let train = |corpus: &Corpus<'_>| Peers::new(corpus).unwrap().train(preset, 4, 1).unwrap();
        let [a, b] = [&Cpu::new() as &dyn Backend, gpu].map(|backend| with_corpus(backend, &embeddings, 5, 4, train));
        assert!((a.recall - b.recall).abs() < 0.01, "{a:?} on the cpu, {b:?} on the gpu");
        let largest = a.map.weight.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        assert!(
            a.map.weight.iter().zip(&b.map.weight).all(|(a, b)| (a - b).abs() < 1e-3 * largest),
            "{a:?} on the cpu, {b:?} on the gpu"
        );
    }
}
