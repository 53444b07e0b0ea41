// Memory access of matmul where every leading dimension, offset and contiguous side is a multiple of four.

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;

fn load_a(at: u32, count: u32) -> vec4<f32> {
    return a[at / 4u];
}

fn load_b(at: u32, count: u32) -> vec4<f32> {
    return b[at / 4u];
}

fn store_c(at: u32, count: u32, value: vec4<f32>, accumulate: bool) {
    if (accumulate) {
        c[at / 4u] += value;
    } else {
        c[at / 4u] = value;
    }
}
