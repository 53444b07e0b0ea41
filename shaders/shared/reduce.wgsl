// Reductions over a workgroup of THREADS invocations (a power of two). Every invocation must call them, in uniform control flow.

var<workgroup> lanes: array<f32, THREADS>;

fn workgroup_sum(lane: u32, value: f32) -> f32 {
    lanes[lane] = value;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[lane] += lanes[lane + half];
        }
    }
    workgroupBarrier();
    let total = lanes[0];
    workgroupBarrier();
    return total;
}

fn workgroup_max(lane: u32, value: f32) -> f32 {
    lanes[lane] = value;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[lane] = max(lanes[lane], lanes[lane + half]);
        }
    }
    workgroupBarrier();
    let largest = lanes[0];
    workgroupBarrier();
    return largest;
}
