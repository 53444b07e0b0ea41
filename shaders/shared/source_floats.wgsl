@group(0) @binding(0) var<storage, read> source: array<f32>;

fn source_element(index: u32) -> f32 {
    return source[index];
}
