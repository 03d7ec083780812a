//! Recurrent layers: `RNN`, `LSTM` and `GRU` of `torch.nn`, and their cells, with their parameters.
//!
//! Names are PyTorch's: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, then `l1`, …, with
//! `_reverse` at the end for the second direction; a cell's have no `_l0`. As everywhere here, a weight is
//! `[in, out]`, the transpose of PyTorch's of that name; gates lie side by side in PyTorch's order. What
//! is computed with them is in `tensor::recurrent`.

use super::param::{Init, Param, Parameters};
use crate::dtype::DType;
use crate::graph::{Graph, Literal, Tensor};
use crate::tensor::{CellKind, RecurrentOptions, RecurrentWeights, recurrent, recurrent_cell};
use std::sync::Arc;

/// The parameters of one direction of one layer, or of a cell.
#[derive(Debug, Clone)]
pub struct Recurrence {
    pub weight_ih: Param,
    pub weight_hh: Param,
    pub bias_ih: Option<Param>,
    pub bias_hh: Option<Param>,
}

impl Recurrence {
    /// All start uniform within `1 / sqrt(hidden)`.
    fn new(p: &mut Parameters, kind: CellKind, sizes: [usize; 2], bias: bool, suffix: &str) -> Recurrence {
        let [input, hidden] = sizes;
        let gates = kind.gates() * hidden;
        let init = Init::Uniform(1.0 / (hidden.max(1) as f32).sqrt());
        let mut add = |name: &str, shape: &[usize]| p.add(&format!("{name}{suffix}"), shape, init.clone());
        Recurrence {
            weight_ih: add("weight_ih", &[input, gates]),
            weight_hh: add("weight_hh", &[hidden, gates]),
            bias_ih: bias.then(|| add("bias_ih", &[gates])),
            bias_hh: bias.then(|| add("bias_hh", &[gates])),
        }
    }

    /// Their values in a graph.
    pub fn tensors<'g>(&self, graph: &'g Graph) -> RecurrentWeights<'g> {
        RecurrentWeights {
            ih: self.weight_ih.tensor(graph),
            hh: self.weight_hh.tensor(graph),
            bias_ih: self.bias_ih.as_ref().map(|bias| bias.tensor(graph)),
            bias_hh: self.bias_hh.as_ref().map(|bias| bias.tensor(graph)),
        }
    }
}

/// How a recurrent layer is built: the arguments of `torch.nn.LSTM` and its like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurrentConfig {
    pub layers: usize,
    pub bias: bool,
    pub options: RecurrentOptions,
}

impl Default for RecurrentConfig {
    fn default() -> RecurrentConfig {
        RecurrentConfig { layers: 1, bias: true, options: RecurrentOptions::default() }
    }
}

/// A stack of recurrent layers in one or two directions.
#[derive(Debug, Clone)]
pub struct Recurrent {
    name: Arc<str>,
    pub kind: CellKind,
    pub config: RecurrentConfig,
    /// Layer by layer, forward before backward.
    pub recurrences: Vec<Recurrence>,
}

impl Recurrent {
    /// `input` features in, `hidden` out (twice that if bidirectional).
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        kind: CellKind,
        [input, hidden]: [usize; 2],
        config: RecurrentConfig,
    ) -> Recurrent {
        let directions = if config.options.bidirectional { 2 } else { 1 };
        let recurrences = parameters.scope(name, |p| {
            let mut all = Vec::new();
            for layer in 0..config.layers {
                let features = if layer == 0 { input } else { hidden * directions };
                for direction in 0..directions {
                    let suffix = format!("_l{layer}{}", if direction == 0 { "" } else { "_reverse" });
                    all.push(Recurrence::new(p, kind, [features, hidden], config.bias, &suffix));
                }
            }
            all
        });
        Recurrent { name: name.into(), kind, config, recurrences }
    }

    /// `x` `[batch, time, input]` (or as configured) and the first states, each
    /// `[layers * directions, batch, hidden]`, or none for zeros. Gives `[batch, time, directions * hidden]`,
    /// the outputs of the last layer, and the last states, in the shape of the first.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>, init: Option<&[Tensor<'g>]>) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        self.forward_lengths(x, init, None)
    }

    /// The same for sequences of different `lengths` `[batch]` (i32): a sequence keeps its state from its end on,
    /// and its outputs there are 0.
    #[track_caller]
    pub fn forward_lengths<'g>(
        &self,
        x: Tensor<'g>,
        init: Option<&[Tensor<'g>]>,
        lengths: Option<Tensor<'g>>,
    ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let graph = x.graph();
        graph.scope(&self.name, || {
            let weights: Vec<_> = self.recurrences.iter().map(|recurrence| recurrence.tensors(graph)).collect();
            recurrent(self.kind, &weights, x, init, lengths, self.config.options)
        })
    }
}

