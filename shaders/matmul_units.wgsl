enable f16;
enable wgpu_cooperative_matrix;

// C =, += or *= A B in the layout NT, batched along z, on units that multiply matrices of SIDE x SIDE float16 numbers and sum in float32
// (cooperative matrices). Four subgroups make a tile of 4 SIDE x 4 SIDE of C, each two by two matrices of it. Both operands are rounded to
// float16 on their way to workgroup memory.
//
// Constants: SUBGROUP (invocations of a subgroup). SIDE and the types of matrices are in units_*.wgsl. `coopLoadT` and `coopStoreT` take
// what is stored row by row; `coopLoad` takes B, [k, n], from its columns.

const TILE: u32 = 4u * SIDE;
const THREADS: u32 = 4u * SUBGROUP;
const DEPTH: u32 = 32u;                     // contraction indices staged at a time
const VECTORS: u32 = TILE * DEPTH / 4u;     // of four numbers, in what is staged of an operand
const STRIDE: u32 = DEPTH + 8u;             // from row to row: 80 bytes, so that the rows of a matrix lie in different banks

var<workgroup> tile_a: array<f16, TILE * STRIDE>;
var<workgroup> tile_b: array<f16, TILE * STRIDE>;
var<workgroup> tile_c: array<f32, 4u * SIDE * SIDE>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32,
        @builtin(subgroup_id) subgroup: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let m0 = group.y * TILE;
    let n0 = group.x * TILE;
    let t = task(group.z);
    let i = subgroup / 2u * 2u * SIDE;
    let j = subgroup % 2u * 2u * SIDE;
    var c00 = MatrixC();
    var c01 = MatrixC();
    var c10 = MatrixC();
    var c11 = MatrixC();
    for (var k0 = t.k; k0 < t.k_end; k0 += DEPTH) {
        for (var v = local; v < VECTORS; v += THREADS) {
            let row = v / (DEPTH / 4u);
            let k = v % (DEPTH / 4u) * 4u;
            stage(t, m0 + row, n0 + row, k0 + k, row * STRIDE + k);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += SIDE) {
            let a0 = coopLoadT<MatrixA>(&tile_a[i * STRIDE + k], STRIDE);
            let a1 = coopLoadT<MatrixA>(&tile_a[(i + SIDE) * STRIDE + k], STRIDE);
            let b0 = coopLoad<MatrixB>(&tile_b[j * STRIDE + k], STRIDE);
            let b1 = coopLoad<MatrixB>(&tile_b[(j + SIDE) * STRIDE + k], STRIDE);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
        }
        workgroupBarrier();
    }
    let at = subgroup * SIDE * SIDE;
    coopStoreT(c00, &tile_c[at], SIDE);
    write_matrix(t, m0 + i, n0 + j, at, lane);
    coopStoreT(c01, &tile_c[at], SIDE);
    write_matrix(t, m0 + i, n0 + j + SIDE, at, lane);
    coopStoreT(c10, &tile_c[at], SIDE);
    write_matrix(t, m0 + i + SIDE, n0 + j, at, lane);
    coopStoreT(c11, &tile_c[at], SIDE);
    write_matrix(t, m0 + i + SIDE, n0 + j + SIDE, at, lane);
}

fn stage(t: Task, m: u32, n: u32, k: u32, at: u32) {
    let a = vec4<f16>(element_a(t.a, m, p.m, k, t.k_end));
    let b = vec4<f16>(element_b(t.b, n, p.n, k, t.k_end));
    tile_a[at] = a.x;
    tile_a[at + 1u] = a.y;
    tile_a[at + 2u] = a.z;
    tile_a[at + 3u] = a.w;
    tile_b[at] = b.x;
    tile_b[at + 1u] = b.y;
    tile_b[at + 2u] = b.z;
    tile_b[at + 3u] = b.w;
}

// Writes what a subgroup has stored from `at` on, and leaves it free.
fn write_matrix(t: Task, row: u32, col: u32, at: u32, lane: u32) {
    workgroupBarrier();
    for (var v = lane; v < SIDE * SIDE / 4u; v += SUBGROUP) {
        let r = v / (SIDE / 4u);
        let c = v % (SIDE / 4u) * 4u;
        let first = at + r * SIDE + c;
        write_row(t, row + r, col + c, vec4(tile_c[first], tile_c[first + 1u], tile_c[first + 2u], tile_c[first + 3u]));
    }
    workgroupBarrier();
}
