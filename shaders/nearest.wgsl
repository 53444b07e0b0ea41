// The k best of the products of queries with a part of the database, which never leave the workgroup: tiles of 64 x 128 scores, each
// thread 4 x 8 of them in registers. What beats the bar of its query collects in the query's queue in workgroup memory; when one
// overflows, all are merged into the sorted lists of this part, which are few and stay in the cache. nearest_merge.wgsl makes one
// list of those of all parts.
//
// Constant in front: KEPT, 64, 256 or 1024 and at least k. operands_*.wgsl reads queries (a) and database (b).

@group(0) @binding(2) var<storage, read> offset: array<f32>;
@group(0) @binding(3) var<storage, read> excluded: array<u32>;
@group(0) @binding(4) var<storage, read> best_scores: array<u32>;
@group(0) @binding(5) var<storage, read> best_ids: array<u32>;
@group(0) @binding(6) var<storage, read_write> part_scores: array<u32>;
@group(0) @binding(7) var<storage, read_write> part_ids: array<u32>;

const THREADS: u32 = 256u;
const ROWS: u32 = 64u;      // queries of a tile
const COLS: u32 = 128u;     // database rows of a tile
const DEPTH: u32 = 8u;      // dimensions staged at a time
const QUEUE: u32 = 16u;     // entries that wait for each query
const LANES: u32 = min(KEPT, THREADS);      // threads that merge a list
const A_WIDTH: u32 = ROWS / 4u;
const B_WIDTH: u32 = COLS / 4u;

var<workgroup> tile_a: array<vec4<f32>, DEPTH * A_WIDTH>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * B_WIDTH>;
var<workgroup> queue: array<vec2<u32>, ROWS * QUEUE>;
var<workgroup> queued: array<atomic<u32>, ROWS>;
var<workgroup> bars: array<vec2<u32>, ROWS>;    // entries that are not better are none of the k best
var<workgroup> overflowed: atomic<u32>;         // queries whose queue has overflowed
var<workgroup> full: u32;                       // not 0 if there are any

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row0 = group.x * ROWS;
    start(row0, group.y, local);
    let first = p.first + p.step * p.per_step;
    let count = min(p.cols, p.end - min(p.end, first));
    let begin = group.y * p.part_cols;
    let end = min(begin + p.part_cols, count);
    let ty = local / 16u;
    let tx = local % 16u;
    for (var tile = begin; tile < end; tile += COLS) {
        var c0 = vec4<f32>(); var d0 = vec4<f32>();
        var c1 = vec4<f32>(); var d1 = vec4<f32>();
        var c2 = vec4<f32>(); var d2 = vec4<f32>();
        var c3 = vec4<f32>(); var d3 = vec4<f32>();
        for (var k0 = 0u; k0 < p.dim; k0 += DEPTH) {
            stage(row0, tile, k0, local);
            workgroupBarrier();
            for (var k = 0u; k < DEPTH; k += 1u) {
                let a = tile_a[slot(A_WIDTH, k, ty)];
                let b = tile_b[slot(B_WIDTH, k, tx)];
                let e = tile_b[slot(B_WIDTH, k, tx + 16u)];
                c0 = fma(vec4(a.x), b, c0); d0 = fma(vec4(a.x), e, d0);
                c1 = fma(vec4(a.y), b, c1); d1 = fma(vec4(a.y), e, d1);
                c2 = fma(vec4(a.z), b, c2); d2 = fma(vec4(a.z), e, d2);
                c3 = fma(vec4(a.w), b, c3); d3 = fma(vec4(a.w), e, d3);
            }
            workgroupBarrier();
        }
        let left = tile + 4u * tx;
        let right = left + 64u;
        if (p.offset != 0u) {
            let ol = offsets(left, end);
            let or = offsets(right, end);
            c0 += ol; c1 += ol; c2 += ol; c3 += ol;
            d0 += or; d1 += or; d2 += or; d3 += or;
        }
        // One bit for each score that has not found its place yet.
        var pending = 0xffffffffu;
        loop {
            pending = offer(row0, 4u * ty, left, end, c0, pending, 0u) | offer(row0, 4u * ty, right, end, d0, pending, 4u)
                | offer(row0, 4u * ty + 1u, left, end, c1, pending, 8u) | offer(row0, 4u * ty + 1u, right, end, d1, pending, 12u)
                | offer(row0, 4u * ty + 2u, left, end, c2, pending, 16u) | offer(row0, 4u * ty + 2u, right, end, d2, pending, 20u)
                | offer(row0, 4u * ty + 3u, left, end, c3, pending, 24u) | offer(row0, 4u * ty + 3u, right, end, d3, pending, 28u);
            if (workgroupUniformLoad(&full) == 0u) {
                break;
            }
            merge(row0, group.y, local);
        }
    }
    workgroupBarrier();
    merge(row0, group.y, local);
}

