// Reading two matrices of any shape: `count` elements from `at` on, the rest zero.

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;

fn load_a(at: u32, count: u32) -> vec4<f32> {
    var value = vec4<f32>(a[at], 0.0, 0.0, 0.0);
    if (count > 1u) { value.y = a[at + 1u]; }
    if (count > 2u) { value.z = a[at + 2u]; }
    if (count > 3u) { value.w = a[at + 3u]; }
    return value;
}

fn load_b(at: u32, count: u32) -> vec4<f32> {
    var value = vec4<f32>(b[at], 0.0, 0.0, 0.0);
    if (count > 1u) { value.y = b[at + 1u]; }
    if (count > 2u) { value.z = b[at + 2u]; }
    if (count > 3u) { value.w = b[at + 3u]; }
    return value;
}
