//! Hard negatives: items that the student ranks high and that are none of the teacher's neighbours.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::ListLoss;
use crate::case::{Case, Fill, GradientCheck};
use crate::op::{Cost, Io, Op, Pass, Tolerance, flat_grid, shader};
use crate::plan::Plan;
use crate::simd::vectorized;
use crate::tensor::Tensor;

/// Longest ranking, of positives or of what negatives are taken from.
pub const MAX_RANKING: u32 = 1024;

/// Most negatives of an anchor.
pub const MAX_NEGATIVES: u32 = 64;

/// Place of a ranking for which there is no column; all places after it are empty too.
const NONE: u32 = u32::MAX;

/// Which columns are compared, and how much it counts.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Columns of an anchor, ranked by the teacher `[B, k]`: its positives.
    pub positives: Tensor,
    /// Columns of an anchor, ranked by the student `[B, L]`: where its negatives are found.
    pub ranking: Tensor,
    /// Negatives for each anchor, at most.
    pub negatives: u32,
    /// Inverse temperature of the teacher's scores, above 0.
    pub teacher_inverse_temperature: f32,
    /// Factor of the loss and its gradients.
    pub weight: f32,
}

/// Adds to `outputs` a hinge on how far the teacher holds each positive above each hard negative. For anchor i, with positives
/// P = row i of `positives`, and N = the first m columns in row i of `ranking` that are none of them:
///
/// ```text
/// t = teacher_i * teacher_inverse_temperature        s = student_i * exp(log_inverse_temperature)
/// loss_i += weight / (m k) * sum_{p in P, n in N} max(0, (t_p - t_n) - (s_p - s_n))
/// ```
///
/// and its derivatives by `student_ij` to the gradient, by `log_inverse_temperature` to the temperature gradient; at the kink
/// they are 0. `teacher` and `student` are `[B, C]`; the two rankings hold distinct columns with `u32::MAX` after the last, as
/// [`top_k`](super::top_k::top_k) makes them. An anchor with fewer positives or negatives counts those it has, still divided by
/// m k. The teacher's own gap as margin: Hofstätter et al. 2020 (Margin-MSE); negatives that the student ranks highest, found
/// anew in every step: ANCE (Xiong et al. 2021) does so now and then, OHEM (Shrivastava et al. 2016) in every step.
///
/// # Panics
/// If the shapes do not fit together, there are no or more than [`MAX_NEGATIVES`] negatives, or a ranking is longer than
/// [`MAX_RANKING`].
pub fn hard_negative(
    plan: &mut Plan,
    teacher: Tensor,
    student: Tensor,
    log_inverse_temperature: Tensor,
    outputs: ListLoss,
    config: Config,
) {
    let Config { positives, ranking, negatives, teacher_inverse_temperature, weight } = config;
    let outputs = outputs.tensors("hard_negative", teacher, student, log_inverse_temperature);
    for ranking in [positives, ranking] {
        assert!(ranking.rows() == student.rows(), "hard_negative: rows differ: {student} and {ranking}");
        assert!(ranking.cols() <= MAX_RANKING, "hard_negative: {ranking} is longer than {MAX_RANKING}");
    }
    assert!(0 < negatives && negatives <= MAX_NEGATIVES, "hard_negative: {negatives} negatives are not 1 to {MAX_NEGATIVES}");
    let params = Params {
        step: 0,
        rows: student.rows(),
        cols: student.cols(),
        positives: positives.cols(),
        ranking: ranking.cols(),
        negatives,
        teacher_inverse_temperature,
        weight,
    };
    plan.push::<HardNegative>(params, &[teacher, student, positives, ranking, log_inverse_temperature], &outputs);
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
    /// Places of the two rankings.
    positives: u32,
    ranking: u32,
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
        let ([teacher, student, positives, ranking, log_beta], [gradient, loss, temperature_gradient]) = io.take();
        let (cols, beta) = (p.cols as usize, log_beta.real()[0].exp());
        let scores = teacher.real().par_chunks_exact(cols).zip(student.real().par_chunks_exact(cols));
        let positives = positives.index().par_chunks_exact(p.positives as usize);
        let columns = positives.zip(ranking.index().par_chunks_exact(p.ranking as usize));
        let sums = loss.real().par_iter_mut().zip(temperature_gradient.real());
        gradient.real().par_chunks_exact_mut(cols).zip(sums).zip(scores.zip(columns)).for_each_init(
            Row::default,
            |row, ((gradient, (loss, temperature_gradient)), ((teacher, student), (positives, ranking)))| {
                row.choose(p, positives, ranking);
                let scale = p.weight / (p.positives * p.negatives) as f32;
                *loss += scale * vectorized(|| row.compare(p, beta, teacher, student));
                for (&column, active) in row.columns.iter().zip(&row.active) {
                    let g = scale * beta * active;
                    gradient[column] += g;
                    // The derivatives add up to 0, so that only differences of scores count.
                    *temperature_gradient += g * (student[column] - student[row.columns[0]]);
                }
            },
        );
    }

    fn oracle(p: &Params, io: Io<'_, f64>) {
        let ([teacher, student, positives, ranking, log_beta], [gradient, loss, temperature_gradient]) = io.take();
        let (teacher, student, beta) = (teacher.real(), student.real(), log_beta.real()[0].exp());
        let (gradient, loss, temperature_gradient) = (gradient.real(), loss.real(), temperature_gradient.real());
        let scale = f64::from(p.weight) / f64::from(p.positives * p.negatives);
        for row in 0..p.rows as usize {
            let at = |column: u32| row * p.cols as usize + column as usize;
            let positives = &positives.index()[row * p.positives as usize..][..p.positives as usize];
            let ranking = &ranking.index()[row * p.ranking as usize..][..p.ranking as usize];
            let negatives = ranking.iter().filter(|column| **column != NONE && !positives.contains(column));
            for &n in negatives.take(p.negatives as usize) {
                for &q in positives.iter().filter(|column| **column != NONE) {
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
        let [rows, positives, ranking, negatives] = [p.rows, p.positives, p.ranking, p.negatives].map(u64::from);
        let pairs = 4 * positives * negatives;
        Cost { flops: rows * pairs, bytes: 4 * rows * (5 * (positives + negatives) + ranking) }
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (shape, positives, ranking, negatives) in [
            ([1, 2], 1, 1, 1),
            ([3, 40], 5, 30, 4),
            ([4, 41], 40, 41, 64),
            ([2, 300], 1, 257, 64),
            ([3, 1500], 300, 1024, 63),
            ([2, 1500], 1024, 1024, 64),
            ([2, 700], 255, 256, 33),
            ([65_537, 3], 1, 2, 1),
        ] {
            cases.push(case(&Setup { shape, positives, ranking, negatives, ..Setup::default() }));
        }
        let small = Setup { shape: [8, 60], positives: 10, ranking: 40, negatives: 6, ..Setup::default() };
        cases.push(case(&Setup { name: "short rankings", missing: 6, ..small.clone() }));
        cases.push(case(&Setup { name: "the same ranking", shift: 0, ..small.clone() }));
        cases.push(case(&Setup { name: "no common column", shift: 20, ..small.clone() }));
        cases.push(case(&Setup { name: "added", before: Fill::Normal, ..small.clone() }));
        cases.push(case(&Setup { name: "heavy-tailed", fill: Fill::HeavyTailed, ..small.clone() }));
        // Too many scores for a gradient check, in which differences of such losses would drown in rounding.
        let logits = Setup { name: "logits to 1e4", inverse_temperature: 4000.0, ..small.clone() };
        cases.push(case(&Setup { shape: [17, 60], ..logits.clone() }));
        cases.push(case(&Setup { name: "logits to 4e3", inverse_temperature: 1500.0, ..logits }));
        // Products are exact, so that nobody rounds a tie away.
        cases.push(case(&Setup { name: "ties", fill: Fill::Ties, inverse_temperature: 4.0, log_beta: 0.0, ..small }));
        cases
    }

    fn bench_cases() -> Vec<Case> {
        let sizes = [(10, 26, 16), (50, 114, 64), (100, 164, 64)];
        let setups = sizes.map(|(positives, ranking, negatives)| {
            case(&Setup { shape: [512, 4096], positives, ranking, negatives, ..Setup::default() })
        });
        setups.into()
    }
}

/// Columns of one anchor, the positives first; the buffers serve one row after the other.
#[derive(Default)]
struct Row {
    columns: Vec<usize>,
    /// How many of them are positives.
    positives: usize,
    /// The positives, ascending.
    sorted: Vec<u32>,
    /// Pairs with a loss, of each column: less than 0 for positives, more than 0 for negatives.
    active: Vec<f32>,
    /// Leads of the positives and their pairs with a loss, in vectors.
    leads: Vec<[f32; LANES]>,
    counts: Vec<[f32; LANES]>,
}

/// Pairs that are compared at once.
const LANES: usize = 16;

impl Row {
    fn choose(&mut self, p: &Params, positives: &[u32], ranking: &[u32]) {
        let Self { columns, sorted, .. } = self;
        sorted.clear();
        sorted.extend(positives.iter().filter(|column| **column != NONE));
        columns.clear();
        columns.extend(sorted.iter().map(|column| *column as usize));
        self.positives = columns.len();
        sorted.sort_unstable();
        let negatives = ranking.iter().filter(|column| **column != NONE && sorted.binary_search(column).is_err());
        columns.extend(negatives.take(p.negatives as usize).map(|column| *column as usize));
    }

    /// Sum of the hinges over all pairs. A column's lead is the teacher's score above the student's, up to a constant: what a
    /// positive has more of it than a negative is lost.
    #[inline(always)]
    fn compare(&mut self, p: &Params, beta: f32, teacher: &[f32], student: &[f32]) -> f32 {
        let Self { columns, positives, active, leads, counts, .. } = self;
        active.clear();
        active.resize(columns.len(), 0.0);
        let Some(&first) = columns.first() else { return 0.0 };
        // Differences before scaling, for large scores that differ little.
        let scale = p.teacher_inverse_temperature;
        let lead = |c: usize| (teacher[c] - teacher[first]) * scale - (student[c] - student[first]) * beta;
        // Lanes without a positive lose nothing.
        leads.clear();
        leads.resize(positives.div_ceil(LANES), [f32::NEG_INFINITY; LANES]);
        leads.as_flattened_mut().iter_mut().zip(&columns[..*positives]).for_each(|(lane, c)| *lane = lead(*c));
        counts.clear();
        counts.resize(leads.len(), [0.0; LANES]);
        let mut sums = [0.0; LANES];
        for (negative, active) in columns[*positives..].iter().zip(&mut active[*positives..]) {
            let negative = lead(*negative);
            let mut pairs = [0.0; LANES];
            for (leads, counts) in leads.iter().zip(&mut *counts) {
                for l in 0..LANES {
                    let lost = leads[l] - negative;
                    let one = if lost > 0.0 { 1.0 } else { 0.0 };
                    sums[l] += if lost > 0.0 { lost } else { 0.0 };
                    counts[l] -= one;
                    pairs[l] += one;
                }
            }
            *active = pairs.iter().sum();
        }
        active[..*positives].copy_from_slice(&counts.as_flattened()[..*positives]);
        sums.iter().sum()
    }
}

#[derive(Clone)]
struct Setup {
    name: &'static str,
    shape: [u32; 2],
    positives: u32,
    ranking: u32,
    negatives: u32,
    /// The rankings of row i lack this many columns for each row before it.
    missing: u32,
    /// Places by which the second ranking is ahead of the first.
    shift: u32,
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
            positives: 1,
            ranking: 1,
            negatives: 1,
            missing: 0,
            shift: 1,
            fill: Fill::Normal,
            inverse_temperature: 2.5,
            log_beta: 0.6,
            before: Fill::Constant(0.0),
        }
    }
}

