// y = d(gelu(x + bias)) with dropout d, and x is replaced by dy/dx; one invocation an element.

struct Params { step: u32, first: u32, count: u32, cols: u32, threshold: u32, scale: f32, seed_stride: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> seeds: array<u32>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

const THREADS: u32 = 256u;
const SLOPE: f32 = 0.7978845608;    // sqrt(2 / pi)
const CUBIC: f32 = 0.044715;
const FAR: f32 = 9.9;               // beyond, the slope is 0 or 1 as far as float32 tells

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_workgroup(group, groups) * THREADS + lane;
    if (i < p.count) {
        let v = x[i] + bias[i % p.cols];
        let near = clamp(v, -FAR, FAR);
        let square = near * near;
        // tanh u = 1 - 2 / (exp(2 u) + 1), of a bounded u: some tanh overflow.
        let u = SLOPE * near * (1.0 + CUBIC * square);
        let t = 1.0 - 2.0 / (exp(2.0 * u) + 1.0);
        let slope = 0.5 * (1.0 + t) + 0.5 * near * (1.0 - t * t) * SLOPE * (1.0 + 3.0 * CUBIC * square);
        let factor = select(0.0, p.scale, survives(seeds[p.step * p.seed_stride], p.first + i, p.threshold));
        y[i] = factor * 0.5 * v * (1.0 + t);
        x[i] = factor * slope;
    }
}
