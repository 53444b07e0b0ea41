//! Listwise distillation: the divergence between the teacher's and the student's softmax over a candidate list.

use bytemuck::{Pod, Zeroable};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{ListLoss, table_row, table_step};
use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::simd::exp;
use crate::tensor::Tensor;

/// What is distilled, and how much it counts.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Inverse temperature of the teacher's softmax, above 0.
    pub teacher_inverse_temperature: f32,
    /// Factor of the loss and its gradients.
    pub weight: f32,
}

/// KL(teacher || student) over lists of C candidates for each of B anchors, with its gradients, in one dispatch:
///
/// ```text
/// p_j = softmax_j(teacher_ij * teacher_inverse_temperature)        beta = exp(log_inverse_temperature)
/// q_j = softmax_j(student_ij * beta)
/// loss_i                 = weight * sum_j p_j (log p_j - log q_j)
/// gradient_ij            = weight * beta * (q_j - p_j)
/// temperature_gradient_i = weight * sum_j (q_j - p_j) * beta * student_ij
/// ```
///
/// `teacher` and `student` are `[B, C]`, with scores above -1e29; `anchors` `[steps or 1, B]` and `candidates` `[steps or 1, C]`
/// hold the items that rows and columns stand for. A column that is the anchor itself takes no part and gets gradient 0; a row
/// with no other column gives zeros. Distillation: Hinton, Vinyals, Dean 2015; top-one probabilities of a list: ListNet
/// (Cao et al. 2007).
///
/// # Panics
/// If the shapes do not fit together.
#[expect(clippy::too_many_arguments, reason = "six tensors, none of which belongs to another")]
pub fn listwise_kl(
    plan: &mut Plan,
    teacher: Tensor,
    student: Tensor,
    log_inverse_temperature: Tensor,
    anchors: Tensor,
    candidates: Tensor,
    outputs: ListLoss,
    config: Config,
) {
    let outputs = outputs.tensors("listwise_kl", teacher, student, log_inverse_temperature);
    let params = Params {
        step: 0,
        rows: student.rows(),
        cols: student.cols(),
        anchor_step: table_step("listwise_kl", anchors, student.rows()),
        candidate_step: table_step("listwise_kl", candidates, student.cols()),
        teacher_inverse_temperature: config.teacher_inverse_temperature,
        weight: config.weight,
    };
    plan.push::<ListwiseKl>(params, &[teacher, student, log_inverse_temperature, anchors, candidates], &outputs);
}

/// The op; [`listwise_kl`] records it.
pub struct ListwiseKl;

/// Parameters of [`ListwiseKl`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    /// Elements from a step's row of the table to the next.
    anchor_step: u32,
    candidate_step: u32,
    teacher_inverse_temperature: f32,
    weight: f32,
}

/// Score of a column that takes no part: far below any score, and far from overflow when scaled.
const MASKED: f32 = -1e30;

/// Independent sums of a native row: enough for the compiler to use vectors.
const LANES: usize = 16;

