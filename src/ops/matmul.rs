//! Batched matrix product in the three layouts that training and search need.

mod cases;
mod coarse;
mod rounded;
mod variant;

use bytemuck::{Pod, Zeroable};

use crate::case::Case;
use crate::gemm::{Gemm, Matrix, gemm, gemm_peak, times};
use crate::op::{Cost, Io, Op, Pass, Peak, Shader, Tolerance, Write, flat_grid, shader};
use crate::plan::{Plan, Window};
use crate::tensor::Tensor;
use variant::Variant;

pub use cases::by_variant;
pub use coarse::{MatmulCoarse, coarse_error, coarse_loss, matmul_coarse};
pub use rounded::{MatmulRounded, matmul_halves, matmul_rounded, rounding_error, times_matmul_rounded};

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

/// What records a product: [`matmul`], [`matmul_rounded`], [`matmul_halves`] or [`matmul_coarse`].
pub type Product = fn(&mut Plan, Layout, Tensor, Tensor, Tensor, Write);

/// C = A B (or += ) in a layout; every operand may be batched, and `a`, `b` and (in NN and NT) `c` may span row windows.
///
/// # Panics
/// If the shapes do not fit together.
pub fn matmul(plan: &mut Plan, layout: Layout, a: Tensor, b: Tensor, c: Tensor, write: Write) {
    record::<Matmul>(plan, layout, [a, b, c], code(write));
}

/// What a product does to C: replace it, be added to it, be multiplied with it element by element.
const SET: u32 = 0;
const ADD: u32 = 1;
const TIMES: u32 = 2;

fn code(write: Write) -> u32 {
    match write {
        Write::Set => SET,
        Write::Add => ADD,
    }
}

/// A product by an op that takes these parameters.
fn record<M: Op<Params = Params>>(plan: &mut Plan, layout: Layout, operands: [Tensor; 3], write: u32) {
    record_by::<M>(plan, layout, operands, write, Variant::choose);
}

/// [`record`], in the variants that `choose` names for `[batch, m, n, k]`.
fn record_by<M: Op<Params = Params>>(
    plan: &mut Plan,
    layout: Layout,
    [a, b, c]: [Tensor; 3],
    write: u32,
    choose: impl Fn([u32; 4]) -> Variant,
) {
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
        write,
        a_by_k: u32::from(layout == Layout::TN),
        b_by_k: u32::from(layout != Layout::NT),
        // Set when the windows are known.
        tile_m: 0,
        tile_n: 0,
        parts: 1,
        part_k: k,
        side: 0,
        subgroup: 0,
    };
    // What C is multiplied by is no sum over windows: its contraction is taken whole, and the plan tells where that does not fit.
    let whole_contraction = write == TIMES;
    let write_from = |first_row: u32| if first_row == 0 { write } else { ADD };
    // Rows of A are rows of C (NN, NT) or contraction indices (TN); rows of B are contraction indices (NN) or columns of C (NT).
    if layout == Layout::TN {
        let all = Overlap { left: a, right: b, first_row: 0, left_row: 0, right_row: 0, rows: k };
        for o in if whole_contraction { vec![all] } else { overlaps(plan, [a, b], [batch, m, n]) } {
            let params = Params {
                k: o.rows,
                a_offset: o.left_row * whole.lda,
                b_offset: o.right_row * whole.ldb,
                write: write_from(o.first_row),
                ..whole
            };
            push::<M>(plan, params, [o.left, o.right, c], &choose);
        }
        return;
    }
    let b_windows: Vec<Window> =
        if whole_contraction && layout == Layout::NN { vec![Window { tensor: b, first_row: 0 }] } else { plan.windows(b).collect() };
    for o in overlaps(plan, [a, c], [batch, n, k]) {
        for w in &b_windows {
            let mut params =
                Params { m: o.rows, a_offset: o.left_row * whole.lda, c_offset: o.right_row * whole.ldc, ..whole };
            if layout == Layout::NT {
                params.n = w.tensor.rows();
                params.c_offset += w.first_row;
            } else {
                params.k = w.tensor.rows();
                params.a_offset += w.first_row;
                params.write = write_from(w.first_row);
            }
            push::<M>(plan, params, [o.left, w.tensor, o.right], &choose);
        }
    }
}

