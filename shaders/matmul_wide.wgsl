// C =, += or *= A B for the layouts NN, NT and TN, batched along z, for products that fill a GPU with large tiles. 256 threads make a tile of
// 128 x 128 of C, each 8 x 8 of it: 64 multiply-adds for four vectors from workgroup memory, whose bandwidth bounds smaller tiles.
// Of 128 x 64 and 64 x 128, for products with a short side, each makes 8 x 4 or 4 x 8. The next steps of both operands are on their way
// to registers while the present ones are multiplied.
//
// Constants: TALL (128 rows, else 64), WIDE (128 columns, else 64), A_BY_K (A is stored [k, m]), B_BY_K (B is stored [k, n]).
// matmul_params.wgsl and matmul_task.wgsl have the parameters and the access to memory.

const THREADS: u32 = 256u;
const DEPTH: u32 = 16u;                     // contraction indices staged at a time
const A_SIDE: u32 = 16u + 16u * TALL;       // vectors in a staged row
const B_SIDE: u32 = 16u + 16u * WIDE;
const A_BLOCKS: u32 = A_SIDE * DEPTH / 4u;
const B_BLOCKS: u32 = B_SIDE * DEPTH / 4u;

var<workgroup> tile_a: array<vec4<f32>, DEPTH * A_SIDE>;
var<workgroup> tile_b: array<vec4<f32>, DEPTH * B_SIDE>;

// Place of vector `v` of staged row `k` of `side` vectors. The exclusive or spreads transposed writes over all banks.
fn slot(side: u32, k: u32, v: u32) -> u32 {
    return k * side + (v ^ ((k >> 1u) & 6u));
}

// A thread's part of the tile: rows r0 to r7, of which the last four are 64 further down, in two vectors 64 columns apart.
struct Sums {
    r0: vec4<f32>, r1: vec4<f32>, r2: vec4<f32>, r3: vec4<f32>,
    r4: vec4<f32>, r5: vec4<f32>, r6: vec4<f32>, r7: vec4<f32>,
    s0: vec4<f32>, s1: vec4<f32>, s2: vec4<f32>, s3: vec4<f32>,
    s4: vec4<f32>, s5: vec4<f32>, s6: vec4<f32>, s7: vec4<f32>,
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let m0 = group.y * 4u * A_SIDE;
    let n0 = group.x * 4u * B_SIDE;
    let t = task(group.z);
    // 32 consecutive threads make 4 x 8 vectors: few distinct addresses, and whole lines of C.
    let lane = local % 32u;
    let band = local / 32u;
    let ty = lane / 8u + band / 2u * 4u;
    let tx = lane % 8u + band % 2u * 8u;
    var sums = Sums();
    var staged = load(t, m0, n0, t.k, local);
    for (var k0 = t.k; k0 < t.k_end; k0 += DEPTH) {
        stage(staged, local);
        workgroupBarrier();
        staged = load(t, m0, n0, k0 + DEPTH, local);
        for (var k = 0u; k < DEPTH; k += 4u) {
            sums = multiply(sums, k, ty, tx);
            sums = multiply(sums, k + 1u, ty, tx);
            sums = multiply(sums, k + 2u, ty, tx);
            sums = multiply(sums, k + 3u, ty, tx);
        }
        workgroupBarrier();
    }
    let row = m0 + 4u * ty;
    let col = n0 + 4u * tx;
    write_rows(t, row, col, sums.r0, sums.r1, sums.r2, sums.r3);
    if (TALL != 0u) {
        write_rows(t, row + 64u, col, sums.r4, sums.r5, sums.r6, sums.r7);
    }
    if (WIDE != 0u) {
        write_rows(t, row, col + 64u, sums.s0, sums.s1, sums.s2, sums.s3);
    }
    if (TALL != 0u && WIDE != 0u) {
        write_rows(t, row + 64u, col + 64u, sums.s4, sums.s5, sums.s6, sums.s7);
    }
}

