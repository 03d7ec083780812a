// A reduction where neighbouring outputs lie side by side: each invocation owns W outputs and
// walks the reduced axes (or one chunk of them) in order.
// Hooks: `element` reads (with fused producers), `combine`, `put` writes.

alias E = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;
const INIT: E = E(0.0);

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
    return source[(r * params.outputs + o) / W];
}

fn combine(a: E, b: E) -> E {
    return a + b;
}

fn put(o: u32, chunk: u32, value: E) {
    result[(chunk * params.outputs + o) / W] = value;
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
    let columns = params.outputs / W;
    let invocation = group * WG + lane;
    let o = (invocation % columns) * W;
    let chunk = invocation / columns;
    let start = chunk * params.chunk;
    if (start >= params.length && chunk > 0u) {
        return;
    }
    let end = min(params.length, start + params.chunk);
    var total = E(INIT);
    for (var r = start; r < end; r++) {
        total = combine(total, element(o, r));
    }
    put(o, chunk, total);
}
