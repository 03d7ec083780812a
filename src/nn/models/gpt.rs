//! GPT: a decoder-only transformer with learned positions, as GPT-2 (pre-norm, GELU in its tanh
//! form; Radford et al. 2019). The output layer may be the token table, as GPT-2's, or one of its own.
//!
//! Two ways to run it over the same weights: [`Gpt::forward`] on whole sequences for training, and
//! [`Gpt::decode`] on one token with a cache of keys and values.
//!
//! Shapes in names: `b` samples, `t` positions, `d` features, `h` heads, `s` features of a head,
//! `v` vocabulary.

use crate::dtype::DType;
use crate::graph::{Graph, Tensor};
use crate::nn::{Dropout, Embedding, Init, LayerNorm, Linear, Parameters};
use crate::shape::Shape;

/// The size of a [`Gpt`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GptConfig {
    pub vocabulary: usize,
    /// Positions that a prediction can look back on.
    pub context: usize,
    pub layers: usize,
    pub heads: usize,
    /// Features of a token between blocks, a multiple of `heads`.
    pub width: usize,
    /// Probability, after the embedding and each branch.
    pub dropout: f64,
    /// The token table serves as the output layer too.
    pub tied: bool,
}

impl GptConfig {
    /// GPT-2 in its smallest size: 124,439,808 parameters (`GPT2LMHeadModel` of Hugging Face's `gpt2`).
    pub const fn gpt2() -> GptConfig {
        let (vocabulary, context, layers, heads, width) = (50_257, 1024, 12, 12, 768);
        GptConfig { vocabulary, context, layers, heads, width, dropout: 0.1, tied: true }
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Gpt {
    pub config: GptConfig,
    wte: Embedding,
    wpe: Embedding,
    blocks: Vec<Block>,
    lnf: LayerNorm,
    /// None where the token table takes its place.
    head: Option<Linear>,
    dropout: Dropout,
}

/// Attention and perceptron, each added to the stream.
#[derive(Debug, Clone)]
struct Block {
    index: usize,
    ln1: LayerNorm,
    attn: Attention,
    ln2: LayerNorm,
    fc: Linear,
    out: Linear,
    dropout: Dropout,
}

#[derive(Debug, Clone)]
struct Attention {
    heads: usize,
    qkv: Linear,
    proj: Linear,
}

/// What a decoding step reads.
#[derive(Clone, Copy)]
pub struct Step<'g> {
    /// `[1]` i32.
    pub token: Tensor<'g>,
    /// Scalar i32, below the context.
    pub position: Tensor<'g>,
}

impl Gpt {
    /// Weights start normal with deviation 0.02, smaller at the end of a branch, and biases at 0, as GPT-2's.
    pub fn new(parameters: &mut Parameters, config: GptConfig) -> Gpt {
        let GptConfig { vocabulary, context, layers, width, dropout, tied, .. } = config;
        let gpt = Gpt {
            config,
            wte: Embedding::new(parameters, "wte", vocabulary, width),
            wpe: Embedding::new(parameters, "wpe", context, width),
            blocks: (0..layers)
                .map(|index| parameters.scope(&format!("block.{index}"), |p| Block::new(p, index, &config)))
                .collect(),
            lnf: LayerNorm::new(parameters, "lnf", width),
            head: (!tied).then(|| Linear::without_bias(parameters, "head", width, vocabulary)),
            dropout: Dropout::new(dropout),
        };
        let branch_end = 0.02 / (2.0 * layers.max(1) as f32).sqrt();
        parameters.init_by(|name, shape| match (shape.rank(), name) {
            (2, name) if name.ends_with("proj.weight") || name.ends_with("out.weight") => {
                Some(Init::Normal(branch_end))
            }
            (2, _) => Some(Init::Normal(0.02)),
            (_, name) if name.ends_with("bias") => Some(Init::Zeros),
            _ => None,
        });
        gpt
    }

