// dx = (dy - y (y . dy)) / |x| for each row. One workgroup a row.

struct Params { step: u32, rows: u32, cols: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> inverse_norm: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    let cols = select(0u, p.cols, row < p.rows);
    let base = row * p.cols;
    var along = 0.0;
    for (var c = lane; c < cols; c += THREADS) {
        along += y[base + c] * gradient[base + c];
    }
    along = workgroup_sum(lane, along);
    for (var c = lane; c < cols; c += THREADS) {
        gradient[base + c] = (gradient[base + c] - y[base + c] * along) * inverse_norm[row];
    }
}
