//! Attention with everything that models do to its scores: masks, windows, biases, several sequences in one.
//!
//! What the flash kernels can do goes to them; the rest is written in primitives, and then takes memory for
//! the scores `[batch, heads, time, source]`. Masks use large finite numbers, because WGSL lets a compiler assume that
//! infinities do not occur. Axes: `b` batch, `t` time, `s` source, `h` heads, `k` heads of the keys, `d` size.

use super::rotary::constants;
use crate::dtype::DType;
use crate::graph::{Eps, Graph, MacroOp, Op, Sight, Tensor};

/// The score of a masked position, and what an additive mask must not exceed to mask one.
const MASKED: f64 = -1e30;

/// What [`Tensor::attention_with`] does; the default is plain attention.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionOptions<'g> {
    /// Queries see no later position.
    pub causal: bool,
    /// The position of the first query among the sources. `None` puts the last query at the last source,
    /// as a decoder with a cache has it; PyTorch's `is_causal` means 0.
    pub offset: Option<isize>,
    /// Factor of the scores; `1 / sqrt(size)` if `None`.
    pub scale: Option<f64>,
    /// Broadcast to `[b, h, t, s]`: bool, where a query may look, or f32, added to the scores (-1e30 and less, or
    /// -infinity, masks). As `attn_mask` of `torch.nn.functional.scaled_dot_product_attention`.
    pub mask: Option<Tensor<'g>>,
    /// How far queries look; both ways without bounds if `None`.
    pub window: Option<AttentionWindow>,
    /// Factors `[h]` of the distance, which is taken from the scores (Press et al. 2022); see [`alibi_slopes`].
    pub alibi: Option<Tensor<'g>>,
    /// Scores become `cap * tanh(score / cap)` before masks and biases, as in Gemma 2.
    pub softcap: Option<f64>,
    /// Which sequence each query `[b, t]` and each source `[b, s]` belongs to (i32): queries see their own. A negative
    /// one is padding, which sees nothing and is not seen. See [`segment_ids`].
    pub segments: Option<(Tensor<'g>, Tensor<'g>)>,
    /// The probability with which weights become 0 while training, the others being scaled up.
    pub dropout: f64,
}

impl AttentionOptions<'_> {
    /// Queries that see no later position.
    pub fn causal() -> Self {
        AttentionOptions { causal: true, ..AttentionOptions::default() }
    }
}

/// How many positions before and after its own a query sees; `None` is all. FlashAttention's `window_size`. Mistral's
/// "sliding window of n" counts the query's own position: `n - 1` before, 0 after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttentionWindow {
    pub before: Option<usize>,
    pub after: Option<usize>,
}

impl AttentionWindow {
    /// `reach` positions both ways.
    pub fn symmetric(reach: usize) -> AttentionWindow {
        AttentionWindow { before: Some(reach), after: Some(reach) }
    }
}

impl<'g> Tensor<'g> {
    /// Attention of these queries `[b, t, h, d]` to keys `[b, s, k, d]` and values `[b, s, k, e]`; the
    /// result is `[b, t, h, e]`. The heads `k` of keys and values divide those of the queries, and serve `h / k` of them in a row each. A query
    /// that sees nothing gives 0. `torch.nn.functional.scaled_dot_product_attention` with the time axis
    /// before the heads.
    #[track_caller]
    pub fn attention_with(self, key: Tensor<'g>, value: Tensor<'g>, options: &AttentionOptions<'g>) -> Tensor<'g> {
        if !self.graph().called(|| self.attention_fits(key, value, options)) {
            return self;
        }
        let repeat = self.shape()[2] / key.shape()[2].max(1);
        if let Some(sight) = self.plain_attention(key, value, options) {
            let scale = Eps::new(self.scale_of(options) as f32);
            return self.apply(Op::Macro(MacroOp::Attention { sight, scale }), &[key, value]);
        }
        let weights_bhts = self.score_weights(key, options).dropout(options.dropout);
        let v_bhse = repeat_heads(value, repeat).permute(&[0, 2, 1, 3]);
        weights_bhts.matmul(v_bhse).permute(&[0, 2, 1, 3])
    }

    /// The weights `[b, h, t, s]` of [`Tensor::attention_with`], without dropout; of a query that sees nothing
    /// they are 0. As `need_weights` of `torch.nn.MultiheadAttention`.
    #[track_caller]
    pub fn attention_weights(self, key: Tensor<'g>, options: &AttentionOptions<'g>) -> Tensor<'g> {
        if self.graph().called(|| self.attention_fits(key, key, options)) {
            self.score_weights(key, options)
        } else {
            self
        }
    }