// Empty lists, and the bars that earlier blocks have left. Queries beyond the last have a bar above every score.
fn start(row0: u32, part: u32, local: u32) {
    for (var i = local; i < ROWS * p.k; i += THREADS) {
        let row = row0 + i / p.k;
        if (row < p.rows) {
            enlist(list_of(row, part) + i % p.k, MISSING);
        }
    }
    if (local < ROWS) {
        let row = row0 + local;
        var bar = vec2(0xffffffffu, 0u);
        if (row < p.rows) {
            bar = MISSING;
            if (p.step >= p.carry_from) {
                bar = entry_of(best_scores[row * p.k + p.k - 1u], best_ids[row * p.k + p.k - 1u]);
            }
        }
        bars[local] = bar;
        atomicStore(&queued[local], 0u);
    }
    if (local == 0u) {
        atomicStore(&overflowed, 0u);
        full = 0u;
    }
    storageBarrier();
    workgroupBarrier();
}

// Place of vector `v` of staged dimension `k`: the exclusive or keeps the two halves of a transposed block in different banks.
fn slot(width: u32, k: u32, v: u32) -> u32 {
    return k * width + (v ^ (k & 4u));
}

// Blocks of 4 rows x 4 dimensions, transposed in registers: 32 of the queries, 64 of the database.
fn stage(row0: u32, col0: u32, k0: u32, local: u32) {
    let k = local % 2u * 4u;
    let v = local / 2u;
    if (local < 32u) {
        let row = row0 + 4u * v;
        let block = transpose(mat4x4<f32>(
            element_a(row, k0 + k), element_a(row + 1u, k0 + k), element_a(row + 2u, k0 + k), element_a(row + 3u, k0 + k)));
        tile_a[slot(A_WIDTH, k, v)] = block[0];
        tile_a[slot(A_WIDTH, k + 1u, v)] = block[1];
        tile_a[slot(A_WIDTH, k + 2u, v)] = block[2];
        tile_a[slot(A_WIDTH, k + 3u, v)] = block[3];
    } else if (local >= 64u && local < 128u) {
        let w = v - 32u;
        let col = col0 + 4u * w;
        let block = transpose(mat4x4<f32>(
            element_b(col, k0 + k), element_b(col + 1u, k0 + k), element_b(col + 2u, k0 + k), element_b(col + 3u, k0 + k)));
        tile_b[slot(B_WIDTH, k, w)] = block[0];
        tile_b[slot(B_WIDTH, k + 1u, w)] = block[1];
        tile_b[slot(B_WIDTH, k + 2u, w)] = block[2];
        tile_b[slot(B_WIDTH, k + 3u, w)] = block[3];
    }
}

fn element_a(row: u32, k: u32) -> vec4<f32> {
    if (row < p.rows && k < p.dim) {
        return load_a(row * p.dim + k, min(p.dim - k, 4u));
    }
    return vec4<f32>();
}

fn element_b(col: u32, k: u32) -> vec4<f32> {
    if (col < p.cols && k < p.dim) {
        return load_b(col * p.dim + k, min(p.dim - k, 4u));
    }
    return vec4<f32>();
}

fn offsets(col: u32, end: u32) -> vec4<f32> {
    var value = vec4<f32>();
    if (col < end) { value.x = offset[col]; }
    if (col + 1u < end) { value.y = offset[col + 1u]; }
    if (col + 2u < end) { value.z = offset[col + 2u]; }
    if (col + 3u < end) { value.w = offset[col + 3u]; }
    return value;
}

// Queues those of four scores that are pending and beat the bar; returns the bits of those for which there was no place.
fn offer(row0: u32, row: u32, col: u32, end: u32, scores: vec4<f32>, pending: u32, shift: u32) -> u32 {
    let bar = bars[row];
    let bits = bitcast<vec4<u32>>(scores);
    // Keys in four instructions, but for -0, which is one too low, and NaN: mostly they are all below the bar.
    let keys = bits ^ (bitcast<vec4<u32>>(bitcast<vec4<i32>>(bits) >> vec4(31u)) | vec4(SIGN));
    if (all(keys < vec4(max(bar.x, 1u) - 1u)) || ((pending >> shift) & 15u) == 0u) {
        return 0u;
    }
    var left = 0u;
    if (place(row0, row, col, end, bits.x, pending >> shift, bar)) { left |= 1u; }
    if (place(row0, row, col + 1u, end, bits.y, pending >> (shift + 1u), bar)) { left |= 2u; }
    if (place(row0, row, col + 2u, end, bits.z, pending >> (shift + 2u), bar)) { left |= 4u; }
    if (place(row0, row, col + 3u, end, bits.w, pending >> (shift + 3u), bar)) { left |= 8u; }
    return left << shift;
}

