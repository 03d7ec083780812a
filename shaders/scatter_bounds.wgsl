// For scatter_sorted: where the positions of each table row start in the order of the sorted indices; the last entry is
// where those of the last row end. Keys are the indices with their sign bit turned, as argsort_block has it.

const WG: u32 = 64u;

struct Params {
    rows: u32,
    count: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> starts: array<u32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

// ---- body
@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_index(wid, nwg) * WG + lane;
    if (row > params.rows) {
        return;
    }
    var low = 0u;
    var high = params.count;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (keys[middle] < (row ^ 0x80000000u)) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    starts[row] = low;
}
