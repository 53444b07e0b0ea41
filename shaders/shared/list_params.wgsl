// Parameters of both shaders of listwise_kl.

struct Params {
    step: u32,
    rows: u32,
    cols: u32,
    anchor_step: u32,
    candidate_step: u32,
    teacher_inverse_temperature: f32,
    weight: f32,
}
var<immediate> p: Params;
