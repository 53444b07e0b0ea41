// 1 / |x| of a row, by all invocations of a workgroup, in uniform control flow: takes the binding `x`, THREADS and `reduce`.

const SMALLEST: f32 = 1.2e-38;     // below it 1 / x may be infinite, and devices may flush to zero

// x / |x| = x * scale * factor, which neither overflows nor vanishes on the way, and 1 / |x|, SMALLEST at least; all 0 for zeros.
struct InverseNorm { scale: f32, factor: f32, value: f32 }

fn inverse_norm_of(lane: u32, base: u32, cols: u32) -> InverseNorm {
    // Scaled by the largest magnitude, so that squares neither overflow nor vanish.
    var largest = 0.0;
    for (var c = lane; c < cols; c += THREADS) {
        largest = max(largest, abs(x[base + c]));
    }
    largest = workgroup_max(lane, largest);
    // By four times the inverse, which is no subnormal number where the largest is near the end.
    let scale = select(0.0, 4.0 / largest, largest >= SMALLEST);
    var squares = 0.0;
    for (var c = lane; c < cols; c += THREADS) {
        let scaled = x[base + c] * scale;
        squares += scaled * scaled;
    }
    squares = workgroup_sum(lane, squares);
    let factor = select(0.0, inverseSqrt(squares), largest >= SMALLEST);
    return InverseNorm(scale, factor, select(0.0, max(scale * factor, SMALLEST), largest >= SMALLEST));
}