// Adds the products of one staged row. Passed and returned by value: nothing is indexed, everything stays in registers.
fn multiply(c: Sums, k: u32, ty: u32, tx: u32) -> Sums {
    var sums = c;
    let a = tile_a[slot(A_SIDE, k, ty)];
    let b = tile_b[slot(B_SIDE, k, tx)];
    sums.r0 = fma(vec4(a.x), b, c.r0);
    sums.r1 = fma(vec4(a.y), b, c.r1);
    sums.r2 = fma(vec4(a.z), b, c.r2);
    sums.r3 = fma(vec4(a.w), b, c.r3);
    var below = vec4<f32>();
    if (TALL != 0u) {
        below = tile_a[slot(A_SIDE, k, ty + 16u)];
        sums.r4 = fma(vec4(below.x), b, c.r4);
        sums.r5 = fma(vec4(below.y), b, c.r5);
        sums.r6 = fma(vec4(below.z), b, c.r6);
        sums.r7 = fma(vec4(below.w), b, c.r7);
    }
    if (WIDE != 0u) {
        let beside = tile_b[slot(B_SIDE, k, tx + 16u)];
        sums.s0 = fma(vec4(a.x), beside, c.s0);
        sums.s1 = fma(vec4(a.y), beside, c.s1);
        sums.s2 = fma(vec4(a.z), beside, c.s2);
        sums.s3 = fma(vec4(a.w), beside, c.s3);
        if (TALL != 0u) {
            sums.s4 = fma(vec4(below.x), beside, c.s4);
            sums.s5 = fma(vec4(below.y), beside, c.s5);
            sums.s6 = fma(vec4(below.z), beside, c.s6);
            sums.s7 = fma(vec4(below.w), beside, c.s7);
        }
    }
    return sums;
}

// One block of 4 x 4 for each thread: the first threads have those of A, the next those of B, and where tiles are small some have none.
// Consecutive threads read along the contiguous side of the operand.
fn load(t: Task, m0: u32, n0: u32, k0: u32, local: u32) -> mat4x4<f32> {
    if (local < A_BLOCKS) {
        if (A_BY_K != 0u) {
            let k = k0 + local / A_SIDE * 4u;
            let m = m0 + local % A_SIDE * 4u;
            return mat4x4<f32>(
                element_a(t.a, k, t.k_end, m, p.m), element_a(t.a, k + 1u, t.k_end, m, p.m),
                element_a(t.a, k + 2u, t.k_end, m, p.m), element_a(t.a, k + 3u, t.k_end, m, p.m));
        }
        let k = k0 + local % (DEPTH / 4u) * 4u;
        let m = m0 + local / (DEPTH / 4u) * 4u;
        return transpose(mat4x4<f32>(
            element_a(t.a, m, p.m, k, t.k_end), element_a(t.a, m + 1u, p.m, k, t.k_end),
            element_a(t.a, m + 2u, p.m, k, t.k_end), element_a(t.a, m + 3u, p.m, k, t.k_end)));
    }
    let block = local - A_BLOCKS;
    if (block < B_BLOCKS) {
        if (B_BY_K != 0u) {
            let k = k0 + block / B_SIDE * 4u;
            let n = n0 + block % B_SIDE * 4u;
            return mat4x4<f32>(
                element_b(t.b, k, t.k_end, n, p.n), element_b(t.b, k + 1u, t.k_end, n, p.n),
                element_b(t.b, k + 2u, t.k_end, n, p.n), element_b(t.b, k + 3u, t.k_end, n, p.n));
        }
        let k = k0 + block % (DEPTH / 4u) * 4u;
        let n = n0 + block / (DEPTH / 4u) * 4u;
        return transpose(mat4x4<f32>(
            element_b(t.b, n, p.n, k, t.k_end), element_b(t.b, n + 1u, p.n, k, t.k_end),
            element_b(t.b, n + 2u, p.n, k, t.k_end), element_b(t.b, n + 3u, p.n, k, t.k_end)));
    }
    return mat4x4<f32>();
}

// Puts a block in its place in workgroup memory, contraction index outermost.
fn stage(block: mat4x4<f32>, local: u32) {
    if (local < A_BLOCKS) {
        let k = select(local % (DEPTH / 4u), local / A_SIDE, A_BY_K != 0u) * 4u;
        let v = select(local / (DEPTH / 4u), local % A_SIDE, A_BY_K != 0u);
        tile_a[slot(A_SIDE, k, v)] = block[0];
        tile_a[slot(A_SIDE, k + 1u, v)] = block[1];
        tile_a[slot(A_SIDE, k + 2u, v)] = block[2];
        tile_a[slot(A_SIDE, k + 3u, v)] = block[3];
    } else if (local - A_BLOCKS < B_BLOCKS) {
        let index = local - A_BLOCKS;
        let k = select(index % (DEPTH / 4u), index / B_SIDE, B_BY_K != 0u) * 4u;
        let v = select(index / (DEPTH / 4u), index % B_SIDE, B_BY_K != 0u);
        tile_b[slot(B_SIDE, k, v)] = block[0];
        tile_b[slot(B_SIDE, k + 1u, v)] = block[1];
        tile_b[slot(B_SIDE, k + 2u, v)] = block[2];
        tile_b[slot(B_SIDE, k + 3u, v)] = block[3];
    }
}

fn write_rows(t: Task, row: u32, col: u32, c0: vec4<f32>, c1: vec4<f32>, c2: vec4<f32>, c3: vec4<f32>) {
    write_row(t, row, col, c0);
    write_row(t, row + 1u, col, c1);
    write_row(t, row + 2u, col, c2);
    write_row(t, row + 3u, col, c3);
}
