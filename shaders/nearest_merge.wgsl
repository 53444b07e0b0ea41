// The k best of the lists that nearest.wgsl has made of the parts of a block and of what earlier blocks have left: one workgroup a
// row. Constant in front: KEPT, see selection.wgsl.

@group(0) @binding(4) var<storage, read_write> best_scores: array<u32>;
@group(0) @binding(5) var<storage, read_write> best_ids: array<u32>;
@group(0) @binding(6) var<storage, read> part_scores: array<u32>;
@group(0) @binding(7) var<storage, read> part_ids: array<u32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let row = flat_workgroup(group, groups);
    if (row < p.rows) { // the same for the whole workgroup
        select_best(row, p.parts * p.k, local);
    }
}

// Entry `j` of the lists of all parts, one behind the other.
fn entry(row: u32, j: u32, count: u32) -> vec2<u32> {
    if (j < count) {
        let at = (j / p.k * p.rows + row) * p.k + j % p.k;
        if (part_ids[at] != MISSING.y) {
            return vec2(key_of(part_scores[at]), part_ids[at]);
        }
    }
    return MISSING;
}
