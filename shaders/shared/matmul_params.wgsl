// Parameters of all shaders of matmul.

struct Params {
    step: u32,
    m: u32, n: u32, k: u32,
    lda: u32, ldb: u32, ldc: u32,
    a_offset: u32, b_offset: u32, c_offset: u32,
    a_stride: u32, b_stride: u32, c_stride: u32,
    batch: u32,
    write: u32,
    a_by_k: u32, b_by_k: u32,
    tile_m: u32, tile_n: u32,
    parts: u32, part_k: u32,
    side: u32, subgroup: u32,
}
var<immediate> p: Params;

// What a product does to C: replace it, be added to it, be multiplied with it element by element.
const SET = 0u;
const ADD = 1u;
const TIMES = 2u;
