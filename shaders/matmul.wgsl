// C (+)= A B for the layouts NN, NT and TN, batched along z. One workgroup makes a TILE x TILE tile of C, each thread
// 4 x 4 of it. Both operands are staged in workgroup memory with the contraction index outermost, so that one inner loop
// serves every layout: a block of 4 x 4 elements is loaded as four vectors and transposed in registers where needed.
//
// Constants in front: TILE (64 or 32), A_BY_K (A is stored [k, m]), B_BY_K (B is stored [k, n]).
// `load`, `store` and the bindings are in operands_*.wgsl and product_*.wgsl, for aligned shapes (vec4) and any (scalar).

struct Params {
    step: u32,
    m: u32, n: u32, k: u32,
    lda: u32, ldb: u32, ldc: u32,
    a_offset: u32, b_offset: u32, c_offset: u32,
    a_stride: u32, b_stride: u32, c_stride: u32,
    batch: u32,
    accumulate: u32,
    a_by_k: u32, b_by_k: u32,
}
var<immediate> p: Params;

const DEPTH: u32 = 32u;             // contraction indices staged at a time
const SIDE: u32 = TILE / 4u;        // threads along a side of the tile, and vectors in a staged row
const THREADS: u32 = SIDE * SIDE;
const BLOCKS: u32 = SIDE * DEPTH / 4u;

var<workgroup> tile_a: array<vec4<f32>, DEPTH * SIDE>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * SIDE>;

// Place of vector `v` of staged row `k`. The exclusive or spreads the four-row steps of transposed writes over all banks.
fn slot(k: u32, v: u32) -> u32 {
    return k * SIDE + (v ^ ((k >> 2u) & 7u));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let m0 = group.y * TILE;
    let n0 = group.x * TILE;
    let a_base = p.a_offset + group.z * p.a_stride;
    let b_base = p.b_offset + group.z * p.b_stride;
    let ty = local / SIDE;
    let tx = local % SIDE;
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    for (var k0 = 0u; k0 < p.k; k0 += DEPTH) {
        for (var block = local; block < BLOCKS; block += THREADS) {
            stage_a(a_base, m0, k0, block);
        }
        // The other half of the threads stages B where there are more threads than blocks.
        for (var block = (local + THREADS - BLOCKS % THREADS) % THREADS; block < BLOCKS; block += THREADS) {
            stage_b(b_base, n0, k0, block);
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += 4u) {
            let spread = (k >> 2u) & 7u;
            let ia = k * SIDE + (ty ^ spread);
            let ib = k * SIDE + (tx ^ spread);
            var a = tile_a[ia];
            var b = tile_b[ib];
            c0 = fma(vec4(a.x), b, c0); c1 = fma(vec4(a.y), b, c1); c2 = fma(vec4(a.z), b, c2); c3 = fma(vec4(a.w), b, c3);
            a = tile_a[ia + SIDE];
            b = tile_b[ib + SIDE];
            c0 = fma(vec4(a.x), b, c0); c1 = fma(vec4(a.y), b, c1); c2 = fma(vec4(a.z), b, c2); c3 = fma(vec4(a.w), b, c3);
            a = tile_a[ia + 2u * SIDE];
            b = tile_b[ib + 2u * SIDE];
            c0 = fma(vec4(a.x), b, c0); c1 = fma(vec4(a.y), b, c1); c2 = fma(vec4(a.z), b, c2); c3 = fma(vec4(a.w), b, c3);
            a = tile_a[ia + 3u * SIDE];
            b = tile_b[ib + 3u * SIDE];
            c0 = fma(vec4(a.x), b, c0); c1 = fma(vec4(a.y), b, c1); c2 = fma(vec4(a.z), b, c2); c3 = fma(vec4(a.w), b, c3);
        }
        workgroupBarrier();
    }
    let row = m0 + 4u * ty;
    let col = n0 + 4u * tx;
    let c_base = p.c_offset + group.z * p.c_stride + col;
    write_row(c_base, row, col, c0);
    write_row(c_base, row + 1u, col, c1);
    write_row(c_base, row + 2u, col, c2);
    write_row(c_base, row + 3u, col, c3);
}

fn write_row(base: u32, row: u32, col: u32, value: vec4<f32>) {
    if (row < p.m && col < p.n) {
        store_c(base + row * p.ldc, min(p.n - col, 4u), value, p.accumulate != 0u);
    }
}

// Consecutive threads read along the contiguous side of the operand.
fn stage_a(base: u32, m0: u32, k0: u32, block: u32) {
    if (A_BY_K != 0u) {
        let v = block % SIDE;
        let k = block / SIDE * 4u;
        for (var i = 0u; i < 4u; i += 1u) {
            tile_a[slot(k + i, v)] = element_a(base, k0 + k + i, p.k, m0 + 4u * v, p.m);
        }
    } else {
        let k = block % (DEPTH / 4u) * 4u;
        let v = block / (DEPTH / 4u);
        let m = m0 + 4u * v;
        let block_t = transpose(mat4x4<f32>(
            element_a(base, m, p.m, k0 + k, p.k),
            element_a(base, m + 1u, p.m, k0 + k, p.k),
            element_a(base, m + 2u, p.m, k0 + k, p.k),
            element_a(base, m + 3u, p.m, k0 + k, p.k)));
        tile_a[slot(k, v)] = block_t[0];
        tile_a[slot(k + 1u, v)] = block_t[1];
        tile_a[slot(k + 2u, v)] = block_t[2];
        tile_a[slot(k + 3u, v)] = block_t[3];
    }
}

fn stage_b(base: u32, n0: u32, k0: u32, block: u32) {
    if (B_BY_K != 0u) {
        let v = block % SIDE;
        let k = block / SIDE * 4u;
        for (var i = 0u; i < 4u; i += 1u) {
            tile_b[slot(k + i, v)] = element_b(base, k0 + k + i, p.k, n0 + 4u * v, p.n);
        }
    } else {
        let k = block % (DEPTH / 4u) * 4u;
        let v = block / (DEPTH / 4u);
        let n = n0 + 4u * v;
        let block_t = transpose(mat4x4<f32>(
            element_b(base, n, p.n, k0 + k, p.k),
            element_b(base, n + 1u, p.n, k0 + k, p.k),
            element_b(base, n + 2u, p.n, k0 + k, p.k),
            element_b(base, n + 3u, p.n, k0 + k, p.k)));
        tile_b[slot(k, v)] = block_t[0];
        tile_b[slot(k + 1u, v)] = block_t[1];
        tile_b[slot(k + 2u, v)] = block_t[2];
        tile_b[slot(k + 3u, v)] = block_t[3];
    }
}

// Four elements of a stored row from `col` on; zeros outside.
fn element_a(base: u32, row: u32, rows: u32, col: u32, cols: u32) -> vec4<f32> {
    if (row < rows && col < cols) {
        return load_a(base + row * p.lda + col, min(cols - col, 4u));
    }
    return vec4<f32>();
}

fn element_b(base: u32, row: u32, rows: u32, col: u32, cols: u32) -> vec4<f32> {
    if (row < rows && col < cols) {
        return load_b(base + row * p.ldb + col, min(cols - col, 4u));
    }
    return vec4<f32>();
}