fn case(setup: &Setup) -> Case {
    let Setup { shape: [rows, cols], positives, ranking, negatives, missing, shift, inverse_temperature, ref before, .. } = *setup;
    let name = format!("{} {rows}x{cols} {positives} + {negatives} of {ranking}", setup.name);
    Case::new(name, |case| {
        let teacher = case.input("teacher", [rows, cols], setup.fill.clone());
        let student = case.input("student", [rows, cols], setup.fill.clone());
        // Distinct columns in no particular order, which only matters to what the loss means.
        let columns = |length: u32, shift: u32| {
            let column = |row: u32, place: u32| {
                if place + row * missing < length { (row * 7 + place + shift) % cols } else { NONE }
            };
            Fill::ExactIndices((0..rows * length).map(|i| column(i / length, i % length)).collect())
        };
        let positives = case.input("positives", [rows, positives], columns(positives, 0));
        let ranking = case.input("ranking", [rows, ranking], columns(ranking, shift));
        let log_beta = case.input("log_inverse_temperature", [1, 1], Fill::Constant(setup.log_beta));
        let outputs = ListLoss {
            gradient: case.in_out("gradient", [rows, cols], before.clone()),
            loss: case.in_out("loss", [rows, 1], before.clone()),
            temperature_gradient: case.in_out("temperature_gradient", [rows, 1], before.clone()),
        };
        let config =
            Config { positives, ranking, negatives, teacher_inverse_temperature: inverse_temperature, weight: 0.3 };
        hard_negative(&mut case.plan, teacher, student, log_beta, outputs, config);
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
