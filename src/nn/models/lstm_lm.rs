//! A language model on LSTM layers (Zaremba et al. 2014): embedding, a stack of LSTMs, and a linear layer to the
//! vocabulary, as the `RNNModel` of PyTorch's example "word language model", whose names the parameters have.
//!
//! Shapes in names: `b` samples, `t` positions, `d` features, `v` vocabulary.

use crate::graph::Tensor;
use crate::nn::{Dropout, Embedding, Init, Linear, Lstm, Parameters, RecurrentConfig};
use crate::tensor::RecurrentOptions;

/// The size of a [`LstmLm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LstmLmConfig {
    pub vocabulary: usize,
    /// Features of a token.
    pub width: usize,
    /// Features of a layer's state.
    pub hidden: usize,
    pub layers: usize,
    /// Probability, after the embedding, between layers and after the last.
    pub dropout: f64,
}

/// The model.
#[derive(Debug, Clone)]
pub struct LstmLm {
    pub config: LstmLmConfig,
    encoder: Embedding,
    rnn: Lstm,
    decoder: Linear,
    dropout: Dropout,
}

impl LstmLm {
    /// The table and the decoder start uniform within 0.1, the decoder's bias at 0, the layers as PyTorch's.
    pub fn new(parameters: &mut Parameters, config: LstmLmConfig) -> LstmLm {
        let LstmLmConfig { vocabulary, width, hidden, layers, dropout } = config;
        let options = RecurrentOptions { dropout, ..RecurrentOptions::default() };
        let recurrent = RecurrentConfig { layers, options, ..RecurrentConfig::default() };
        let model = LstmLm {
            config,
            encoder: Embedding::new(parameters, "encoder", vocabulary, width),
            rnn: Lstm::with(parameters, "rnn", width, hidden, recurrent),
            decoder: Linear::new(parameters, "decoder", hidden, vocabulary),
            dropout: Dropout::new(dropout),
        };
        parameters.init_by(|name, _| match name {
            name if name.ends_with("encoder.weight") || name.ends_with("decoder.weight") => Some(Init::Uniform(0.1)),
            name if name.ends_with("decoder.bias") => Some(Init::Zeros),
            _ => None,
        });
        model
    }

    /// Tokens `[b, t]` (i32) and the state to go on from, `(h, c)`, each `[layers, b, hidden]` (none: zeros), to
    /// logits `[b, t, v]` and the state after the last token.
    #[track_caller]
    pub fn forward<'g>(
        &self,
        tokens_bt: Tensor<'g>,
        state: Option<(Tensor<'g>, Tensor<'g>)>,
    ) -> (Tensor<'g>, (Tensor<'g>, Tensor<'g>)) {
        let shape = tokens_bt.shape();
        if shape.rank() != 2 {
            let message = format!("tokens must be [samples, positions], got {shape}");
            tokens_bt.graph().record_error("lstm_lm", message);
            return (tokens_bt, (tokens_bt, tokens_bt));
        }
        let x_btd = self.dropout.forward(self.encoder.forward(tokens_bt));
        let (y_btd, state) = self.rnn.forward(x_btd, state);
        (self.decoder.forward(self.dropout.forward(y_btd)), state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;

    #[test]
    fn tokens_and_a_state_give_logits_and_the_next_state() {
        let mut parameters = Parameters::new();
        let config = LstmLmConfig { vocabulary: 11, width: 6, hidden: 8, layers: 2, dropout: 0.5 };
        let model = LstmLm::new(&mut parameters, config);
        // Table, two layers with two biases each, decoder.
        assert_eq!(parameters.count(), 11 * 6 + 32 * (6 + 8 + 2) + 32 * (8 + 8 + 2) + 8 * 11 + 11);
        let graph = Graph::new();
        graph.set_training(true);
        let state = graph.input("h", [2, 3, 8], DType::F32);
        let (logits, (h, c)) = model.forward(graph.input("tokens", [3, 5], DType::I32), Some((state, state)));
        graph.error().unwrap();
        assert_eq!(logits.shape()[..], [3, 5, 11]);
        assert_eq!((&h.shape()[..], &c.shape()[..]), (&[2, 3, 8][..], &[2, 3, 8][..]));
        model.forward(graph.input("flat", [5], DType::I32), None);
        assert!(graph.error().unwrap_err().to_string().contains("[samples, positions]"));
    }
}