impl Op for ListwiseKl {
    const NAME: &'static str = "listwise_kl";
    type Params = Params;
    // The gradient is a difference of probabilities, of which little may be left.
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-4);

    fn passes(p: &Params) -> Vec<Pass> {
        let grid = flat_grid(p.rows);
        // Registers hold 1024 columns for each pair of vectors of a thread, of which there are plenty for eight.
        let Some(vectors) = [1, 2, 4, 8].into_iter().find(|vectors| p.cols <= vectors * 1024) else {
            return vec![Pass { shader: shader!("listwise_kl_long", "list_params", "grid"), constants: Vec::new(), grid }];
        };
        let shader = if p.cols.is_multiple_of(4) {
            shader!("listwise_kl", "list_params", "list_vec4", "grid")
        } else {
            shader!("listwise_kl", "list_params", "list_scalar", "grid")
        };
        vec![Pass { shader, constants: vec![("VECTORS", vectors)], grid }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([teacher, student, log_beta, anchors, candidates], [gradient, loss, temperature_gradient]) = io.take();
        let (teacher, student, beta) = (teacher.real(), student.real(), log_beta.real()[0].exp());
        let anchors = table_row(anchors.index(), p.anchor_step, p.step, p.rows);
        let candidates = table_row(candidates.index(), p.candidate_step, p.step, p.cols);
        let cols = p.cols as usize;
        let vectors = cols.div_ceil(LANES);
        gradient
            .real()
            .par_chunks_exact_mut(cols)
            .zip(loss.real().par_iter_mut().zip(temperature_gradient.real()))
            .enumerate()
            .for_each_init(
                || [vec![[0.0; LANES]; vectors], vec![[0.0; LANES]; vectors]],
                |buffers, (i, (gradient, (loss, temperature_gradient)))| {
                    let [teacher, student] = [teacher, student].map(|scores| &scores[i * cols..][..cols]);
                    let row = Row { p, beta, teacher, student, candidates, anchor: anchors[i], buffers, gradient };
                    (*loss, *temperature_gradient) = Arch::new().dispatch(row);
                },
            );
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([teacher, student, log_beta, anchors, candidates], [gradient, loss, temperature_gradient]) = io.take();
        let (gradient, loss, temperature_gradient) = (gradient.real(), loss.real(), temperature_gradient.real());
        let (beta, weight) = (log_beta.real()[0].exp(), f64::from(p.weight));
        let cols = p.cols as usize;
        for i in 0..p.rows as usize {
            let anchor = anchors.index()[(p.step * p.anchor_step) as usize + i];
            let candidate = |j: usize| candidates.index()[(p.step * p.candidate_step) as usize + j];
            let kept: Vec<usize> = (0..cols).filter(|j| candidate(*j) != anchor).collect();
            let student = |j: usize| student.real()[i * cols + j];
            let log_p = log_softmax(&kept, |j| teacher.real()[i * cols + j] * f64::from(p.teacher_inverse_temperature));
            let log_q = log_softmax(&kept, |j| student(j) * beta);
            gradient[i * cols..][..cols].fill(0.0);
            (loss[i], temperature_gradient[i]) = (0.0, 0.0);
            for (j, (log_p, log_q)) in kept.into_iter().zip(log_p.into_iter().zip(log_q)) {
                loss[i] += weight * log_p.exp() * (log_p - log_q);
                gradient[i * cols + j] = weight * beta * (log_q.exp() - log_p.exp());
                temperature_gradient[i] += gradient[i * cols + j] * student(j);
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let elements = u64::from(p.rows) * u64::from(p.cols);
        // Two exponentials (about ten operations each), five sums, and the gradient.
        Cost { flops: 40 * elements, bytes: 4 * (3 * elements + 3 * u64::from(p.rows) + u64::from(p.cols)) }
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let shapes = [[1, 1], [2, 2], [3, 5], [5, 255], [4, 256], [7, 257], [300, 17], [2, 1024], [3, 1999], [2, 4096], [2, 5000], [1, 8191]];
        for [rows, cols] in shapes {
            cases.push(case(Setup { rows, cols, ..Setup::default() }));
        }
        // Longer than registers hold.
        for (name, items, inverse_temperature) in [("long", 20, 2.5), ("long, all masked", 1, 2.5), ("long, logits to 1e4", 20, 4000.0)] {
            cases.push(case(Setup { name, rows: 2, cols: 9001, items, inverse_temperature, ..Setup::default() }));
        }
        let small = Setup { rows: 6, cols: 40, ..Setup::default() };
        cases.push(case(Setup { name: "heavy-tailed", fill: Fill::HeavyTailed, ..small.clone() }));
        cases.push(case(Setup { name: "ties", fill: Fill::Ties, ..small.clone() }));
        cases.push(case(Setup { name: "logits to 1e4", inverse_temperature: 4000.0, ..small.clone() }));
        cases.push(case(Setup { name: "flat", inverse_temperature: 0.3, ..small.clone() }));
        cases.push(case(Setup { name: "all masked", items: 1, ..small.clone() }));
        cases.push(case(Setup { name: "many masked", items: 2, ..small.clone() }));
        cases.push(case(Setup { name: "steps", steps: 3, ..small }));
        // One row, so that the derivative by the temperature is one number.
        cases.push(case(Setup { name: "temperature", rows: 1, cols: 30, ..Setup::default() }));
        // More rows than a grid is wide.
        cases.push(case(Setup { rows: 65_537, cols: 2, ..Setup::default() }));
        cases
    }

    fn bench_cases() -> Vec<Case> {
        let shapes = [[256, 1024], [512, 4096], [1024, 8192]];
        shapes.map(|[rows, cols]| case(Setup { rows, cols, items: 1 << 20, ..Setup::default() })).into()
    }
}

/// A row of scores, as a type and not a closure: that is not always inlined where it would be compiled for wide vectors.
struct Row<'a> {
    p: &'a Params,
    beta: f32,
    teacher: &'a [f32],
    student: &'a [f32],
    candidates: &'a [u32],
    anchor: u32,
    buffers: &'a mut [Vec<[f32; LANES]>; 2],
    gradient: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    /// The loss and its derivative by the temperature.
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f32, f32) {
        let Self { p, beta, teacher, student, candidates, anchor, buffers: [t, s], gradient } = self;
        load_masked(t, teacher, candidates, anchor);
        load_masked(s, student, candidates, anchor);
        let sums = exponentials(t, s, p.teacher_inverse_temperature, beta);
        let scale = p.weight * beta;
        let (scale_t, scale_s) = (scale / sums.teacher, scale / sums.student);
        let weights = t.as_flattened().iter().zip(s.as_flattened());
        gradient.iter_mut().zip(weights).for_each(|(g, (t, s))| *g = s * scale_s - t * scale_t);
        (p.weight * sums.loss(), p.weight * sums.temperature_gradient())
    }
}

