// Eight independent chains of multiply-adds a lane, on vec4s: what the arithmetic of an adapter can do.
// A round is two multiply-adds a chain: 8 * 4 * 2 * 2 operations a lane.

const WG: u32 = 64u;
// f32, or f16 where the adapter computes with it.
alias Real = f32;

struct Params {
    rounds: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// ---- body
@group(0) @binding(1) var<storage, read> x: array<vec4<Real>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<Real>>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Read, so that no compiler can know them.
    let m = x[0];
    let c = x[1];
    var a0 = c + vec4<Real>(Real(lane));
    var a1 = a0 + c;
    var a2 = a1 + c;
    var a3 = a2 + c;
    var a4 = a3 + c;
    var a5 = a4 + c;
    var a6 = a5 + c;
    var a7 = a6 + c;
    for (var i = 0u; i < params.rounds; i++) {
        a0 = a0 * m + c;
        a1 = a1 * m + c;
        a2 = a2 * m + c;
        a3 = a3 * m + c;
        a4 = a4 * m + c;
        a5 = a5 * m + c;
        a6 = a6 * m + c;
        a7 = a7 * m + c;
        a0 = a0 * m + c;
        a1 = a1 * m + c;
        a2 = a2 * m + c;
        a3 = a3 * m + c;
        a4 = a4 * m + c;
        a5 = a5 * m + c;
        a6 = a6 * m + c;
        a7 = a7 * m + c;
    }
    y[(wid.x + wid.y * nwg.x) * WG + lane] = (a0 + a1 + a2 + a3) + (a4 + a5 + a6 + a7);
}
