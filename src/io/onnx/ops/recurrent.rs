//! `RNN`, `GRU` and `LSTM`: one scan a direction, the inputs' products taken out of it.
//!
//! Shapes: `t` steps, `b` samples, `i` inputs, `h` hidden units, `d` directions.

use super::super::call::{Call, Outputs, Val};
use super::{Op, op};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Tensor;
use crate::tensor::{ScanOptions, concat, scan};

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "RNN" => op(|c| run(c, Cell::Rnn)),
        "GRU" => op(|c| run(c, Cell::Gru { linear_before_reset: c.attr_int("linear_before_reset", 0) != 0 })),
        "LSTM" => op(|c| run(c, Cell::Lstm { coupled: c.attr_int("input_forget", 0) != 0 })),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Rnn,
    Gru {
        linear_before_reset: bool,
    },
    /// With one gate for input and forgetting if `coupled`.
    Lstm {
        coupled: bool,
    },
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm { .. } => 4,
        }
    }

    fn defaults(self) -> &'static [&'static str] {
        match self {
            Cell::Rnn => &["Tanh"],
            Cell::Gru { .. } => &["Sigmoid", "Tanh"],
            Cell::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// An activation with its numbers.
#[derive(Clone, Copy)]
struct Activation {
    apply: for<'g> fn(Tensor<'g>, f64, f64) -> Tensor<'g>,
    alpha: f64,
    beta: f64,
}

impl Activation {
    fn of<'g>(self, x: Tensor<'g>) -> Tensor<'g> {
        (self.apply)(x, self.alpha, self.beta)
    }

    /// By name; numbers are taken from the lists in the order in which activations need some.
    fn named(
        c: &Call<'_, '_>,
        name: &str,
        alphas: &mut impl Iterator<Item = f32>,
        betas: &mut impl Iterator<Item = f32>,
    ) -> Result<Activation> {
        type Apply = for<'g> fn(Tensor<'g>, f64, f64) -> Tensor<'g>;
        let (apply, alpha, beta): (Apply, Option<f64>, Option<f64>) = match name.to_ascii_lowercase().as_str() {
            "relu" => (|x, _, _| x.relu(), None, None),
            "tanh" => (|x, _, _| x.tanh(), None, None),
            "sigmoid" => (|x, _, _| x.sigmoid(), None, None),
            "softsign" => (|x, _, _| x / (x.abs() + 1.0), None, None),
            "softplus" => (|x, _, _| x.softplus(), None, None),
            "affine" => (|x, a, b| x * a + b, Some(1.0), Some(0.0)),
            "leakyrelu" => (|x, a, _| x.leaky_relu(a), Some(0.01), None),
            "thresholdedrelu" => (|x, a, _| x.gt(a).select(x, 0.0), Some(1.0), None),
            "scaledtanh" => (|x, a, b| (x * b).tanh() * a, Some(1.0), Some(1.0)),
            "hardsigmoid" => (|x, a, b| (x * a + b).clamp(0.0, 1.0), Some(0.2), Some(0.5)),
            "elu" => (|x, a, _| x.elu(a), Some(1.0), None),
            _ => return Err(c.invalid(format_args!("there is no activation `{name}`"))),
        };
        let number = |default: Option<f64>, list: &mut dyn Iterator<Item = f32>| match default {
            Some(default) => list.next().map_or(default, f64::from),
            None => 0.0,
        };
        Ok(Activation { apply, alpha: number(alpha, alphas), beta: number(beta, betas) })
    }
}

/// What one direction computes with.
struct Direction<'g> {
    /// `[t, b, gates h]`: the inputs' part of all gates, with both biases that can be added there.
    gates: Tensor<'g>,
    /// `[h, gates h]`.
    recurrent: Tensor<'g>,
    /// `[h]`: of the GRU's candidate, which stands within the product with the reset gate.
    candidate_bias: Tensor<'g>,
    /// `[3 h]`: the LSTM's looks at its cell: input, output, forget.
    peepholes: Tensor<'g>,
    hidden: Tensor<'g>,
    cell: Tensor<'g>,
    /// `[t, b, 1]`: whether the sequence still goes on.
    going_on: Tensor<'g>,
    activations: Vec<Activation>,
    clip: Option<f64>,
    reverse: bool,
}

