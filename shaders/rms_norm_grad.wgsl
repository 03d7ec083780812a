// Gradient of root-mean-square normalisation: dx, and per block of rows the column sums of dy * x * rstd (for the
// gain), as partials [blocks, cols]; column_sums adds up the blocks.

// parts: wide4 reduce_workgroup
alias F = vec4<f32>;
const W: u32 = 4u;
const WG: u32 = 64u;
const STEPS: u32 = 2u;
const SLOTS: u32 = 2u;
const EXACT: u32 = 0u;

struct Params {
    rows: u32,
    cols: u32,
    block: u32,
    blocks: u32,
    eps: f32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<F>;
@group(0) @binding(2) var<storage, read> gain: array<F>;
@group(0) @binding(3) var<storage, read> dy: array<F>;
@group(0) @binding(4) var<storage, read_write> partials: array<F>;
@group(0) @binding(5) var<storage, read_write> result: array<F>;

fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    result[(row * params.cols + col) / W] = value;
}

// ---- body
// A lane's share of the row stays in registers between the sweeps if it is small; else it is read again.
const KEEP: bool = SLOTS >= STEPS;
var<private> kept_x: array<F, SLOTS>;
var<private> kept_g: array<F, SLOTS>;
var<private> sum_gain: array<F, SLOTS>;

// x, then (after the sums) h: see below. Only x if it is read again.
fn x_again(j: u32, at: u32) -> F {
    if (KEEP) {
        return kept_x[j];
    }
    return x[at];
}

// gain * dy if kept; dy if it is read again.
fn dy_again(j: u32, at: u32) -> F {
    if (KEEP) {
        return kept_g[j];
    }
    return dy[at];
}

// Adds a row's share to the sum of column chunk i.
fn add_sums(group: u32, j: u32, i: u32, dgain: F) {
    if (KEEP) {
        sum_gain[j] += dgain;
    } else {
        partials[group * (params.cols / W) + i] += dgain;
    }
}

// Writes the sums to the partials: zeros before the first row, if they are summed there.
fn write_sums(group: u32, lane: u32) {
    let chunks = params.cols / W;
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            partials[group * chunks + i] = sum_gain[min(j, SLOTS - 1u)];
        }
    }
}

fn rms_norm_grad_row(group: u32, row: u32, lane: u32) {
    let chunks = params.cols / W;
    let first = row * chunks;
    let n = f32(params.cols);
    var sum = F(0.0);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let v = x[first + i];
            if (KEEP) {
                kept_x[j] = v;
            }
            sum += v * v;
        }
    }
    let rstd = inverseSqrt(row_sum(fsum(sum), lane) / n + params.eps);
    // With h = x * rstd and g = gain * dy: dx = rstd * (g - h * mean(g * h)).
    var gh_sum = F(0.0);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let h = x_again(j, first + i) * rstd;
            let d = dy[first + i];
            let g = gain[i] * d;
            if (KEEP) {
                kept_x[j] = h;
                kept_g[j] = g;
            }
            gh_sum += g * h;
            add_sums(group, j, i, d * h);
        }
    }
    let gh_mean = row_sum(fsum(gh_sum), lane) / n;
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            var h = x_again(j, first + i);
            var g = dy_again(j, first + i);
            if (!KEEP) {
                h *= rstd;
                g *= gain[i];
            }
            store(0u, row, i * W, rstd * (g - h * gh_mean));
        }
    }
}

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
    if (!KEEP) {
        write_sums(group, lane);
    }
    let end = min(params.rows, (group + 1u) * params.block);
    for (var row = group * params.block; row < end; row++) {
        rms_norm_grad_row(group, row, lane);
    }
    if (KEEP) {
        write_sums(group, lane);
    }
}