    /// Tokens `[b, t]` (i32) to logits `[b, t, v]`; `t` may be shorter than the context.
    #[track_caller]
    pub fn forward<'g>(&self, tokens_bt: Tensor<'g>) -> Tensor<'g> {
        let (graph, shape) = (tokens_bt.graph(), tokens_bt.shape());
        let &[_, time] = &shape[..] else {
            graph.record_error("gpt", format!("tokens must be [samples, positions], got {shape}"));
            return tokens_bt;
        };
        if time > self.config.context {
            let message = format!("{time} positions do not fit into a context of {}", self.config.context);
            graph.record_error("gpt", message);
            return tokens_bt;
        }
        let place_td = self.wpe.weight.tensor(graph).slice(0, 0, time);
        let x_btd = self.dropout.forward(self.wte.forward(tokens_bt) + place_td);
        let x_btd = self.blocks.iter().fold(x_btd, |x_btd, block| block.forward(x_btd));
        self.logits(self.lnf.forward(x_btd))
    }

    fn logits<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        match &self.head {
            Some(head) => head.forward(x),
            None => x.graph().scope("head", || x.matmul(self.wte.weight.tensor(x.graph()).t())),
        }
    }

    /// One token at a position to the logits `[v]` of the next. Keys and values of earlier positions
    /// come from the states of [`Gpt::cache`], and this position's are added there.
    #[track_caller]
    pub fn decode<'g>(&self, step: Step<'g>) -> Tensor<'g> {
        let place_1d = self.wpe.weight.tensor(step.token.graph()).dynamic_slice(0, step.position, 1);
        let x_1d = self.wte.forward(step.token) + place_1d;
        let context = self.config.context;
        let x_1d = self.blocks.iter().fold(x_1d, |x_1d, block| block.decode(x_1d, step.position, context));
        self.logits(self.lnf.forward(x_1d)).reshape([self.config.vocabulary])
    }

    /// The states (f32) that [`Gpt::decode`] keeps, with their shapes `[context, heads, s]`.
    pub fn cache(&self) -> Vec<(String, Shape)> {
        let GptConfig { context, heads, width, layers, .. } = self.config;
        let names = (0..layers).flat_map(|index| ["key", "value"].map(|kind| cache_name(index, kind)));
        names.map(|name| (name, Shape::from([context, heads, width / heads.max(1)]))).collect()
    }
}

fn cache_name(index: usize, kind: &str) -> String {
    format!("cache/block.{index}.{kind}")
}

impl Block {
    fn new(parameters: &mut Parameters, index: usize, config: &GptConfig) -> Block {
        let width = config.width;
        Block {
            index,
            ln1: LayerNorm::new(parameters, "ln1", width),
            attn: parameters.scope("attn", |p| Attention {
                heads: config.heads,
                qkv: Linear::new(p, "qkv", width, 3 * width),
                proj: Linear::new(p, "proj", width, width),
            }),
            ln2: LayerNorm::new(parameters, "ln2", width),
            fc: parameters.scope("mlp", |p| Linear::new(p, "fc", width, 4 * width)),
            out: parameters.scope("mlp", |p| Linear::new(p, "out", 4 * width, width)),
            dropout: Dropout::new(config.dropout),
        }
    }

    fn forward<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        x_btd.graph().scope(&format!("block.{}", self.index), || {
            let x_btd = x_btd + self.dropout.forward(self.attn.forward(self.ln1.forward(x_btd)));
            x_btd + self.dropout.forward(self.mlp(self.ln2.forward(x_btd)))
        })
    }

    fn decode<'g>(&self, x_1d: Tensor<'g>, position: Tensor<'g>, context: usize) -> Tensor<'g> {
        x_1d.graph().scope(&format!("block.{}", self.index), || {
            let cache = ["key", "value"].map(|kind| cache_name(self.index, kind));
            let x_1d = x_1d + self.attn.decode(self.ln1.forward(x_1d), position, context, &cache);
            x_1d + self.mlp(self.ln2.forward(x_1d))
        })
    }

    fn mlp<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        x.graph().scope("mlp", || self.out.forward(self.fc.forward(x).gelu_tanh()))
    }
}

impl Attention {
    fn forward<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        x_btd.graph().scope("attn", || {
            let [q_bths, k_bths, v_bths] = self.heads(x_btd);
            let mixed_bths = q_bths.attention(k_bths, v_bths, true);
            self.proj.forward(mixed_bths.reshape(x_btd.shape()))
        })
    }

    /// Attention of one position to itself and all before it, written in primitives.
    fn decode<'g>(&self, x_1d: Tensor<'g>, position: Tensor<'g>, context: usize, cache: &[String; 2]) -> Tensor<'g> {
        let graph = x_1d.graph();
        graph.scope("attn", || {
            let [q_1hs, k_1hs, v_1hs] = self.heads(x_1d);
            let k_ths = remember(graph, &cache[0], k_1hs, position, context);
            let v_ths = remember(graph, &cache[1], v_1hs, position, context);
            let scale = 1.0 / (q_1hs.shape()[2] as f64).sqrt();
            let scores_h1t = q_1hs.permute(&[1, 0, 2]).matmul(k_ths.permute(&[1, 2, 0])) * scale;
            let seen_h1t = graph.iota(scores_h1t.shape(), 2).le(position);
            // Finite, because WGSL lets a compiler assume that infinities do not occur.
            let weight_h1t = seen_h1t.select(scores_h1t, -1e30).softmax(-1);
            let mixed_h1s = weight_h1t.matmul(v_ths.permute(&[1, 0, 2]));
            self.proj.forward(mixed_h1s.permute(&[1, 0, 2]).reshape(x_1d.shape()))
        })
    }

    /// Query, key and value of each head: `[.., d]` to three `[.., h, s]`.
    fn heads<'g>(&self, x: Tensor<'g>) -> [Tensor<'g>; 3] {
        let width = x.shape().last().copied().unwrap_or(1);
        let size = width / self.heads.max(1);
        let split: Shape = x.shape().iter().copied().take(x.rank() - 1).chain([self.heads, size]).collect();
        let qkv = self.qkv.forward(x);
        [0, 1, 2].map(|part| qkv.slice(-1, part * width, (part + 1) * width).reshape(&split))
    }
}

