//! What every macro-op *is*: its expansion into primitives.
//!
//! The expansion defines the meaning; gradient rules and kernels of macro-ops are optimisations
//! that tests hold equal to it. It knows nothing about kernels, and masks with large finite
//! numbers only, because WGSL lets a compiler assume that infinities do not occur.

use super::expand_windows;
use crate::graph::{MacroOp, Op, ReduceKind, Sight, Tensor};
use crate::shape::Shape;

/// The score of a masked position: finite, and so low that its exponential is 0.
const MASKED: f64 = -1e30;

/// The results of `op`, one tensor per output, written in primitives.
///
/// `inputs` are operands that shape inference has accepted for `op`.
pub fn expand<'g>(op: MacroOp, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let x = inputs;
    match op {
        MacroOp::Softmax => vec![softmax(x[0])],
        MacroOp::LogSoftmax => vec![log_softmax(x[0])],
        MacroOp::LayerNorm { eps } => {
            let (normal, _) = standardise(x[0], eps.value().into());
            vec![normal * x[1] + x[2]]
        }
        MacroOp::LayerNormGrad { eps } => layer_norm_grad(x[0], x[1], x[2], eps.value().into()),
        MacroOp::RmsNorm { eps } => vec![x[0] * inverse_rms(x[0], eps.value().into()) * x[1]],
        MacroOp::RmsNormGrad { eps } => rms_norm_grad(x[0], x[1], x[2], eps.value().into()),
        MacroOp::BatchNorm { eps } => batch_norm(x[0], x[1], x[2], eps.value().into()),
        MacroOp::BatchNormGrad { eps } => batch_norm_grad(x, eps.value().into()),
        MacroOp::ChannelMoments => channel_moments(x[0]),
        MacroOp::ChannelProducts => vec![sum_channels(x[0]), sum_channels(x[0] * (x[1] - per_channel(x[2])))],
        MacroOp::CrossEntropy => vec![cross_entropy(x[0], x[1])],
        MacroOp::CrossEntropyGrad => vec![cross_entropy_grad(x[0], x[1], x[2])],
        MacroOp::CrossEntropyWithGrad => vec![cross_entropy(x[0], x[1]), cross_entropy_grad(x[0], x[1], x[2])],
        MacroOp::Attention { sight, scale } => attention(x[0], x[1], x[2], sight, scale.value().into()),
        MacroOp::AttentionGrad { sight, scale } => attention_grad(x, sight, scale.value().into()),
        MacroOp::Conv { windows, groups } => vec![expand_windows::conv(&windows, groups as usize, x[0], x[1])],
        MacroOp::ConvDataGrad { windows, groups, size } => {
            vec![expand_windows::conv_data_grad(&windows, groups as usize, &size, x[0], x[1])]
        }
        MacroOp::ConvWeightGrad { windows, groups } => {
            vec![expand_windows::conv_weight_grad(&windows, groups as usize, x[0], x[1])]
        }
        MacroOp::MaxPool { windows } => expand_windows::max_pool(&windows, x[0]),
        MacroOp::MaxPoolGrad { windows, size } => vec![expand_windows::max_pool_grad(&windows, &size, x[0], x[1])],
    }
}

// ---- helpers: reductions that keep or drop the last axis

