// A reduction where neighbours along the reduced axes lie side by side: a workgroup shares one
// output (or one chunk of it), its lanes stride over the elements.
// Hooks: `element` reads (with fused producers), `combine`, `across` joins lanes, `put` writes.

// parts: reduce_workgroup
alias E = f32;
const WG: u32 = 64u;
const INIT: E = 0.0;

struct Params {
    outputs: u32,
    length: u32,
    chunk: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<E>;
@group(0) @binding(2) var<storage, read_write> result: array<E>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn element(o: u32, r: u32) -> E {
    return source[o * params.length + r];
}

fn combine(a: E, b: E) -> E {
    return a + b;
}

fn across(value: E, lane: u32) -> E {
    return row_sum(value, lane);
}

fn put(o: u32, chunk: u32, value: E) {
    result[chunk * params.outputs + o] = value;
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
    let o = group % params.outputs;
    let chunk = group / params.outputs;
    let start = chunk * params.chunk;
    let end = min(params.length, start + params.chunk);
    var total = E(INIT);
    for (var r = start + lane; r < end; r += WG) {
        total = combine(total, element(o, r));
    }
    let all = across(total, lane);
    if (lane == 0u) {
        put(o, chunk, all);
    }
}
