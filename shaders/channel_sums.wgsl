// Sums over a channel of tensors [samples, channels, size]: of a factor, and of the factor times x's deviation from
// a shift. With the deviation as the factor this gives mean and variance, with dy the sums behind batch norm's gradient.
// A workgroup takes one channel, or one chunk of it.
// Hooks: `shift_of` the channel, `factor` of an element, `put` writes both sums.

// parts: wide4 reduce_workgroup
alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;

struct Params {
    channels: u32,
    size: u32,
    length: u32,
    chunk: u32,
    chunks: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<F>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn shift_of(channel: u32) -> f32 {
    return fat(x[channel * (params.size / W)], 0u);
}

fn factor(at: u32, deviation: F) -> F {
    return deviation;
}

fn put(channel: u32, chunk: u32, shift: f32, first: f32, second: f32) {
    partials[chunk * params.channels + channel] = first;
    partials[(params.chunks + chunk) * params.channels + channel] = second;
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
    let channel = group % params.channels;
    let chunk = group / params.channels;
    let shift = shift_of(channel);
    // A channel's elements lie in runs of `size`, one for each sample.
    let run = params.size / W;
    let end = min(params.length, (chunk + 1u) * params.chunk);
    var first = F(0.0);
    var second = F(0.0);
    for (var i = chunk * params.chunk + lane; i < end; i += WG) {
        let sample = i / run;
        let at = (sample * params.channels + channel) * run + (i - sample * run);
        let deviation = x[at] - shift;
        let f = factor(at, deviation);
        first += f;
        second += f * deviation;
    }
    let first_sum = row_sum(fsum(first), lane);
    let second_sum = row_sum(fsum(second), lane);
    if (lane == 0u) {
        put(channel, chunk, shift, first_sum, second_sum);
    }
}
