//! Cases of the op.

use super::{Config, nearest};
use crate::case::{Case, Fill};

#[derive(Clone)]
struct Setup {
    name: &'static str,
    /// Queries, rows of a block, dimensions.
    shape: [u32; 3],
    k: u32,
    queries: Fill,
    block: Fill,
    /// Blocks that are searched, one a step, and rows that the last one has.
    steps: u32,
    rest: u32,
    exclude: bool,
    offset: bool,
}

fn setup(name: &'static str, shape: [u32; 3], k: u32, fill: Fill) -> Setup {
    let [queries, block] = [fill.clone(), fill];
    Setup { name, shape, k, queries, block, steps: 1, rest: shape[1], exclude: false, offset: false }
}

pub(super) fn all() -> Vec<Case> {
    let mut setups = Vec::new();
    for (shape, k) in [([1, 1, 1], 1), ([3, 7, 5], 7), ([65, 129, 33], 10), ([64, 128, 8], 64), ([5, 1000, 16], 65)] {
        setups.push(setup("normal", shape, k, Fill::Normal));
    }
    // Products of few quarters are exact, and mostly equal.
    for (shape, k) in [([70, 300, 64], 50), ([2, 1300, 4], 257), ([3, 2049, 3], 1024), ([1, 5000, 2], 20), ([130, 4200, 4], 33)] {
        setups.push(setup("ties", shape, k, Fill::Ties));
    }
    setups.push(setup("all equal", [3, 3000, 4], 100, Fill::Constant(-0.5)));
    // Enough queries, rows and dimensions for the CPU to round them: all too near each other, many, few, with an offset, in steps.
    setups.push(setup("all equal", [40, 900, 200], 100, Fill::Constant(-0.5)));
    setups.push(setup("ties", [40, 2000, 192], 33, Fill::Ties));
    setups.push(setup("heavy-tailed", [40, 900, 231], 20, Fill::HeavyTailed));
    setups.push(Setup { offset: true, exclude: true, ..setup("offset excluded", [33, 300, 450], 12, Fill::Normal) });
    setups.push(Setup { steps: 3, rest: 290, exclude: true, ..setup("steps excluded", [50, 300, 200], 10, Fill::Normal) });
    setups.push(setup("fewer than k", [3, 40, 6], 100, Fill::Normal));
    // Every score beats the bar, so that all queues overflow in every tile; and no score does.
    let one = Fill::Constant(1.0);
    let rising = Fill::Exact((0..700).map(|i| i as f32).collect());
    let falling = Fill::Exact((0..700).map(|i| -i as f32).collect());
    for (name, block) in [("rising", rising), ("falling", falling)] {
        for (rows, k) in [(67, 30), (3, 300)] {
            setups.push(Setup { block: block.clone(), ..setup(name, [rows, 700, 1], k, one.clone()) });
        }
    }
    setups.push(Setup { exclude: true, ..setup("excluded", [9, 30, 7], 6, Fill::Ties) });
    setups.push(Setup { offset: true, ..setup("offset", [9, 130, 12], 20, Fill::Ties) });
    let steps = Setup { steps: 3, rest: 17, exclude: true, ..setup("steps excluded", [9, 30, 8], 6, Fill::Normal) };
    setups.push(Setup { offset: true, ..steps.clone() });
    setups.push(steps);
    setups.push(Setup { steps: 4, rest: 1, ..setup("steps", [3, 300, 20], 280, Fill::Normal) });
    setups.push(Setup { steps: 3, rest: 1500, ..setup("steps ties", [2, 2000, 4], 60, Fill::Ties) });
    setups.into_iter().map(case).collect()
}

pub(super) fn bench() -> Vec<Case> {
    [[1024, 16_384, 64], [1024, 16_384, 128]].map(|shape| case(setup("normal", shape, 50, Fill::Normal))).into()
}

fn case(setup: Setup) -> Case {
    let Setup { name, shape: [rows, cols, dim], k, steps, rest, exclude, offset, .. } = setup;
    Case::new(format!("{name} {rows}x{cols}x{dim} k={k}{}", if offset { " offset" } else { "" }), |case| {
        let queries = case.input("queries", [rows, dim], setup.queries);
        let block = case.input("block", [cols, dim], setup.block);
        let best_scores = case.output("best_scores", [rows, k]);
        let best_ids = case.output_indices("best_ids", [rows, k]);
        let first = 5;
        let offset = offset.then(|| case.input("offset", [1, cols], Fill::Ties));
        let excluded = exclude.then(|| case.input("excluded", [1, rows], Fill::Below(first + steps * cols)));
        case.steps = steps;
        let end = first + (steps - 1) * cols + rest;
        let config = Config { first, per_step: cols, rows: end, offset, excluded, carry_from: 1 };
        nearest(&mut case.plan, queries, block, best_scores, best_ids, config);
    })
}
