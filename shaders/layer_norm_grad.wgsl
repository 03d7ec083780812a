// Gradient of layer normalisation: dx, and per block of rows the column sums of dy * (x - mean) * rstd (for the
// gain) and of dy (for the bias), as partials [2, blocks, cols]; column_sums_pair adds up the blocks.

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
var<private> sum_bias: array<F, SLOTS>;

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

// Adds a row's share to the sums of column chunk i: gains' first, then biases'.
fn add_sums(group: u32, j: u32, i: u32, dgain: F, dbias: F) {
    if (KEEP) {
        sum_gain[j] += dgain;
        sum_bias[j] += dbias;
    } else {
        let chunks = params.cols / W;
        partials[group * chunks + i] += dgain;
        partials[(params.blocks + group) * chunks + i] += dbias;
    }
}

// Writes the sums to the partials: zeros before the first row, if they are summed there.
fn write_sums(group: u32, lane: u32) {
    let chunks = params.cols / W;
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            partials[group * chunks + i] = sum_gain[min(j, SLOTS - 1u)];
            partials[(params.blocks + group) * chunks + i] = sum_bias[min(j, SLOTS - 1u)];
        }
    }
}

fn layer_norm_grad_row(group: u32, row: u32, lane: u32) {
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
            sum += v;
        }
    }
    let mean = row_sum(fsum(sum), lane) / n;
    var squares = F(0.0);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let d = x_again(j, first + i) - mean;
            squares += d * d;
        }
    }
    let rstd = inverseSqrt(row_sum(fsum(squares), lane) / n + params.eps);
    // With h = (x - mean) * rstd and g = gain * dy: dx = rstd * (g - mean(g) - h * mean(g * h)).
    var g_sum = F(0.0);
    var gh_sum = F(0.0);
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            let h = (x_again(j, first + i) - mean) * rstd;
            let d = dy[first + i];
            let g = gain[i] * d;
            if (KEEP) {
                kept_x[j] = h;
                kept_g[j] = g;
            }
            g_sum += g;
            gh_sum += g * h;
            add_sums(group, j, i, d * h, d);
        }
    }
    let g_mean = row_sum(fsum(g_sum), lane) / n;
    let gh_mean = row_sum(fsum(gh_sum), lane) / n;
    for (var j = 0u; j < STEPS; j++) {
        let i = lane + j * WG;
        if (EXACT == 1u || i < chunks) {
            var h = x_again(j, first + i);
            var g = dy_again(j, first + i);
            if (!KEEP) {
                h = (h - mean) * rstd;
                g *= gain[i];
            }
            store(0u, row, i * W, rstd * (g - g_mean - h * gh_mean));
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
        layer_norm_grad_row(group, row, lane);
    }
    if (KEEP) {
        write_sums(group, lane);
    }
}