/// Over the last axis, which stays with size 1.
fn reduce_last(x: Tensor<'_>, kind: ReduceKind) -> Tensor<'_> {
    let last = x.rank() - 1;
    unsqueeze(x.apply(Op::Reduce { kind, axes: vec![last] }, &[]))
}

/// An axis of size 1 added at the end.
fn unsqueeze(x: Tensor<'_>) -> Tensor<'_> {
    let shape: Shape = x.shape().iter().copied().chain([1]).collect();
    x.apply(Op::Reshape(shape), &[])
}

fn sum_last(x: Tensor<'_>) -> Tensor<'_> {
    reduce_last(x, ReduceKind::Sum)
}

fn mean_last(x: Tensor<'_>) -> Tensor<'_> {
    let size = x.shape().last().map_or(1, |&size| size.max(1));
    sum_last(x) / size as f64
}

/// Over all axes but the last, which is what remains.
fn sum_rows(x: Tensor<'_>) -> Tensor<'_> {
    match x.rank() {
        0 | 1 => x,
        rank => x.apply(Op::Reduce { kind: ReduceKind::Sum, axes: (0..rank - 1).collect() }, &[]),
    }
}

fn permute(x: Tensor<'_>, axes: [usize; 4]) -> Tensor<'_> {
    x.apply(Op::Permute(axes.to_vec()), &[])
}

fn matmul<'g>(a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    a.apply(Op::MatMul, &[b])
}

// ---- softmax and cross-entropy

/// `x` less its largest element. A shift does not change a softmax, so it carries no gradient.
fn shifted(x: Tensor<'_>) -> Tensor<'_> {
    x - reduce_last(x, ReduceKind::Max).apply(Op::StopGradient, &[])
}

fn softmax(x: Tensor<'_>) -> Tensor<'_> {
    let weight = shifted(x).exp();
    weight / sum_last(weight)
}

fn log_softmax(x: Tensor<'_>) -> Tensor<'_> {
    let shifted = shifted(x);
    shifted - sum_last(shifted.exp()).log()
}

/// `[rows, classes]` bool: where the class is the row's target. Ignored rows have none.
fn one_hot<'g>(logits: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
    logits.graph().iota(logits.shape(), 1).eq(unsqueeze(target))
}

/// The loss of each row, `-log softmax(logits)[target]`, as `torch.nn.functional.cross_entropy`
/// with `reduction="none"`.
fn cross_entropy<'g>(logits: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
    let chosen = one_hot(logits, target).select(-log_softmax(logits), 0.0);
    chosen.apply(Op::Reduce { kind: ReduceKind::Sum, axes: vec![1] }, &[])
}

/// `(softmax(logits) - onehot) * g`, 0 in ignored rows.
fn cross_entropy_grad<'g>(logits: Tensor<'g>, target: Tensor<'g>, g: Tensor<'g>) -> Tensor<'g> {
    let classes = logits.shape().last().map_or(0.0, |&classes| classes as f64);
    let counted = target.ge(target.scalar_like(0.0)).logical_and(target.lt(target.scalar_like(classes)));
    let g = unsqueeze(counted.select(g, 0.0));
    let probability = softmax(logits);
    one_hot(logits, target).select(probability - 1.0, probability) * g
}

// ---- normalisation over the last axis

/// `(x - mean) / sqrt(variance + eps)` with the biased variance, and the inverse deviation.
fn standardise(x: Tensor<'_>, eps: f64) -> (Tensor<'_>, Tensor<'_>) {
    let centred = x - mean_last(x);
    let inverse = (mean_last(centred * centred) + eps).rsqrt();
    (centred * inverse, inverse)
}

/// With `n` the normalised input and `dn = dy * gain`:
/// `dx = inverse * (dn - mean(dn) - n * mean(dn * n))`, `dgain = sum(dy * n)`, `dbias = sum(dy)`.
fn layer_norm_grad<'g>(x: Tensor<'g>, gain: Tensor<'g>, dy: Tensor<'g>, eps: f64) -> Vec<Tensor<'g>> {
    let (normal, inverse) = standardise(x, eps);
    let dnormal = dy * gain;
    let dx = (dnormal - mean_last(dnormal) - normal * mean_last(dnormal * normal)) * inverse;
    vec![dx, sum_rows(dy * normal), sum_rows(dy)]
}

fn inverse_rms(x: Tensor<'_>, eps: f64) -> Tensor<'_> {
    (mean_last(x * x) + eps).rsqrt()
}

/// As for layer norm, without the mean: `dx = inverse * (dn - n * mean(dn * n))`, `dgain = sum(dy * n)`.
fn rms_norm_grad<'g>(x: Tensor<'g>, gain: Tensor<'g>, dy: Tensor<'g>, eps: f64) -> Vec<Tensor<'g>> {
    let inverse = inverse_rms(x, eps);
    let normal = x * inverse;
    let dnormal = dy * gain;
    let dx = (dnormal - normal * mean_last(dnormal * normal)) * inverse;
    vec![dx, sum_rows(dy * normal)]
}

// ---- batch normalisation of [samples, channels, size]

/// Over all but the channels, which are what remains.
fn sum_channels(x: Tensor<'_>) -> Tensor<'_> {
    x.apply(Op::Reduce { kind: ReduceKind::Sum, axes: vec![0, 2] }, &[])
}

/// `[c]` as `[c, 1]`, which broadcasts against `[n, c, s]`.
fn per_channel(x: Tensor<'_>) -> Tensor<'_> {
    unsqueeze(x)
}

/// Elements of one channel.
fn channel_size(x: Tensor<'_>) -> f64 {
    let shape = x.shape();
    (shape[0] * shape[2]).max(1) as f64
}

fn channel_moments(x: Tensor<'_>) -> Vec<Tensor<'_>> {
    let mean = sum_channels(x) / channel_size(x);
    let centred = x - per_channel(mean);
    vec![mean, sum_channels(centred * centred) / channel_size(x)]
}

fn batch_norm<'g>(x: Tensor<'g>, gain: Tensor<'g>, bias: Tensor<'g>, eps: f64) -> Vec<Tensor<'g>> {
    let moments = channel_moments(x);
    let (mean, variance) = (moments[0], moments[1]);
    let scale = (variance + eps).rsqrt() * gain;
    vec![(x - per_channel(mean)) * per_channel(scale) + per_channel(bias), mean, variance]
}

/// From `(x, gain, mean, variance, dy)`, with `n` the normalised input: `dbias = sum(dy)`, `dgain = sum(dy * n)`,
/// `dx = gain * inverse * (dy - mean(dy) - n * mean(dy * n))`.
fn batch_norm_grad<'g>(x: &[Tensor<'g>], eps: f64) -> Vec<Tensor<'g>> {
    let (x, gain, mean, variance, dy) = (x[0], x[1], x[2], x[3], x[4]);
    let inverse = (variance + eps).rsqrt();
    let normal = (x - per_channel(mean)) * per_channel(inverse);
    let (dgain, dbias) = (sum_channels(dy * normal), sum_channels(dy));
    let size = channel_size(x);
    let dx = (dy - per_channel(dbias / size) - normal * per_channel(dgain / size)) * per_channel(gain * inverse);
    vec![dx, dgain, dbias]
}