/// Sums over a row, relative to the greatest score of teacher and student: weights `w = exp(u)` of the scaled differences `u`.
struct Sums {
    /// Sum of the teacher's weights, at least 1.
    teacher: f32,
    /// Sum of the student's weights, at least 1.
    student: f32,
    /// Sum of teacher's weight x teacher's difference.
    own: f32,
    /// Sum of teacher's weight x student's difference.
    cross: f32,
    /// Sum of student's weight x student's difference.
    student_own: f32,
}

impl Sums {
    fn loss(&self) -> f32 {
        (self.own - self.cross) / self.teacher - self.teacher.ln() + self.student.ln()
    }

    fn temperature_gradient(&self) -> f32 {
        self.student_own / self.student - self.cross / self.teacher
    }
}

/// Copies a row, with [`MASKED`] at the columns that are the anchor and beyond the last.
#[inline(always)]
fn load_masked(to: &mut [[f32; LANES]], row: &[f32], candidates: &[u32], anchor: u32) {
    let (kept, rest) = to.as_flattened_mut().split_at_mut(row.len());
    let columns = row.iter().zip(candidates);
    kept.iter_mut().zip(columns).for_each(|(to, (score, c))| *to = if *c == anchor { MASKED } else { *score });
    rest.fill(MASKED);
}

