// The k best scores of a row, exactly: one workgroup a row. The best so far are a sorted list in workgroup memory. Scores that
// beat its k-th collect in a queue; when that fills up it is sorted and merged into the list. Few scores of a long row get there.
//
// Constant in front: KEPT, length of the list: a power of two, at least k.

struct Params {
    step: u32,
    rows: u32, cols: u32, k: u32,
    first: u32, per_step: u32, end: u32,
    exclude: u32,
    excluded_step: u32, columns_step: u32,
    carry_from: u32,
}
var<immediate> p: Params;

// Scores are bits of floats: no driver may flush, reorder or assume anything about them.
@group(0) @binding(0) var<storage, read> scores: array<u32>;
@group(0) @binding(1) var<storage, read> excluded: array<u32>;
@group(0) @binding(2) var<storage, read> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> best_scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> best_ids: array<u32>;

const THREADS: u32 = 256u;
const QUEUE: u32 = 512u;

// The list, then the queue. An entry is (key, id); keys have the order of scores: 0 for what is missing, 1 for NaN.
var<workgroup> slots: array<vec2<u32>, KEPT + QUEUE>;
var<workgroup> queued: atomic<u32>;
var<workgroup> full: u32;    // not 0 when the queue has to be merged

const MISSING: vec2<u32> = vec2<u32>(0u, 0xffffffffu);
const SIGN: u32 = 0x80000000u;

fn key_of(bits: u32) -> u32 {
    if ((bits & ~SIGN) > 0x7f800000u) { return 1u; }
    if (bits == SIGN) { return SIGN; }
    return select(bits | SIGN, ~bits, bits >= SIGN);
}

fn bits_of(key: u32) -> u32 {
    if (key == 0u) { return 0xff7fffffu; }
    if (key == 1u) { return 0x7fc00000u; }
    return select(~key, key & ~SIGN, key >= SIGN);
}

fn better(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = flat_workgroup(group, groups);
    if (row < p.rows) { // the same for the whole workgroup
        search(row, local);
    }
}

fn search(row: u32, local: u32) {
    for (var i = local; i < KEPT; i += THREADS) {
        slots[i] = carried(row, i);
    }
    if (local == 0u) {
        atomicStore(&queued, 0u);
        full = 0u;
    }
    workgroupBarrier();
    let first = p.first + p.step * p.per_step;
    let count = min(p.cols, p.end - min(p.end, first));
    for (var tile = 0u; tile < count; tile += 4u * THREADS) {
        // Four loads are under way before the first barrier.
        let a = entry(row, first, count, tile + local);
        let b = entry(row, first, count, tile + local + THREADS);
        let c = entry(row, first, count, tile + local + 2u * THREADS);
        let d = entry(row, first, count, tile + local + 3u * THREADS);
        offer(a, local);
        offer(b, local);
        offer(c, local);
        offer(d, local);
    }
    merge(local);
    for (var i = local; i < p.k; i += THREADS) {
        best_scores[row * p.k + i] = bits_of(slots[i].x);
        best_ids[row * p.k + i] = slots[i].y;
    }
}

fn carried(row: u32, i: u32) -> vec2<u32> {
    if (i < p.k && p.step >= p.carry_from) {
        let id = best_ids[row * p.k + i];
        if (id != MISSING.y) {
            return vec2(key_of(best_scores[row * p.k + i]), id);
        }
    }
    return MISSING;
}

fn entry(row: u32, first: u32, count: u32, j: u32) -> vec2<u32> {
    if (j < count && !skipped(row, first + j, j)) {
        return vec2(key_of(scores[row * p.cols + j]), first + j);
    }
    return MISSING;
}

fn skipped(row: u32, id: u32, j: u32) -> bool {
    if (p.exclude == 0u) {
        return false;
    }
    let skip = excluded[p.step * p.excluded_step + row];
    if (p.exclude == 1u) {
        return id == skip;
    }
    return columns[p.step * p.columns_step + j] == skip;
}

// Queues what beats the k-th best, and merges before the queue could overflow.
fn offer(entry: vec2<u32>, local: u32) {
    if (better(entry, slots[p.k - 1u])) {
        let place = atomicAdd(&queued, 1u);
        slots[KEPT + place] = entry;
        if (place == QUEUE - THREADS) {
            full = 1u;
        }
    }
    if (workgroupUniformLoad(&full) != 0u) {
        merge(local);
    }
}

// Sorts the queue, merges it into the list and empties it. Both sorts are bitonic, with the better entry always in front.
fn merge(local: u32) {
    if (local == 0u) {
        full = atomicLoad(&queued);
    }
    let count = workgroupUniformLoad(&full);
    var padded = 1u;
    while (padded < count) {
        padded *= 2u;
    }
    for (var i = count + local; i < padded; i += THREADS) {
        slots[KEPT + i] = MISSING;
    }
    workgroupBarrier();
    for (var size = 2u; size <= padded; size *= 2u) {
        for (var pair = local; pair < padded / 2u; pair += THREADS) {
            let start = KEPT + pair / (size / 2u) * size;
            let i = pair % (size / 2u);
            order(start + i, start + size - 1u - i);
        }
        workgroupBarrier();
        settle(KEPT, padded, size / 2u, local);
    }
    // The best of both: the list's end against the queue's start.
    for (var i = local; i < min(KEPT, padded); i += THREADS) {
        order(KEPT - 1u - i, KEPT + i);
    }
    workgroupBarrier();
    settle(0u, KEPT, KEPT, local);
    if (local == 0u) {
        atomicStore(&queued, 0u);
        full = 0u;
    }
    workgroupBarrier();
}

// Sorts bitonic runs of `size` entries.
fn settle(base: u32, count: u32, size: u32, local: u32) {
    for (var stride = size / 2u; stride > 0u; stride /= 2u) {
        for (var pair = local; pair < count / 2u; pair += THREADS) {
            let i = base + pair / stride * 2u * stride + pair % stride;
            order(i, i + stride);
        }
        workgroupBarrier();
    }
}

fn order(first: u32, second: u32) {
    let a = slots[first];
    let b = slots[second];
    if (better(b, a)) {
        slots[first] = b;
        slots[second] = a;
    }
}
