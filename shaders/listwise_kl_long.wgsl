// KL(teacher || student) over a candidate list with its gradients, for lists of any length: one workgroup a row. The first sweep over
// the scores carries maxima and sums along ("online" softmax), the second writes the gradient. listwise_kl.wgsl reads shorter lists once.

@group(0) @binding(0) var<storage, read> teacher: array<f32>;
@group(0) @binding(1) var<storage, read> student: array<f32>;
@group(0) @binding(2) var<storage, read> log_inverse_temperature: array<f32>;
@group(0) @binding(3) var<storage, read> anchors: array<u32>;
@group(0) @binding(4) var<storage, read> candidates: array<u32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(6) var<storage, read_write> loss: array<f32>;
@group(0) @binding(7) var<storage, read_write> temperature_gradient: array<f32>;

const THREADS: u32 = 256u;
// Below every score, and far from overflow when scaled.
const MASKED: f32 = -1.0e30;

// Sums over a part of a row. Pairs are (teacher, student); a weight is exp(u), u = scale * (score - max).
struct Sums {
    max: vec2<f32>,
    weights: vec2<f32>,     // sum of weights
    own: vec2<f32>,         // sum of weight * u
    cross: f32,             // sum of the teacher's weight * the student's u
}
var<workgroup> partial: array<Sums, THREADS>;

// Sums of two parts together. An empty part has weights 0.
fn merge(a: Sums, b: Sums, scale: vec2<f32>) -> Sums {
    let top = max(a.max, b.max);
    let da = (a.max - top) * scale;
    let db = (b.max - top) * scale;
    // exp(-80) vanishes beside the 1 of the maximum, and stays a normal number.
    let fa = exp(max(da, vec2(-80.0)));
    let fb = exp(max(db, vec2(-80.0)));
    return Sums(
        top,
        fa * a.weights + fb * b.weights,
        fa * (a.own + a.weights * da) + fb * (b.own + b.weights * db),
        fa.x * (a.cross + a.weights.x * da.y) + fb.x * (b.cross + b.weights.x * db.y));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = flat_workgroup(group, groups);
    if (row < p.rows) { // the same for the whole workgroup
        distil(row, local);
    }
}

fn distil(row: u32, local: u32) {
    let base = row * p.cols;
    let beta = exp(log_inverse_temperature[0]);
    let scale = vec2(p.teacher_inverse_temperature, beta);
    let anchor = anchors[p.step * p.anchor_step + row];
    let list = p.step * p.candidate_step;

    var sums = Sums(vec2(MASKED), vec2(0.0), vec2(0.0), 0.0);
    for (var j = local; j < p.cols; j += THREADS) {
        if (candidates[list + j] != anchor) {
            let score = vec2(teacher[base + j], student[base + j]);
            sums = merge(sums, Sums(score, vec2(1.0), vec2(0.0), 0.0), scale);
        }
    }
    partial[local] = sums;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            partial[local] = merge(partial[local], partial[local + half], scale);
        }
    }
    workgroupBarrier();
    sums = partial[0];

    // The greatest score weighs 1; less is the 0 of a row without candidates.
    let weights = max(sums.weights, vec2(1.0));
    let inverse = 1.0 / weights;
    if (local == 0u) {
        loss[row] = p.weight * ((sums.own.x - sums.cross) * inverse.x - log(weights.x) + log(weights.y));
        temperature_gradient[row] = p.weight * (sums.own.y * inverse.y - sums.cross * inverse.x);
    }
    for (var j = local; j < p.cols; j += THREADS) {
        let u = (vec2(teacher[base + j], student[base + j]) - sums.max) * scale;
        let probability = exp(max(u, vec2(-80.0))) * inverse;
        let masked = candidates[list + j] == anchor;
        gradient[base + j] = select(p.weight * beta * (probability.y - probability.x), 0.0, masked);
    }
}
