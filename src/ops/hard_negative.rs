//! Hard negatives: items just outside the teacher's neighbours that the student ranks high.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::ListLoss;
use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// Most columns of a pool.
pub const MAX_POOL: u32 = 1024;

/// Most negatives for an anchor.
pub const MAX_NEGATIVES: u32 = 64;

/// Place of a pool for which there is no column; all places after it are empty too.
const NONE: u32 = u32::MAX;

/// Which columns are compared, and how much it counts.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The first columns of a pool: the teacher's neighbours.
    pub positives: u32,
    /// Negatives for each anchor, taken from the rest of the pool.
    pub negatives: u32,
    /// Inverse temperature of the teacher's scores, above 0.
    pub teacher_inverse_temperature: f32,
    /// Factor of the loss and its gradients.
    pub weight: f32,
}

/// Adds to `outputs` a hinge on how far the teacher holds each positive above each hard negative. For anchor i, with positives
/// P = the first k columns of row i of `pool`, and N = the m others with the greatest `student_ij` (equal ones: the earlier):
///
/// ```text
/// t = teacher_i * teacher_inverse_temperature        s = student_i * exp(log_inverse_temperature)
/// loss_i += weight / (m k) * sum_{p in P, n in N} max(0, (t_p - t_n) - (s_p - s_n))
/// ```
///
/// and its derivatives by `student_ij` to the gradient, by `log_inverse_temperature` to the temperature gradient; at the kink
/// they are 0. `teacher` and `student` are `[B, C]`; `pool` `[B, L]` holds distinct columns in the order of the teacher, with
/// `u32::MAX` after the last, as [`top_k`](super::top_k::top_k) makes it. A pool with fewer negatives than m counts those it
/// has, still divided by m k. The teacher's own gap as margin: Hofstätter et al. 2020 (Margin-MSE); negatives near the border:
/// FaceNet (Schroff et al. 2015).
///
/// # Panics
/// If the shapes do not fit together, a pool is longer than [`MAX_POOL`] or has no place for negatives, or there are more than
/// [`MAX_NEGATIVES`] negatives.
pub fn hard_negative(
    plan: &mut Plan,
    teacher: Tensor,
    student: Tensor,
    pool: Tensor,
    log_inverse_temperature: Tensor,
    outputs: ListLoss,
    config: Config,
) {
    let Config { positives, negatives, teacher_inverse_temperature, weight } = config;
    let outputs = outputs.tensors("hard_negative", teacher, student, log_inverse_temperature);
    assert!(pool.rows() == student.rows(), "hard_negative: rows differ: {student} and {pool}");
    assert!(pool.cols() <= MAX_POOL, "hard_negative: {pool} is longer than {MAX_POOL}");
    assert!(0 < positives && positives < pool.cols(), "hard_negative: {pool} leaves no negatives beside {positives} positives");
    assert!(0 < negatives && negatives <= MAX_NEGATIVES, "hard_negative: {negatives} negatives are not 1 to {MAX_NEGATIVES}");
    let params = Params {
        step: 0,
        rows: student.rows(),
        cols: student.cols(),
        pool: pool.cols(),
        positives,
        negatives,
        teacher_inverse_temperature,
        weight,
    };
    plan.push::<HardNegative>(params, &[teacher, student, pool, log_inverse_temperature], &outputs);
}

/// The op; [`hard_negative`] records it.
pub struct HardNegative;

/// Parameters of [`HardNegative`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    /// Columns of a pool; of those positives; of the others negatives.
    pool: u32,
    positives: u32,
    negatives: u32,
    teacher_inverse_temperature: f32,
    weight: f32,
}

