// Writing a product of any shape: `count` elements from `at` on.

@group(0) @binding(2) var<storage, read_write> c: array<f32>;

fn store_c(at: u32, count: u32, value: vec4<f32>, write: u32) {
    store_one(at, value.x, write);
    if (count > 1u) { store_one(at + 1u, value.y, write); }
    if (count > 2u) { store_one(at + 2u, value.z, write); }
    if (count > 3u) { store_one(at + 3u, value.w, write); }
}

fn store_one(at: u32, value: f32, write: u32) {
    if (write == SET) {
        c[at] = value;
    } else if (write == ADD) {
        c[at] += value;
    } else {
        c[at] *= value;
    }
}
