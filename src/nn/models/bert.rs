//! BERT: a transformer encoder that looks both ways (Devlin et al. 2018): learned positions and token
//! types, post-norm blocks, GELU by the error function.
//!
//! [`Bert`] is the encoder with its pooler, [`BertPretraining`] adds the two heads that it was trained
//! with. Parameters are named as in Hugging Face's `BertModel`; weights of linear layers are
//! transposed.
//!
//! Shapes in names: `b` samples, `t` positions, `d` features, `h` heads, `s` features of a head.

use crate::graph::Tensor;
use crate::nn::{Dropout, Embedding, Init, LayerNorm, Linear, Param, Parameters};
use crate::tensor::AttentionOptions;

/// The size of a [`Bert`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BertConfig {
    pub vocabulary: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Kinds of tokens: first and second sentence.
    pub token_types: usize,
    pub layers: usize,
    pub heads: usize,
    /// Features of a token between blocks, a multiple of `heads`.
    pub width: usize,
    /// Features inside the perceptron of a block.
    pub hidden: usize,
    /// Probability, after the embedding and each branch.
    pub dropout: f64,
    /// Probability, of the weights of attention. Above 0, training takes memory for all of them.
    pub attention_dropout: f64,
}

impl BertConfig {
    /// `bert-base-uncased`: 109,482,240 parameters with the pooler (Hugging Face's `BertModel`), and
    /// 110,106,428 with the heads of pretraining (`BertForPreTraining`).
    pub const fn base() -> BertConfig {
        BertConfig {
            vocabulary: 30_522,
            positions: 512,
            token_types: 2,
            layers: 12,
            heads: 12,
            width: 768,
            hidden: 3072,
            dropout: 0.1,
            attention_dropout: 0.1,
        }
    }
}

/// What the model reads.
#[derive(Clone, Copy)]
pub struct BertInput<'g> {
    /// Tokens, `[b, t]` i32.
    pub tokens: Tensor<'g>,
    /// Token types, `[b, t]` i32; all 0 if absent.
    pub types: Option<Tensor<'g>>,
    /// `[b, t]` bool: false at padding, which nothing attends to.
    pub mask: Option<Tensor<'g>>,
}

/// The encoder.
#[derive(Debug, Clone)]
pub struct Bert {
    pub config: BertConfig,
    word: Embedding,
    position: Embedding,
    token_type: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Linear,
    dropout: Dropout,
}

/// Attention and perceptron, each added to the stream, which is normalised after that.
#[derive(Debug, Clone)]
struct Layer {
    index: usize,
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    mixed: Linear,
    mixed_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    dropout: Dropout,
    attention_dropout: f64,
}

impl Bert {
    /// Matrices and tables start normal with deviation 0.02, biases at 0.
    pub fn new(parameters: &mut Parameters, config: BertConfig) -> Bert {
        let BertConfig { vocabulary, positions, token_types, layers, width, dropout, .. } = config;
        let bert = Bert {
            config,
            word: Embedding::new(parameters, "embeddings.word_embeddings", vocabulary, width),
            position: Embedding::new(parameters, "embeddings.position_embeddings", positions, width),
            token_type: Embedding::new(parameters, "embeddings.token_type_embeddings", token_types, width),
            norm: layer_norm(parameters, "embeddings.LayerNorm", width),
            layers: (0..layers)
                .map(|index| parameters.scope(&format!("encoder.layer.{index}"), |p| Layer::new(p, index, &config)))
                .collect(),
            pooler: Linear::new(parameters, "pooler.dense", width, width),
            dropout: Dropout::new(dropout),
        };
        start(parameters);
        bert
    }

    /// The features of every position, `[b, t, d]`.
    #[track_caller]
    pub fn forward<'g>(&self, input: BertInput<'g>) -> Tensor<'g> {
        let (tokens, graph, shape) = (input.tokens, input.tokens.graph(), input.tokens.shape());
        let &[_, time] = &shape[..] else {
            graph.record_error("bert", format!("tokens must be [samples, positions], got {shape}"));
            return tokens;
        };
        if time > self.config.positions {
            let message = format!("{time} positions, but the model has {}", self.config.positions);
            graph.record_error("bert", message);
            return tokens;
        }
        let types = input.types.unwrap_or_else(|| tokens.zeros_like());
        let place_td = self.position.weight.tensor(graph).slice(0, 0, time);
        let x_btd = self.word.forward(tokens) + place_td + self.token_type.forward(types);
        let x_btd = self.dropout.forward(self.norm.forward(x_btd));
        self.layers.iter().fold(x_btd, |x_btd, layer| layer.forward(x_btd, input.mask))
    }

    /// A summary of each sample, `[b, d]`, from the features of its first position.
    #[track_caller]
    pub fn pool<'g>(&self, x_btd: Tensor<'g>) -> Tensor<'g> {
        let first_bd = x_btd.slice(1, 0, 1).squeeze(1);
        x_btd.graph().scope("pooler", || self.pooler.forward(first_bd).tanh())
    }
}

