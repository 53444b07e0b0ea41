// y = x / |x| for each row, and 1 / |x|; zero rows stay zero. One workgroup a row.

struct Params { step: u32, rows: u32, cols: u32, first_row: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> inverse_norm: array<f32>;

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
    let norm = inverse_norm_of(lane, base, cols);
    for (var c = lane; c < cols; c += THREADS) {
        y[base + c] = x[base + c] * norm.scale * norm.factor;
    }
    if (inside && lane == 0u) {
        inverse_norm[p.first_row + row] = norm.value;
    }
}
