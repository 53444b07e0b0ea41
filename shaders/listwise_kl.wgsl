// KL(teacher || student) over a candidate list with its gradients: one workgroup a row, whose scores are read once and stay in
// registers: each of 256 threads has up to eight vectors of both.
//
// Constant in front: VECTORS, those of a thread: 1, 2, 4 or 8, which hold a list of 1024 each. Parts from the number VECTORS on compile to
// nothing. list_*.wgsl has the bindings of lists, for lengths that are multiples of four (vec4) and any (scalar).

@group(0) @binding(2) var<storage, read> log_inverse_temperature: array<f32>;
@group(0) @binding(3) var<storage, read> anchors: array<u32>;
@group(0) @binding(6) var<storage, read_write> loss: array<f32>;
@group(0) @binding(7) var<storage, read_write> temperature_gradient: array<f32>;

const THREADS: u32 = 256u;
// Below every score.
const MASKED: f32 = -1.0e30;

// Four columns: scores, later their weights exp(u) with u = scale * (score - max), which are 0 where a column takes no part.
struct Part {
    teacher: vec4<f32>,
    student: vec4<f32>,
}

// Sums over columns; pairs are (teacher, student).
struct Sums {
    weights: vec2<f32>,     // sum of weights
    own: vec2<f32>,         // sum of weight * u
    cross: f32,             // sum of the teacher's weight * the student's u
}
var<workgroup> tops: array<vec2<f32>, THREADS>;
var<workgroup> partial: array<Sums, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = flat_workgroup(group, groups);
    if (row < p.rows) { // the same for the whole workgroup
        distil(row, local);
    }
}

fn distil(row: u32, local: u32) {
    let beta = exp(log_inverse_temperature[0]);
    let scale = vec2(p.teacher_inverse_temperature, beta);
    let anchor = anchors[p.step * p.anchor_step + row];
    var a = load(0u, row, local, anchor);
    var b = load(1u, row, local, anchor);
    var c = load(2u, row, local, anchor);
    var d = load(3u, row, local, anchor);
    var e = load(4u, row, local, anchor);
    var f = load(5u, row, local, anchor);
    var g = load(6u, row, local, anchor);
    var h = load(7u, row, local, anchor);
    let top = greatest(local, max(max(max(top_of(a), top_of(b)), max(top_of(c), top_of(d))),
        max(max(top_of(e), top_of(f)), max(top_of(g), top_of(h)))));
    var sums = Sums();
    a = weigh(0u, a, top, scale, &sums);
    b = weigh(1u, b, top, scale, &sums);
    c = weigh(2u, c, top, scale, &sums);
    d = weigh(3u, d, top, scale, &sums);
    e = weigh(4u, e, top, scale, &sums);
    f = weigh(5u, f, top, scale, &sums);
    g = weigh(6u, g, top, scale, &sums);
    h = weigh(7u, h, top, scale, &sums);
    let all = total(local, sums);
    // The greatest score weighs 1; less is the 0 of a row without candidates.
    let weights = max(all.weights, vec2(1.0));
    let inverse = 1.0 / weights;
    if (local == 0u) {
        loss[row] = p.weight * ((all.own.x - all.cross) * inverse.x - log(weights.x) + log(weights.y));
        temperature_gradient[row] = p.weight * (all.own.y * inverse.y - all.cross * inverse.x);
    }
    let factor = p.weight * beta * inverse;
    store(0u, row, local, a, factor);
    store(1u, row, local, b, factor);
    store(2u, row, local, c, factor);
    store(3u, row, local, d, factor);
    store(4u, row, local, e, factor);
    store(5u, row, local, f, factor);
    store(6u, row, local, g, factor);
    store(7u, row, local, h, factor);
}

// First column of a thread's part.
fn column(index: u32, local: u32) -> u32 {
    return 4u * (index * THREADS + local);
}

fn load(index: u32, row: u32, local: u32, anchor: u32) -> Part {
    let j = column(index, local);
    if (index >= VECTORS || j >= p.cols) {
        return Part(vec4(MASKED), vec4(MASKED));
    }
    let count = min(p.cols - j, 4u);
    let masked = masked_columns(p.step * p.candidate_step + j, count, anchor);
    let at = row * p.cols + j;
    return Part(select(load_teacher(at, count), vec4(MASKED), masked), select(load_student(at, count), vec4(MASKED), masked));
}

fn top_of(part: Part) -> vec2<f32> {
    let halves = vec4(max(part.teacher.xy, part.teacher.zw), max(part.student.xy, part.student.zw));
    return max(halves.xz, halves.yw);
}

fn greatest(local: u32, value: vec2<f32>) -> vec2<f32> {
    tops[local] = value;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            tops[local] = max(tops[local], tops[local + half]);
        }
    }
    workgroupBarrier();
    return tops[0];
}

fn weigh(index: u32, part: Part, top: vec2<f32>, scale: vec2<f32>, sums: ptr<function, Sums>) -> Part {
    if (index >= VECTORS) {
        return part;
    }
    let masked = part.teacher == vec4(MASKED);
    // Differences before scaling: what matters is near the maximum, where they are exact.
    let ut = select((part.teacher - top.x) * scale.x, vec4(0.0), masked);
    let us = select((part.student - top.y) * scale.y, vec4(0.0), masked);
    // exp(-80) vanishes beside the 1 of the maximum, and stays a normal number.
    let wt = select(exp(max(ut, vec4(-80.0))), vec4(0.0), masked);
    let ws = select(exp(max(us, vec4(-80.0))), vec4(0.0), masked);
    let one = vec4(1.0);
    (*sums).weights += vec2(dot(wt, one), dot(ws, one));
    (*sums).own += vec2(dot(wt, ut), dot(ws, us));
    (*sums).cross += dot(wt, us);
    return Part(wt, ws);
}

fn total(local: u32, sums: Sums) -> Sums {
    partial[local] = sums;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            let x = partial[local];
            let y = partial[local + half];
            partial[local] = Sums(x.weights + y.weights, x.own + y.own, x.cross + y.cross);
        }
    }
    workgroupBarrier();
    return partial[0];
}

// The gradient, from weights.
fn store(index: u32, row: u32, local: u32, part: Part, factor: vec2<f32>) {
    let j = column(index, local);
    if (index < VECTORS && j < p.cols) {
        let value = part.student * factor.y - part.teacher * factor.x;
        store_gradient(row * p.cols + j, min(p.cols - j, 4u), value);
    }
}
