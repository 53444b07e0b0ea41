//! What a training step takes for the gradient of its loss, against central differences of that loss on the f64 oracle.

use embedding_compressor::backend::{Oracle, Program};
use embedding_compressor::config::{StudentTau, TrainConfig};
use embedding_compressor::frame::Frame;
use embedding_compressor::metric::{Metric, normalize_rows};
use embedding_compressor::model::{Hidden, Map};
use embedding_compressor::noise::PARTS;
use embedding_compressor::objective::{Objective, Prefix, Rounding, Shape, Temperatures, write_rows};
use embedding_compressor::ops::columns;
use embedding_compressor::plan::{Limits, Node};
use embedding_compressor::tensor::{DType, Tensor};
use libtest_mimic::Trial;

use crate::rows::cloud;
use crate::test;

const ROWS: usize = 12;
const DIM: usize = 6;
const DIM_OUT: usize = 4;
const ANCHORS: [u32; 4] = [3, 0, 11, 7];
const STEP: f64 = 1e-5;

const TEMPERATURES: Temperatures = Temperatures { teacher: 0.2, student: 0.3 };

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    // Of teacher and student.
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        for (losses, lambda_list, lambda_hard) in [("list", 1.0, 0.0), ("hard", 0.0, 1.0), ("both", 1.0, 0.5)] {
            // One dimension is no case: its cosines are 1 or -1 and have no derivative.
            for (nesting, dims) in [("alone", &[DIM_OUT][..]), ("nested", &[2, 3, DIM_OUT])] {
                for (candidates, hidden, noise, dim) in [(12, 0, 0.0, 6), (9, 0, 0.5, 6), (12, 5, 0.5, 8), (9, 5, 0.0, 8)] {
                    let name = format!(
                        "gradient of the loss::{}, {losses}, {nesting}, {candidates} candidates, {hidden} hidden, noise {noise}, {dim} columns",
                        metric.name()
                    );
                    let weighted = dims.iter().zip([1.0, 0.5, 2.0]);
                    let prefixes: Vec<Prefix> =
                        weighted.map(|(&dims, weight)| Prefix { dims, weight, temperatures: TEMPERATURES }).collect();
                    let config = TrainConfig {
                        metric,
                        k: 3,
                        hidden,
                        dropout: 0.2,
                        noise,
                        lambda_list,
                        lambda_hard,
                        hard_neg_l: Some(8),
                        hard_neg_per_anchor: 2,
                        ..TrainConfig::default()
                    };
                    trials.push(Trial::test(name, move || {
                        differentiate(metric, &config, &prefixes, candidates, dim);
                        Ok(())
                    }));
                }
            }
        }
    }
    trials.push(test("objective::a batch above the binding limit is an error", a_batch_above_the_binding_limit_is_an_error));
    trials.push(test("objective::a fixed temperature is no parameter", a_fixed_temperature_is_no_parameter));
    trials
}

fn a_fixed_temperature_is_no_parameter() {
    let shape =
        Shape { rows: 12, dim: DIM as u32, steps: 1, batch: 4, candidates: 9, teacher: Rounding::None, coarse_inputs: false };
    let start = Map::linear(DIM, Metric::Cosine, cloud(DIM_OUT, DIM, 1));
    let updated = |student_tau| {
        let config = TrainConfig { student_tau, ..TrainConfig::default() };
        let prefixes = [Prefix { dims: DIM_OUT, weight: 1.0, temperatures: TEMPERATURES }];
        let (plan, objective) = Objective::record(Limits::NONE, &shape, &config, &start, &prefixes);
        let parameters = parameters(&plan.routines().concat());
        let temperatures = &objective.log_inverse_temperatures;
        parameters.into_iter().filter(|[_, value]| temperatures.contains(value)).count()
    };
    assert_eq!((updated(StudentTau::Learnt), updated(StudentTau::Fixed(0.3))), (1, 0));
}

/// Losses take the scores of a step whole.
fn a_batch_above_the_binding_limit_is_an_error() {
    let shape = Shape { rows: 12, dim: 2, steps: 1, batch: 8, candidates: 9, teacher: Rounding::None, coarse_inputs: false };
    let start = Map::linear(2, Metric::Cosine, cloud(1, 2, 1));
    let compiled = |binding_bytes: u64| {
        let prefixes = [Prefix { dims: 1, weight: 1.0, temperatures: TEMPERATURES }];
        let (plan, _) =
            Objective::record(Limits { binding_bytes, ..Limits::NONE }, &shape, &TrainConfig::default(), &start, &prefixes);
        Oracle::new().compile_host(plan).map(drop)
    };
    compiled(8 * 9 * 4).expect("the scores fit");
    let error = compiled(8 * 9 * 4 - 4).expect_err("the scores do not fit");
    assert_eq!(error.exit_code(), 4);
    let message = error.to_string();
    assert!(["teacher scores [8, 9]", "288", "284"].iter().all(|part| message.contains(part)), "{message}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--batch-size")), "{error:?}");
}

