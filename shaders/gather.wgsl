// out[i] = source[table[step][i]] where that row lies in the bound window of the source. One workgroup a row.

struct Params { step: u32, count: u32, cols: u32, first_row: u32, rows: u32, table_stride: u32, halves: u32 }
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_workgroup(group, groups);
    if (i >= p.count) {
        return;
    }
    let row = table[p.step * p.table_stride + i];
    if (row < p.first_row || row - p.first_row >= p.rows) {
        return;
    }
    let base = (row - p.first_row) * p.cols;
    for (var c = lane; c < p.cols; c += THREADS) {
        out[i * p.cols + c] = source_element(base + c);
    }
}
