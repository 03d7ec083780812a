// The gradient of a convolution's weight with few channels a group: a workgroup adds up those of TAPS neighbouring
// weights of one filter, its invocations striding over samples and positions. Geometry is constant, so that divisions
// become products; unused axes have size 1. CHANNELS and FILTERS of a group; INSIDE is 1 where no window reaches beyond
// the data.

// parts: reduce_workgroup
alias F = f32;
const W: u32 = 1u;
const WG: u32 = 64u;
const IN0: u32 = 1u;
const IN1: u32 = 28u;
const IN2: u32 = 28u;
const OUT0: u32 = 1u;
const OUT1: u32 = 28u;
const OUT2: u32 = 28u;
const K0: u32 = 1u;
const K1: u32 = 3u;
const K2: u32 = 3u;
const S0: u32 = 1u;
const S1: u32 = 1u;
const S2: u32 = 1u;
const D0: u32 = 1u;
const D1: u32 = 1u;
const D2: u32 = 1u;
const B0: u32 = 0u;
const B1: u32 = 1u;
const B2: u32 = 1u;
const CHANNELS: u32 = 1u;
const FILTERS: u32 = 1u;
const INSIDE: u32 = 0u;
const TAPS: u32 = 9u;

struct Params {
    length: u32,
    conv_groups: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[col] = value;
}

// ---- body
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup_index(wid, nwg);
    if (group >= params.groups) {
        return;
    }
    // Taps of one filter and channel side by side: an element of `g` is read once for all of them.
    let first = group % (K0 * K1 * K2 / TAPS) * TAPS;
    let channel = group / (K0 * K1 * K2 / TAPS) % CHANNELS;
    let filter_index = group / (K0 * K1 * K2 / TAPS * CHANNELS);
    let x_at = filter_index / FILTERS * CHANNELS + channel;
    var sums: array<f32, TAPS>;
    for (var i = lane; i < params.length; i += WG) {
        let sample = i / (OUT0 * OUT1 * OUT2);
        let at = i % (OUT0 * OUT1 * OUT2);
        let plane = sample * params.conv_groups;
        let factor = g[(plane * FILTERS + filter_index) * (OUT0 * OUT1 * OUT2) + at];
        let o0 = at / (OUT1 * OUT2) * S0 - B0;
        let o1 = at / OUT2 % OUT1 * S1 - B1;
        let o2 = at % OUT2 * S2 - B2;
        for (var t = 0u; t < TAPS; t++) {
            let tap = first + t;
            // Positions before the first wrap around, and are too large then.
            let i0 = o0 + tap / (K1 * K2) * D0;
            let i1 = o1 + tap / K2 % K1 * D1;
            let i2 = o2 + tap % K2 * D2;
            if (INSIDE == 1u || (i0 < IN0 && i1 < IN1 && i2 < IN2)) {
                sums[t] += factor * x[(((plane * CHANNELS + x_at) * IN0 + i0) * IN1 + i1) * IN2 + i2];
            }
        }
    }
    for (var t = 0u; t < TAPS; t++) {
        let all = row_sum(sums[t], lane);
        if (lane == 0u) {
            store(0u, 0u, group * TAPS + t, all);
        }
    }
}
