// Scores, gradients and items of lists whose length is a multiple of four.

@group(0) @binding(0) var<storage, read> teacher: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> student: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> candidates: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> gradient: array<vec4<f32>>;

fn load_teacher(at: u32, count: u32) -> vec4<f32> {
    return teacher[at / 4u];
}

fn load_student(at: u32, count: u32) -> vec4<f32> {
    return student[at / 4u];
}

// Columns that are the anchor.
fn masked_columns(at: u32, count: u32, anchor: u32) -> vec4<bool> {
    return candidates[at / 4u] == vec4(anchor);
}

fn store_gradient(at: u32, count: u32, value: vec4<f32>) {
    gradient[at / 4u] = value;
}
