// The gradient of a convolution's data with few channels a group, or of any stride, term by term: each element adds up
// what the windows got that it lies in. A workgroup takes a part of one plane, so that all its invocations read the same
// weights; an invocation has W results. CHANNELS and FILTERS of a group; INSIDE is 1 where every element lies in a window
// by each tap.
// Hooks: `finish` computes and stores W results.

alias F = vec4<f32>;
const W: u32 = 4u;
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

struct Params {
    conv_groups: u32,
    chunks: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[((batch * CHANNELS + row) * (IN0 * IN1 * IN2) + col) / W] = value;
}

fn finish(place: Place, at: u32) {
    let value = vec4<f32>(term(place, at), term(place, at + 1u), term(place, at + 2u), term(place, at + 3u));
    store(place.batch, place.row, at, value);
}

// ---- body
struct Place {
    batch: u32,
    row: u32,
    g: u32,
    weight: u32,
}

fn term(place: Place, at: u32) -> f32 {
    let i0 = at / (IN1 * IN2);
    let i1 = at / IN2 % IN1;
    let i2 = at % IN2;
    var sum = 0.0;
    for (var o = 0u; o < FILTERS; o++) {
        for (var k0 = 0u; k0 < K0; k0++) {
            for (var k1 = 0u; k1 < K1; k1++) {
                for (var k2 = 0u; k2 < K2; k2++) {
                    // Where a window begins that has the element at this tap; before the first it wraps around, and is
                    // too large then.
                    let t0 = i0 + B0 - k0 * D0;
                    let t1 = i1 + B1 - k1 * D1;
                    let t2 = i2 + B2 - k2 * D2;
                    let o0 = t0 / S0;
                    let o1 = t1 / S1;
                    let o2 = t2 / S2;
                    let whole = o0 < OUT0 && o1 < OUT1 && o2 < OUT2;
                    if (INSIDE == 1u || (whole && o0 * S0 == t0 && o1 * S1 == t1 && o2 * S2 == t2)) {
                        let factor = weight[place.weight + ((o * CHANNELS * K0 + k0) * K1 + k1) * K2 + k2];
                        sum += g[place.g + ((o * OUT0 + o0) * OUT1 + o1) * OUT2 + o2] * factor;
                    }
                }
            }
        }
    }
    return sum;
}

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
    let plane = group / params.chunks;
    let batch = plane / CHANNELS;
    let row = plane % CHANNELS;
    let weight_at = (batch % params.conv_groups * FILTERS * CHANNELS + row) * (K0 * K1 * K2);
    let at = (group % params.chunks * WG + lane) * W;
    if (at < IN0 * IN1 * IN2) {
        finish(Place(batch, row, batch * FILTERS * (OUT0 * OUT1 * OUT2), weight_at), at);
    }
}