/// Pushes the product of windows, with room for the products of parts where the contraction is split.
fn push<M: Op<Params = Params>>(plan: &mut Plan, params: Params, [a, b, c]: [Tensor; 3], choose: impl Fn([u32; 4]) -> Variant) {
    let Variant { tile: [tile_m, tile_n], parts, part_k, units } = choose([params.batch, params.m, params.n, params.k]);
    let (side, subgroup) = units.map_or((0, 0), |units| (units.side, units.subgroup));
    let params = Params { tile_m, tile_n, parts, part_k, side, subgroup, ..params };
    if parts == 1 {
        plan.push::<M>(params, &[a, b], &[c]);
    } else {
        let products = plan.scratch("products of parts", [params.batch * parts * params.m, params.n]);
        plan.push::<M>(params, &[a, b], &[products, c]);
    }
}

/// Elements from a matrix of a batch to the next; a single matrix may have more elements than fit the number.
fn stride(tensor: Tensor) -> u32 {
    if tensor.shape.batch == 1 { 0 } else { tensor.rows() * tensor.cols() }
}

/// Rows that lie in one window of `left` and in one window of `right`, no more than may be multiplied at once.
struct Overlap {
    left: Tensor,
    right: Tensor,
    /// First row in the whole tensors, in the left window, in the right window.
    first_row: u32,
    left_row: u32,
    right_row: u32,
    rows: u32,
}

/// Of every row, `others` are the lengths that make its work.
fn overlaps(plan: &Plan, [left, right]: [Tensor; 2], others: [u32; 3]) -> Vec<Overlap> {
    let work = 2 * others.map(u64::from).iter().product::<u64>();
    // Whole tiles, if there is a choice.
    let at_once = u32::try_from(plan.limits().product_flops / work / 128 * 128).unwrap_or(u32::MAX).max(128);
    let mut found = Vec::new();
    for l in plan.windows(left) {
        for r in plan.windows(right) {
            let first_row = l.first_row.max(r.first_row);
            let end = (l.first_row + l.tensor.rows()).min(r.first_row + r.tensor.rows());
            found.extend((first_row..end).step_by(at_once as usize).map(|first_row| Overlap {
                left: l.tensor,
                right: r.tensor,
                first_row,
                left_row: first_row - l.first_row,
                right_row: first_row - r.first_row,
                rows: at_once.min(end - first_row),
            }));
        }
    }
    found
}

/// A, B and C; the products of parts, before C, are for shaders only.
fn operands<F: Copy>(mut io: Io<'_, F>) -> (&[F], &[F], &mut [F]) {
    let c = io.outputs.pop().expect("a product is written").real();
    (io.inputs[0].real(), io.inputs[1].real(), c)
}

/// The native product, by one of the functions of [`crate::gemm`].
fn multiply(p: &Params, io: Io<'_, f32>, gemm: Gemm) {
    let (a, b, c) = operands(io);
    let [(a_row, a_col), (b_row, b_col)] = p.steps();
    let shape = [p.m, p.n, p.k].map(|length| length as usize);
    for batch in 0..p.batch {
        let [a0, b0, c0] = p.bases(batch);
        let a = Matrix { data: &a[a0..], row_step: a_row, col_step: a_col };
        let b = Matrix { data: &b[b0..], row_step: b_row, col_step: b_col };
        let (c, c_step) = (&mut c[c0..], p.ldc as usize);
        if p.write == TIMES { times(gemm, shape, a, b, c, c_step) } else { gemm(shape, a, b, c, c_step, p.write == ADD) }
    }
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
    /// [`SET`], [`ADD`] or [`TIMES`].
    write: u32,
    a_by_k: u32,
    b_by_k: u32,
    /// Rows and columns of C that a workgroup makes.
    tile_m: u32,
    tile_n: u32,
    /// Parts of the contraction, and the indices of each.
    parts: u32,
    part_k: u32,
    /// Of [`MatrixUnits`](crate::plan::MatrixUnits); 0 where ordinary arithmetic multiplies.
    side: u32,
    subgroup: u32,
}

