// Hinge on the teacher's gaps between positives and hard negatives of a pool: one workgroup an anchor. It owns the anchor's row
// of the gradient, and every column of it is in the pool once, so that adding takes no atomics.

struct Params {
    step: u32,
    rows: u32, cols: u32,
    pool: u32, positives: u32, negatives: u32,
    teacher_inverse_temperature: f32,
    weight: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> teacher: array<f32>;
@group(0) @binding(1) var<storage, read> student: array<f32>;
@group(0) @binding(2) var<storage, read> pool: array<u32>;
@group(0) @binding(3) var<storage, read> log_inverse_temperature: array<f32>;
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read_write> temperature_gradient: array<f32>;

const THREADS: u32 = 256u;
const MAX_POOL: u32 = 1024u;
const MAX_NEGATIVES: u32 = 64u;
const NONE: u32 = 0xffffffffu;
const LOWEST: f32 = -3.0e38;

// The pool, place by place. A positive loses to a negative what its lead (teacher's score above the student's) is greater.
var<workgroup> columns: array<u32, MAX_POOL>;
var<workgroup> scores: array<f32, MAX_POOL>;
var<workgroup> leads: array<f32, MAX_POOL>;
// Places of the negatives, best first.
var<workgroup> mined: array<u32, MAX_NEGATIVES>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = flat_workgroup(group, groups);
    if (row < p.rows) { // the same for the whole workgroup
        add_row(row, local);
    }
}

fn add_row(row: u32, local: u32) {
    let beta = exp(log_inverse_temperature[0]);
    load_pool(row, local, beta);
    workgroupBarrier();
    mine(local);
    workgroupBarrier();

    let scale = p.weight / f32(p.positives * p.negatives);
    var lost = 0.0;
    var by_temperature = 0.0;
    for (var place = local; place < p.positives; place += THREADS) {
        var pairs = 0.0;
        for (var i = 0u; i < p.negatives; i += 1u) {
            let hinge = pair(place, mined[i]);
            if (hinge > 0.0) {
                lost += hinge;
                pairs += 1.0;
            }
        }
        by_temperature += add_gradient(row, place, -pairs * scale * beta);
    }
    if (local < p.negatives && mined[local] != NONE) {
        var pairs = 0.0;
        for (var place = 0u; place < p.positives; place += 1u) {
            pairs += select(0.0, 1.0, pair(place, mined[local]) > 0.0);
        }
        by_temperature += add_gradient(row, mined[local], pairs * scale * beta);
    }
    lost = workgroup_sum(local, lost);
    by_temperature = workgroup_sum(local, by_temperature);
    if (local == 0u) {
        loss[row] += scale * lost;
        temperature_gradient[row] += by_temperature;
    }
}

fn load_pool(row: u32, local: u32, beta: f32) {
    let base = row * p.cols;
    let first = min(pool[row * p.pool], p.cols - 1u);
    for (var place = local; place < p.pool; place += THREADS) {
        let column = pool[row * p.pool + place];
        columns[place] = column;
        scores[place] = LOWEST;
        if (column != NONE) {
            let score = student[base + column];
            scores[place] = score;
            // Differences before scaling, for large scores that differ little.
            leads[place] = (teacher[base + column] - teacher[base + first]) * p.teacher_inverse_temperature
                - (score - student[base + first]) * beta;
        }
    }
    if (local < MAX_NEGATIVES) {
        mined[local] = NONE;
    }
}

// The negatives: places behind the positives that fewer than `negatives` others of them precede.
fn mine(local: u32) {
    for (var place = p.positives + local; place < p.pool; place += THREADS) {
        let score = scores[place];
        var before = 0u;
        for (var other = p.positives; other < p.pool && before < p.negatives; other += 1u) {
            before += u32(scores[other] > score || (scores[other] == score && other < place));
        }
        if (before < p.negatives && columns[place] != NONE) {
            mined[before] = place;
        }
    }
}

fn pair(positive: u32, negative: u32) -> f32 {
    if (negative == NONE) {
        return 0.0;
    }
    return leads[positive] - leads[negative];
}

// Adds to a column's derivative; returns what that adds to the derivative by the log inverse temperature. The derivatives of a
// row add up to 0, so that only differences of scores count.
fn add_gradient(row: u32, place: u32, value: f32) -> f32 {
    if (value == 0.0) {
        return 0.0;
    }
    gradient[row * p.cols + columns[place]] += value;
    return value * (scores[place] - scores[0]);
}