// ---- attention

/// `scale * q k^T` of every head, `[b, h, t, s]`, masked where the query may not look, and where it may.
fn scores<'g>(q: Tensor<'g>, k: Tensor<'g>, sight: Sight, scale: f64) -> (Tensor<'g>, Option<Tensor<'g>>) {
    let scores = matmul(permute(q, [0, 2, 1, 3]), permute(k, [0, 2, 3, 1])) * scale;
    let (t, s) = (q.shape()[1], k.shape()[1]);
    let (query, source) = (q.graph().iota([t, s], 0), q.graph().iota([t, s], 1));
    // How far a source lies behind the query's own position; the last query stands at the last source.
    let behind = query - source + query.scalar_like(s as f64 - t as f64);
    let bound = |far: u32| behind.scalar_like(f64::from(far));
    let visible = match (sight.before, sight.after) {
        (None, None) => return (scores, None),
        (Some(before), None) => behind.le(bound(before)),
        (None, Some(after)) => behind.ge(-bound(after)),
        (Some(before), Some(after)) => behind.le(bound(before)).logical_and(behind.ge(-bound(after))),
    };
    let visible = visible.broadcast_to(scores.shape());
    (visible.select(scores, MASKED), Some(visible))
}

/// Each head `times` times in a row: `[b, s, k, d]` to `[b, s, k * times, d]`.
fn repeat_heads(x: Tensor<'_>, times: usize) -> Tensor<'_> {
    let shape = x.shape();
    if times == 1 {
        return x;
    }
    let (b, s, k, d) = (shape[0], shape[1], shape[2], shape[3]);
    let apart = x.apply(Op::Reshape([b, s, k, 1, d].into()), &[]);
    let repeated = apart.apply(Op::Expand([b, s, k, times, d].into()), &[]);
    repeated.apply(Op::Reshape([b, s, k * times, d].into()), &[])
}

/// The sum over each `times` heads in a row: the reverse of [`repeat_heads`].
fn sum_heads(x: Tensor<'_>, times: usize) -> Tensor<'_> {
    let shape = x.shape();
    if times == 1 {
        return x;
    }
    let apart = x.apply(Op::Reshape([shape[0], shape[1], shape[2] / times, times, shape[3]].into()), &[]);
    apart.apply(Op::Reduce { kind: ReduceKind::Sum, axes: vec![3] }, &[])
}

/// The exponentials of `x`, 0 where masked.
fn visible_exp<'g>(x: Tensor<'g>, visible: Option<Tensor<'g>>) -> Tensor<'g> {
    match visible {
        Some(visible) => visible.select(x.exp(), 0.0),
        None => x.exp(),
    }
}

/// `softmax(scale * q k^T) v` of every head, and the log-sum-exp of the scores of each query.
/// A query that sees no source at all (a causal one before the first source) gives 0.
fn attention<'g>(q: Tensor<'g>, k: Tensor<'g>, v: Tensor<'g>, sight: Sight, scale: f64) -> Vec<Tensor<'g>> {
    let times = q.shape()[2] / k.shape()[2].max(1);
    let (k, v) = (repeat_heads(k, times), repeat_heads(v, times));
    let (scores, visible) = scores(q, k, sight, scale);
    let largest = reduce_last(scores, ReduceKind::Max).apply(Op::StopGradient, &[]);
    let weight = visible_exp(scores - largest, visible);
    // The largest weight is 1, so the floor acts only on a query that sees nothing.
    let total = sum_last(weight).maximum(1e-30);
    let heads = matmul(weight, permute(v, [0, 2, 1, 3])) / total;
    let lse = largest + total.log();
    let rows: Shape = lse.shape().without(3);
    vec![permute(heads, [0, 2, 1, 3]), lse.apply(Op::Reshape(rows), &[])]
}

