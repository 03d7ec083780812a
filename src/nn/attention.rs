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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::reference::{self, Array};
    use std::collections::HashMap;

    const WIDTH: usize = 8;
    const CONTEXT: usize = 5;

    fn layer(parameters: &mut Parameters, fused: bool) -> MultiHeadAttention {
        let config = AttentionConfig {
            key_heads: Some(2),
            fused,
            rotary: Some(Rotary::default()),
            ..AttentionConfig::new(WIDTH, 4)
        };
        MultiHeadAttention::new(parameters, "attn", config)
    }

    fn weights(parameters: &Parameters) -> Result<HashMap<String, Array>> {
        let one = |(ordinal, spec): (usize, &crate::nn::ParameterSpec)| {
            let values: Vec<f32> = parameters.initial_values(ordinal, 3)?.iter().map(|x| x * 2.0).collect();
            Ok((spec.name.to_string(), Array::floats(&spec.shape, &values)))
        };
        parameters.specs().iter().enumerate().map(one).collect()
    }

    #[test]
    fn decoding_with_a_cache_gives_what_the_whole_sequence_gives() -> Result<()> {
        for (fused, before) in [(false, None), (true, None), (true, Some(1))] {
            let mut parameters = Parameters::new();
            let layer = layer(&mut parameters, fused);
            let mut states = weights(&parameters)?;
            let window = before.map(|before| AttentionWindow { before: Some(before), after: None });
            let values: Vec<f32> = (0..2 * CONTEXT * WIDTH).map(|i| (i as f32 * 0.7).sin()).collect();
            let x = Array::floats([2, CONTEXT, WIDTH], &values);
            let whole = Graph::new();
            let options = AttentionOptions { window, ..AttentionOptions::causal() };
            whole.output("y", layer.forward(whole.input("x", [2, CONTEXT, WIDTH], DType::F32), &options));
            let inputs = HashMap::from([("x".to_string(), x.clone())]);
            let expected = reference::run(&whole, &inputs, &states)?.outputs.remove(0).1.data;

            for (name, shape) in layer.cache("block", 2, CONTEXT) {
                states.insert(name, Array::full(shape, DType::F32, 0.0));
            }
            let graph = Graph::new();
            let (token, position) = (graph.input("x", [2, 1, WIDTH], DType::F32), graph.input("at", [], DType::I32));
            let y = graph.scope("block", || layer.decode(token, position, CONTEXT, window));
            graph.output("y", y);
            for place in 0..CONTEXT {
                let row = |batch: usize| (batch * CONTEXT + place) * WIDTH..(batch * CONTEXT + place + 1) * WIDTH;
                let data = [&x.data[row(0)], &x.data[row(1)]].concat();
                let inputs = HashMap::from([
                    ("x".to_string(), Array::new([2, 1, WIDTH], DType::F32, data)),
                    ("at".to_string(), Array::ints([], &[place as i32])),
                ]);
                let outcome = reference::run(&graph, &inputs, &states)?;
                states.extend(outcome.states);
                let expected = [&expected[row(0)], &expected[row(1)]].concat();
                for (a, b) in outcome.outputs[0].1.data.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-12, "position {place}: {a} {b}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_the_layer_is_refused() {
        let fused = layer(&mut Parameters::new(), true);
        let three = MultiHeadAttention::new(&mut Parameters::new(), "attn", AttentionConfig::new(WIDTH, 3));
        let refused = |words: &str, build: &dyn Fn(&Graph)| {
            let graph = Graph::new();
            build(&graph);
            let message = graph.error().unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        let plain = AttentionOptions::default();
        refused("`fused: false`", &|g| {
            let (x, y) = (g.input("x", [1, 2, WIDTH], DType::F32), g.input("y", [1, 3, WIDTH], DType::F32));
            fused.forward_cross(x, y, y, &plain);
        });
        refused("3 heads must divide the width 8", &|g| {
            three.forward(g.input("x", [1, 2, WIDTH], DType::F32), &plain);
        });
        refused("[batch, time, 8]", &|g| {
            fused.forward(g.input("x", [1, 2, 6], DType::F32), &plain);
        });
        refused("one position", &|g| {
            fused.decode(g.input("x", [1, 2, WIDTH], DType::F32), g.input("at", [], DType::I32), 4, None);
        });
    }

    #[test]
    fn weights_are_dropped_in_training_only() -> Result<()> {
        // Of values that are all 1, attention gives the sum of its weights.
        let run = |training: bool| -> Result<Vec<f64>> {
            let graph = Graph::new();
            graph.set_training(training);
            let q = graph.input("q", [2, 16, 2, 4], DType::F32);
            let options = AttentionOptions { dropout: 0.5, ..AttentionOptions::default() };
            graph.output("y", q.attention_with(q, q.zeros_like() + 1.0, &options));
            let inputs = HashMap::from([
                ("q".to_string(), Array::full([2, 16, 2, 4], DType::F32, 0.3)),
                (crate::tensor::RNG_KEY.to_string(), Array::new([2], DType::U32, vec![7.0, 0.0])),
            ]);
            Ok(reference::run(&graph, &inputs, &HashMap::new())?.outputs.remove(0).1.data)
        };
        assert!(run(false)?.iter().all(|sum| (sum - 1.0).abs() < 1e-12));
        let sums = run(true)?;
        let mean = sums.iter().sum::<f64>() / sums.len() as f64;
        assert!((mean - 1.0).abs() < 0.15 && sums.iter().any(|sum| (sum - 1.0).abs() > 0.2), "{mean}");
        Ok(())
    }
}
