//! What a peer's step takes for the gradient of its loss, against central differences of that loss on the f64 oracle.

use super::Peers;
use super::descent::{Student, Task};
use crate::backend::{Cpu, Oracle, Program};
use crate::corpus::Corpus;
use crate::data::{Embeddings, Split};
use crate::metric::Metric;
use crate::random::normal;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const STEP: f64 = 1e-6;

/// Calls a test with peers of 40 x 7 numbers.
pub(super) fn with_peers(test: impl FnOnce(&Peers<'_>)) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values = (0..40 * 7).map(|_| 0.5 + normal(&mut rng)).collect();
    let embeddings = Embeddings::from_values(40, 7, values, "a cloud").unwrap();
    let cpu = Cpu::new();
    let corpus = Corpus::new(&cpu, &embeddings, Split::new(40, 1), Metric::Cosine, 5, 3, 0).unwrap();
    test(&Peers::new(&corpus).unwrap());
}

/// Compares every derivative of the first step: those that parameters are updated by, of the sum of what losses write.
pub(super) fn differentiate(task: Task<impl Student>) {
    let Task { plan, step, mut student, .. } = task;
    let nodes: Vec<_> = plan.routines().concat();
    let parameters = nodes.iter().filter(|node| node.op.name() == "adamw").map(|node| [node.inputs[0], node.outputs[0]]);
    let losses: Vec<_> =
        nodes.iter().filter(|n| ["lp_loss", "listwise_kl"].contains(&n.op.name())).map(|n| n.outputs[1]).collect();
    let mut program = Oracle::new().compile_host(plan).unwrap();
    student.write(&mut program).unwrap();
    student.feed(&mut program, 1).unwrap();
    // The schedule is zeros as it starts: parameters stay.
    program.run(step, 0..1).unwrap();
    let claimed: Vec<_> = parameters.map(|[gradient, value]| (program.read_real(gradient), value)).collect();
    let largest = claimed.iter().flat_map(|(claimed, _)| claimed).fold(0.0, |largest: f64, x| largest.max(x.abs()));
    assert!(claimed.len() >= 2 && !losses.is_empty());
    for (claimed, parameter) in claimed {
        let values = program.read_real(parameter);
        assert!(claimed.iter().any(|x| x.abs() > 1e-5 * largest), "{parameter} does not matter");
        for (at, claimed) in claimed.into_iter().enumerate() {
            let mut loss = |change: f64| -> f64 {
                let mut varied = values.clone();
                varied[at] += change;
                program.write_real(parameter, &varied);
                program.run(step, 0..1).unwrap();
                losses.iter().flat_map(|loss| program.read_real(*loss)).sum()
            };
            let measured = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            // NaN does not agree.
            let agrees = (claimed - measured).abs() <= 1e-6 * largest;
            assert!(agrees, "d loss/d {parameter}, element {at}: {claimed} claimed, {measured} measured");
        }
        program.write_real(parameter, &values);
    }
}
