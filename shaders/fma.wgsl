// y = x after `rounds` times x = A x + B, in registers: four independent chains an invocation.

struct Params { step: u32, vectors: u32, rounds: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

const THREADS: u32 = 256u;
const A = vec4(-63.0 / 64.0);
const B = vec4(127.0 / 64.0);

// Unrolled so far that the loop, with the counter by which naga bounds it, is lost beside its content.
const UNROLLED: u32 = 128u;

fn four(x: vec4<f32>) -> vec4<f32> {
    return fma(fma(fma(fma(x, A, B), A, B), A, B), A, B);
}

fn thirty_two(x: vec4<f32>) -> vec4<f32> {
    return four(four(four(four(four(four(four(four(x))))))));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_workgroup(group, groups) * THREADS + lane;
    if (i < p.vectors) {
        var chains = x[i];
        for (var round = 0u; round < p.rounds; round += UNROLLED) {
            chains = thirty_two(thirty_two(thirty_two(thirty_two(chains))));
        }
        y[i] = chains;
    }
}