/// Writes one position into a cache and gives the whole of it.
fn remember<'g>(graph: &'g Graph, name: &str, new_1hs: Tensor<'g>, position: Tensor<'g>, context: usize) -> Tensor<'g> {
    let cache_ths = graph.state(name, new_1hs.shape().with(0, context), DType::F32);
    let cache_ths = cache_ths.dynamic_update(0, new_1hs, position);
    graph.assign(name, cache_ths);
    cache_ths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::reference::{self, Array};
    use std::collections::HashMap;

    const TINY: GptConfig =
        GptConfig { vocabulary: 7, context: 5, layers: 2, heads: 2, width: 8, dropout: 0.0, tied: false };

    #[test]
    fn the_standard_workload_has_875264_parameters() {
        let mut parameters = Parameters::new();
        let (vocabulary, context, layers, heads, width) = (256, 128, 4, 4, 128);
        let config = GptConfig { vocabulary, context, layers, heads, width, dropout: 0.0, tied: false };
        Gpt::new(&mut parameters, config);
        assert_eq!(parameters.count(), 875_264);
    }

    #[test]
    fn gpt_2_has_the_published_size() {
        let mut parameters = Parameters::new();
        Gpt::new(&mut parameters, GptConfig::gpt2());
        assert_eq!(parameters.count(), 124_439_808);
    }

    #[test]
    fn decoding_with_a_cache_gives_the_logits_of_the_whole_sequence() -> Result<()> {
        let mut parameters = Parameters::new();
        let gpt = Gpt::new(&mut parameters, TINY);
        let mut states = HashMap::new();
        for (ordinal, spec) in parameters.specs().iter().enumerate() {
            // Larger than the usual start, so that attention matters.
            let values: Vec<f32> = parameters.initial_values(ordinal, 3)?.iter().map(|x| x * 10.0).collect();
            states.insert(spec.name.to_string(), Array::floats(&spec.shape, &values));
        }
        let tokens = [3, 1, 6, 0, 2];
        let whole = Graph::new();
        whole.output("logits", gpt.forward(whole.input("tokens", [1, 5], DType::I32)));
        let inputs = HashMap::from([("tokens".to_string(), Array::ints([1, 5], &tokens))]);
        let expected = reference::run(&whole, &inputs, &states)?.outputs.remove(0).1.data;

        for (name, shape) in gpt.cache() {
            states.insert(name, Array::full(shape, DType::F32, 0.0));
        }
        let graph = Graph::new();
        let (token, position) = (graph.input("token", [1], DType::I32), graph.input("position", [], DType::I32));
        graph.output("logits", gpt.decode(Step { token, position }));
        for (place, token) in tokens.into_iter().enumerate() {
            let inputs = HashMap::from([
                ("token".to_string(), Array::ints([1], &[token])),
                ("position".to_string(), Array::ints([], &[place as i32])),
            ]);
            let outcome = reference::run(&graph, &inputs, &states)?;
            states.extend(outcome.states);
            let expected = &expected[place * 7..(place + 1) * 7];
            for (a, b) in outcome.outputs[0].1.data.iter().zip(expected) {
                assert!((a - b).abs() < 1e-12, "position {place}: {a} {b}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_sequence_longer_than_the_context_is_refused() {
        let gpt = Gpt::new(&mut Parameters::new(), TINY);
        let graph = Graph::new();
        gpt.forward(graph.input("tokens", [1, 6], DType::I32));
        assert!(graph.error().unwrap_err().to_string().contains("context of 5"));
    }
}
