// C =, += or *= A B for the layouts NN, NT and TN, batched along z, for products that are small or would not fill a GPU with larger tiles.
// One workgroup makes a TILE x TILE tile of C, each thread 4 x 4 of it. Both operands are staged in workgroup memory with the
// contraction index outermost, so that one inner loop serves every layout: a block of 4 x 4 elements is loaded as four vectors and
// transposed in registers where needed.
//
// Constants: TILE (64 or 32), A_BY_K (A is stored [k, m]), B_BY_K (B is stored [k, n]).

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
    let t = task(group.z);
    let ty = local / SIDE;
    let tx = local % SIDE;
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    for (var k0 = t.k; k0 < t.k_end; k0 += DEPTH) {
        for (var block = local; block < BLOCKS; block += THREADS) {
            stage_a(t, m0, k0, block);
        }
        // The other half of the threads stages B where there are more threads than blocks.
        for (var block = (local + THREADS - BLOCKS % THREADS) % THREADS; block < BLOCKS; block += THREADS) {
            stage_b(t, n0, k0, block);
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
    write_row(t, row, col, c0);
    write_row(t, row + 1u, col, c1);
    write_row(t, row + 2u, col, c2);
    write_row(t, row + 3u, col, c3);
}

// Consecutive threads read along the contiguous side of the operand.
fn stage_a(t: Task, m0: u32, k0: u32, block: u32) {
    if (A_BY_K != 0u) {
        let v = block % SIDE;
        let k = block / SIDE * 4u;
        for (var i = 0u; i < 4u; i += 1u) {
            tile_a[slot(k + i, v)] = element_a(t.a, k0 + k + i, t.k_end, m0 + 4u * v, p.m);
        }
    } else {
        let k = block % (DEPTH / 4u) * 4u;
        let v = block / (DEPTH / 4u);
        let m = m0 + 4u * v;
        let block_t = transpose(mat4x4<f32>(
            element_a(t.a, m, p.m, k0 + k, t.k_end),
            element_a(t.a, m + 1u, p.m, k0 + k, t.k_end),
            element_a(t.a, m + 2u, p.m, k0 + k, t.k_end),
            element_a(t.a, m + 3u, p.m, k0 + k, t.k_end)));
        tile_a[slot(k, v)] = block_t[0];
        tile_a[slot(k + 1u, v)] = block_t[1];
        tile_a[slot(k + 2u, v)] = block_t[2];
        tile_a[slot(k + 3u, v)] = block_t[3];
    }
}

fn stage_b(t: Task, n0: u32, k0: u32, block: u32) {
    if (B_BY_K != 0u) {
        let v = block % SIDE;
        let k = block / SIDE * 4u;
        for (var i = 0u; i < 4u; i += 1u) {
            tile_b[slot(k + i, v)] = element_b(t.b, k0 + k + i, t.k_end, n0 + 4u * v, p.n);
        }
    } else {
        let k = block % (DEPTH / 4u) * 4u;
        let v = block / (DEPTH / 4u);
        let n = n0 + 4u * v;
        let block_t = transpose(mat4x4<f32>(
            element_b(t.b, n, p.n, k0 + k, t.k_end),
            element_b(t.b, n + 1u, p.n, k0 + k, t.k_end),
            element_b(t.b, n + 2u, p.n, k0 + k, t.k_end),
            element_b(t.b, n + 3u, p.n, k0 + k, t.k_end)));
        tile_b[slot(k, v)] = block_t[0];
        tile_b[slot(k + 1u, v)] = block_t[1];
        tile_b[slot(k + 2u, v)] = block_t[2];
        tile_b[slot(k + 3u, v)] = block_t[3];
    }
}
