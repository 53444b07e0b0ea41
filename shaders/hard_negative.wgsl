// Hinge on the teacher's gaps between positives and hard negatives: one workgroup an anchor. It owns the anchor's row of the
// gradient, and every column of it is in one place at most, so that adding takes no atomics.

struct Params {
    step: u32,
    rows: u32, cols: u32,
    positives: u32, ranking: u32, negatives: u32,
    teacher_inverse_temperature: f32,
    weight: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> teacher: array<f32>;
@group(0) @binding(1) var<storage, read> student: array<f32>;
@group(0) @binding(2) var<storage, read> positives: array<u32>;
@group(0) @binding(3) var<storage, read> ranking: array<u32>;
@group(0) @binding(4) var<storage, read> log_inverse_temperature: array<f32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(6) var<storage, read_write> loss: array<f32>;
@group(0) @binding(7) var<storage, read_write> temperature_gradient: array<f32>;

const THREADS: u32 = 256u;
// Most positives and negatives together, and words that hold a bit for each place of the longest ranking.
const MAX_PLACES: u32 = 1088u;
const WORDS: u32 = 32u;
const NONE: u32 = 0xffffffffu;

// The positives, then the negatives. A positive loses to a negative what its lead (teacher's score above the student's) is
// greater.
var<workgroup> columns: array<u32, MAX_PLACES>;
var<workgroup> scores: array<f32, MAX_PLACES>;
var<workgroup> leads: array<f32, MAX_PLACES>;
// A bit for each place of the ranking: whether its column is no positive.
var<workgroup> eligible: array<atomic<u32>, WORDS>;

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
    load_positives(row, local);
    workgroupBarrier();
    mark_eligible(row, local);
    workgroupBarrier();
    load_negatives(row, local);
    workgroupBarrier();
    load_scores(row, local, beta);
    workgroupBarrier();

    let scale = p.weight / f32(p.positives * p.negatives);
    let places = p.positives + p.negatives;
    var lost = 0.0;
    var by_temperature = 0.0;
    for (var place = local; place < p.positives; place += THREADS) {
        var pairs = 0.0;
        for (var other = p.positives; other < places; other += 1u) {
            let hinge = pair(place, other);
            lost += hinge;
            pairs += select(0.0, 1.0, hinge > 0.0);
        }
        by_temperature += add_gradient(row, place, -pairs * scale * beta);
    }
    for (var place = p.positives + local; place < places; place += THREADS) {
        var pairs = 0.0;
        for (var other = 0u; other < p.positives; other += 1u) {
            pairs += select(0.0, 1.0, pair(other, place) > 0.0);
        }
        by_temperature += add_gradient(row, place, pairs * scale * beta);
    }
    lost = workgroup_sum(local, lost);
    by_temperature = workgroup_sum(local, by_temperature);
    if (local == 0u) {
        loss[row] += scale * lost;
        temperature_gradient[row] += by_temperature;
    }
}

fn load_positives(row: u32, local: u32) {
    for (var place = local; place < p.positives; place += THREADS) {
        columns[place] = positives[row * p.positives + place];
    }
    for (var place = local; place < p.negatives; place += THREADS) {
        columns[p.positives + place] = NONE;
    }
    if (local < WORDS) {
        atomicStore(&eligible[local], 0u);
    }
}

fn mark_eligible(row: u32, local: u32) {
    for (var place = local; place < p.ranking; place += THREADS) {
        let column = ranking[row * p.ranking + place];
        var found = column == NONE;
        for (var other = 0u; other < p.positives && !found; other += 1u) {
            found = columns[other] == column;
        }
        if (!found) {
            atomicOr(&eligible[place / 32u], 1u << (place % 32u));
        }
    }
}

// The negatives: what is eligible, in the order of the ranking, as far as there is room.
fn load_negatives(row: u32, local: u32) {
    for (var place = local; place < p.ranking; place += THREADS) {
        let bits = atomicLoad(&eligible[place / 32u]);
        let bit = 1u << (place % 32u);
        if ((bits & bit) != 0u) {
            var before = countOneBits(bits & (bit - 1u));
            for (var word = 0u; word < place / 32u; word += 1u) {
                before += countOneBits(atomicLoad(&eligible[word]));
            }
            if (before < p.negatives) {
                columns[p.positives + before] = ranking[row * p.ranking + place];
            }
        }
    }
}

fn load_scores(row: u32, local: u32, beta: f32) {
    let base = row * p.cols;
    let first = min(columns[0], p.cols - 1u);
    for (var place = local; place < p.positives + p.negatives; place += THREADS) {
        let column = columns[place];
        if (column != NONE) {
            let score = student[base + column];
            scores[place] = score;
            // Differences before scaling, for large scores that differ little.
            leads[place] = (teacher[base + column] - teacher[base + first]) * p.teacher_inverse_temperature
                - (score - student[base + first]) * beta;
        }
    }
}

fn pair(positive: u32, negative: u32) -> f32 {
    if (columns[positive] == NONE || columns[negative] == NONE) {
        return 0.0;
    }
    return max(leads[positive] - leads[negative], 0.0);
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
