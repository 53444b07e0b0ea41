//! Teachers other than cosine: their neighbours against brute force on the rows as they are, and runs from start to end.

use embedding_compressor::backend::{Backend, Cpu};
use embedding_compressor::basis::rank;
use embedding_compressor::config::{SPLIT_SEED, TrainConfig};
use embedding_compressor::corpus::Corpus;
use embedding_compressor::data::{Embeddings, Split};
use embedding_compressor::evaluate::{Database, Evaluator};
use embedding_compressor::frame::Frame;
use embedding_compressor::metric::Metric;
use embedding_compressor::model::{Compressor, Hidden, Map};
use embedding_compressor::random::{below, normal};
use embedding_compressor::search::neighbours;
use embedding_compressor::train::{fit, train};
use libtest_mimic::{Completion, Trial};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::gpu::with_gpu;
use crate::rows::cloud;
use crate::{test, test_on_sample};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        test("metrics::rows of unit length have the same neighbours by all", rows_of_unit_length_have_the_same_neighbours),
        test("metrics::a folded map does to rows what it did in the frame", a_folded_map_does_to_rows_what_it_did_in_the_frame),
        test("metrics::what is saved is what was validated", what_is_saved_is_what_was_validated),
        test("metrics::rows can be moved and scaled", rows_can_be_moved_and_scaled),
        test("metrics::rows of zeros have neighbours", rows_of_zeros_have_neighbours),
        test_on_sample("metrics::training helps", training_helps),
    ];
    on_every_backend(&mut trials, "neighbours are those of brute force", neighbours_are_those_of_brute_force);
    on_every_backend(&mut trials, "equally near rows come in their order", equally_near_rows_come_in_their_order);
    trials.push(Trial::ignorable_test("metrics::a gpu trains as the cpu does", || {
        with_gpu(|gpu| {
            a_gpu_trains_as_the_cpu_does(gpu);
            Ok(Completion::Completed)
        })
    }));
    trials
}

fn on_every_backend(trials: &mut Vec<Trial>, name: &str, run: fn(&dyn Backend)) {
    trials.push(Trial::test(format!("metrics::{name}::native"), move || {
        run(&Cpu::new());
        Ok(())
    }));
    trials.push(Trial::ignorable_test(format!("metrics::{name}::gpu"), move || {
        with_gpu(|gpu| {
            run(gpu);
            Ok(Completion::Completed)
        })
    }));
}

/// Similarities of a row to all rows, in f64 and by definition.
fn similarities(metric: Metric, rows: &[f32], dim: usize, query: usize) -> Vec<f64> {
    let x = &rows[query * dim..][..dim];
    let pairs = |y: &[f32]| x.iter().zip(y).map(|(x, y)| (f64::from(*x), f64::from(*y))).collect::<Vec<_>>();
    let similarity = |y: &[f32]| match metric {
        Metric::Cosine => unreachable!("it is searched for as dot"),
        Metric::Dot => pairs(y).iter().map(|(x, y)| x * y).sum(),
        Metric::L2 => -pairs(y).iter().map(|(x, y)| (x - y).powi(2)).sum::<f64>(),
    };
    rows.chunks(dim).map(similarity).collect()
}

/// All other rows, best first; ties by row.
fn brute_force(metric: Metric, rows: &[f32], dim: usize, query: usize) -> Vec<u32> {
    let similarities = similarities(metric, rows, dim, query);
    let mut others: Vec<u32> = (0..similarities.len() as u32).filter(|i| *i as usize != query).collect();
    others.sort_by(|a, b| similarities[*b as usize].total_cmp(&similarities[*a as usize]).then(a.cmp(b)));
    others
}

/// The neighbours of every row, by way of the frame.
fn framed_neighbours(backend: &dyn Backend, metric: Metric, rows: &[f32], dim: usize, k: usize) -> Vec<u32> {
    let mut framed = metric.prepare(rows, dim).into_owned();
    Frame::new(metric, &framed, dim).apply(&mut framed);
    let queries: Vec<u32> = (0..(rows.len() / dim) as u32).collect();
    neighbours(backend, metric, &framed, dim, &queries, k).expect("the device works").ids
}

/// Rows of very different lengths, far from the origin, in units that are not those of float32.
fn neighbours_are_those_of_brute_force(backend: &dyn Backend) {
    let (rows, dim, k) = (301, 13, 37);
    let plain = lengthened(cloud(rows, dim, 3), dim);
    for metric in [Metric::Dot, Metric::L2] {
        for (scale, shift) in [(1.0, 0.0), (1e-25, 0.0), (1e15, 0.0), (300.0, 1e5)] {
            let moved: Vec<f32> = plain.iter().map(|x| x * scale + shift).collect();
            let found = framed_neighbours(backend, metric, &moved, dim, k);
            for (query, found) in found.chunks(k).enumerate() {
                let similarities = similarities(metric, &moved, dim, query);
                let order = brute_force(metric, &moved, dim, query);
                let far = (similarities[order[0] as usize] - similarities[*order.last().unwrap() as usize]).abs();
                for (rank, (a, b)) in found.iter().zip(&order).enumerate() {
                    let [a, b] = [a, b].map(|i| similarities[*i as usize]);
                    let what = format!("{} x {scale} + {shift}, row {query}, rank {rank}", metric.name());
                    // Float32 tells similarities apart that differ by some ten-millionths of the longest vectors.
                    assert!((a - b).abs() <= 2e-5 * far, "{what}: {a} and not {b}, of a range of {far}");
                }
            }
        }
    }
}

