// out[r] (+)= sum of source[positions[i]] for i from offsets[r] to offsets[r + 1]. One workgroup a row.

struct Params { step: u32, rows: u32, cols: u32, offsets_stride: u32, positions_stride: u32, accumulate: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read> offsets: array<u32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const THREADS: u32 = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    if (row >= p.rows) {
        return;
    }
    let first = offsets[p.step * p.offsets_stride + row];
    let end = offsets[p.step * p.offsets_stride + row + 1u];
    let list = p.step * p.positions_stride;
    for (var c = lane; c < p.cols; c += THREADS) {
        let at = row * p.cols + c;
        var sum = select(0.0, out[at], p.accumulate != 0u);
        for (var i = first; i < end; i++) {
            sum += source[positions[list + i] * p.cols + c];
        }
        out[at] = sum;
    }
}
