// The largest element of each window and the index of the first that is as large, within its plane. An invocation
// has W results: it divides to find where the first lies, and counts on from there. Unused axes have size 1.
// INSIDE is 1 where no window reaches beyond its plane.
// Hooks: `largest` goes through a window with `larger`; `finish` writes W results.

alias F = vec4<f32>;
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
const D0: u32 = 1u;
const D1: u32 = 1u;
const D2: u32 = 1u;
const B0: u32 = 0u;
const B1: u32 = 0u;
const B2: u32 = 0u;
const INSIDE: u32 = 1u;

struct Params {
    len: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> index: array<vec4<i32>>;
@group(0) @binding(3) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[col / W] = value;
}

fn largest(p: Place) -> Largest {
    var best = Largest(-3.4028234e38, -1);
    best = larger(best, p, 0u, 0u, 0u);
    best = larger(best, p, 0u, 0u, 1u);
    best = larger(best, p, 0u, 1u, 0u);
    best = larger(best, p, 0u, 1u, 1u);
    return Largest(best.value, max(best.at, 0));
}

fn finish(o: u32) {
    var p = place(o);
    let a = largest(p);
    p = next(p);
    let b = largest(p);
    p = next(p);
    let c = largest(p);
    p = next(p);
    let d = largest(p);
    index[o >> 2u] = vec4<i32>(a.at, b.at, c.at, d.at);
    store(0u, 0u, o, vec4<f32>(a.value, b.value, c.value, d.value));
}

// ---- body
struct Largest {
    value: f32,
    at: i32,
}

// A window: where its plane begins in the data, and its number along each axis.
struct Place {
    plane: u32,
    o0: u32,
    o1: u32,
    o2: u32,
}

fn place(o: u32) -> Place {
    let rows = o / OUT2;
    let layers = rows / OUT1;
    let plane = layers / OUT0;
    return Place(plane * (IN0 * IN1 * IN2), layers - plane * OUT0, rows - layers * OUT1, o - rows * OUT2);
}

fn next(p: Place) -> Place {
    let row = p.o2 + 1u == OUT2;
    let layer = row && p.o1 + 1u == OUT1;
    let plane = layer && p.o0 + 1u == OUT0;
    return Place(
        p.plane + select(0u, IN0 * IN1 * IN2, plane),
        select(p.o0 + u32(layer), 0u, plane),
        select(p.o1 + u32(row), 0u, layer),
        select(p.o2 + 1u, 0u, row),
    );
}

// The larger of the best so far and one element of the window.
fn larger(best: Largest, p: Place, k0: u32, k1: u32, k2: u32) -> Largest {
    // Positions before the first wrap around, and are too large then.
    let i0 = p.o0 * S0 + k0 * D0 - B0;
    let i1 = p.o1 * S1 + k1 * D1 - B1;
    let i2 = p.o2 * S2 + k2 * D2 - B2;
    if (INSIDE == 0u && (i0 >= IN0 || i1 >= IN1 || i2 >= IN2)) {
        return best;
    }
    let at = (i0 * IN1 + i1) * IN2 + i2;
    let value = x[p.plane + at];
    let better = value > best.value || best.at < 0;
    return Largest(select(best.value, value, better), select(best.at, i32(at), better));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = workgroup_index(wid, nwg);
    let o = (group * WG + lane) * W;
    if (group < params.groups && o < params.len) {
        finish(o);
    }
}