macro_rules! layers {
    ($($(#[$doc:meta])* $layer:ident $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $layer(pub Recurrent);

        impl $layer {
            /// One layer, one direction, `[batch, time, input]`.
            pub fn new(parameters: &mut Parameters, name: &str, input: usize, hidden: usize) -> $layer {
                $layer::with(parameters, name, input, hidden, RecurrentConfig::default())
            }

            /// With PyTorch's other arguments.
            pub fn with(
                parameters: &mut Parameters,
                name: &str,
                input: usize,
                hidden: usize,
                config: RecurrentConfig,
            ) -> $layer {
                $layer(Recurrent::new(parameters, name, CellKind::$kind, [input, hidden], config))
            }
        }
    )*};
}

layers! {
    /// `torch.nn.RNN` with `nonlinearity="tanh"`; for ReLU build a [`Recurrent`] of [`CellKind::RnnRelu`].
    Rnn RnnTanh;
    /// `torch.nn.LSTM`, without `proj_size`.
    Lstm Lstm;
    /// `torch.nn.GRU`.
    Gru Gru;
}

macro_rules! one_state {
    ($($layer:ident)*) => {$(
        impl $layer {
            /// `[batch, time, input]` and the first state `[layers * directions, batch, hidden]` (or none: zeros) to
            /// `[batch, time, directions * hidden]` and the last state. See [`Recurrent::forward`].
            #[track_caller]
            pub fn forward<'g>(&self, x: Tensor<'g>, init: Option<Tensor<'g>>) -> (Tensor<'g>, Tensor<'g>) {
                let (y, last) = self.0.forward(x, init.as_ref().map(std::slice::from_ref));
                (y, last.first().copied().unwrap_or(y))
            }
        }
    )*};
}

one_state! { Rnn Gru }

impl Lstm {
    /// `[batch, time, input]` and the first `(h, c)`, each `[layers * directions, batch, hidden]` (or none: zeros), to
    /// `[batch, time, directions * hidden]` and the last `(h, c)`. See [`Recurrent::forward`].
    #[track_caller]
    pub fn forward<'g>(
        &self,
        x: Tensor<'g>,
        init: Option<(Tensor<'g>, Tensor<'g>)>,
    ) -> (Tensor<'g>, (Tensor<'g>, Tensor<'g>)) {
        let init = init.map(|(h, c)| [h, c]);
        let (y, last) = self.0.forward(x, init.as_ref().map(<[_; 2]>::as_slice));
        let state = |index: usize| last.get(index).copied().unwrap_or(y);
        (y, (state(0), state(1)))
    }
}

/// One step of a recurrent layer; `torch.nn.RNNCell`, `LSTMCell` and `GRUCell`, by kind.
///
/// Parameters are `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`. May be used in the body of a scan.
#[derive(Debug, Clone)]
pub struct RecurrentCell {
    name: Arc<str>,
    pub kind: CellKind,
    pub hidden: usize,
    pub recurrence: Recurrence,
}

impl RecurrentCell {
    /// With biases, or without.
    pub fn new(
        parameters: &mut Parameters,
        name: &str,
        kind: CellKind,
        [input, hidden]: [usize; 2],
        bias: bool,
    ) -> RecurrentCell {
        let recurrence = parameters.scope(name, |p| Recurrence::new(p, kind, [input, hidden], bias, ""));
        RecurrentCell { name: name.into(), kind, hidden, recurrence }
    }

    /// `x` `[batch, input]` and the states `[batch, hidden]` (`h`, for the LSTM also `c`; none: zeros) to the next.
    #[track_caller]
    pub fn forward<'g>(&self, x: Tensor<'g>, state: Option<&[Tensor<'g>]>) -> Vec<Tensor<'g>> {
        let graph = x.graph();
        let batch = x.shape().first().copied().unwrap_or(1);
        let zero = graph.constant(Literal::new(DType::F32, 0.0)).broadcast_to([batch, self.hidden]);
        let zeros = vec![zero; self.kind.states()];
        let weights = self.recurrence.tensors(graph);
        graph.scope(&self.name, || recurrent_cell(self.kind, &weights, x, state.unwrap_or(&zeros)))
    }
}
