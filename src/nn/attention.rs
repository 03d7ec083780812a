//! The attention layer: projections of queries, keys and values around [`Tensor::attention_with`].
//!
//! Shapes in names: `b` batch, `t` time, `s` source, `h` heads, `k` heads of the keys, `d` size of a head, `w` width.

use super::layers::Linear;
use super::param::{Init, Parameters};
use crate::dtype::DType;
use crate::graph::{Graph, Tensor};
use crate::shape::Shape;
use crate::tensor::{AttentionOptions, AttentionWindow, Rotary};
use std::sync::Arc;

/// The sizes and parts of a [`MultiHeadAttention`].
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Features of the queries and of the result (`embed_dim`).
    pub width: usize,
    pub heads: usize,
    /// Heads of keys and values, which divide `heads`: grouped-query attention; `heads` if `None`.
    pub key_heads: Option<usize>,
    /// Features of a head; `width / heads` if `None`.
    pub head_size: Option<usize>,
    /// Features of what keys and values are made of (`kdim` and `vdim`); `width` if `None`.
    pub key_width: Option<usize>,
    pub value_width: Option<usize>,
    /// Whether the projections add a bias.
    pub bias: bool,
    /// One projection `in_proj` for queries, keys and values, rather than `q_proj`, `k_proj`, `v_proj`. Then all three
    /// are made of the same tensor.
    pub fused: bool,
    /// Turns queries and keys by their positions.
    pub rotary: Option<Rotary>,
    /// The probability of dropping a weight while training.
    pub dropout: f64,
}

impl AttentionConfig {
    /// As `torch.nn.MultiheadAttention(width, heads)`: with biases, and separate projections.
    pub fn new(width: usize, heads: usize) -> AttentionConfig {
        AttentionConfig {
            width,
            heads,
            key_heads: None,
            head_size: None,
            key_width: None,
            value_width: None,
            bias: true,
            fused: false,
            rotary: None,
            dropout: 0.0,
        }
    }

    fn size(&self) -> usize {
        self.head_size.unwrap_or(self.width / self.heads.max(1))
    }

    fn key_heads(&self) -> usize {
        self.key_heads.unwrap_or(self.heads)
    }
}

#[derive(Debug, Clone)]
enum Projections {
    Fused(Linear),
    Separate { query: Linear, key: Linear, value: Linear },
}

/// Attention to oneself or to another sequence, in several heads; `torch.nn.MultiheadAttention` with
/// `batch_first=True`. A mask says where a query may look, as in `scaled_dot_product_attention`.
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    name: Arc<str>,
    pub config: AttentionConfig,
    projections: Projections,
    output: Linear,
}

impl MultiHeadAttention {
    /// Projections start as in PyTorch: uniform after Glorot, biases 0.
    pub fn new(parameters: &mut Parameters, name: &str, config: AttentionConfig) -> MultiHeadAttention {
        let (query, key) = (config.heads * config.size(), config.key_heads() * config.size());
        let (key_width, value_width) =
            (config.key_width.unwrap_or(config.width), config.value_width.unwrap_or(config.width));
        parameters.scope(name, |p| {
            let linear = |p: &mut Parameters, name: &str, features_in: usize, features_out: usize| {
                let linear = if config.bias {
                    Linear::new(p, name, features_in, features_out)
                } else {
                    Linear::without_bias(p, name, features_in, features_out)
                };
                start(p, &linear, features_in, features_out, name != "out_proj");
                linear
            };
            let projections = if config.fused {
                Projections::Fused(linear(p, "in_proj", config.width, query + 2 * key))
            } else {
                Projections::Separate {
                    query: linear(p, "q_proj", config.width, query),
                    key: linear(p, "k_proj", key_width, key),
                    value: linear(p, "v_proj", value_width, key),
                }
            };
            let output = linear(p, "out_proj", query, config.width);
            MultiHeadAttention { name: name.into(), config, projections, output }
        })
    }

