// The order within each block of BLOCK neighbours of a row: an element's place is the number of those that come before
// it. Keys are u32 whose order is that of the elements, NaN last of all; ties keep the order of their indices.

const WG: u32 = 64u;
const BLOCK: u32 = 64u;
const KIND: u32 = 0u;
const DESCENDING: u32 = 0u;

struct Params {
    cols: u32,
    len: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> order: array<i32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

// ---- body
const SIGN: u32 = 0x80000000u;

// KIND 0: f32 (from its bits, as WGSL need not know NaN), 1: i32, 2: u32.
fn key_of(bits: u32) -> u32 {
    var key = bits;
    if (KIND == 0u) {
        let size = bits & 0x7fffffffu;
        // Negative numbers count downwards; the two zeros are one.
        key = select(bits | SIGN, ~bits, bits >= SIGN && size != 0u);
        key = select(key, 0xffffffffu, size > 0x7f800000u);
    } else if (KIND == 1u) {
        key = bits ^ SIGN;
    }
    return select(key, ~key, DESCENDING == 1u);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = workgroup_index(wid, nwg) * WG + lane;
    if (at >= params.len) {
        return;
    }
    let own = at % params.cols;
    let row = at - own;
    let first = own - own % BLOCK;
    let key = key_of(x[at]);
    var place = first;
    for (var other = first; other < min(params.cols, first + BLOCK); other++) {
        let its = key_of(x[row + other]);
        place += select(0u, 1u, its < key || (its == key && other < own));
    }
    keys[row + place] = key;
    order[row + place] = i32(own);
}
