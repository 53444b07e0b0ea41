// The k best entries of a row, exactly, by a whole workgroup. The best so far are a sorted list in workgroup memory. Entries that
// beat its k-th collect in a queue; when that fills up it is sorted and merged into the list. Few entries of a long row get there.
//
// Constant in front: KEPT, length of the list: a power of two, at least k. The shader has `entry(row, j)`, `best_scores` and
// `best_ids`; keys.wgsl has the order.

const THREADS: u32 = 256u;
const QUEUE: u32 = 512u;

// The list, then the queue.
var<workgroup> slots: array<vec2<u32>, KEPT + QUEUE>;
var<workgroup> queued: atomic<u32>;
var<workgroup> full: u32;    // not 0 when the queue has to be merged

// Selects among the entries below `count` and, from step `carry_from` on, what was selected before.
fn select_best(row: u32, count: u32, local: u32) {
    for (var i = local; i < KEPT; i += THREADS) {
        slots[i] = carried(row, i);
    }
    if (local == 0u) {
        atomicStore(&queued, 0u);
        full = 0u;
    }
    workgroupBarrier();
    for (var tile = 0u; tile < count; tile += 4u * THREADS) {
        // Four loads are under way before the first barrier.
        let a = entry(row, tile + local, count);
        let b = entry(row, tile + local + THREADS, count);
        let c = entry(row, tile + local + 2u * THREADS, count);
        let d = entry(row, tile + local + 3u * THREADS, count);
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
