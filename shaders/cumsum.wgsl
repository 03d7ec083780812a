// Running sums along rows. A workgroup takes one chunk of a row, in tiles of WG * ITEMS elements: each lane adds up its
// ITEMS, the lanes' sums are scanned in shared memory, and each lane runs through its items again.
// Hooks: `base` is what lies before a chunk, `put` takes a sum, `finish` the total of a chunk.

alias E = f32;
const WG: u32 = 64u;
const ITEMS: u32 = 4u;
const REVERSE: u32 = 0u;
const EXCLUSIVE: u32 = 0u;

struct Params {
    cols: u32,
    chunk: u32,
    chunks: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read_write> result: array<E>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn base(group: u32) -> E {
    return E(0);
}

fn put(row: u32, col: u32, value: E) {
    result[row * params.cols + col] = value;
}

fn finish(group: u32, total: E) {}

// ---- body
var<workgroup> scratch: array<E, WG>;

// The column of step `i`, in the order in which they are added.
fn column(i: u32) -> u32 {
    return select(i, params.cols - 1u - i, REVERSE == 1u);
}

// The sums of the lanes up to each, in `scratch`. Every lane must come here.
fn scan_lanes(sum: E, lane: u32) {
    workgroupBarrier();
    scratch[lane] = sum;
    for (var step = 1u; step < WG; step *= 2u) {
        workgroupBarrier();
        var before = E(0);
        if (lane >= step) {
            before = scratch[lane - step];
        }
        workgroupBarrier();
        scratch[lane] += before;
    }
    workgroupBarrier();
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
    let row = group / params.chunks;
    let start = group % params.chunks * params.chunk;
    let end = min(params.cols, start + params.chunk);
    var total = base(group);
    for (var tile = start; tile < end; tile += WG * ITEMS) {
        let first = tile + lane * ITEMS;
        var sum = E(0);
        for (var i = first; i < min(end, first + ITEMS); i++) {
            sum += x[row * params.cols + column(i)];
        }
        scan_lanes(sum, lane);
        var running = total;
        if (lane > 0u) {
            running += scratch[lane - 1u];
        }
        for (var i = first; i < min(end, first + ITEMS); i++) {
            let next = running + x[row * params.cols + column(i)];
            put(row, column(i), select(next, running, EXCLUSIVE == 1u));
            running = next;
        }
        total += scratch[WG - 1u];
    }
    if (lane == 0u) {
        finish(group, total);
    }
}
