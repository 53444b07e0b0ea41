// Writing a product whose leading dimension, offset and width are multiples of four.

@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;

fn store_c(at: u32, count: u32, value: vec4<f32>, write: u32) {
    if (write == SET) {
        c[at / 4u] = value;
    } else if (write == ADD) {
        c[at / 4u] += value;
    } else {
        c[at / 4u] *= value;
    }
}
