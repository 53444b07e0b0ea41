// Two finite float16 numbers in each word, the first in its low bits. unpack2x16float is not on every adapter.
@group(0) @binding(0) var<storage, read> source: array<u32>;

fn source_element(index: u32) -> f32 {
    let half = (source[index / 2u] >> (index % 2u * 16u)) & 0xffffu;
    let magnitude = half & 0x7fffu;
    // With its exponent in place it lacks the difference of the biases, 2^112. Subnormal numbers are multiples of 2^-24.
    let normal = bitcast<f32>(magnitude << 13u) * 5.192296858534828e33;
    let value = select(normal, f32(magnitude) * 5.9604644775390625e-8, magnitude < 0x400u);
    return select(value, -value, half > magnitude);
}
