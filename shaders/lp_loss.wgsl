// loss = weight * sum |d|^power of d = prediction - target, and its derivative by the prediction. One workgroup a row.

struct Params { step: u32, rows: u32, cols: u32, power: u32, weight: f32, accumulate: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> prediction: array<f32>;
@group(0) @binding(1) var<storage, read> goal: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

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
    let squared = p.power == 2u;
    var sum = 0.0;
    for (var c = lane; c < cols; c += THREADS) {
        let at = row * p.cols + c;
        let d = prediction[at] - goal[at];
        sum += select(abs(d), d * d, squared);
        let slope = p.weight * select(sign(d), 2.0 * d, squared);
        gradient[at] = slope + select(0.0, gradient[at], p.accumulate != 0u);
    }
    sum = workgroup_sum(lane, sum);
    if (inside && lane == 0u) {
        loss[row] = p.weight * sum;
    }
}
