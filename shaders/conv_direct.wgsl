// A convolution with few channels a group, term by term. A workgroup takes a part of one plane of results, so that all
// its invocations read the same weights; an invocation has W results. Geometry is constant, so that divisions become
// products; unused axes have size 1. CHANNELS and FILTERS of a group; INSIDE is 1 where no window reaches beyond the data.
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
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[((batch * FILTERS + row) * (OUT0 * OUT1 * OUT2) + col) / W] = value;
}

fn finish(place: Place, at: u32) {
    let value = vec4<f32>(term(place, at), term(place, at + 1u), term(place, at + 2u), term(place, at + 3u));
    store(place.batch, place.row, at, value);
}

// ---- body
struct Place {
    batch: u32,
    row: u32,
    x: u32,
    weight: u32,
}

fn term(place: Place, at: u32) -> f32 {
    let o0 = at / (OUT1 * OUT2);
    let o1 = at / OUT2 % OUT1;
    let o2 = at % OUT2;
    var sum = 0.0;
    for (var c = 0u; c < CHANNELS; c++) {
        for (var k0 = 0u; k0 < K0; k0++) {
            for (var k1 = 0u; k1 < K1; k1++) {
                for (var k2 = 0u; k2 < K2; k2++) {
                    // Positions before the first wrap around, and are too large then.
                    let i0 = o0 * S0 + k0 * D0 - B0;
                    let i1 = o1 * S1 + k1 * D1 - B1;
                    let i2 = o2 * S2 + k2 * D2 - B2;
                    if (INSIDE == 1u || (i0 < IN0 && i1 < IN1 && i2 < IN2)) {
                        let factor = weight[place.weight + ((c * K0 + k0) * K1 + k1) * K2 + k2];
                        sum += x[place.x + ((c * IN0 + i0) * IN1 + i1) * IN2 + i2] * factor;
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
    let batch = plane / FILTERS;
    let row = plane % FILTERS;
    let filter_index = batch % params.conv_groups * FILTERS + row;
    let x_at = batch * CHANNELS * (IN0 * IN1 * IN2);
    let at = (group % params.chunks * WG + lane) * W;
    if (at < OUT0 * OUT1 * OUT2) {
        finish(Place(batch, row, x_at, filter_index * CHANNELS * (K0 * K1 * K2)), at);
    }
}