impl Op for HardNegative {
    const NAME: &'static str = "hard_negative";
    type Params = Params;
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-5);

    fn passes(p: &Params) -> Vec<Pass> {
        vec![Pass { shader: shader!("hard_negative", "grid", "reduce"), constants: vec![], grid: flat_grid(p.rows) }]
    }

    fn native(p: &Params, io: Io<'_, f32>) {
        let ([teacher, student, pool, log_beta], [gradient, loss, temperature_gradient]) = io.take();
        let (cols, beta) = (p.cols as usize, log_beta.real()[0].exp());
        let inputs = teacher.real().par_chunks_exact(cols).zip(student.real().par_chunks_exact(cols));
        let inputs = inputs.zip(pool.index().par_chunks_exact(p.pool as usize));
        let sums = loss.real().par_iter_mut().zip(temperature_gradient.real());
        gradient.real().par_chunks_exact_mut(cols).zip(sums).zip(inputs).for_each_init(
            Row::default,
            |row, ((gradient, (loss, temperature_gradient)), ((teacher, student), pool))| {
                row.load(p, beta, teacher, student, pool);
                let scale = p.weight / (p.positives * p.negatives) as f32;
                *loss += scale * row.compare(p);
                for ((column, active), student) in pool.iter().zip(&row.active).zip(&row.student) {
                    let g = scale * beta * active;
                    gradient[*column as usize] += g;
                    // The derivatives add up to 0, so that only differences of scores count.
                    *temperature_gradient += g * (student - row.student[0]);
                }
            },
        );
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([teacher, student, pool, log_beta], [gradient, loss, temperature_gradient]) = io.take();
        let (teacher, student, beta) = (teacher.real(), student.real(), log_beta.real()[0].exp());
        let (gradient, loss, temperature_gradient) = (gradient.real(), loss.real(), temperature_gradient.real());
        let scale = f64::from(p.weight) / f64::from(p.positives * p.negatives);
        for row in 0..p.rows as usize {
            let at = |column: u32| row * p.cols as usize + column as usize;
            let (positives, rest) = pool.index()[row * p.pool as usize..][..p.pool as usize].split_at(p.positives as usize);
            let mut negatives: Vec<u32> = rest.iter().copied().filter(|column| *column != NONE).collect();
            // The sort is stable; 0 is added for -0, which is equal.
            negatives.sort_by(|a, b| (student[at(*b)] + 0.0).total_cmp(&(student[at(*a)] + 0.0)));
            for &n in negatives.iter().take(p.negatives as usize) {
                for &q in positives {
                    let gap_teacher = (teacher[at(q)] - teacher[at(n)]) * f64::from(p.teacher_inverse_temperature);
                    let gap_student = (student[at(q)] - student[at(n)]) * beta;
                    if gap_teacher > gap_student {
                        loss[row] += scale * (gap_teacher - gap_student);
                        gradient[at(q)] -= scale * beta;
                        gradient[at(n)] += scale * beta;
                        temperature_gradient[row] -= scale * gap_student;
                    }
                }
            }
        }
    }

    fn cost(p: &Params) -> Cost {
        let [rows, pool, positives, negatives] = [p.rows, p.pool, p.positives, p.negatives].map(u64::from);
        let mining = (pool - positives) * (pool - positives);
        Cost { flops: rows * (2 * mining + 4 * positives * negatives), bytes: 4 * rows * (4 * pool + positives + negatives) }
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (shape, pool, positives, negatives) in [
            ([1, 2], 2, 1, 1),
            ([3, 40], 30, 5, 4),
            ([4, 41], 41, 40, 64),
            ([2, 300], 257, 1, 64),
            ([3, 1500], 1024, 300, 64),
            ([2, 1500], 1000, 700, 10),
            ([65_537, 3], 3, 1, 1),
        ] {
            cases.push(case(&Setup { shape, pool, positives, negatives, ..Setup::default() }));
        }
        let small = Setup { shape: [8, 60], pool: 50, positives: 10, negatives: 6, ..Setup::default() };
        cases.push(case(&Setup { name: "short pools", missing: 7, ..small.clone() }));
        cases.push(case(&Setup { name: "added", before: Fill::Normal, ..small.clone() }));
        cases.push(case(&Setup { name: "heavy-tailed", fill: Fill::HeavyTailed, ..small.clone() }));
        cases.push(case(&Setup { name: "logits to 1e4", inverse_temperature: 4000.0, ..small.clone() }));
        // Products are exact, so that nobody rounds a tie away.
        cases.push(case(&Setup { name: "ties", fill: Fill::Ties, inverse_temperature: 4.0, log_beta: 0.0, ..small }));
        cases
    }

    fn bench_cases() -> Vec<Case> {
        let sizes = [(128, 10, 16), (512, 50, 32), (1024, 100, 64)];
        let setups =
            sizes.map(|(pool, positives, negatives)| Setup { shape: [512, 4096], pool, positives, negatives, ..Setup::default() });
        setups.map(|setup| case(&setup)).into()
    }
}

/// Pool of one anchor, place by place; the buffers serve one row after the other.
#[derive(Default)]
struct Row {
    student: Vec<f32>,
    /// Teacher's score above the student's, up to a constant: what a positive has more than a negative is lost.
    lead: Vec<f32>,
    /// Pairs with a loss: less than 0 for positives, more than 0 for negatives.
    active: Vec<f32>,
    /// Places of the negatives.
    mined: Vec<usize>,
}

