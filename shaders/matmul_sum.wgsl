// C =, += or *= the sum of the products of all parts of the contraction, always in the same order. One thread an element.

@group(0) @binding(2) var<storage, read> products: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let index = flat_workgroup(group, groups) * 256u + local;
    let size = p.m * p.n;
    if (index < size * p.batch) {
        let matrix = index / size;
        let element = index % size;
        var sum = 0.0;
        for (var part = 0u; part < p.parts; part += 1u) {
            sum += products[(matrix * p.parts + part) * size + element];
        }
        let at = p.c_offset + matrix * p.c_stride + element / p.n * p.ldc + element % p.n;
        if (p.write == ADD) {
            sum += c[at];
        } else if (p.write == TIMES) {
            sum *= c[at];
        }
        c[at] = sum;
    }
}
