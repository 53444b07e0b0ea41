// Scores as unsigned integers whose order is theirs, and entries (key, id) in the order of results: higher scores first, then smaller
// ids. Keys are 0 for what is missing and 1 for NaN.

const MISSING: vec2<u32> = vec2<u32>(0u, 0xffffffffu);
const SIGN: u32 = 0x80000000u;

fn key_of(bits: u32) -> u32 {
    if ((bits & ~SIGN) > 0x7f800000u) { return 1u; }
    if (bits == SIGN) { return SIGN; }
    return select(bits | SIGN, ~bits, bits >= SIGN);
}

fn bits_of(key: u32) -> u32 {
    if (key == 0u) { return 0xff7fffffu; }
    if (key == 1u) { return 0x7fc00000u; }
    return select(~key, key & ~SIGN, key >= SIGN);
}

fn better(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}