impl Row {
    fn load(&mut self, p: &Params, beta: f32, teacher: &[f32], student: &[f32], pool: &[u32]) {
        let columns = || pool.iter().take_while(|column| **column != NONE).map(|column| *column as usize);
        self.student.clear();
        self.student.extend(columns().map(|column| student[column]));
        let found = self.student.len();
        self.active.clear();
        self.active.resize(found, 0.0);
        self.lead.clear();
        if let Some(first) = columns().next() {
            // Differences before scaling, for large scores that differ little.
            let scale = p.teacher_inverse_temperature;
            let lead = |c: usize| (teacher[c] - teacher[first]) * scale - (student[c] - student[first]) * beta;
            self.lead.extend(columns().map(lead));
        }
        self.mined.clear();
        self.mined.extend(p.positives as usize..found);
        let negatives = p.negatives as usize;
        if self.mined.len() > negatives {
            // 0 is added for -0, which is equal.
            let score = |place: usize| self.student[place] + 0.0;
            self.mined.select_nth_unstable_by(negatives, |a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
            self.mined.truncate(negatives);
        }
    }

    /// Sum of the hinges over all pairs.
    fn compare(&mut self, p: &Params) -> f32 {
        let mut sum = 0.0;
        for &n in &self.mined {
            let lead = self.lead[n];
            let mut active = 0.0;
            let positives = self.lead.iter().zip(&mut self.active).take(p.positives as usize);
            for (positive, count) in positives {
                let lost = positive - lead;
                let one = if lost > 0.0 { 1.0 } else { 0.0 };
                sum += lost.max(0.0);
                *count -= one;
                active += one;
            }
            self.active[n] = active;
        }
        sum
    }
}

#[derive(Clone)]
struct Setup {
    name: &'static str,
    shape: [u32; 2],
    pool: u32,
    positives: u32,
    negatives: u32,
    /// The pool of row i lacks this many columns for each row before it.
    missing: u32,
    fill: Fill,
    inverse_temperature: f32,
    log_beta: f32,
    /// Results before the op adds to them.
    before: Fill,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            name: "normal",
            shape: [1, 2],
            pool: 2,
            positives: 1,
            negatives: 1,
            missing: 0,
            fill: Fill::Normal,
            inverse_temperature: 2.5,
            log_beta: 0.6,
            before: Fill::Constant(0.0),
        }
    }
}

fn case(setup: &Setup) -> Case {
    let Setup { shape: [rows, cols], pool, positives, negatives, inverse_temperature, ref before, .. } = *setup;
    let name = format!("{} {rows}x{cols} {positives} + {negatives} of {pool}", setup.name);
    Case::new(name, |case| {
        let teacher = case.input("teacher", [rows, cols], setup.fill.clone());
        let student = case.input("student", [rows, cols], setup.fill.clone());
        // Distinct columns in no particular order, which only matters to what the loss means.
        let column = |row: u32, place: u32| if place + row * setup.missing < pool { (row * 7 + place) % cols } else { NONE };
        let columns = (0..rows * pool).map(|i| column(i / pool, i % pool)).collect();
        let columns = case.input("pool", [rows, pool], Fill::ExactIndices(columns));
        let log_beta = case.input("log_inverse_temperature", [1, 1], Fill::Constant(setup.log_beta));
        let outputs = ListLoss {
            gradient: case.in_out("gradient", [rows, cols], before.clone()),
            loss: case.in_out("loss", [rows, 1], before.clone()),
            temperature_gradient: case.in_out("temperature_gradient", [rows, 1], before.clone()),
        };
        let config = Config { positives, negatives, teacher_inverse_temperature: inverse_temperature, weight: 0.3 };
        hard_negative(&mut case.plan, teacher, student, columns, log_beta, outputs, config);
        let (output, upstream) = (outputs.loss, None);
        // Not where results hold more than this loss, and not at ties, where the derivative jumps.
        if rows * cols <= 1000 && matches!(before, Fill::Constant(_)) && !matches!(setup.fill, Fill::Ties) {
            case.gradients.push(GradientCheck { wrt: student, output, upstream, gradient: outputs.gradient });
            if rows == 1 {
                let gradient = outputs.temperature_gradient;
                case.gradients.push(GradientCheck { wrt: log_beta, output, upstream, gradient });
            }
        }
    })
}
