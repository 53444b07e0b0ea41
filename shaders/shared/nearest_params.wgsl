// Parameters of both shaders of nearest.

struct Params {
    step: u32,
    rows: u32, cols: u32, dim: u32, k: u32,
    first: u32, per_step: u32, end: u32,
    exclude: u32, excluded_step: u32,
    carry_from: u32,
    offset: u32,
    parts: u32, part_cols: u32,
}
var<immediate> p: Params;