fn run<'g>(c: &Call<'_, 'g>, cell: Cell) -> Outputs<'g> {
    let by_batch = c.attr_int("layout", 0) != 0;
    let swapped = |x: Tensor<'g>| if by_batch { x.transpose(0, 1) } else { x };
    let (x, w, r) = (swapped(c.tensor(0)?), c.tensor(1)?, c.tensor(2)?);
    let (xs, ws, rs) = (x.shape(), w.shape(), r.shape());
    let ([steps, batch, inputs], [directions, rows, columns], [_, _, hidden]) = (&xs[..], &ws[..], &rs[..]) else {
        return Err(c.invalid(format_args!("data {xs}, weights {ws} and {rs} must have three axes")));
    };
    let (steps, batch, directions, hidden) = (*steps, *batch, *directions, *hidden);
    let names = c.attr_text("direction", "forward");
    let reverse: &[bool] = match names.as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(c.invalid(format_args!("there is no direction `{other}`"))),
    };
    let fits = *rows == cell.gates() * hidden && columns == inputs && rs[..2] == ws[..2] && directions == reverse.len();
    if !fits || steps == 0 {
        return Err(c.invalid(format_args!("data {xs}, weights {ws} and {rs} do not fit")));
    }
    let activations = activations(c, cell, directions)?;
    let mut found = Vec::new();
    for (at, &reverse) in reverse.iter().enumerate() {
        let part = Part { at, hidden, batch, steps, by_batch };
        found.push(part.direction(c, cell, (x, w, r), &activations, reverse)?.run(cell));
    }
    c.graph().error()?;
    let joined = |pick: fn(&[Tensor<'g>; 3]) -> Tensor<'g>, axis: isize| {
        let parts: Vec<Tensor<'g>> = found.iter().map(|all| pick(all).unsqueeze(axis)).collect();
        concat(parts[0], &parts[1..], axis)
    };
    // [t, d, b, h] and [d, b, h]
    let (y, last, last_cell) = (joined(|all| all[0], 1), joined(|all| all[1], 0), joined(|all| all[2], 0));
    let y = if by_batch { y.permute(&[2, 0, 1, 3]) } else { y };
    Ok(vec![Val::from(y), swapped(last).into(), swapped(last_cell).into()])
}

fn activations(c: &Call<'_, '_>, cell: Cell, directions: usize) -> Result<Vec<Vec<Activation>>> {
    let names = c
        .attr_texts("activations")
        .unwrap_or_else(|| (0..directions).flat_map(|_| cell.defaults()).map(|name| name.to_string()).collect());
    let each = cell.defaults().len();
    if names.len() != each * directions {
        return Err(c.invalid(format_args!("{} activations; {each} a direction are needed", names.len())));
    }
    let mut alphas = c.attr_floats("activation_alpha").unwrap_or_default().into_iter();
    let mut betas = c.attr_floats("activation_beta").unwrap_or_default().into_iter();
    let all =
        names.iter().map(|name| Activation::named(c, name, &mut alphas, &mut betas)).collect::<Result<Vec<_>>>()?;
    Ok(all.chunks(each).map(<[_]>::to_vec).collect())
}

/// Which direction is read, and the sizes that all share.
struct Part {
    at: usize,
    hidden: usize,
    batch: usize,
    steps: usize,
    by_batch: bool,
}

impl Part {
    /// One direction of an optional input `[d, ..]`, without that axis; zeros of `sizes` where it is missing.
    fn read<'g>(&self, c: &Call<'_, 'g>, index: usize, sizes: &[usize]) -> Result<Tensor<'g>> {
        let Some(all) = c.optional(index)? else { return Ok(c.graph().float(0.0).broadcast_to(sizes)) };
        let all = if self.by_batch && sizes.len() == 2 { all.transpose(0, 1) } else { all };
        if all.rank() != sizes.len() + 1 || all.shape()[1..] != *sizes {
            return Err(c.invalid(format_args!("input {index} is {}, each direction needs {sizes:?}", all.shape())));
        }
        Ok(all.slice(0, self.at, self.at + 1).squeeze(0))
    }

    fn direction<'g>(
        &self,
        c: &Call<'_, 'g>,
        cell: Cell,
        (x, w, r): (Tensor<'g>, Tensor<'g>, Tensor<'g>),
        activations: &[Vec<Activation>],
        reverse: bool,
    ) -> Result<Direction<'g>> {
        let (h, rows) = (self.hidden, cell.gates() * self.hidden);
        let own = |x: Tensor<'g>| x.slice(0, self.at, self.at + 1).squeeze(0).t();
        let bias = self.read(c, 3, &[2 * rows])?;
        let (input_bias, recurrent_bias) = (bias.slice(0, 0, rows), bias.slice(0, rows, 2 * rows));
        let inside = matches!(cell, Cell::Gru { linear_before_reset: true });
        let candidate_bias = recurrent_bias.slice(0, rows - h, rows);
        let added = if inside {
            let outside = recurrent_bias.slice(0, 0, rows - h);
            input_bias + concat(outside, &[candidate_bias.zeros_like()], 0)
        } else {
            input_bias + recurrent_bias
        };
        let lengths = c.optional(4)?;
        let going_on = match lengths {
            Some(lengths) if *lengths.shape() == [self.batch] => {
                c.graph().iota([self.steps, self.batch], 0).lt(lengths.reshape([1, self.batch])).unsqueeze(-1)
            }
            Some(lengths) => return Err(c.invalid(format_args!("one length a sample, got {}", lengths.shape()))),
            None => c.graph().iota([self.steps, self.batch, 1], 0).ge(0),
        };
        let lstm = matches!(cell, Cell::Lstm { .. });
        Ok(Direction {
            gates: x.matmul(own(w)) + added,
            recurrent: own(r),
            candidate_bias,
            peepholes: if lstm { self.read(c, 7, &[3 * h])? } else { c.graph().float(0.0).broadcast_to([3 * h]) },
            hidden: self.read(c, 5, &[self.batch, h])?,
            cell: if lstm {
                self.read(c, 6, &[self.batch, h])?
            } else {
                c.graph().float(0.0).broadcast_to([self.batch, h])
            },
            going_on,
            activations: activations[self.at].clone(),
            clip: c.attribute("clip").and_then(|attribute| attribute.f).map(f64::from),
            reverse,
        })
    }
}

