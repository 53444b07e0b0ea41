// y = x / |x| for each row, and 1 / |x|; zero rows stay zero. One workgroup a row.

struct Params { step: u32, rows: u32, cols: u32, first_row: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> inverse_norm: array<f32>;

const THREADS: u32 = 64u;
const SMALLEST: f32 = 1.2e-38;     // below it 1 / x may be infinite, and devices may flush to zero

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    let inside = row < p.rows;
    let cols = select(0u, p.cols, inside);
    let base = row * p.cols;
    // Scaled by the largest magnitude, so that squares neither overflow nor vanish.
    var largest = 0.0;
    for (var c = lane; c < cols; c += THREADS) {
        largest = max(largest, abs(x[base + c]));
    }
    largest = workgroup_max(lane, largest);
    let scale = select(0.0, 1.0 / largest, largest >= SMALLEST);
    var squares = 0.0;
    for (var c = lane; c < cols; c += THREADS) {
        let scaled = x[base + c] * scale;
        squares += scaled * scaled;
    }
    squares = workgroup_sum(lane, squares);
    let factor = select(0.0, inverseSqrt(squares), largest >= SMALLEST);
    for (var c = lane; c < cols; c += THREADS) {
        y[base + c] = x[base + c] * scale * factor;
    }
    if (inside && lane == 0u) {
        inverse_norm[p.first_row + row] = scale * factor;
    }
}