impl Layer {
    fn new(parameters: &mut Parameters, index: usize, config: &BertConfig) -> Layer {
        let BertConfig { heads, width, hidden, dropout, attention_dropout, .. } = *config;
        Layer {
            index,
            heads,
            query: Linear::new(parameters, "attention.self.query", width, width),
            key: Linear::new(parameters, "attention.self.key", width, width),
            value: Linear::new(parameters, "attention.self.value", width, width),
            mixed: Linear::new(parameters, "attention.output.dense", width, width),
            mixed_norm: layer_norm(parameters, "attention.output.LayerNorm", width),
            intermediate: Linear::new(parameters, "intermediate.dense", width, hidden),
            output: Linear::new(parameters, "output.dense", hidden, width),
            output_norm: layer_norm(parameters, "output.LayerNorm", width),
            dropout: Dropout::new(dropout),
            attention_dropout,
        }
    }

    fn forward<'g>(&self, x_btd: Tensor<'g>, mask: Option<Tensor<'g>>) -> Tensor<'g> {
        x_btd.graph().scope(&format!("layer.{}", self.index), || {
            let x_btd = self.mixed_norm.forward(x_btd + self.dropout.forward(self.attention(x_btd, mask)));
            let branch_btd = self.output.forward(self.intermediate.forward(x_btd).gelu());
            self.output_norm.forward(x_btd + self.dropout.forward(branch_btd))
        })
    }

    fn attention<'g>(&self, x_btd: Tensor<'g>, mask: Option<Tensor<'g>>) -> Tensor<'g> {
        let shape = x_btd.shape();
        let split = [shape[0], shape[1], self.heads, shape[2] / self.heads.max(1)];
        let [q_bths, k_bths, v_bths] =
            [&self.query, &self.key, &self.value].map(|linear| linear.forward(x_btd).reshape(split));
        let mask = mask.map(|mask_bt| mask_bt.unsqueeze(1).unsqueeze(1));
        let options = AttentionOptions { mask, dropout: self.attention_dropout, ..AttentionOptions::default() };
        self.mixed.forward(q_bths.attention_with(k_bths, v_bths, &options).reshape(&shape))
    }
}

/// The encoder with the heads that it is pretrained with: a hidden token is told from the others (the
/// token table serves as the output layer), and whether the second sentence follows the first.
#[derive(Debug, Clone)]
pub struct BertPretraining {
    pub bert: Bert,
    transform: Linear,
    norm: LayerNorm,
    bias: Param,
    next: Linear,
}

impl BertPretraining {
    /// The encoder's parameters under their own names, the heads' under `cls`.
    pub fn new(parameters: &mut Parameters, config: BertConfig) -> BertPretraining {
        let BertConfig { width, vocabulary, .. } = config;
        let bert = Bert::new(parameters, config);
        let model = parameters.scope("cls", |p| BertPretraining {
            bert,
            transform: Linear::new(p, "predictions.transform.dense", width, width),
            norm: layer_norm(p, "predictions.transform.LayerNorm", width),
            bias: p.add("predictions.bias", [vocabulary], Init::Zeros),
            next: Linear::new(p, "seq_relationship", width, 2),
        });
        start(parameters);
        model
    }

    /// Logits of every position over the vocabulary, `[b, t, v]`, and of "follows" and "does not", `[b, 2]`.
    #[track_caller]
    pub fn forward<'g>(&self, input: BertInput<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let graph = input.tokens.graph();
        let x_btd = self.bert.forward(input);
        let hidden_btd = self.norm.forward(self.transform.forward(x_btd).gelu());
        let table = self.bert.word.weight.tensor(graph);
        let tokens_btv = graph.scope("decoder", || hidden_btd.matmul(table.t()) + self.bias.tensor(graph));
        (tokens_btv, self.next.forward(self.bert.pool(x_btd)))
    }
}

/// BERT's norm has a smaller eps than PyTorch's default.
fn layer_norm(parameters: &mut Parameters, name: &str, features: usize) -> LayerNorm {
    LayerNorm::new(parameters, name, features).with_eps(1e-12)
}

fn start(parameters: &mut Parameters) {
    parameters.init_by(|name, shape| match shape.rank() {
        2 => Some(Init::Normal(0.02)),
        _ => name.ends_with("bias").then_some(Init::Zeros),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn the_base_model_has_the_published_size() {
        let mut parameters = Parameters::new();
        Bert::new(&mut parameters, BertConfig::base());
        assert_eq!(parameters.count(), 109_482_240);
        let mut parameters = Parameters::new();
        BertPretraining::new(&mut parameters, BertConfig::base());
        assert_eq!(parameters.count(), 110_106_428);
    }

    #[test]
    fn shapes_are_inferred_and_a_long_sequence_is_refused() {
        let config = BertConfig { positions: 6, layers: 1, ..BertConfig::base() };
        let model = BertPretraining::new(&mut Parameters::new(), config);
        let graph = Graph::new();
        let tokens = graph.input("tokens", [2, 5], DType::I32);
        let mask = Some(graph.input("mask", [2, 5], DType::Bool));
        let (tokens_btv, next) = model.forward(BertInput { tokens, types: None, mask });
        graph.error().unwrap();
        assert_eq!((&tokens_btv.shape()[..], &next.shape()[..]), (&[2, 5, 30_522][..], &[2, 2][..]));
        let tokens = graph.input("long", [2, 7], DType::I32);
        model.forward(BertInput { tokens, types: None, mask: None });
        assert!(graph.error().unwrap_err().to_string().contains("7 positions, but the model has 6"));
    }
}
