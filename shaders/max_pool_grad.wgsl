// The gradient of max_pool: each element of the data adds up what the windows got whose maximum it is. An invocation
// has W results. Sizes are constants, so that the divisions become products; unused axes have size 1.
// N0 to N2: how many windows may hold an element, along each axis. Hooks: `finish` writes W results.

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
const B0: u32 = 0u;
const B1: u32 = 0u;
const B2: u32 = 0u;
const N0: u32 = 1u;
const N1: u32 = 1u;
const N2: u32 = 1u;

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

fn finish(e: u32) {
    store(0u, 0u, e, vec4<f32>(gathered_pair(e), gathered_pair(e + 2u)));
}

// ---- body
fn gathered(e: u32) -> f32 {
    let at = e % (IN0 * IN1 * IN2);
    let plane = e / (IN0 * IN1 * IN2) * (OUT0 * OUT1 * OUT2);
    var sum = 0.0;
    for (var n0 = 0u; n0 < N0; n0++) {
        for (var n1 = 0u; n1 < N1; n1++) {
            for (var n2 = 0u; n2 < N2; n2++) {
                // Windows before the first wrap around, and are too large then.
                let o0 = (at / (IN1 * IN2) + B0) / S0 - n0;
                let o1 = (at / IN2 % IN1 + B1) / S1 - n1;
                let o2 = (at % IN2 + B2) / S2 - n2;
                if (o0 < OUT0 && o1 < OUT1 && o2 < OUT2) {
                    let o = plane + (o0 * OUT1 + o1) * OUT2 + o2;
                    sum += select(0.0, dy[o], index[o] == i32(at));
                }
            }
        }
    }
    return sum;
}

// Of two neighbours that lie in the same windows.
fn gathered_pair(e: u32) -> vec2<f32> {
    let at = e % (IN0 * IN1 * IN2);
    let plane = e / (IN0 * IN1 * IN2) * (OUT0 * OUT1 * OUT2);
    var sum = vec2<f32>(0.0);
    for (var n0 = 0u; n0 < N0; n0++) {
        for (var n1 = 0u; n1 < N1; n1++) {
            for (var n2 = 0u; n2 < N2; n2++) {
                // Windows before the first wrap around, and are too large then.
                let o0 = (at / (IN1 * IN2) + B0) / S0 - n0;
                let o1 = (at / IN2 % IN1 + B1) / S1 - n1;
                let o2 = (at % IN2 + B2) / S2 - n2;
                if (o0 < OUT0 && o1 < OUT1 && o2 < OUT2) {
                    let o = plane + (o0 * OUT1 + o1) * OUT2 + o2;
                    let here = vec2<i32>(index[o]) == vec2<i32>(i32(at), i32(at) + 1);
                    sum += select(vec2<f32>(0.0), vec2<f32>(dy[o]), here);
                }
            }
        }
    }
    return sum;
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
