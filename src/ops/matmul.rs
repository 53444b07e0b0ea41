//! Batched matrix product in the three layouts that training and search need.

use bytemuck::{Pod, Zeroable};

use crate::case::{Case, Fill, GradientCheck};
use crate::gemm::{Matrix, gemm};
use crate::op::{Cost, Io, Op, Pass, Tolerance, Write, shader};
use crate::plan::{Limits, Plan, Window};
use crate::tensor::Tensor;

/// Which operand is stored transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// C = A B: A `[m, k]`, B `[k, n]`.
    NN,
    /// C = A Bᵀ: A `[m, k]`, B `[n, k]`.
    NT,
    /// C = Aᵀ B: A `[k, m]`, B `[k, n]`.
    TN,
}

/// C = A B (or += ) in a layout; every operand may be batched, and `a`, `b` and (in NN and NT) `c` may span row windows.
///
/// # Panics
/// If the shapes do not fit together.
pub fn matmul(plan: &mut Plan, layout: Layout, a: Tensor, b: Tensor, c: Tensor, write: Write) {
    let (m, k) = if layout == Layout::TN { (a.cols(), a.rows()) } else { (a.rows(), a.cols()) };
    let (n, inner) = if layout == Layout::NT { (b.rows(), b.cols()) } else { (b.cols(), b.rows()) };
    assert!(k == inner, "matmul {layout:?}: inner dimensions differ: {a} x {b}");
    assert!(c.rows() == m && c.cols() == n, "matmul {layout:?}: {a} x {b} does not make {c}");
    let batch = c.shape.batch;
    assert!(a.shape.batch == batch && b.shape.batch == batch, "matmul {layout:?}: batches differ: {a} x {b} -> {c}");
    let whole = Params {
        step: 0,
        m,
        n,
        k,
        lda: a.cols(),
        ldb: b.cols(),
        ldc: c.cols(),
        a_offset: 0,
        b_offset: 0,
        c_offset: 0,
        a_stride: stride(a),
        b_stride: stride(b),
        c_stride: stride(c),
        batch,
        accumulate: u32::from(write == Write::Add),
        a_by_k: u32::from(layout == Layout::TN),
        b_by_k: u32::from(layout != Layout::NT),
    };
    // Rows of A are rows of C (NN, NT) or contraction indices (TN); rows of B are contraction indices (NN) or columns of C (NT).
    if layout == Layout::TN {
        for o in overlaps(plan, a, b) {
            let params = Params {
                k: o.rows,
                a_offset: o.left_row * whole.lda,
                b_offset: o.right_row * whole.ldb,
                accumulate: whole.accumulate | u32::from(o.first_row > 0),
                ..whole
            };
            plan.push::<Matmul>(params, &[o.left, o.right], &[c]);
        }
        return;
    }
    let b_windows: Vec<Window> = plan.windows(b).collect();
    for o in overlaps(plan, a, c) {
        for w in &b_windows {
            let mut params =
                Params { m: o.rows, a_offset: o.left_row * whole.lda, c_offset: o.right_row * whole.ldc, ..whole };
            if layout == Layout::NT {
                params.n = w.tensor.rows();
                params.c_offset += w.first_row;
            } else {
                params.k = w.tensor.rows();
                params.a_offset += w.first_row;
                params.accumulate |= u32::from(w.first_row > 0);
            }
            plan.push::<Matmul>(params, &[o.left, w.tensor], &[o.right]);
        }
    }
}

/// Elements from a matrix of a batch to the next; a single matrix may have more elements than fit the number.
fn stride(tensor: Tensor) -> u32 {
    if tensor.shape.batch == 1 { 0 } else { tensor.rows() * tensor.cols() }
}

/// Rows that lie in one window of `left` and in one window of `right`.
struct Overlap {
    left: Tensor,
    right: Tensor,
    /// First row in the whole tensors, in the left window, in the right window.
    first_row: u32,
    left_row: u32,
    right_row: u32,
    rows: u32,
}

fn overlaps(plan: &Plan, left: Tensor, right: Tensor) -> Vec<Overlap> {
    let mut found = Vec::new();
    for l in plan.windows(left) {
        for r in plan.windows(right) {
            let first_row = l.first_row.max(r.first_row);
            let end = (l.first_row + l.tensor.rows()).min(r.first_row + r.tensor.rows());
            if first_row < end {
                found.push(Overlap {
                    left: l.tensor,
                    right: r.tensor,
                    first_row,
                    left_row: first_row - l.first_row,
                    right_row: first_row - r.first_row,
                    rows: end - first_row,
                });
            }
        }
    }
    found
}

/// The op; [`matmul`] records it.
pub struct Matmul;

/// Parameters of [`Matmul`]; leading dimensions, offsets and strides (from matrix to matrix of a batch) in elements.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    m: u32,
    n: u32,
    k: u32,
    lda: u32,
    ldb: u32,
    ldc: u32,
    a_offset: u32,
    b_offset: u32,
    c_offset: u32,
    a_stride: u32,
    b_stride: u32,
    c_stride: u32,
    batch: u32,
    accumulate: u32,
    a_by_k: u32,
    b_by_k: u32,
}