/// Rows times exp(0.5 normal).
fn lengthened(mut rows: Vec<f32>, dim: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    rows.chunks_mut(dim).for_each(|row| {
        let length = (0.5 * normal(&mut rng)).exp();
        row.iter_mut().for_each(|x| *x *= length);
    });
    rows
}

/// Whole numbers, as quantised vectors have them, most of whose distances tie.
fn equally_near_rows_come_in_their_order(backend: &dyn Backend) {
    let (rows, dim, k) = (333, 5, 100);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (scale, shift) in [(1.0, 0.0), (1.0, 97.0), (0.125, -3.5), (1000.0, 0.0)] {
        let values: Vec<f32> = (0..rows * dim).map(|_| (below(5, &mut rng) as f32 + shift) * scale).collect();
        for metric in [Metric::Dot, Metric::L2] {
            let found = framed_neighbours(backend, metric, &values, dim, k);
            for (query, found) in found.chunks(k).enumerate() {
                let expected = brute_force(metric, &values, dim, query);
                assert_eq!(found, &expected[..k], "{} x {scale} + {shift}, row {query}", metric.name());
            }
        }
    }
}

fn rows_of_unit_length_have_the_same_neighbours() {
    let (rows, dim, k) = (200, 16, 50);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    // Exactly of unit length, with exact inner products, many of which tie.
    let values: Vec<f32> = (0..rows * dim).map(|_| if below(3, &mut rng) == 0 { -0.25 } else { 0.25 }).collect();
    let [cosine, dot, l2] = METRICS.map(|metric| framed_neighbours(&Cpu::new(), metric, &values, dim, k));
    assert_eq!(cosine, dot);
    assert_eq!(cosine, l2);
}

fn a_folded_map_does_to_rows_what_it_did_in_the_frame() {
    let (dim, dim_out, width) = (7, 3, 5);
    let rows: Vec<f32> = cloud(50, dim, 1).iter().map(|x| 20.0 * x + 150.0).collect();
    for metric in METRICS {
        let hidden = Hidden { weight: cloud(width, dim, 2), bias: cloud(1, width, 3), output: cloud(dim_out, width, 4) };
        let linear = Map::linear(dim, metric, cloud(dim_out, dim, 5));
        let map = Map { input_normalized: metric.normalizes(), bias: cloud(1, dim_out, 6), hidden: Some(hidden), ..linear };
        let mut framed = metric.prepare(&rows, dim).into_owned();
        let frame = Frame::new(metric, &framed, dim);
        frame.apply(&mut framed);
        let cpu = Cpu::new();
        let [expected, found] = [map.encode(&cpu, &framed).unwrap(), frame.fold(map).encode(&cpu, &rows).unwrap()];
        let largest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let nearby = expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 1e-4 * largest);
        assert!(nearby && largest > 0.1, "{}: {found:?} is not {expected:?}", metric.name());
    }
}

fn embeddings(values: Vec<f32>, dim: usize) -> Embeddings {
    Embeddings::from_values(values.len() / dim, dim, values, "a cloud").expect("finite values")
}

fn config(metric: Metric) -> TrainConfig {
    TrainConfig { metric, dim_out: 4, k: 10, epochs: Some(5), batch_size: 64, hidden: 32, ..TrainConfig::default() }
}

fn fitted(backend: &dyn Backend, embeddings: &Embeddings, config: &TrainConfig) -> Compressor {
    fit(backend, embeddings, config, &mut |_| Ok(())).expect("training succeeds")
}

