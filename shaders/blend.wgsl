// out[i] (+)= the sum over j of weights[step][i][j] * source[table[step][i][j]], of the rows that lie in the bound window of the
// source. One workgroup a row.

struct Params { step: u32, count: u32, parts: u32, cols: u32, first_row: u32, rows: u32, table_stride: u32, halves: u32 }
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

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
    let first_part = p.step * p.table_stride + i * p.parts;
    for (var c = lane; c < p.cols; c += THREADS) {
        let at = i * p.cols + c;
        var sum = 0.0;
        if (p.first_row > 0u) {
            sum = out[at];
        }
        for (var j = first_part; j < first_part + p.parts; j++) {
            let row = table[j] - p.first_row;
            if (table[j] >= p.first_row && row < p.rows) {
                sum += weights[j] * source_element(row * p.cols + c);
            }
        }
        out[at] = sum;
    }
}
