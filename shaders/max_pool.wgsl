// The largest element of each window and the index of the first that is as large, within its plane. An invocation
// has W results. Sizes are constants, so that the divisions become products; unused axes have size 1.
// Hooks: `finish` writes W results.

alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;
const IN0: u32 = 1u;
const IN1: u32 = 28u;
const IN2: u32 = 28u;
const OUT0: u32 = 1u;
const OUT1: u32 = 14u;
const OUT2: u32 = 14u;
const K0: u32 = 1u;
const K1: u32 = 2u;
const K2: u32 = 2u;
const S0: u32 = 1u;
const S1: u32 = 2u;
const S2: u32 = 2u;
const D0: u32 = 1u;
const D1: u32 = 1u;
const D2: u32 = 1u;
const B0: u32 = 0u;
const B1: u32 = 0u;
const B2: u32 = 0u;

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

fn finish(o: u32) {
    let a = largest(o);
    let b = largest(o + 1u);
    let c = largest(o + 2u);
    let d = largest(o + 3u);
    index[o >> 2u] = vec4<i32>(a.at, b.at, c.at, d.at);
    store(0u, 0u, o, vec4<f32>(a.value, b.value, c.value, d.value));
}

// ---- body
struct Largest {
    value: f32,
    at: i32,
}

fn largest(o: u32) -> Largest {
    let plane = o / (OUT0 * OUT1 * OUT2) * (IN0 * IN1 * IN2);
    var best = Largest(-3.4028234e38, -1);
    for (var k0 = 0u; k0 < K0; k0++) {
        for (var k1 = 0u; k1 < K1; k1++) {
            for (var k2 = 0u; k2 < K2; k2++) {
                // Positions before the first wrap around, and are too large then.
                let i0 = o / (OUT1 * OUT2) % OUT0 * S0 + k0 * D0 - B0;
                let i1 = o / OUT2 % OUT1 * S1 + k1 * D1 - B1;
                let i2 = o % OUT2 * S2 + k2 * D2 - B2;
                if (i0 < IN0 && i1 < IN1 && i2 < IN2) {
                    let at = (i0 * IN1 + i1) * IN2 + i2;
                    let value = x[plane + at];
                    if (value > best.value || best.at < 0) {
                        best = Largest(value, i32(at));
                    }
                }
            }
        }
    }
    return Largest(best.value, max(best.at, 0));
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
