//! Recurrent networks on bare tensors: cells, layers and stacks of them, as `torch.nn.{RNN, LSTM, GRU}`.
//!
//! The products of the inputs of all steps are one product outside the loop; inside the scan is what
//! depends on the step before. It does not know where weights come from (`nn::rnn`).

use super::{ScanOptions, concat, scan};
use crate::dtype::DType;
use crate::graph::{Literal, Tensor};

/// What a recurrent layer computes in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CellKind {
    /// `h' = tanh(x W + b + h U + c)`.
    RnnTanh,
    /// `h' = relu(x W + b + h U + c)`.
    RnnRelu,
    /// Long short-term memory; gates in the order input, forget, cell, output.
    Lstm,
    /// Gated recurrent unit with the reset gate behind the product, as PyTorch and cuDNN have it; gates in the
    /// order reset, update, new.
    Gru,
}

impl CellKind {
    /// PyTorch's name of the layer.
    pub fn name(self) -> &'static str {
        match self {
            CellKind::RnnTanh | CellKind::RnnRelu => "rnn",
            CellKind::Lstm => "lstm",
            CellKind::Gru => "gru",
        }
    }

    /// Vectors of hidden size that the products give for each sample.
    pub fn gates(self) -> usize {
        match self {
            CellKind::RnnTanh | CellKind::RnnRelu => 1,
            CellKind::Lstm => 4,
            CellKind::Gru => 3,
        }
    }

    /// Vectors of hidden size that are carried: `h`, and for the LSTM `c`.
    pub fn states(self) -> usize {
        match self {
            CellKind::Lstm => 2,
            CellKind::RnnTanh | CellKind::RnnRelu | CellKind::Gru => 1,
        }
    }

    /// The next states `[batch, hidden]` from both shares of the gates `[batch, gates * hidden]`.
    fn step<'g>(self, input: Tensor<'g>, hidden: Tensor<'g>, state: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let size = state[0].shape()[1];
        let gate = |x: Tensor<'g>, index: usize| x.slice(1, index * size, (index + 1) * size);
        match self {
            CellKind::RnnTanh => vec![(input + hidden).tanh()],
            CellKind::RnnRelu => vec![(input + hidden).relu()],
            CellKind::Lstm => {
                let gates = input + hidden;
                let [i, f, o] = [0, 1, 3].map(|index| gate(gates, index).sigmoid());
                let c = f * state[1] + i * gate(gates, 2).tanh();
                vec![o * c.tanh(), c]
            }
            CellKind::Gru => {
                let [r, z] = [0, 1].map(|index| (gate(input, index) + gate(hidden, index)).sigmoid());
                let n = (gate(input, 2) + r * gate(hidden, 2)).tanh();
                vec![n + z * (state[0] - n)]
            }
        }
    }
}

/// The weights of one direction of one layer, or of a cell: `ih` `[input, gates * hidden]`, `hh`
/// `[hidden, gates * hidden]` (the transposes of PyTorch's), biases `[gates * hidden]`.
#[derive(Debug, Clone, Copy)]
pub struct RecurrentWeights<'g> {
    pub ih: Tensor<'g>,
    pub hh: Tensor<'g>,
    pub bias_ih: Option<Tensor<'g>>,
    pub bias_hh: Option<Tensor<'g>>,
}

impl<'g> RecurrentWeights<'g> {
    /// The input's share of the gates of `[.., input]`, with every bias that may be added to it.
    #[track_caller]
    fn input(&self, kind: CellKind, x: Tensor<'g>) -> Tensor<'g> {
        let bias = match (self.bias_ih, self.bias_hh.filter(|_| kind != CellKind::Gru)) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        let y = x.matmul(self.ih);
        bias.map_or(y, |bias| y + bias)
    }

    /// The hidden bias, where it must stay on the hidden share.
    fn late_bias(&self, kind: CellKind) -> Option<Tensor<'g>> {
        self.bias_hh.filter(|_| kind == CellKind::Gru)
    }