impl<'g> Direction<'g> {
    /// All hidden states `[t, b, h]`, the last one, and the last cell.
    fn run(self, kind: Cell) -> [Tensor<'g>; 3] {
        let graph = self.gates.graph();
        let options = ScanOptions { reverse: self.reverse, ..ScanOptions::default() };
        let going_on = self.going_on.cast(DType::F32);
        let (carries, stacks) = scan(
            graph,
            &[self.hidden, self.cell],
            &[self.gates, going_on],
            &[self.recurrent, self.candidate_bias, self.peepholes],
            options,
            |carried, slices, constants| {
                let step =
                    Step { gates: slices[0], recurrent: constants[0], bias: constants[1], peepholes: constants[2] };
                let (hidden, cell) = (carried[0], carried[1]);
                let (new, new_cell) = match kind {
                    Cell::Rnn => (step.rnn(hidden, &self.activations, self.clip), cell),
                    Cell::Gru { linear_before_reset } => {
                        (step.gru(hidden, &self.activations, self.clip, linear_before_reset), cell)
                    }
                    Cell::Lstm { coupled } => step.lstm(hidden, cell, &self.activations, self.clip, coupled),
                };
                let on = slices[1].gt(0.0);
                let kept = |new, old| on.select(new, old);
                (vec![kept(new, hidden), kept(new_cell, cell)], vec![on.select(new, 0.0)])
            },
        );
        match (&carries[..], &stacks[..]) {
            (&[last, cell], &[all, ..]) => [all, last, cell],
            // Only after an error, which is recorded.
            _ => [self.gates, self.hidden, self.cell],
        }
    }
}

/// One step as it is written in the body of the scan.
#[derive(Clone, Copy)]
struct Step<'b> {
    gates: Tensor<'b>,
    recurrent: Tensor<'b>,
    bias: Tensor<'b>,
    peepholes: Tensor<'b>,
}

fn clipped(x: Tensor<'_>, clip: Option<f64>) -> Tensor<'_> {
    clip.map_or(x, |clip| x.clamp(-clip, clip))
}

/// Part `index` of the last axis, in parts of `size`.
fn gate(x: Tensor<'_>, index: usize, size: usize) -> Tensor<'_> {
    x.slice(-1, index * size, (index + 1) * size)
}

impl<'b> Step<'b> {
    fn rnn(self, hidden: Tensor<'b>, f: &[Activation], clip: Option<f64>) -> Tensor<'b> {
        f[0].of(clipped(self.gates + hidden.matmul(self.recurrent), clip))
    }

    /// Gates in the order update, reset, candidate.
    fn gru(self, hidden: Tensor<'b>, f: &[Activation], clip: Option<f64>, linear_before_reset: bool) -> Tensor<'b> {
        let h = hidden.shape()[1];
        let two = gate_pair(self.gates, h) + hidden.matmul(gate_pair(self.recurrent, h));
        let (update, reset) = (f[0].of(clipped(gate(two, 0, h), clip)), f[0].of(clipped(gate(two, 1, h), clip)));
        let recurrent = gate(self.recurrent, 2, h);
        let seen = if linear_before_reset {
            reset * (hidden.matmul(recurrent) + self.bias)
        } else {
            (reset * hidden).matmul(recurrent)
        };
        let candidate = f[1].of(clipped(gate(self.gates, 2, h) + seen, clip));
        candidate - update * candidate + update * hidden
    }

    /// Gates in the order input, output, forget, cell; peepholes input, output, forget.
    fn lstm(
        self,
        hidden: Tensor<'b>,
        cell: Tensor<'b>,
        f: &[Activation],
        clip: Option<f64>,
        coupled: bool,
    ) -> (Tensor<'b>, Tensor<'b>) {
        let h = hidden.shape()[1];
        let gates = self.gates + hidden.matmul(self.recurrent);
        let peep = |index: usize| gate(self.peepholes, index, h);
        let input = f[0].of(clipped(gate(gates, 0, h) + peep(0) * cell, clip));
        let forget = if coupled { 1.0 - input } else { f[0].of(clipped(gate(gates, 2, h) + peep(2) * cell, clip)) };
        let new = forget * cell + input * f[1].of(clipped(gate(gates, 3, h), clip));
        let output = f[0].of(clipped(gate(gates, 1, h) + peep(1) * new, clip));
        (output * f[2].of(new), new)
    }
}

/// The first two gates.
fn gate_pair(x: Tensor<'_>, h: usize) -> Tensor<'_> {
    x.slice(-1, 0, 2 * h)
}
