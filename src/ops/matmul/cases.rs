//! Products that tests compare and benches time.

use super::variant::Variant;
use super::{Layout, Matmul, Product, code, matmul, record_by};
use crate::case::{Case, Fill, GradientCheck};
use crate::op::Write;
use crate::plan::{Limits, Plan};
use crate::tensor::Tensor;

pub(super) fn all() -> Vec<Case> {
    use Layout::{NN, NT, TN};
    let mut cases = Vec::new();
    for layout in [NN, NT, TN] {
        for [m, n, k] in [[1, 1, 1], [3, 5, 7], [33, 65, 31], [64, 64, 64], [65, 63, 33], [16, 1, 1], [1, 130, 4], [128, 36, 100]] {
            cases.push(case(format!("{layout:?} {m}x{n}x{k}"), Limits::NONE, layout, [1, m, n, k], Fill::Normal, Write::Set));
        }
        // Enough tiles for the larger tile, in both ways of access.
        cases.push(case(format!("{layout:?} 512x520x20"), Limits::NONE, layout, [1, 512, 520, 20], Fill::Normal, Write::Set));
        cases.push(case(format!("{layout:?} 511x515x19"), Limits::NONE, layout, [1, 511, 515, 19], Fill::Normal, Write::Add));
        cases.push(case(format!("{layout:?} add 40x24x48"), Limits::NONE, layout, [1, 40, 24, 48], Fill::Normal, Write::Add));
        cases.push(case(format!("{layout:?} batch 3 20x28x36"), Limits::NONE, layout, [3, 20, 28, 36], Fill::Normal, Write::Set));
        cases.push(case(format!("{layout:?} batch 2 add 5x7x9"), Limits::NONE, layout, [2, 5, 7, 9], Fill::Normal, Write::Add));
        cases.push(case(format!("{layout:?} heavy-tailed"), Limits::NONE, layout, [1, 30, 30, 50], Fill::HeavyTailed, Write::Set));
        let limits = Limits { binding_bytes: 4 * 64 * 80, ..Limits::NONE };
        // Every operand spans windows but the result of TN, which must not.
        let shape = if layout == TN { [1, 64, 70, 160] } else { [1, 160, 130, 70] };
        cases.push(case(format!("{layout:?} row windows"), limits, layout, shape, Fill::Normal, Write::Set));
        // More than may be done at once, of rows of C or of contraction indices.
        let limits = Limits { product_flops: 200_000, ..Limits::NONE };
        cases.push(case(format!("{layout:?} in pieces"), limits, layout, [1, 300, 20, 290], Fill::Normal, Write::Set));
        cases.push(case(format!("{layout:?} in pieces of a batch"), limits, layout, [2, 150, 21, 141], Fill::Normal, Write::Add));
        cases.extend(variants(layout));
    }
    // Enough of them for several threads.
    cases.extend([[7, 5], [130, 33], [300, 70], [520, 41]].map(by_itself));
    cases
}

/// What training and search multiply.
const SHAPES: [(Layout, [u32; 3]); 13] = {
    use Layout::{NN, NT, TN};
    [
        // Scores: of a batch, of teachers in many dimensions, of compressed rows.
        (NT, [1024, 1024, 1024]),
        (NT, [512, 4096, 384]),
        (NT, [512, 4096, 4096]),
        (NT, [512, 4096, 64]),
        // Maps of many rows to few dimensions.
        (NT, [4096, 32, 384]),
        (NT, [4096, 64, 4096]),
        // Backward.
        (NN, [512, 32, 4096]),
        (TN, [32, 384, 4096]),
        (TN, [64, 4096, 512]),
        // A hidden layer's second weights: forward, and backward by the units and by the weights.
        (NT, [4096, 32, 1024]),
        (NN, [4096, 1024, 32]),
        (TN, [32, 1024, 4096]),
        // What libraries are compared by.
        (NT, [4096, 4096, 4096]),
    ]
};

pub(super) fn bench() -> Vec<Case> {
    SHAPES.into_iter().map(|(layout, shape)| bench_case(matmul, Limits::NONE, layout, shape)).collect()
}

/// The bench cases of [`Matmul`], each in every variant of its shaders, of which the first is what shapes are given. Names tell the variant.
pub fn by_variant() -> Vec<Vec<Case>> {
    let variants = |(layout, shape): (Layout, [u32; 3])| {
        let [m, n, k] = shape;
        let case = |variant: Variant| {
            let record = |plan: &mut Plan, layout, a, b, c, write| record_by::<Matmul>(plan, layout, [a, b, c], code(write), |_| variant);
            let mut case = bench_case(record, Limits::NONE, layout, shape);
            case.name = format!("{} by {variant}", case.name);
            case
        };
        Variant::all([1, m, n, k]).into_iter().map(case).collect()
    };
    SHAPES.into_iter().map(variants).collect()
}

