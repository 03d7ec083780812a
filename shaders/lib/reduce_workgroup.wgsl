// Row reductions over a workgroup of WG (a power of two) invocations, as a fixed tree in shared memory.
// Every invocation must call them, and gets the same result.

var<workgroup> reduce_scratch: array<f32, WG>;

fn row_sum(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    reduce_scratch[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            reduce_scratch[lane] += reduce_scratch[lane + half];
        }
    }
    workgroupBarrier();
    return reduce_scratch[0];
}

fn row_max(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    reduce_scratch[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            reduce_scratch[lane] = max(reduce_scratch[lane], reduce_scratch[lane + half]);
        }
    }
    workgroupBarrier();
    return reduce_scratch[0];
}
