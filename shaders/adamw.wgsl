// AdamW (Loshchilov and Hutter 2019), one invocation a parameter. schedule[step] = learning rate, 1 / (1 - beta1^t), 1 / (1 - beta2^t).

struct Params { step: u32, count: u32, rate_scale: f32, beta1: f32, beta2: f32, epsilon: f32, weight_decay: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> gradient: array<f32>;
@group(0) @binding(1) var<storage, read> schedule: array<f32>;
@group(0) @binding(2) var<storage, read_write> parameter: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> square: array<f32>;

const THREADS: u32 = 256u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_workgroup(group, groups) * THREADS + lane;
    if (i < p.count) {
        let g = gradient[i];
        let m = p.beta1 * mean[i] + (1.0 - p.beta1) * g;
        let v = p.beta2 * square[i] + (1.0 - p.beta2) * g * g;
        mean[i] = m;
        square[i] = v;
        let rate = schedule[3u * p.step] * p.rate_scale;
        let direction = m * schedule[3u * p.step + 1u] / (sqrt(v * schedule[3u * p.step + 2u]) + p.epsilon);
        parameter[i] -= rate * (direction + p.weight_decay * parameter[i]);
    }
}
