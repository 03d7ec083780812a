//! Recurrent layers, their cells, and CTC.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{
    CellKind, CtcOptions, CtcReduction, RecurrentOptions, RecurrentWeights, recurrent, recurrent_cell,
};

fn kind(name: &str, a: &Attributes) -> CellKind {
    match (name, a.str("nonlinearity", "tanh").as_str()) {
        ("lstm", _) => CellKind::Lstm,
        ("gru", _) => CellKind::Gru,
        ("rnn", "relu") => CellKind::RnnRelu,
        ("rnn", _) => CellKind::RnnTanh,
        _ => panic!("no such layer: {name}"),
    }
}

/// PyTorch's weights, which are transposed, as they follow each other.
fn weights<'g>(x: &[Tensor<'g>], bias: bool) -> Vec<RecurrentWeights<'g>> {
    x.chunks(if bias { 4 } else { 2 })
        .map(|w| RecurrentWeights {
            ih: w[0].t(),
            hh: w[1].t(),
            bias_ih: bias.then(|| w[2]),
            bias_hh: bias.then(|| w[3]),
        })
        .collect()
}

fn layer<'g>(kind: CellKind, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let states = if a.bool("init", true) { kind.states() } else { 0 };
    let options = RecurrentOptions {
        batch_first: a.bool("batch_first", true),
        bidirectional: a.bool("bidirectional", false),
        dropout: 0.0,
    };
    let init = (states > 0).then(|| &x[1..1 + states]);
    let weights = weights(&x[1 + states..], a.bool("bias", true));
    let (y, last) = recurrent(kind, &weights, x[0], init, None, options);
    [vec![y], last].concat()
}

fn ctc<'g>(x: &[Tensor<'g>], a: &Attributes) -> Tensor<'g> {
    let reduction = match a.str("reduction", "mean").as_str() {
        "none" => CtcReduction::None,
        "sum" => CtcReduction::Sum,
        _ => CtcReduction::Mean,
    };
    let options = CtcOptions { blank: a.usize("blank", 0), reduction, zero_infinity: a.bool("zero_infinity", false) };
    x[0].log_softmax(-1).ctc_loss(x[1], x[2], x[3], options)
}

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    match op {
        "cell" => {
            let kind = kind(&a.str("kind", ""), a);
            recurrent_cell(kind, &weights(&x[1 + kind.states()..], true)[0], x[0], &x[1..1 + kind.states()])
        }
        "packed" => {
            let kind = kind(&a.str("kind", ""), a);
            let (init, weights) = (&x[2..2 + kind.states()], weights(&x[2 + kind.states()..], true));
            let options = RecurrentOptions { bidirectional: true, ..RecurrentOptions::default() };
            let (y, last) = recurrent(kind, &weights, x[0], Some(init), Some(x[1]), options);
            [vec![y], last].concat()
        }
        "ctc" => vec![ctc(x, a)],
        _ => layer(kind(op, a), x, a),
    }
}

#[test]
fn scan() {
    check(include_bytes!("../../oracle/ops/scan.safetensors"), build);
}
