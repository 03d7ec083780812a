//! Rows of scans and of what is made of them.

use super::harness::{Draw, Sample, f32s, i32s, sample};
use wgrad::dtype::DType;
use wgrad::graph::Tensor;
use wgrad::tensor::{
    CellKind, CtcOptions, CtcReduction, RecurrentOptions, RecurrentWeights, ScanOptions, concat, recurrent, scan as run,
};

fn u(shape: &[usize]) -> Draw {
    f32s(shape, -1.0, 1.0)
}

const FORWARD: ScanOptions = ScanOptions { reverse: false, length: None };
const REVERSE: ScanOptions = ScanOptions { reverse: true, length: None };

/// The first result stacked, and the last carry, as one vector.
fn joined<'g>((last, stacked): (Vec<Tensor<'g>>, Vec<Tensor<'g>>)) -> Tensor<'g> {
    let flat: Vec<Tensor<'g>> =
        last.into_iter().chain(stacked).filter(|x| x.dtype() == DType::F32).map(|x| x.flatten(0, -1)).collect();
    concat(flat[0], &flat[1..], 0)
}

/// `h' = tanh(h W + x + b)`; `x` `[time, batch, hidden]`, `h`, `W`, `b`.
fn network<'g>(x: &[Tensor<'g>], options: ScanOptions) -> Tensor<'g> {
    joined(run(x[0].graph(), &[x[1]], &[x[0]], &[x[2], x[3]], options, |h, x, c| {
        let h = (h[0].matmul(c[0]) + x[0] + c[1]).tanh();
        (vec![h], vec![h])
    }))
}

fn networks(time: usize, batch: usize, hidden: usize, options: ScanOptions) -> Sample {
    let inputs = [u(&[time, batch, hidden]), u(&[batch, hidden]), u(&[hidden, hidden]), u(&[hidden])];
    sample(&inputs, move |x| network(x, options)).tolerance(5e-6, 2e-5)
}

pub fn scan() -> Vec<Sample> {
    vec![
        networks(4, 2, 4, FORWARD),
        networks(1, 1, 1, FORWARD),
        networks(5, 3, 7, REVERSE),
        networks(3, 1, 8, REVERSE),
        // A running sum: the carry is written where it is read.
        sample(&[u(&[6, 5])], |x| {
            let zero = x[0].slice(0, 0, 1).squeeze(0).zeros_like();
            joined(run(x[0].graph(), &[zero], &[x[0]], &[], FORWARD, |c, x, _| {
                let sum = c[0] + x[0];
                (vec![sum], vec![sum])
            }))
        }),
        // Carries that change places, one of them an integer, and a strided stack.
        sample(&[u(&[3, 5, 2]), u(&[3, 2]), i32s(&[3], 0, 4)], |x| {
            let steps = x[0].transpose(0, 1);
            joined(run(x[0].graph(), &[x[1], x[1] * 2.0, x[2]], &[steps], &[], FORWARD, |c, x, _| {
                let count = c[2] + 1.0;
                let scaled = x[0] * count.cast(DType::F32).unsqueeze(1);
                (vec![c[1], c[0] + scaled, count], vec![c[0] * x[0]])
            }))
        }),
        // Neighbours of the carry are read, so that it cannot be written in place; nothing is stacked.
        sample(&[u(&[4, 9])], |x| {
            let length = ScanOptions { length: Some(5), ..FORWARD };
            joined(run(x[0].graph(), &[x[0]], &[], &[], length, |c, _, _| {
                let left = c[0].pad(1, 1, 0, 0.5).slice(1, 0, 9);
                (vec![(c[0] + left) * 0.5], vec![])
            }))
        }),
        // Odd sizes: slices that do not start at whole vectors; a reduction of one, and a softmax.
        sample(&[u(&[3, 2, 5]), u(&[2, 1])], |x| {
            joined(run(x[0].graph(), &[x[1]], &[x[0]], &[], REVERSE, |c, x, _| {
                let total = x[0].sum(&[1]).unsqueeze(1);
                (vec![c[0] * 0.5 + total], vec![x[0].softmax(1) * c[0], x[0].sum(&[0])])
            }))
        })
        .tolerance(5e-6, 2e-5),
        // Slices as both operands of a product, a constant that is used twice, an unused carry and result.
        sample(&[u(&[3, 4, 8]), u(&[4, 4]), u(&[8])], |x| {
            let (last, stacked) = run(x[0].graph(), &[x[1], x[2]], &[x[0]], &[x[2]], FORWARD, |c, x, k| {
                let y = x[0].matmul(x[0].t()) * 0.2 + c[0];
                (vec![y, c[1] * 0.5], vec![x[0] * k[0] * k[0], c[1]])
            });
            joined((vec![last[0]], vec![stacked[0]]))
        })
        .sums(64, 4.0),
        // A gather by a carried index, and one scan that feeds another.
        sample(&[u(&[6, 3, 4]), i32s(&[3], 0, 3)], |x| {
            let (_, first) = run(x[0].graph(), &[x[1]], &[x[0]], &[], FORWARD, |c, x, _| {
                let next = c[0].eq(2.0).select(c[0] * 0.0, c[0] + 1.0);
                (vec![next], vec![x[0].gather(c[0])])
            });
            let zero = x[0].slice(0, 0, 1).squeeze(0).zeros_like();
            joined(run(x[0].graph(), &[zero], &[first[0]], &[], REVERSE, |c, x, _| {
                let y = c[0] * x[0] + x[0];
                (vec![y], vec![y * y])
            }))
        }),
    ]
}