    #[track_caller]
    fn score_weights(self, key: Tensor<'g>, options: &AttentionOptions<'g>) -> Tensor<'g> {
        let k_bshd = repeat_heads(key, self.shape()[2] / key.shape()[2].max(1));
        let scores_bhts = self.permute(&[0, 2, 1, 3]).matmul(k_bshd.permute(&[0, 2, 3, 1])) * self.scale_of(options);
        let scores_bhts = match options.softcap {
            Some(cap) => (scores_bhts * (1.0 / cap)).tanh() * cap,
            None => scores_bhts,
        };
        let (bias, seen) = self.bias_and_sight(key, options);
        let scores_bhts = bias.map_or(scores_bhts, |bias| scores_bhts + bias);
        match seen {
            None => scores_bhts.softmax(-1),
            // Of a query that sees nothing the softmax is even, not 0.
            Some(seen) => {
                let seen = seen.broadcast_to(scores_bhts.shape());
                seen.select(seen.select(scores_bhts, MASKED).softmax(-1), 0.0)
            }
        }
    }

    /// What is added to the scores, and which of them count; both broadcast to `[b, h, t, s]`.
    #[track_caller]
    fn bias_and_sight(
        self,
        key: Tensor<'g>,
        options: &AttentionOptions<'g>,
    ) -> (Option<Tensor<'g>>, Option<Tensor<'g>>) {
        let (mut bias, mut seen): (Option<Tensor<'g>>, Option<Tensor<'g>>) = (None, None);
        let mut see = |where_: Tensor<'g>| seen = Some(seen.map_or(where_, |seen| seen.logical_and(where_)));
        if let Some(mask) = options.mask {
            if mask.dtype() == DType::Bool {
                see(mask);
            } else {
                see(mask.gt(MASKED));
                bias = Some(mask.maximum(MASKED));
            }
        }
        if let Some((queries, sources)) = options.segments {
            let (q_b1t1, s_b11s) = (queries.unsqueeze(1).unsqueeze(-1), sources.unsqueeze(1).unsqueeze(1));
            see(q_b1t1.eq(s_b11s).logical_and(q_b1t1.ge(0.0)));
        }
        // How far a source lies behind the query's own position.
        let (t, s) = (self.shape()[1], key.shape()[1]);
        let offset = options.offset.unwrap_or(s as isize - t as isize) as i128;
        let (source, query) = (|| self.graph().iota([t, s], 1), || self.graph().iota([t, s], 0));
        // Bounds of `query - source`, which lies within `-s..t`: beyond that all bounds are alike, and not i32s.
        let bound = |bound: i128| bound.clamp(-(s as i128), t as i128) as f64;
        let AttentionWindow { before, after } = options.window.unwrap_or_default();
        if let Some(before) = before {
            see((query() - source()).le(bound(before as i128 - offset)));
        }
        if let Some(after) = if options.causal { Some(0) } else { after } {
            see((query() - source()).ge(bound(-(after as i128) - offset)));
        }
        if let Some(slopes) = options.alibi {
            // What all distances of a query have in common does not change its weights.
            let far = (t + s) as i128;
            let behind = query() - source() + offset.clamp(-far, far) as f64;
            let distance = behind.abs().cast(DType::F32) * slopes.reshape([slopes.shape().numel(), 1, 1]);
            bias = Some(bias.map_or(-distance, |bias| bias - distance));
        }
        (bias, seen)
    }

    fn scale_of(self, options: &AttentionOptions<'g>) -> f64 {
        let size = self.shape().last().copied().unwrap_or(1).max(1);
        options.scale.unwrap_or(1.0 / (size as f64).sqrt())
    }

    /// What queries see, if the flash kernels do all that is asked for.
    fn plain_attention(self, key: Tensor<'g>, value: Tensor<'g>, options: &AttentionOptions<'g>) -> Option<Sight> {
        let (t, s) = (self.shape()[1] as i128, key.shape()[1] as i128);
        let offset = options.offset.map_or(s - t, |offset| offset as i128);
        let AttentionWindow { before, after } = options.window.unwrap_or_default();
        // A bound that nothing lies beyond is none.
        let bound = |far: Option<usize>, most: i128| far.filter(|&far| (far as i128) < most).map(|far| far as u32);
        let after = if options.causal { Some(0) } else { after };
        let sight = Sight { before: bound(before, offset + t - 1), after: bound(after, s - 1 - offset) };
        let drops = options.dropout > 0.0 && self.graph().is_training();
        let plain = options.mask.is_none()
            && options.alibi.is_none()
            && options.softcap.is_none()
            && options.segments.is_none()
            && !drops
            && key.shape() == value.shape()
            && (offset == s - t || sight == Sight::default());
        plain.then_some(sight)
    }

    /// Whether operands and options fit each other; records what does not.
    #[track_caller]
    fn attention_fits(self, key: Tensor<'g>, value: Tensor<'g>, options: &AttentionOptions<'g>) -> bool {
        let (q, k, v) = (self.shape(), key.shape(), value.shape());
        let operands = q.rank() == 4
            && k.rank() == 4
            && v.rank() == 4
            && k[..3] == v[..3]
            && (q[0], q[3]) == (k[0], k[3])
            && k[1] > 0
            && k[2] > 0
            && q[2].is_multiple_of(k[2])
            && [self, key, value].iter().all(|x| x.dtype() == DType::F32);
        let refuse = |message: String| {
            self.graph().record_error("attention", message);
            false
        };
        if !operands {
            return refuse(format!(
                "wants f32 queries [batch, time, heads, size] and keys and values [batch, source, key heads, size], \
                 where the key heads divide the heads, got {q}, {k}, {v}"
            ));
        }
        let full = crate::shape::Shape::from([q[0], q[2], q[1], k[1]]);
        if let Some(mask) = options.mask {
            let kind = mask.dtype() == DType::Bool || mask.dtype() == DType::F32;
            if !kind || mask.shape().broadcast(&full).as_ref() != Some(&full) {
                return refuse(format!(
                    "the mask must be bool or f32 and broadcast to [batch, heads, time, source] {full}, got {} {}",
                    mask.dtype(),
                    mask.shape()
                ));
            }
        }
        if let Some(slopes) = options.alibi
            && (slopes.shape()[..] != [q[2]] || slopes.dtype() != DType::F32)
        {
            return refuse(format!("ALiBi takes f32 slopes [{}], one a head, got {}", q[2], slopes.shape()));
        }
        if let Some((queries, sources)) = options.segments
            && (queries.shape()[..] != [q[0], q[1]]
                || sources.shape()[..] != [k[0], k[1]]
                || [queries, sources].iter().any(|x| x.dtype() != DType::I32))
        {
            return refuse(format!(
                "segments must be i32 [{}, {}] and [{}, {}], got {} and {}",
                q[0],
                q[1],
                k[0],
                k[1],
                queries.shape(),
                sources.shape()
            ));
        }
        if !(0.0..=1.0).contains(&options.dropout) {
            return refuse(format!("the probability of dropout must lie in 0..=1, got {}", options.dropout));
        }
        match options.softcap {
            Some(cap) if cap.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) => {
                refuse(format!("the cap of the scores must be positive, got {cap}"))
            }
            _ => true,
        }
    }
}

