// Scores, gradients and items of lists of any length: `count` columns from `at` on.

@group(0) @binding(0) var<storage, read> teacher: array<f32>;
@group(0) @binding(1) var<storage, read> student: array<f32>;
@group(0) @binding(4) var<storage, read> candidates: array<u32>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;

fn load_teacher(at: u32, count: u32) -> vec4<f32> {
    var value = vec4<f32>(teacher[at], 0.0, 0.0, 0.0);
    if (count > 1u) { value.y = teacher[at + 1u]; }
    if (count > 2u) { value.z = teacher[at + 2u]; }
    if (count > 3u) { value.w = teacher[at + 3u]; }
    return value;
}

fn load_student(at: u32, count: u32) -> vec4<f32> {
    var value = vec4<f32>(student[at], 0.0, 0.0, 0.0);
    if (count > 1u) { value.y = student[at + 1u]; }
    if (count > 2u) { value.z = student[at + 2u]; }
    if (count > 3u) { value.w = student[at + 3u]; }
    return value;
}

// Columns that are the anchor, or none.
fn masked_columns(at: u32, count: u32, anchor: u32) -> vec4<bool> {
    var masked = vec4<bool>(candidates[at] == anchor, true, true, true);
    if (count > 1u) { masked.y = candidates[at + 1u] == anchor; }
    if (count > 2u) { masked.z = candidates[at + 2u] == anchor; }
    if (count > 3u) { masked.w = candidates[at + 3u] == anchor; }
    return masked;
}

fn store_gradient(at: u32, count: u32, value: vec4<f32>) {
    gradient[at] = value.x;
    if (count > 1u) { gradient[at + 1u] = value.y; }
    if (count > 2u) { gradient[at + 2u] = value.z; }
    if (count > 3u) { gradient[at + 3u] = value.w; }
}
