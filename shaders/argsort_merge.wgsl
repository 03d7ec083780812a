// Merges neighbouring sorted runs of a row: an element's place is its place in its own run plus the number of elements
// of the other run that come before it. Of equal keys the left run's come first, so the order is stable.

const WG: u32 = 64u;

struct Params {
    cols: u32,
    len: u32,
    run: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys_in: array<u32>;
@group(0) @binding(2) var<storage, read> order_in: array<i32>;
@group(0) @binding(3) var<storage, read_write> keys: array<u32>;
@group(0) @binding(4) var<storage, read_write> order: array<i32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

// ---- body
// How many of the sorted keys from `start` up to `end` are less than `key`, or (`equal`) not greater.
fn before(start: u32, end: u32, key: u32, equal: bool) -> u32 {
    var low = start;
    var high = end;
    while (low < high) {
        let middle = (low + high) / 2u;
        let its = keys_in[middle];
        if (its < key || (equal && its == key)) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low - start;
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
    let left = own - own % (2u * params.run);
    let right = min(params.cols, left + params.run);
    let end = min(params.cols, right + params.run);
    let key = keys_in[at];
    var place = own + before(row + right, row + end, key, false);
    if (own >= right) {
        place = own - (right - left) + before(row + left, row + right, key, true);
    }
    keys[row + place] = key;
    order[row + place] = order_in[at];
}
