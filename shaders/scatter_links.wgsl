// For scatter_add: the positions of each table row as a chain in increasing order. first [rows] is the first position
// whose index is the row, next [count] the next later position with the same index; -1 ends a chain.

alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;

struct Params {
    rows: u32,
    count: u32,
    row_groups: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> index: array<i32>;
@group(0) @binding(2) var<storage, read_write> first: array<i32>;
@group(0) @binding(3) var<storage, read_write> next: array<i32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

// ---- body
const NONE: u32 = 0xffffffffu;

// `at` if it is later than `after` and its index is `row`, else NONE.
fn candidate(at: u32, row: i32, after: i32) -> u32 {
    return select(NONE, at, index[at] == row && i32(at) > after);
}

// The first position from `start` on, later than `after`, whose index is `row`; -1 if there is none. `start` is the
// same for the whole workgroup, so that all lanes read the same address.
fn find(start: u32, row: i32, after: i32) -> i32 {
    var at = start;
    for (; at + 4u <= params.count; at += 4u) {
        let a = min(candidate(at, row, after), candidate(at + 1u, row, after));
        let b = min(candidate(at + 2u, row, after), candidate(at + 3u, row, after));
        let found = min(a, b);
        if (found != NONE) {
            return i32(found);
        }
    }
    for (; at < params.count; at++) {
        if (candidate(at, row, after) != NONE) {
            return i32(at);
        }
    }
    return -1;
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
    if (group < params.row_groups) {
        let row = i32(group * WG + lane);
        if (row < i32(params.rows)) {
            first[row] = find(0u, row, -1);
        }
    } else {
        let start = (group - params.row_groups) * WG;
        let at = start + lane;
        if (at < params.count) {
            next[at] = find(start, index[at], i32(at));
        }
    }
}