impl Params {
    /// Side of the tile of C that a workgroup makes: 64, or 32 where 64 would leave most of a GPU without work.
    fn tile(&self) -> u32 {
        let workgroups = self.m.div_ceil(64) * self.n.div_ceil(64) * self.batch;
        if workgroups < 64 { 32 } else { 64 }
    }

    /// Whether every vector of four lies within a row and at a multiple of four.
    fn aligned(&self) -> bool {
        let contiguous = [if self.a_by_k != 0 { self.m } else { self.k }, if self.b_by_k != 0 { self.n } else { self.k }, self.n];
        let steps = [self.lda, self.ldb, self.ldc, self.a_offset, self.b_offset, self.c_offset];
        let strides = [self.a_stride, self.b_stride, self.c_stride];
        let strides = if self.batch > 1 { &strides[..] } else { &[] };
        contiguous.iter().chain(&steps).chain(strides).all(|x| x % 4 == 0)
    }

    /// (row step, column step) of A as `[m, k]` and of B as `[k, n]`.
    fn steps(&self) -> [(usize, usize); 2] {
        let (lda, ldb) = (self.lda as usize, self.ldb as usize);
        [if self.a_by_k != 0 { (1, lda) } else { (lda, 1) }, if self.b_by_k != 0 { (ldb, 1) } else { (1, ldb) }]
    }

    /// First elements of A, B and C of one matrix of the batch.
    fn bases(&self, batch: u32) -> [usize; 3] {
        [
            (self.a_offset + batch * self.a_stride) as usize,
            (self.b_offset + batch * self.b_stride) as usize,
            (self.c_offset + batch * self.c_stride) as usize,
        ]
    }
}

impl Op for Matmul {
    const NAME: &'static str = "matmul";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-6);

    fn passes(p: &Params) -> Vec<Pass> {
        let tile = p.tile();
        let shader = if p.aligned() {
            shader!("matmul", "operands_vec4", "product_vec4")
        } else {
            shader!("matmul", "operands_scalar", "product_scalar")
        };
        let constants = vec![("TILE", tile), ("A_BY_K", p.a_by_k), ("B_BY_K", p.b_by_k)];
        vec![Pass { shader, constants, grid: [p.n.div_ceil(tile), p.m.div_ceil(tile), p.batch] }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([a, b], [c]) = io.take();
        let (a, b, c) = (a.real(), b.real(), c.real());
        let [(a_row, a_col), (b_row, b_col)] = p.steps();
        let shape = [p.m, p.n, p.k].map(|length| length as usize);
        for batch in 0..p.batch {
            let [a0, b0, c0] = p.bases(batch);
            let a = Matrix { data: &a[a0..], row_step: a_row, col_step: a_col };
            let b = Matrix { data: &b[b0..], row_step: b_row, col_step: b_col };
            gemm(shape, a, b, &mut c[c0..], p.ldc as usize, p.accumulate != 0);
        }
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([a, b], [c]) = io.take();
        let (a, b, c) = (a.real(), b.real(), c.real());
        let [(a_row, a_col), (b_row, b_col)] = p.steps();
        for batch in 0..p.batch {
            let [a0, b0, c0] = p.bases(batch);
            for i in 0..p.m as usize {
                for j in 0..p.n as usize {
                    let product = |l: usize| a[a0 + i * a_row + l * a_col] * b[b0 + l * b_row + j * b_col];
                    let sum = (0..p.k as usize).map(product).sum::<f64>();
                    let c = &mut c[c0 + i * p.ldc as usize + j];
                    *c = if p.accumulate != 0 { *c + sum } else { sum };
                }
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let (m, n, k, batch) = (u64::from(p.m), u64::from(p.n), u64::from(p.k), u64::from(p.batch));
        Cost { flops: 2 * m * n * k * batch, bytes: 4 * batch * (m * k + k * n + m * n * (1 + u64::from(p.accumulate))) }
    }

    fn cases() -> Vec<Case> {
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
        }
        cases
    }

    fn bench_cases() -> Vec<Case> {
        let shapes = [(Layout::NT, [1, 1024, 1024, 1024]), (Layout::NT, [1, 512, 4096, 384]), (Layout::NT, [1, 4096, 32, 384])];
        let backward = [(Layout::NN, [1, 512, 32, 4096]), (Layout::TN, [1, 32, 384, 4096])];
        let named = shapes.into_iter().chain(backward).map(|(layout, shape)| {
            let [_, m, n, k] = shape;
            case(format!("{layout:?} {m}x{n}x{k}"), Limits::NONE, layout, shape, Fill::Normal, Write::Set)
        });
        named.collect()
    }
}

fn case(name: String, limits: Limits, layout: Layout, [batch, m, n, k]: [u32; 4], fill: Fill, write: Write) -> Case {
    Case::with_limits(name, limits, |case| {
        let a = case.input("a", if layout == Layout::TN { [batch, k, m] } else { [batch, m, k] }, fill.clone());
        let b = case.input("b", if layout == Layout::NT { [batch, n, k] } else { [batch, k, n] }, fill);
        let c = case.in_out("c", [batch, m, n], Fill::Normal);
        matmul(&mut case.plan, layout, a, b, c, write);
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