pub fn recurrent_layers() -> Vec<Sample> {
    let layer = |kind: CellKind, [batch, time, input, hidden]: [usize; 4], bidirectional: bool| {
        let (gates, directions) = (kind.gates() * hidden, if bidirectional { 2 } else { 1 });
        let mut inputs = vec![u(&[batch, time, input])];
        for _ in 0..directions {
            inputs.extend([u(&[input, gates]), u(&[hidden, gates]), u(&[gates]), u(&[gates])]);
        }
        let options = RecurrentOptions { bidirectional, ..RecurrentOptions::default() };
        sample(&inputs, move |x| {
            let weights: Vec<_> = x[1..]
                .chunks(4)
                .map(|w| RecurrentWeights { ih: w[0], hh: w[1], bias_ih: Some(w[2]), bias_hh: Some(w[3]) })
                .collect();
            let (y, last) = recurrent(kind, &weights, x[0], None, None, options);
            joined((last, vec![y]))
        })
        .tolerance(1e-5, 5e-5)
    };
    vec![
        layer(CellKind::Lstm, [2, 4, 3, 4], false),
        layer(CellKind::Lstm, [3, 5, 2, 3], true),
        layer(CellKind::Lstm, [1, 1, 1, 1], false),
        layer(CellKind::Gru, [2, 4, 3, 4], false),
        layer(CellKind::Gru, [2, 3, 5, 5], true),
        layer(CellKind::RnnTanh, [5, 6, 4, 8], false),
        layer(CellKind::RnnRelu, [2, 4, 3, 6], true),
        layer(CellKind::Gru, [4, 2, 8, 16], false),
    ]
}

pub fn ctc() -> Vec<Sample> {
    let loss = |[time, batch, classes, labels]: [usize; 4], reduction: CtcReduction| {
        let (longest, shortest) = (labels as i32, i32::from(labels > 0));
        let inputs = [
            f32s(&[time, batch, classes], -2.0, 2.0),
            i32s(&[batch, labels], 1, classes as i32),
            i32s(&[batch], time as i32 - 1, time as i32 + 1),
            i32s(&[batch], shortest, longest + 1),
        ];
        let options = CtcOptions { reduction, ..CtcOptions::default() };
        sample(&inputs, move |x| x[0].log_softmax(-1).ctc_loss(x[1], x[2], x[3], options)).tolerance(1e-5, 5e-5)
    };
    vec![
        loss([8, 2, 4, 3], CtcReduction::None),
        loss([9, 3, 5, 4], CtcReduction::Mean),
        loss([12, 1, 3, 5], CtcReduction::Sum),
        loss([4, 4, 2, 1], CtcReduction::None),
        loss([5, 2, 8, 0], CtcReduction::None),
        loss([3, 1, 4, 1], CtcReduction::Mean),
        loss([20, 2, 6, 7], CtcReduction::Sum),
        loss([7, 5, 3, 2], CtcReduction::None),
    ]
}
