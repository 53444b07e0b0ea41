// Writing a product of any shape: `count` elements from `at` on.

@group(0) @binding(2) var<storage, read_write> c: array<f32>;

fn store_c(at: u32, count: u32, value: vec4<f32>, accumulate: bool) {
    store_one(at, value.x, accumulate);
    if (count > 1u) { store_one(at + 1u, value.y, accumulate); }
    if (count > 2u) { store_one(at + 2u, value.z, accumulate); }
    if (count > 3u) { store_one(at + 3u, value.w, accumulate); }
}

fn store_one(at: u32, value: f32, accumulate: bool) {
    if (accumulate) {
        c[at] += value;
    } else {
        c[at] = value;
    }
}