    /// Whether the shapes fit a cell; records an error if not.
    #[track_caller]
    fn fit(&self, kind: CellKind, input: usize) -> bool {
        let (ih, hh) = (self.ih.shape(), self.hh.shape());
        let hidden = hh.first().copied().unwrap_or(0);
        let gates = kind.gates() * hidden;
        let bias = |bias: Option<Tensor<'g>>| bias.is_none_or(|bias| bias.shape()[..] == [gates]);
        let fits = hidden > 0 && ih[..] == [input, gates] && hh[..] == [hidden, gates];
        if !fits || !bias(self.bias_ih) || !bias(self.bias_hh) {
            let shapes = [Some(self.ih), Some(self.hh), self.bias_ih, self.bias_hh];
            let shapes: Vec<String> = shapes.into_iter().flatten().map(|tensor| tensor.shape().to_string()).collect();
            let message = format!(
                "wants weights [{input}, {g} * hidden], [hidden, {g} * hidden] and biases [{g} * hidden], got {}",
                shapes.join(", "),
                g = kind.gates()
            );
            self.ih.graph().record_error(kind.name(), message);
            return false;
        }
        true
    }
}

/// One step: `x` `[batch, input]` and the states `[batch, hidden]` (`h`; for the LSTM `h`, `c`) to the next states.
/// As `torch.nn.LSTMCell` and its like.
#[track_caller]
pub fn recurrent_cell<'g>(
    kind: CellKind,
    weights: &RecurrentWeights<'g>,
    x: Tensor<'g>,
    state: &[Tensor<'g>],
) -> Vec<Tensor<'g>> {
    let (shape, graph) = (x.shape(), x.graph());
    if shape.rank() != 2 {
        graph.record_error(kind.name(), format!("a cell wants [batch, input], got {shape}"));
        return state.to_vec();
    }
    if !weights.fit(kind, shape[1]) || !states_fit(kind, x, state, &[shape[0], weights.hh.shape()[0]]) {
        return state.to_vec();
    }
    let product = state[0].matmul(weights.hh);
    let hidden = weights.late_bias(kind).map_or(product, |bias| product + bias);
    kind.step(weights.input(kind, x), hidden, state)
}

/// Whether there are as many states as the cell has, all of this shape; records an error if not.
#[track_caller]
fn states_fit(kind: CellKind, x: Tensor<'_>, state: &[Tensor<'_>], wanted: &[usize]) -> bool {
    let fits = state.len() == kind.states() && state.iter().all(|state| state.shape()[..] == *wanted);
    if !fits {
        let got: Vec<String> = state.iter().map(|state| state.shape().to_string()).collect();
        let got = if got.is_empty() { "none".to_string() } else { got.join(", ") };
        let message = format!("wants {} state(s) of shape {wanted:?}, got {got}", kind.states());
        x.graph().record_error(kind.name(), message);
    }
    fits
}

/// One direction of one layer: `x` `[time, batch, input]` and the first states `[batch, hidden]` to outputs
/// `[time, batch, hidden]` and the last states. `reverse` starts at the last step. With `lengths` `[batch]` (i32) a
/// sequence keeps its state from its end on, and its outputs there are 0, as PyTorch's packed sequences.
#[track_caller]
pub fn recurrent_layer<'g>(
    kind: CellKind,
    weights: &RecurrentWeights<'g>,
    x: Tensor<'g>,
    init: &[Tensor<'g>],
    reverse: bool,
    lengths: Option<Tensor<'g>>,
) -> (Tensor<'g>, Vec<Tensor<'g>>) {
    let (shape, graph) = (x.shape(), x.graph());
    if shape.rank() != 3 || x.dtype() != DType::F32 {
        graph.record_error(kind.name(), format!("wants f32 [time, batch, input], got {}{shape}", x.dtype()));
        return (x, init.to_vec());
    }
    if shape[0] == 0 {
        graph.record_error(kind.name(), format!("a sequence of no steps has no last state, got {shape}"));
        return (x, init.to_vec());
    }
    let fits = lengths.is_none_or(|lengths| lengths.shape()[..] == [shape[1]] && lengths.dtype() == DType::I32);
    if let Some(lengths) = lengths.filter(|_| !fits) {
        let message = format!("lengths must be i32 [{}], got {}{}", shape[1], lengths.dtype(), lengths.shape());
        graph.record_error(kind.name(), message);
        return (x, init.to_vec());
    }
    if !weights.fit(kind, shape[2]) || !states_fit(kind, x, init, &[shape[1], weights.hh.shape()[0]]) {
        return (x, init.to_vec());
    }
    let mut constants = vec![weights.hh];
    constants.extend(weights.late_bias(kind));
    let biased = constants.len() > 1;
    let mut slices = vec![weights.input(kind, x)];
    if let Some(lengths) = lengths {
        slices.push(graph.iota([shape[0], shape[1]], 0).lt(lengths));
    }
    let options = ScanOptions { reverse, length: None };
    let (last, outputs) = scan(graph, init, &slices, &constants, options, |state, x, constants| {
        let product = state[0].matmul(constants[0]);
        let hidden = if biased { product + constants[1] } else { product };
        let new = kind.step(x[0], hidden, state);
        let Some(active) = x.get(1) else {
            let output = new[0];
            return (new, vec![output]);
        };
        let active = active.unsqueeze(1);
        let kept = new.iter().zip(state).map(|(&new, &old)| active.select(new, old)).collect();
        (kept, vec![active.select(new[0], 0.0)])
    });
    (outputs.first().copied().unwrap_or(x), last)
}

