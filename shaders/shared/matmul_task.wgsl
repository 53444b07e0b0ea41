// What the variants of matmul have in common: the part of the contraction that a workgroup has, access to the operands, and where
// results go. `load`, `store` and the bindings are in operands_*.wgsl and product_*.wgsl, for aligned shapes (vec4) and any (scalar).

// What a workgroup multiplies: matrices of the batch, contraction indices, and the matrix that it writes a tile of. The products of parts
// are stored one behind the other; matmul_sum.wgsl adds them.
struct Task {
    a: u32, b: u32,
    k: u32, k_end: u32,
    c: u32, ldc: u32,
    write: u32,
}

fn task(z: u32) -> Task {
    let batch = z / p.parts;
    let a = p.a_offset + batch * p.a_stride;
    let b = p.b_offset + batch * p.b_stride;
    if (p.parts > 1u) {
        let k = z % p.parts * p.part_k;
        return Task(a, b, k, min(p.k, k + p.part_k), z * p.m * p.n, p.n, SET);
    }
    return Task(a, b, 0u, p.k, p.c_offset + batch * p.c_stride, p.ldc, p.write);
}

fn write_row(t: Task, row: u32, col: u32, value: vec4<f32>) {
    if (row < p.m && col < p.n) {
        store_c(t.c + row * t.ldc + col, min(p.n - col, 4u), value, t.write);
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
