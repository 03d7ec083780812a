// The gradient of max_pool: each element of the data adds up what the windows got whose maximum it is. An invocation
// has W results: it divides to find where the first lies, and counts on from there, G elements at a time, which lie in the
// same windows. Unused axes have size 1. INSIDE is 1 where windows cover their plane once and nothing else.
// Hooks: `gathered` goes through the windows that may hold G elements with `part`, for each axis counted back from the last; `finish` writes W results.

alias F = vec4<f32>;
alias Near = vec2<f32>;
alias Indices = vec2<i32>;
const W: u32 = 4u;
const WG: u32 = 64u;
const IN0: u32 = 1u;
const IN1: u32 = 28u;
const IN2: u32 = 28u;
const OUT0: u32 = 1u;
const OUT1: u32 = 14u;
const OUT2: u32 = 14u;
const S0: u32 = 1u;
const S1: u32 = 2u;
const S2: u32 = 2u;
const B0: u32 = 0u;
const B1: u32 = 0u;
const B2: u32 = 0u;
const INSIDE: u32 = 1u;
const G: u32 = 2u;

struct Params {
    len: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> index: array<i32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[col / W] = value;
}

fn gathered(p: Place) -> Near {
    var sum = Near(0.0);
    sum += part(p, 0u, 0u, 0u);
    return sum;
}

fn finish(e: u32) {
    var p = place(e);
    let a = gathered(p);
    p = next(p);
    let b = gathered(p);
    store(0u, 0u, e, vec4<f32>(a, b));
}

fn here(at: i32) -> Indices {
    return vec2<i32>(at, at + 1);
}

// ---- body
// An element: where the windows of its plane begin, and its index along each axis.
struct Place {
    windows: u32,
    i0: u32,
    i1: u32,
    i2: u32,
}

fn place(e: u32) -> Place {
    let rows = e / IN2;
    let layers = rows / IN1;
    let plane = layers / IN0;
    return Place(plane * (OUT0 * OUT1 * OUT2), layers - plane * IN0, rows - layers * IN1, e - rows * IN2);
}

fn next(p: Place) -> Place {
    let row = p.i2 + G == IN2;
    let layer = row && p.i1 + 1u == IN1;
    let plane = layer && p.i0 + 1u == IN0;
    return Place(
        p.windows + select(0u, OUT0 * OUT1 * OUT2, plane),
        select(p.i0 + u32(layer), 0u, plane),
        select(p.i1 + u32(row), 0u, layer),
        select(p.i2 + G, 0u, row),
    );
}

// What one window gives to G neighbours.
fn part(p: Place, n0: u32, n1: u32, n2: u32) -> Near {
    // Windows before the first wrap around, and are too large then.
    let o0 = (p.i0 + B0) / S0 - n0;
    let o1 = (p.i1 + B1) / S1 - n1;
    let o2 = (p.i2 + B2) / S2 - n2;
    if (INSIDE == 0u && (o0 >= OUT0 || o1 >= OUT1 || o2 >= OUT2)) {
        return Near(0.0);
    }
    let o = p.windows + (o0 * OUT1 + o1) * OUT2 + o2;
    return select(Near(0.0), Near(dy[o]), Indices(index[o]) == here(i32((p.i0 * IN1 + p.i1) * IN2 + p.i2)));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup_index(wid, nwg);
    let e = (group * WG + lane) * W;
    if (group < params.groups && e < params.len) {
        finish(e);
    }
}