/// The network takes [`DIM`] coordinates of rows of `dim` columns.
fn differentiate(metric: Metric, config: &TrainConfig, prefixes: &[Prefix], candidates: u32, dim: usize) {
    let shape = Shape {
        rows: ROWS as u32,
        dim: dim as u32,
        steps: 1,
        batch: ANCHORS.len() as u32,
        candidates,
        teacher: Rounding::None,
        coarse_inputs: false,
    };
    let mut start = Map::linear(DIM, metric, cloud(DIM_OUT, DIM, 2));
    if config.hidden > 0 {
        let width = config.hidden;
        start.hidden = Some(Hidden { weight: cloud(width, DIM, 3), bias: vec![0.0; width], output: cloud(DIM_OUT, width, 4) });
    }
    // As a GPU stores a sample's source.
    let limits = Limits { half_rows: config.noise > 0.0, ..Limits::NONE };
    let (plan, objective) = Objective::record(limits, &shape, config, &start, prefixes);
    let halves = limits.half_rows && metric.normalizes() && (candidates as usize) < ROWS;
    assert_eq!(objective.rows.dtype == DType::U32, halves, "float16 is for samples of rows of unit length");
    let parameters = parameters(&plan.routines().concat());
    let mut program = Oracle::new().compile_host(plan).expect("the plan is small");

    let candidates: Vec<u32> = (0..ROWS as u32).rev().take(candidates as usize).collect();
    let device: &mut dyn Program = &mut program;
    for rows in [objective.rows, objective.inputs] {
        let dim = columns(rows) as usize;
        let mut known = cloud(ROWS, dim, 1);
        Frame::new(metric, &known, dim).apply(&mut known);
        if metric.normalizes() {
            normalize_rows(&mut known, dim);
        }
        write_rows(device, rows, &known).unwrap();
    }
    if let Some([parts, weights]) = objective.blends {
        let drawn: Vec<u32> = ANCHORS.iter().flat_map(|anchor| [*anchor, (anchor + 1) % 12, (anchor + 5) % 12]).collect();
        device.write(parts, &drawn[..]).unwrap();
        device.write(weights, &cloud(ANCHORS.len(), PARTS, 5)[..]).unwrap();
    }
    if let Some((_, routine)) = objective.table {
        device.run(routine, 0..1).unwrap();
    }
    device.write(objective.anchors, &ANCHORS[..]).unwrap();
    device.write(objective.candidates, &candidates[..]).unwrap();
    // With a rate of zero the parameters stay as they are.
    device.write(objective.schedule, &[0.0, 10.0, 1000.0][..]).unwrap();
    for (value, seed) in parameters.iter().map(|[_, value]| value).zip(10..) {
        device.write(*value, &cloud(value.rows() as usize, value.cols() as usize, seed)[..]).unwrap();
    }
    // Distances do not know a bias.
    let layers = 1 + usize::from(metric != Metric::L2) + if config.hidden > 0 { 3 } else { 0 };
    assert_eq!(parameters.len(), layers + prefixes.len(), "weights, biases, temperatures");
    program.run(objective.step, 0..1).unwrap();
    let gradients: Vec<Vec<f64>> = parameters.iter().map(|[gradient, _]| program.read_real(*gradient)).collect();
    let largest = gradients.iter().flatten().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    assert!(largest > 1e-3, "there is something to learn");

    for ([_, parameter], gradient) in parameters.iter().zip(gradients) {
        let values = program.read_real(*parameter);
        assert!(gradient.iter().any(|x| x.abs() > 1e-6 * largest) || metric == Metric::Dot, "{parameter} does not matter");
        for (at, claimed) in gradient.into_iter().enumerate() {
            let mut loss = |change: f64| {
                let mut varied = values.clone();
                varied[at] += change;
                program.write_real(*parameter, &varied);
                program.run(objective.step, 0..1).unwrap();
                program.read_real(objective.losses)[0]
            };
            let measured = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            // NaN does not agree.
            let agrees = (claimed - measured).abs() <= 1e-6 * largest;
            assert!(agrees, "d loss/d {parameter}, element {at}: {claimed} claimed, {measured} measured");
        }
        program.write_real(*parameter, &values);
    }
}

/// Gradient and value of whatever the optimiser updates.
fn parameters(nodes: &[Node]) -> Vec<[Tensor; 2]> {
    nodes.iter().filter(|node| node.op.name() == "adamw").map(|node| [node.inputs[0], node.outputs[0]]).collect()
}