impl Params {
    /// The shader that makes tiles.
    fn multiplying(&self) -> Pass {
        let by_k = [("A_BY_K", self.a_by_k), ("B_BY_K", self.b_by_k)];
        let grid = [self.n.div_ceil(self.tile_n), self.m.div_ceil(self.tile_m), self.batch * self.parts];
        if self.side > 0 {
            return Pass { shader: self.on_units(), constants: vec![("SUBGROUP", self.subgroup)], grid };
        }
        let (shader, tile) = if self.tile_m.max(self.tile_n) <= 64 {
            let shader = if self.aligned() {
                shader!("matmul", "matmul_params", "matmul_task", "operands_vec4", "product_vec4")
            } else {
                shader!("matmul", "matmul_params", "matmul_task", "operands_scalar", "product_scalar")
            };
            (shader, vec![("TILE", self.tile_m)])
        } else {
            let shader = if self.aligned() {
                shader!("matmul_wide", "matmul_params", "matmul_task", "operands_vec4", "product_vec4")
            } else {
                shader!("matmul_wide", "matmul_params", "matmul_task", "operands_scalar", "product_scalar")
            };
            (shader, vec![("TALL", u32::from(self.tile_m == 128)), ("WIDE", u32::from(self.tile_n == 128))])
        };
        Pass { shader, constants: tile.into_iter().chain(by_k).collect(), grid }
    }

    /// The shader for matrix units, of A Bᵀ alone.
    fn on_units(&self) -> Shader {
        match (self.side, self.aligned()) {
            (8, true) => shader!("matmul_units", "units_8", "matmul_params", "matmul_task", "operands_vec4", "product_vec4"),
            (8, false) => shader!("matmul_units", "units_8", "matmul_params", "matmul_task", "operands_scalar", "product_scalar"),
            (_, true) => shader!("matmul_units", "units_16", "matmul_params", "matmul_task", "operands_vec4", "product_vec4"),
            (_, false) => shader!("matmul_units", "units_16", "matmul_params", "matmul_task", "operands_scalar", "product_scalar"),
        }
    }

    /// The shader that adds the products of parts.
    fn adding(&self) -> Pass {
        let elements = self.m * self.n * self.batch;
        Pass { shader: shader!("matmul_sum", "matmul_params", "grid"), constants: vec![], grid: flat_grid(elements.div_ceil(256)) }
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
        if p.parts == 1 { vec![p.multiplying()] } else { vec![p.multiplying(), p.adding()] }
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        multiply(p, io, gemm);
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let (a, b, c) = operands(io);
        let [(a_row, a_col), (b_row, b_col)] = p.steps();
        for batch in 0..p.batch {
            let [a0, b0, c0] = p.bases(batch);
            for i in 0..p.m as usize {
                for j in 0..p.n as usize {
                    let product = |l: usize| a[a0 + i * a_row + l * a_col] * b[b0 + l * b_row + j * b_col];
                    let sum = (0..p.k as usize).map(product).sum::<f64>();
                    let c = &mut c[c0 + i * p.ldc as usize + j];
                    *c = match p.write {
                        SET => sum,
                        ADD => *c + sum,
                        _ => *c * sum,
                    };
                }
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let (m, n, k, batch) = (u64::from(p.m), u64::from(p.n), u64::from(p.k), u64::from(p.batch));
        Cost { flops: 2 * m * n * k * batch, bytes: 4 * batch * (m * k + k * n + m * n * (1 + u64::from(p.write != SET))) }
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }

    fn bench_cases() -> Vec<Case> {
        cases::bench()
    }

    fn native_peak() -> Option<Peak> {
        gemm_peak()
    }
}
