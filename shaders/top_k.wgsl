// The k best scores of a row, exactly: one workgroup a row. Constant in front: KEPT, see selection.wgsl.

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

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = flat_workgroup(group, groups);
    if (row < p.rows) { // the same for the whole workgroup
        select_best(row, min(p.cols, p.end - min(p.end, first_id())), local);
    }
}

fn first_id() -> u32 {
    return p.first + p.step * p.per_step;
}

fn entry(row: u32, j: u32, count: u32) -> vec2<u32> {
    let id = first_id() + j;
    if (j < count && !skipped(row, id, j)) {
        return vec2(key_of(scores[row * p.cols + j]), id);
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