/// A product of noise, which only what times it makes.
pub(super) fn bench_case(
    product: impl FnOnce(&mut Plan, Layout, Tensor, Tensor, Tensor, Write),
    limits: Limits,
    layout: Layout,
    [m, n, k]: [u32; 3],
) -> Case {
    let on = limits.matrix_units.map(|units| format!(" on {units}")).unwrap_or_default();
    Case::with_limits(format!("{layout:?} {m}x{n}x{k}{on}"), limits, |case| {
        let a = case.plan.input("a", if layout == Layout::TN { [k, m] } else { [m, k] });
        let b = case.plan.input("b", if layout == Layout::NT { [n, k] } else { [k, n] });
        let c = case.output("c", [m, n]);
        product(&mut case.plan, layout, a, b, c, Write::Set);
    })
}

/// The variants that the rule keeps for products too large for tests, on small ones: with whole and broken tiles, aligned and not.
fn variants(layout: Layout) -> Vec<Case> {
    let shapes = [[1, 128, 128, 64], [1, 130, 201, 39], [2, 68, 260, 20], [2, 33, 30, 1]];
    let tiles = [[128, 128], [128, 64], [64, 128]];
    let mut cases = Vec::new();
    for shape @ [batch, m, n, k] in shapes {
        for tile in tiles {
            let name = format!("{layout:?} {}x{} tile {batch} {m}x{n}x{k}", tile[0], tile[1]);
            cases.push(case_by(|[.., k]| Variant::whole(tile, k), name, Limits::NONE, layout, shape, Fill::Normal, Write::Add));
        }
    }
    // Contractions in parts, of which the last is shorter.
    for (tile, shape, parts) in [([128, 128], [1, 140, 132, 200], 3), ([64, 64], [2, 65, 66, 129], 2), ([32, 32], [3, 12, 20, 300], 8)] {
        for write in [Write::Set, Write::Add] {
            let [batch, m, n, k] = shape;
            let name = format!("{layout:?} {parts} parts of {}x{} tiles {write:?} {batch} {m}x{n}x{k}", tile[0], tile[1]);
            let choose = |[.., k]: [u32; 4]| Variant::split(tile, k, parts);
            cases.push(case_by(choose, name, Limits::NONE, layout, shape, Fill::Normal, write));
        }
    }
    // As the rule has it.
    let shape = [1, 32, 96, 4096];
    cases.push(case(format!("{layout:?} long contraction"), Limits::NONE, layout, shape, Fill::Normal, Write::Set));
    let limits = Limits { binding_bytes: 1 << 19, ..Limits::NONE };
    cases.push(case(format!("{layout:?} long, row windows"), limits, layout, [1, 40, 30, 5000], Fill::Normal, Write::Set));
    cases
}

/// Inner products of the rows of one matrix.
fn by_itself([n, k]: [u32; 2]) -> Case {
    Case::new(format!("NT {n}x{k} by itself"), |case| {
        let rows = case.input("rows", [n, k], Fill::Normal);
        let products = case.output("products", [n, n]);
        matmul(&mut case.plan, Layout::NT, rows, rows, products, Write::Set);
    })
}

fn case(name: String, limits: Limits, layout: Layout, shape: [u32; 4], fill: Fill, write: Write) -> Case {
    case_by(Variant::choose, name, limits, layout, shape, fill, write)
}

fn case_by(
    choose: impl Fn([u32; 4]) -> Variant,
    name: String,
    limits: Limits,
    layout: Layout,
    [batch, m, n, k]: [u32; 4],
    fill: Fill,
    write: Write,
) -> Case {
    Case::with_limits(name, limits, |case| {
        let [a, b, c] = operands(case, layout, [batch, m, n, k], fill);
        record_by::<Matmul>(&mut case.plan, layout, [a, b, c], code(write), choose);
        // d(sum of g C)/dA, with the layouts that backward passes use: the three layouts check each other.
        if m * n * k <= 1000 && batch == 1 && write == Write::Set {
            let g = case.input("g", [m, n], Fill::Normal);
            let gradient = case.output("gradient", [a.rows(), a.cols()]);
            match layout {
                Layout::NN => matmul(&mut case.plan, Layout::NT, g, b, gradient, Write::Set),
                Layout::NT => matmul(&mut case.plan, Layout::NN, g, b, gradient, Write::Set),
                Layout::TN => matmul(&mut case.plan, Layout::NT, b, g, gradient, Write::Set),
            }
            case.gradients.push(GradientCheck { wrt: a, output: c, upstream: Some(g), gradient });
        }
    })
}

/// A product by an op whose factors may be rounded.
pub(super) fn rounded_case(
    product: Product,
    name: String,
    limits: Limits,
    layout: Layout,
    shape: [u32; 4],
    fill: Fill,
    write: Write,
) -> Case {
    Case::with_limits(name, limits, |case| {
        let [a, b, c] = operands(case, layout, shape, fill);
        product(&mut case.plan, layout, a, b, c, write);
    })
}

fn operands(case: &mut Case, layout: Layout, [batch, m, n, k]: [u32; 4], fill: Fill) -> [Tensor; 3] {
    let a = case.input("a", if layout == Layout::TN { [batch, k, m] } else { [batch, m, k] }, fill.clone());
    let b = case.input("b", if layout == Layout::NT { [batch, n, k] } else { [batch, k, n] }, fill);
    [a, b, case.in_out("c", [batch, m, n], Fill::Normal)]
}
