// offset = -|y|^2 / 2 for each row. One workgroup a row.

struct Params { step: u32, rows: u32, cols: u32, first_row: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> offset: array<f32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    let inside = row < p.rows;
    let cols = select(0u, p.cols, inside);
    let base = row * p.cols;
    var squares = 0.0;
    for (var c = lane; c < cols; c += THREADS) {
        squares += y[base + c] * y[base + c];
    }
    squares = workgroup_sum(lane, squares);
    if (inside && lane == 0u) {
        offset[p.first_row + row] = -0.5 * squares;
    }
}
