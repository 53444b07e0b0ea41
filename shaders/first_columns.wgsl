// y[r][c] (+)= x[r][c] for the columns that both have, one invocation an element.

struct Params { step: u32, rows: u32, x_cols: u32, y_cols: u32, accumulate: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

const THREADS: u32 = 256u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_workgroup(group, groups) * THREADS + lane;
    let cols = min(p.x_cols, p.y_cols);
    if (i < p.rows * cols) {
        let row = i / cols;
        let at = row * p.y_cols + i % cols;
        y[at] = x[row * p.x_cols + i % cols] + select(0.0, y[at], p.accumulate != 0u);
    }
}