/// From `(q, k, v, o, lse, do)`, with `p` the softmax rebuilt from `lse`: `dv = p^T do`,
/// `ds = scale * p * (do v^T - rowsum(do * o))`, `dq = ds k`, `dk = ds^T q`.
fn attention_grad<'g>(x: &[Tensor<'g>], sight: Sight, scale: f64) -> Vec<Tensor<'g>> {
    let times = x[0].shape()[2] / x[1].shape()[2].max(1);
    let (q, k, v) = (x[0], repeat_heads(x[1], times), repeat_heads(x[2], times));
    let (o, lse, dy) = (x[3], x[4], x[5]);
    let (scores, visible) = scores(q, k, sight, scale);
    let p = visible_exp(scores - unsqueeze(lse), visible);
    let p_by_source = permute(p, [0, 1, 3, 2]);
    let dy_heads = permute(dy, [0, 2, 1, 3]);
    let dv = matmul(p_by_source, dy_heads);
    let dp = matmul(dy_heads, permute(v, [0, 2, 3, 1]));
    let delta = permute(sum_last(dy * o), [0, 2, 1, 3]);
    let ds = p * (dp - delta) * scale;
    let dq = matmul(ds, permute(k, [0, 2, 1, 3]));
    let dk = matmul(permute(ds, [0, 1, 3, 2]), permute(q, [0, 2, 1, 3]));
    let [dq, dk, dv] = [dq, dk, dv].map(|heads| permute(heads, [0, 2, 1, 3]));
    vec![dq, sum_heads(dk, times), sum_heads(dv, times)]
}
