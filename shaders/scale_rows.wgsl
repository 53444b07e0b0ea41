// x[r][c] *= factors[r], one invocation an element.

struct Params { step: u32, rows: u32, cols: u32, first_row: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> factors: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

const THREADS: u32 = 256u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_workgroup(group, groups) * THREADS + lane;
    if (i < p.rows * p.cols) {
        x[i] *= factors[p.first_row + i / p.cols];
    }
}