/// Each head `times` times in a row: `[b, s, k, d]` to `[b, s, k * times, d]`.
#[track_caller]
fn repeat_heads(x: Tensor<'_>, times: usize) -> Tensor<'_> {
    let shape = x.shape();
    if times == 1 {
        return x;
    }
    let (b, s, k, d) = (shape[0], shape[1], shape[2], shape[3]);
    x.unsqueeze(3).broadcast_to([b, s, k, times, d]).reshape([b, s, k * times, d])
}

/// The slopes f32 `[heads]` of ALiBi (Press et al. 2022): the geometric sequence from `2^(-8/n)` down to `2^-8` for `n`
/// heads; where `n` is no power of two, that of the power below, then every other one of the power above.
pub fn alibi_slopes(graph: &Graph, heads: usize) -> Tensor<'_> {
    let power = if heads.is_power_of_two() { heads.max(1) } else { heads.max(1).next_power_of_two() / 2 };
    let slope = |head: usize| match head.checked_sub(power) {
        None => 2f64.powf(-8.0 * (head + 1) as f64 / power as f64),
        Some(extra) => 2f64.powf(-4.0 * (2 * extra + 1) as f64 / power as f64),
    };
    constants(graph, &(0..heads).map(slope).collect::<Vec<_>>())
}

/// Which packed sequence each of `length` positions belongs to, i32 `[1, length]`, from where they start and end:
/// `cu_seqlens` of FlashAttention's `varlen` functions, i32 `[sequences + 1]`, from 0. Positions behind the last
/// end get -1.
#[track_caller]
pub fn segment_ids(cu_seqlens: Tensor<'_>, length: usize) -> Tensor<'_> {
    let graph = cu_seqlens.graph();
    let position = graph.iota([1, length], 1);
    let &[ends] = &cu_seqlens.shape()[..] else {
        let message = format!("wants i32 [sequences + 1] from 0, got {}", cu_seqlens.shape());
        graph.record_error("segment_ids", message);
        return position;
    };
    let started = cu_seqlens.searchsorted(position, true);
    started.eq(ends as f64).select(-1.0, started - 1)
}

/// The positions within their sequence, i32, of segment ids `[b, t]` that do not decrease along `t`: for
/// [`Tensor::rotary_at`] of packed sequences.
#[track_caller]
pub fn segment_positions(segments: Tensor<'_>) -> Tensor<'_> {
    let shape = segments.shape();
    if shape.rank() != 2 || segments.dtype() != DType::I32 {
        let message = format!("wants i32 [batch, time], got {} {shape}", segments.dtype());
        segments.graph().record_error("segment_positions", message);
        return segments;
    }
    let time = shape[1];
    let position = segments.graph().iota(&shape, 1);
    if time == 0 {
        return position;
    }
    let first = segments.slice(1, 1, time).ne(segments.slice(1, 0, time - 1));
    let start = first.cast(DType::I32).pad(1, 1, 0, 0.0) * position;
    position - start.cummax(1).0
}
