// Reading two matrices of which every leading dimension, offset and contiguous side is a multiple of four.

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;

fn load_a(at: u32, count: u32) -> vec4<f32> {
    return a[at / 4u];
}

fn load_b(at: u32, count: u32) -> vec4<f32> {
    return b[at / 4u];
}