/// The arguments of `torch.nn.LSTM` and its like that are not sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurrentOptions {
    /// `[batch, time, ..]`, the default here, rather than `[time, batch, ..]`, PyTorch's default.
    pub batch_first: bool,
    pub bidirectional: bool,
    /// Between layers, while training.
    pub dropout: f64,
}

impl Default for RecurrentOptions {
    fn default() -> RecurrentOptions {
        RecurrentOptions { batch_first: true, bidirectional: false, dropout: 0.0 }
    }
}

/// A stack of layers. `weights`: layer by layer, in each the forward direction before the backward one.
///
/// `x` `[batch, time, input]` (or as in the options) and the first states, each
/// `[layers * directions, batch, hidden]`, or none for zeros, to the outputs of the last layer
/// `[batch, time, directions * hidden]` and the last states. `lengths` as in [`recurrent_layer`].
#[track_caller]
pub fn recurrent<'g>(
    kind: CellKind,
    weights: &[RecurrentWeights<'g>],
    x: Tensor<'g>,
    init: Option<&[Tensor<'g>]>,
    lengths: Option<Tensor<'g>>,
    options: RecurrentOptions,
) -> (Tensor<'g>, Vec<Tensor<'g>>) {
    let (shape, graph) = (x.shape(), x.graph());
    let directions = if options.bidirectional { 2 } else { 1 };
    let refuse = |message: String| graph.record_error(kind.name(), message);
    let given = || init.map_or_else(|| vec![x; kind.states()], <[_]>::to_vec);
    if shape.rank() != 3 {
        refuse(format!("wants three axes (batch, time, input), got {shape}"));
        return (x, given());
    }
    if weights.is_empty() || !weights.len().is_multiple_of(directions) {
        refuse(format!("wants weights for each layer and direction, got {} for {directions}", weights.len()));
        return (x, given());
    }
    let (batch, hidden) =
        (shape[usize::from(!options.batch_first)], weights[0].hh.shape().first().copied().unwrap_or(0));
    if let Some(init) = init
        && !states_fit(kind, x, init, &[weights.len(), batch, hidden])
    {
        return (x, given());
    }
    let first = |row: usize| -> Vec<Tensor<'g>> {
        let zeros = graph.constant(Literal::new(DType::F32, 0.0)).broadcast_to([batch, hidden]);
        match init {
            Some(states) => states.iter().map(|state| state.slice(0, row, row + 1).squeeze(0)).collect(),
            None => vec![zeros; kind.states()],
        }
    };
    let mut last: Vec<Vec<Tensor<'g>>> = vec![Vec::new(); kind.states()];
    let mut y = if options.batch_first { x.transpose(0, 1) } else { x };
    for (layer, pair) in weights.chunks(directions).enumerate() {
        if layer > 0 {
            // Dropout counts samples along axis 0.
            y = y.transpose(0, 1).dropout(options.dropout).transpose(0, 1);
        }
        let mut outputs = Vec::new();
        for (direction, weights) in pair.iter().enumerate() {
            let init = first(layer * directions + direction);
            let (output, states) = recurrent_layer(kind, weights, y, &init, direction == 1, lengths);
            outputs.push(output);
            last.iter_mut().zip(states).for_each(|(all, state)| all.push(state.unsqueeze(0)));
        }
        y = concat(outputs[0], &outputs[1..], -1);
    }
    let last = last.into_iter().map(|rows| concat(rows[0], &rows[1..], 0)).collect();
    (if options.batch_first { y.transpose(0, 1) } else { y }, last)
}