/// Replaces scores by their weights and returns the sums; all weights of a row without candidates are 0.
#[inline(always)]
fn exponentials(t: &mut [[f32; LANES]], s: &mut [[f32; LANES]], scale_t: f32, scale_s: f32) -> Sums {
    let (max_t, max_s) = (max(t), max(s));
    let [mut teacher, mut student, mut own, mut cross, mut student_own] = [[0.0; LANES]; 5];
    for (t, s) in t.iter_mut().zip(s) {
        // A loop for each step, which becomes one instruction on a vector.
        let (mut ut, mut us) = ([0.0; LANES], [0.0; LANES]);
        for l in 0..LANES {
            // Differences before scaling: what matters is near the maximum, where they are exact.
            ut[l] = (t[l] - max_t) * scale_t;
            us[l] = (s[l] - max_s) * scale_s;
        }
        for l in 0..LANES {
            t[l] = exp(ut[l]);
        }
        for l in 0..LANES {
            s[l] = exp(us[l]);
        }
        for l in 0..LANES {
            teacher[l] += t[l];
            student[l] += s[l];
            own[l] += t[l] * ut[l];
            cross[l] += t[l] * us[l];
            student_own[l] += s[l] * us[l];
        }
    }
    let [teacher, student, own, cross, student_own] =
        [teacher, student, own, cross, student_own].map(|lanes| lanes.into_iter().sum::<f32>());
    // The greatest score weighs 1; less is the 0 of a row without candidates.
    Sums { teacher: teacher.max(1.0), student: student.max(1.0), own, cross, student_own }
}

/// The greatest score, but above [`MASKED`]: what is masked weighs 0 even where everything is.
#[inline(always)]
fn max(x: &[[f32; LANES]]) -> f32 {
    const FLOOR: f32 = 0.1 * MASKED;
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [FLOOR; LANES];
    for x in x {
        for l in 0..LANES {
            lanes[l] = larger(lanes[l], x[l]);
        }
    }
    lanes.into_iter().fold(FLOOR, larger)
}

/// Log-probabilities of the kept columns.
fn log_softmax(kept: &[usize], logit: impl Fn(usize) -> f64) -> Vec<f64> {
    let max = kept.iter().map(|j| logit(*j)).fold(f64::NEG_INFINITY, f64::max);
    let log_sum = max + kept.iter().map(|j| (logit(*j) - max).exp()).sum::<f64>().ln();
    kept.iter().map(|j| logit(*j) - log_sum).collect()
}

#[derive(Clone)]
struct Setup {
    name: &'static str,
    rows: u32,
    cols: u32,
    /// Items that anchors and candidates are drawn from.
    items: u32,
    steps: u32,
    fill: Fill,
    inverse_temperature: f32,
}

impl Default for Setup {
    fn default() -> Self {
        Self { name: "normal", rows: 1, cols: 1, items: 20, steps: 1, fill: Fill::Normal, inverse_temperature: 2.5 }
    }
}

fn case(setup: Setup) -> Case {
    let Setup { name, rows, cols, items, steps, fill, inverse_temperature } = setup;
    Case::new(format!("{name} {rows}x{cols}"), |case| {
        let teacher = case.input("teacher", [rows, cols], fill.clone());
        let student = case.input("student", [rows, cols], fill);
        let log_beta = case.input("log_inverse_temperature", [1, 1], Fill::Constant((0.7 * inverse_temperature).ln()));
        let anchors = case.input("anchors", [steps, rows], Fill::Below(items));
        let candidates = case.input("candidates", [steps, cols], Fill::Below(items));
        let outputs = ListLoss {
            gradient: case.output("gradient", [rows, cols]),
            loss: case.output("loss", [rows, 1]),
            temperature_gradient: case.output("temperature_gradient", [rows, 1]),
        };
        case.steps = steps;
        let config = Config { teacher_inverse_temperature: inverse_temperature, weight: 0.3 };
        listwise_kl(&mut case.plan, teacher, student, log_beta, anchors, candidates, outputs, config);
        let (output, upstream) = (outputs.loss, None);
        if rows * cols <= 400 {
            case.gradients.push(GradientCheck { wrt: student, output, upstream, gradient: outputs.gradient });
        }
        if rows == 1 {
            let gradient = outputs.temperature_gradient;
            case.gradients.push(GradientCheck { wrt: log_beta, output, upstream, gradient });
        }
    })
}
