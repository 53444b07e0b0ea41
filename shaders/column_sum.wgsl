// sum[c] (+)= scale * sum over r of x[r][c], into the step's row of a record. A workgroup takes 16 columns with 16 invocations each.

struct Params { step: u32, rows: u32, cols: u32, scale: f32, record_stride: u32, accumulate: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sum: array<f32>;

const SIDE: u32 = 16u;
var<workgroup> partial: array<f32, SIDE * SIDE>;

@compute @workgroup_size(SIDE * SIDE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let c = flat_workgroup(group, groups) * SIDE + local % SIDE;
    let lane = local / SIDE;
    var total = 0.0;
    if (c < p.cols) {
        for (var r = lane; r < p.rows; r += SIDE) {
            total += x[r * p.cols + c];
        }
    }
    partial[local] = total;
    for (var half = SIDE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            partial[local] += partial[local + half * SIDE];
        }
    }
    if (lane == 0u && c < p.cols) {
        let at = p.step * p.record_stride + c;
        sum[at] = p.scale * partial[local] + select(0.0, sum[at], p.accumulate != 0u);
    }
}