/// The saved map takes rows as they are, and keeps the ranking that training saw; records name both metrics.
fn what_is_saved_is_what_was_validated() {
    let values: Vec<f32> = lengthened(cloud(400, 16, 1), 16).iter().map(|x| 30.0 * x + 40.0).collect();
    let embeddings = embeddings(values, 16);
    let cpu = Cpu::new();
    for metric in METRICS {
        for hidden in [0, 8] {
            let config = TrainConfig { hidden, ..config(metric) };
            let split = Split::new(embeddings.rows, SPLIT_SEED);
            let corpus =
                Corpus::new(&cpu, &embeddings, split.clone(), metric, config.k, config.dim_out, rank(config.hidden)).unwrap();
            let Compressor { map, meta } = train(&corpus, &config, &mut |_| Ok(())).unwrap();
            assert_eq!((meta.teacher_metric, meta.student_metric), (metric, map.metric));
            assert_eq!((meta.input_normalized, map.input_normalized), (metric.normalizes(), metric.normalizes()));
            let known = [split.train.clone(), split.val.clone()].concat();
            let rows: Vec<f32> = known.iter().flat_map(|row| embeddings.row(*row as usize).to_vec()).collect();
            let encoded = map.encode(&cpu, &rows).unwrap();
            let recall = corpus.judge.judge(&cpu, map.metric, &encoded, config.dim_out).unwrap().mean("recall@k");
            let best = &meta.history[meta.best_epoch as usize];
            assert!((recall - best.recall_k).abs() <= 5e-3, "{}: {recall} is not {best:?}", metric.name());
            let record = Evaluator::new(&corpus, &embeddings, Database::All).unwrap().evaluate(&map, 1, &[]).unwrap();
            assert_eq!((record.meta.teacher_metric, record.meta.student_metric), (metric, map.metric));
            assert!(record.metrics.map.means["recall@k"] > 5.0 * record.metrics.chance, "{:?}", record.metrics.map.means);
        }
    }
}

/// Inner products do not mind a scale, nor distances a shift: training gives the same history.
fn rows_can_be_moved_and_scaled() {
    let plain = lengthened(cloud(300, 16, 1), 16);
    for (metric, shift) in [(Metric::Dot, 0.0), (Metric::L2, 64.0)] {
        // Whole multiples of 2^-12, and powers of two: nothing is rounded.
        let exact = |x: &f32| (x * 4096.0).round() / 4096.0;
        let before: Vec<f32> = plain.iter().map(exact).collect();
        let after = before.iter().map(|x| (x + shift) * 256.0).collect();
        let [before, after] = [before, after].map(|values| fitted(&Cpu::new(), &embeddings(values, 16), &config(metric)).meta);
        assert_eq!(before.history, after.history, "{}", metric.name());
        let ratio = after.teacher_temperature / before.teacher_temperature;
        assert!((ratio - 65_536.0).abs() < 1.0, "{}: temperatures are in units of the rows: {ratio}", metric.name());
    }
}

fn rows_of_zeros_have_neighbours() {
    let mut values = cloud(300, 16, 1);
    values[16 * 20..][..16].fill(0.0);
    let embeddings = embeddings(values, 16);
    for metric in [Metric::Dot, Metric::L2] {
        let compressor = fitted(&Cpu::new(), &embeddings, &TrainConfig { hidden: 0, ..config(metric) });
        assert_eq!(compressor.compress(&Cpu::new(), &[0.0; 16]).unwrap(), compressor.map.bias, "{}", metric.name());
    }
    let error = fit(&Cpu::new(), &embeddings, &config(Metric::Cosine), &mut |_| Ok(())).expect_err("zeros have no direction");
    assert!(error.to_string().contains("row 20"), "{error}");
}

/// On the bundled sample with lengths that vary, with a hidden layer.
fn training_helps() {
    let sample = crate::runs::sample(1500);
    let rows = embeddings(lengthened(sample.values, sample.dim), sample.dim);
    for metric in METRICS {
        let config = TrainConfig { metric, dim_out: 16, epochs: Some(6), hidden: 128, ..TrainConfig::default() };
        let history = fitted(&Cpu::new(), &rows, &config).meta.history;
        let (start, epochs) = history.split_first().expect("there is a start");
        let highest = epochs.iter().fold(0.0f64, |highest, epoch| highest.max(epoch.recall_10));
        assert!(highest > start.recall_10 && epochs[5].loss < epochs[0].loss, "{}: {history:?}", metric.name());
    }
}

fn a_gpu_trains_as_the_cpu_does(gpu: &dyn Backend) {
    let rows = embeddings(lengthened(cloud(250, 24, 1), 24), 24);
    for metric in METRICS {
        let config = TrainConfig { epochs: Some(2), lambda_hard: 0.5, hard_neg_l: Some(40), ..config(metric) };
        let [cpu, gpu] = [&Cpu::new() as &dyn Backend, gpu].map(|backend| fitted(backend, &rows, &config).meta);
        assert_eq!((cpu.history.len(), &cpu.init), (gpu.history.len(), &gpu.init));
        for (a, b) in cpu.history.iter().zip(&gpu.history) {
            let near = (a.recall_k - b.recall_k).abs() <= 0.02 && (a.recall_10 - b.recall_10).abs() <= 0.02;
            let losses = a.loss.zip(b.loss).is_none_or(|(a, b)| (a - b).abs() <= 1e-3 * a.abs());
            assert!(near && losses, "{}: {a:?} on the cpu, {b:?} on the gpu", metric.name());
        }
    }
}
