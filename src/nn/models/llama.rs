//! Llama: a decoder-only transformer with rotary positions, SwiGLU and grouped-query attention
//! (Touvron et al. 2023): pre-norm by the root mean square, no biases.
//!
//! Parameters are named as in Hugging Face's `LlamaForCausalLM`, which pairs feature `i` of a head with
//! feature `i + s / 2` where it turns them; weights of linear layers are transposed.
//!
//! Shapes in names: `b` samples, `t` positions, `d` features, `h` heads, `k` heads of keys and values,
//! `s` features of a head, `v` vocabulary.

use crate::graph::Tensor;
use crate::nn::{Embedding, Init, Linear, Parameters, RmsNorm};
use crate::tensor::{AttentionOptions, Rotary, RotaryScaling};

/// The size of a [`Llama`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LlamaConfig {
    pub vocabulary: usize,
    pub layers: usize,
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / key_heads` heads.
    pub key_heads: usize,
    /// Features of a token between blocks, a multiple of `heads`.
    pub width: usize,
    /// Features inside the perceptron of a block.
    pub hidden: usize,
    /// Added to the mean square before its root.
    pub eps: f32,
    /// How heads are turned by their positions.
    pub rotary: Rotary,
    /// The token table serves as the output layer too.
    pub tied: bool,
}

impl LlamaConfig {
    /// Llama 2 7B: 6,738,415,616 parameters (Hugging Face's `meta-llama/Llama-2-7b-hf`).
    pub const fn llama2_7b() -> LlamaConfig {
        LlamaConfig {
            vocabulary: 32_000,
            layers: 32,
            heads: 32,
            key_heads: 32,
            width: 4096,
            hidden: 11_008,
            eps: 1e-5,
            rotary: turn(1e4, RotaryScaling::None),
            tied: false,
        }
    }

    /// Llama 3.2 1B: 1,235,814,400 parameters (Hugging Face's `meta-llama/Llama-3.2-1B`).
    pub const fn llama3_2_1b() -> LlamaConfig {
        let scaling = RotaryScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, context: 8192.0 };
        LlamaConfig {
            vocabulary: 128_256,
            layers: 16,
            heads: 32,
            key_heads: 8,
            width: 2048,
            hidden: 8192,
            eps: 1e-5,
            rotary: turn(5e5, scaling),
            tied: true,
        }
    }
}

const fn turn(base: f64, scaling: RotaryScaling) -> Rotary {
    Rotary { base, interleaved: false, features: None, offset: 0, scaling }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Llama {
    pub config: LlamaConfig,
    tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// None where the token table takes its place.
    head: Option<Linear>,
}

/// Attention and perceptron, each added to the stream.
#[derive(Debug, Clone)]
struct Layer {
    index: usize,
    input_norm: RmsNorm,
    attention: Attention,
    post_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

#[derive(Debug, Clone)]
struct Attention {
    heads: usize,
    key_heads: usize,
    rotary: Rotary,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Llama {
    /// Matrices and tables start normal with deviation 0.02.
    pub fn new(parameters: &mut Parameters, config: LlamaConfig) -> Llama {
        let LlamaConfig { vocabulary, layers, width, eps, tied, .. } = config;
        let layer = |p: &mut Parameters, index| p.scope(&format!("layers.{index}"), |p| Layer::new(p, index, &config));
        let llama = Llama {
            config,
            tokens: Embedding::new(parameters, "model.embed_tokens", vocabulary, width),
            layers: parameters.scope("model", |p| (0..layers).map(|index| layer(p, index)).collect()),
            norm: rms_norm(parameters, "model.norm", width, eps),
            head: (!tied).then(|| Linear::without_bias(parameters, "lm_head", width, vocabulary)),
        };
        parameters.init_by(|_, shape| (shape.rank() == 2).then_some(Init::Normal(0.02)));
        llama
    }

    /// Tokens `[b, t]` (i32) to logits `[b, t, v]`.
    #[track_caller]
    pub fn forward<'g>(&self, tokens_bt: Tensor<'g>) -> Tensor<'g> {
        let (graph, shape) = (tokens_bt.graph(), tokens_bt.shape());
        if shape.rank() != 2 {
            graph.record_error("llama", format!("tokens must be [samples, positions], got {shape}"));
            return tokens_bt;
        }
        let x_btd = self.tokens.forward(tokens_bt);
        let x_btd = self.norm.forward(self.layers.iter().fold(x_btd, |x_btd, layer| layer.forward(x_btd)));
        match &self.head {
            Some(head) => head.forward(x_btd),
            None => graph.scope("lm_head", || x_btd.matmul(self.tokens.weight.tensor(graph).t())),
        }
    }
}

impl Layer {
    fn new(parameters: &mut Parameters, index: usize, config: &LlamaConfig) -> Layer {
        let LlamaConfig { heads, key_heads, width, hidden, eps, rotary, .. } = *config;
        let key_width = width / heads.max(1) * key_heads;
        Layer {
            index,
            input_norm: rms_norm(parameters, "input_layernorm", width, eps),
            attention: parameters.scope("self_attn", |p| Attention {
                heads,
                key_heads,
                rotary,
                query: Linear::without_bias(p, "q_proj", width, width),
                key: Linear::without_bias(p, "k_proj", width, key_width),
                value: Linear::without_bias(p, "v_proj", width, key_width),
                output: Linear::without_bias(p, "o_proj", width, width),
            }),
            post_norm: rms_norm(parameters, "post_attention_layernorm", width, eps),
            gate: Linear::without_bias(parameters, "mlp.gate_proj", width, hidden),
            up: Linear::without_bias(parameters, "mlp.up_proj", width, hidden),
            down: Linear::without_bias(parameters, "mlp.down_proj", hidden, width),
        }
    }

    fn forward<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        x_btd.graph().scope(&format!("layers.{}", self.index), || {
            let x_btd = x_btd + self.attention.forward(self.input_norm.forward(x_btd));
            x_btd + self.mlp(self.post_norm.forward(x_btd))
        })
    }

    /// SwiGLU (Shazeer 2020).
    fn mlp<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        self.down.forward(self.gate.forward(x_btd).silu() * self.up.forward(x_btd))
    }
}

impl Attention {
    fn forward<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        let shape = x_btd.shape();
        let size = shape[2] / self.heads.max(1);
        let heads = |linear: &Linear, count| linear.forward(x_btd).reshape([shape[0], shape[1], count, size]);
        x_btd.graph().scope("self_attn", || {
            let q_bths = heads(&self.query, self.heads).rotary(&self.rotary);
            let k_btks = heads(&self.key, self.key_heads).rotary(&self.rotary);
            let v_btks = heads(&self.value, self.key_heads);
            let mixed_bths = q_bths.attention_with(k_btks, v_btks, &AttentionOptions::causal());
            self.output.forward(mixed_bths.reshape(&shape))
        })
    }
}

fn rms_norm(parameters: &mut Parameters, name: &str, features: usize, eps: f32) -> RmsNorm {
    RmsNorm::new(parameters, name, features).with_eps(eps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_sizes_are_the_published_ones() {
        let configs = [LlamaConfig::llama2_7b(), LlamaConfig::llama3_2_1b()];
        for (config, wanted) in configs.into_iter().zip([6_738_415_616, 1_235_814_400]) {
            let mut parameters = Parameters::new();
            Llama::new(&mut parameters, config);
            assert_eq!(parameters.count(), wanted);
        }
    }

    #[test]
    fn grouped_heads_and_a_tied_head_give_logits() {
        let config = LlamaConfig {
            vocabulary: 11,
            layers: 1,
            heads: 4,
            key_heads: 2,
            width: 16,
            hidden: 24,
            tied: true,
            ..LlamaConfig::llama2_7b()
        };
        let mut parameters = Parameters::new();
        let model = Llama::new(&mut parameters, config);
        // Table, norms, query and output, key and value, perceptron.
        assert_eq!(parameters.count(), 11 * 16 + 3 * 16 + 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24);
        let graph = Graph::new();
        let logits = model.forward(graph.input("tokens", [2, 5], DType::I32));
        graph.error().unwrap();
        assert_eq!(logits.shape()[..], [2, 5, 11]);
        model.forward(graph.input("flat", [5], DType::I32));
        assert!(graph.error().unwrap_err().to_string().contains("[samples, positions]"));
    }
}