// Whether a score belongs into the queue and has found it full.
fn place(row0: u32, row: u32, col: u32, end: u32, bits: u32, pending: u32, bar: vec2<u32>) -> bool {
    let key = key_of(bits);
    if ((pending & 1u) == 0u || key < bar.x || col >= end) {
        return false;
    }
    let entry = vec2(key, p.first + p.step * p.per_step + col);
    let skipped = p.exclude != 0u && row0 + row < p.rows && excluded[p.step * p.excluded_step + row0 + row] == entry.y;
    if (skipped || !better(entry, bar)) {
        return false;
    }
    let at = atomicAdd(&queued[row], 1u);
    if (at < QUEUE) {
        queue[row * QUEUE + at] = entry;
        return false;
    }
    // One thread for each query, and of these the first.
    if (at == QUEUE && atomicAdd(&overflowed, 1u) == 0u) {
        full = 1u;
    }
    return true;
}

fn list_of(row: u32, part: u32) -> u32 {
    return (part * p.rows + row) * p.k;
}

fn entry_of(score_bits: u32, id: u32) -> vec2<u32> {
    return select(vec2(key_of(score_bits), id), MISSING, id == MISSING.y);
}

fn listed(at: u32) -> vec2<u32> {
    return entry_of(part_scores[at], part_ids[at]);
}

fn enlist(at: u32, entry: vec2<u32>) {
    part_scores[at] = bits_of(entry.x);
    part_ids[at] = entry.y;
}

// Merges every queue into its list and empties it. An entry's place in the merged list is its place in its own plus the number of
// better entries in the other: nothing has to be sorted, and the order in which entries came does not matter.
fn merge(row0: u32, part: u32, local: u32) {
    for (var first = 0u; first < ROWS; first += THREADS / LANES) {
        let row = first + local / LANES;
        let lane = local % LANES;
        let count = min(atomicLoad(&queued[row]), QUEUE);
        let list = list_of(row0 + row, part);
        var entry = MISSING;
        var at = p.k;
        var h0 = MISSING; var at0 = p.k;
        var h1 = MISSING; var at1 = p.k;
        var h2 = MISSING; var at2 = p.k;
        var h3 = MISSING; var at3 = p.k;
        if (count > 0u) {
            if (lane < count) {
                entry = queue[row * QUEUE + lane];
                at = ahead_in_queue(row, count, entry) + ahead_in_list(list, entry);
            }
            h0 = held(list, lane);
            at0 = lane + ahead_in_queue(row, count, h0);
            if (KEPT > LANES) {
                h1 = held(list, lane + LANES);
                h2 = held(list, lane + 2u * LANES);
                h3 = held(list, lane + 3u * LANES);
                at1 = lane + LANES + ahead_in_queue(row, count, h1);
                at2 = lane + 2u * LANES + ahead_in_queue(row, count, h2);
                at3 = lane + 3u * LANES + ahead_in_queue(row, count, h3);
            }
        }
        // The whole list is read before any of it is written.
        storageBarrier();
        settle(row, list, at, entry);
        settle(row, list, at0, h0);
        settle(row, list, at1, h1);
        settle(row, list, at2, h2);
        settle(row, list, at3, h3);
    }
    workgroupBarrier();
    if (local < ROWS) {
        atomicStore(&queued[local], 0u);
    }
    if (local == 0u) {
        atomicStore(&overflowed, 0u);
        full = 0u;
    }
    storageBarrier();
    workgroupBarrier();
}

fn held(list: u32, i: u32) -> vec2<u32> {
    if (i < p.k) {
        return listed(list + i);
    }
    return MISSING;
}

fn ahead_in_queue(row: u32, count: u32, entry: vec2<u32>) -> u32 {
    let base = row * QUEUE;
    var ahead = 0u;
    for (var i = 0u; i < count; i += 4u) {
        ahead += u32(better(queue[base + i], entry));
        ahead += u32(i + 1u < count && better(queue[base + i + 1u], entry));
        ahead += u32(i + 2u < count && better(queue[base + i + 2u], entry));
        ahead += u32(i + 3u < count && better(queue[base + i + 3u], entry));
    }
    return ahead;
}

fn ahead_in_list(list: u32, entry: vec2<u32>) -> u32 {
    var low = 0u;
    var high = p.k;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (better(listed(list + middle), entry)) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

// Puts an entry of the merged list in its place, if it has one; the last place is the bar.
fn settle(row: u32, list: u32, at: u32, entry: vec2<u32>) {
    if (at < p.k) {
        enlist(list + at, entry);
        if (at == p.k - 1u && better(entry, bars[row])) {
            bars[row] = entry;
        }
    }
}