    /// A sequence `[b, t, w]` to itself; result of the same shape. The options' dropout is the layer's.
    #[track_caller]
    pub fn forward<'g>(&self, x_btw: Tensor<'g>, options: &AttentionOptions<'g>) -> Tensor<'g> {
        self.forward_cross(x_btw, x_btw, x_btw, options)
    }

    /// Queries `[b, t, w]` to keys `[b, s, key width]` and values `[b, s, value width]`; result `[b, t, w]`.
    #[track_caller]
    pub fn forward_cross<'g>(
        &self,
        query: Tensor<'g>,
        key: Tensor<'g>,
        value: Tensor<'g>,
        options: &AttentionOptions<'g>,
    ) -> Tensor<'g> {
        let graph = query.graph();
        if let Some(message) = self.misfit(query, key, value) {
            graph.record_error("attention", message);
            return query;
        }
        graph.scope(&self.name, || {
            let [q_bthd, k_bskd, v_bskd] = self.project(query, key, value);
            let (q_bthd, k_bskd) = match &self.config.rotary {
                Some(rotary) => (q_bthd.rotary(rotary), k_bskd.rotary(rotary)),
                None => (q_bthd, k_bskd),
            };
            let options = AttentionOptions { dropout: self.config.dropout, ..*options };
            self.merge(q_bthd.attention_with(k_bskd, v_bskd, &options))
        })
    }

    /// One position of each sequence, `[b, 1, w]`, at `position` (i32 scalar), to itself and all before it;
    /// result `[b, 1, w]`. Keys and values of earlier positions come from the states of
    /// [`MultiHeadAttention::cache`], and this position's are added there. A window bounds how far back it looks.
    #[track_caller]
    pub fn decode<'g>(
        &self,
        x_b1w: Tensor<'g>,
        position: Tensor<'g>,
        context: usize,
        window: Option<AttentionWindow>,
    ) -> Tensor<'g> {
        let graph = x_b1w.graph();
        let shape = x_b1w.shape();
        if shape.rank() != 3 || shape[1] != 1 {
            graph.record_error("attention", format!("decodes one position [batch, 1, width] at a time, got {shape}"));
            return x_b1w;
        }
        graph.scope(&self.name, || {
            let [q_b1hd, k_b1kd, v_b1kd] = self.project(x_b1w, x_b1w, x_b1w);
            let place = position.reshape([1]);
            let (q_b1hd, k_b1kd) = match &self.config.rotary {
                Some(rotary) => (q_b1hd.rotary_at(place, rotary), k_b1kd.rotary_at(place, rotary)),
                None => (q_b1hd, k_b1kd),
            };
            let [k_bckd, v_bckd] = [("key", k_b1kd), ("value", v_b1kd)]
                .map(|(kind, new)| remember(graph, &self.cache_name(graph, kind), new, position, context));
            let source = graph.iota([context], 0);
            let seen = source.le(position);
            let seen = match window.and_then(|window| window.before) {
                Some(before) => seen.logical_and(source.ge(position - before as f64)),
                None => seen,
            };
            let options = AttentionOptions { mask: Some(seen), ..AttentionOptions::default() };
            self.merge(q_b1hd.attention_with(k_bckd, v_bckd, &options))
        })
    }

    /// The states (f32) that [`MultiHeadAttention::decode`] keeps when it is traced under `scope` (the layer's own name
    /// left out), with their shapes `[batch, context, key heads, size]`.
    pub fn cache(&self, scope: &str, batch: usize, context: usize) -> Vec<(String, Shape)> {
        let scope = if scope.is_empty() { self.name.to_string() } else { format!("{scope}.{}", self.name) };
        let shape = Shape::from([batch, context, self.config.key_heads(), self.config.size()]);
        ["key", "value"].map(|kind| (format!("cache/{scope}.{kind}"), shape.clone())).to_vec()
    }

    fn cache_name(&self, graph: &Graph, kind: &str) -> String {
        format!("cache/{}.{kind}", graph.scope_name())
    }

    /// Queries `[b, t, h, d]`, keys and values `[b, s, k, d]`.
    #[track_caller]
    fn project<'g>(&self, query: Tensor<'g>, key: Tensor<'g>, value: Tensor<'g>) -> [Tensor<'g>; 3] {
        let (heads, key_heads, size) = (self.config.heads, self.config.key_heads(), self.config.size());
        let split = |x: Tensor<'g>, heads: usize| {
            let shape = x.shape();
            x.reshape([shape[0], shape[1], heads, size])
        };
        match &self.projections {
            Projections::Fused(linear) => {
                let x = linear.forward(query);
                let (q, k) = (heads * size, key_heads * size);
                let part = |start: usize, length: usize, heads| split(x.slice(-1, start, start + length), heads);
                [part(0, q, heads), part(q, k, key_heads), part(q + k, k, key_heads)]
            }
            Projections::Separate { query: q, key: k, value: v } => {
                [split(q.forward(query), heads), split(k.forward(key), key_heads), split(v.forward(value), key_heads)]
            }
        }
    }

    #[track_caller]
    fn merge<'g>(&self, heads_bthd: Tensor<'g>) -> Tensor<'g> {
        self.output.forward(heads_bthd.flatten(2, 3))
    }

    /// Why the operands do not fit the layer, if they do not.
    fn misfit(&self, query: Tensor<'_>, key: Tensor<'_>, value: Tensor<'_>) -> Option<String> {
        let config = &self.config;
        let (q, k, v) = (query.shape(), key.shape(), value.shape());
        let (key_width, value_width) =
            (config.key_width.unwrap_or(config.width), config.value_width.unwrap_or(config.width));
        if config.heads == 0
            || config.key_heads() == 0
            || !config.heads.is_multiple_of(config.key_heads())
            || config.size() == 0
            || (config.head_size.is_none() && !config.width.is_multiple_of(config.heads))
        {
            return Some(format!(
                "{} heads must divide the width {}, and {} key heads the heads",
                config.heads,
                config.width,
                config.key_heads()
            ));
        }
        let fits = q.rank() == 3
            && k.rank() == 3
            && v.rank() == 3
            && (q[2], k[2], v[2]) == (config.width, key_width, value_width)
            && q[0] == k[0]
            && k[..2] == v[..2];
        if !fits {
            return Some(format!(
                "wants queries [batch, time, {}], keys [batch, source, {key_width}] and values [batch, source, \
                 {value_width}], got {q}, {k}, {v}",
                config.width
            ));
        }
        let one = key.value() == query.value() && value.value() == query.value();
        (config.fused && !one).then(|| {
            "one fused projection makes queries, keys and values of the same tensor; build the layer with \
             `fused: false` for cross attention"
                .to_string()
        })
    }
}

/// PyTorch's first values: Glorot's bound for the projections in, `1 / sqrt(in)` for the one out, biases 0.
fn start(parameters: &mut Parameters, linear: &Linear, features_in: usize, features_out: usize, glorot: bool) {
    let bound = (6.0 / (features_in + features_out).max(1) as f32).sqrt();
    let weight = linear.weight.name().to_string();
    let bias = linear.bias.as_ref().map(|bias| bias.name().to_string());
    parameters.init_by(|name, _| match name {
        name if name == weight => glorot.then_some(Init::Uniform(bound)),
        name if Some(name) == bias.as_deref() => Some(Init::Zeros),
        _ => None,
    });
}

/// Writes one position into a cache `[b, context, ..]` and gives the whole of it.
fn remember<'g>(graph: &'g Graph, name: &str, new: Tensor<'g>, position: Tensor<'g>, context: usize) -> Tensor<'g> {
    let cache = graph.state(name, new.shape().with(1, context), DType::F32);
    let cache = cache.dynamic_update(1, new, position);
    graph.assign(name, cache);
    cache
}
