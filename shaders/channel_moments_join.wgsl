// Mean and variance of each channel from the sums of its chunks, partials [2, chunks, channels] as channel_sums writes
// them: deviations from the channel's first element, and their squares.

const WG: u32 = 64u;

struct Params {
    channels: u32,
    size: u32,
    chunks: u32,
    count: f32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> variance: array<f32>;

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
    let group = workgroup_index(wid, nwg);
    if (group >= params.groups) {
        return;
    }
    let channel = group * WG + lane;
    if (channel < params.channels) {
        var first = 0.0;
        var second = 0.0;
        for (var chunk = 0u; chunk < params.chunks; chunk++) {
            first += partials[chunk * params.channels + channel];
            second += partials[(params.chunks + chunk) * params.channels + channel];
        }
        let offset = first / params.count;
        mean[channel] = x[channel * params.size] + offset;
        variance[channel] = max(second / params.count - offset * offset, 0.0);
    }
}
