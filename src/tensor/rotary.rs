//! Rotary positions (Su et al. 2021, RoFormer): pairs of features of a head are turned by an angle that
//! grows with the position, the faster the earlier the pair.
//!
//! The frequencies are computed here in f64 and become constants of the graph, so that every way of stretching them
//! is a function on the host. Nothing here knows about attention.

use super::movement::concat;
use crate::dtype::DType;
use crate::graph::{Graph, Tensor};
use crate::shape::Shape;

/// How frequencies are changed for contexts longer than a model was trained on; the names are those of Hugging Face's
/// `rope_scaling`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RotaryScaling {
    #[default]
    None,
    /// Positions divided by the factor (Chen et al. 2023).
    Linear { factor: f64 },
    /// The base times `factor^(n / (n - 2))` for `n` turned features.
    Ntk { factor: f64 },
    /// Llama 3.1: waves longer than `context / low` divided by the factor, those shorter than `context / high` kept,
    /// and a straight line between.
    Llama3 { factor: f64, low: f64, high: f64, context: f64 },
}

/// What [`Tensor::rotary`] does to a head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// Pair `i` of `n / 2` turns by `base^(-2 i / n)` a position.
    pub base: f64,
    /// Whether neighbours make a pair (`0, 1`, `2, 3`, …, GPT-J's form), or element `i` and `i + n / 2` (that of
    /// GPT-NeoX and Llama).
    pub interleaved: bool,
    /// How many features of a head are turned, from the first on; all if `None`.
    pub features: Option<usize>,
    /// The position of the first element of the time axis.
    pub offset: usize,
    pub scaling: RotaryScaling,
}

impl Default for Rotary {
    fn default() -> Rotary {
        Rotary { base: 10_000.0, interleaved: false, features: None, offset: 0, scaling: RotaryScaling::None }
    }
}

impl Rotary {
    /// Radians a position for each pair of `n` turned features.
    pub fn frequencies(&self, n: usize) -> Vec<f64> {
        let size = n as f64;
        let base = match self.scaling {
            RotaryScaling::Ntk { factor } if n > 2 => self.base * factor.powf(size / (size - 2.0)),
            _ => self.base,
        };
        let scaled = |frequency: f64| match self.scaling {
            RotaryScaling::None | RotaryScaling::Ntk { .. } => frequency,
            RotaryScaling::Linear { factor } => frequency / factor,
            RotaryScaling::Llama3 { factor, low, high, context } => {
                // How many waves fit into the context, from `low` (all slowed down) to `high` (none).
                let waves = context * frequency / std::f64::consts::TAU;
                let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (kept + (1.0 - kept) / factor)
            }
        };
        (0..n / 2).map(|pair| scaled(base.powf(-2.0 * pair as f64 / size))).collect()
    }
}

impl<'g> Tensor<'g> {
    /// Queries or keys `[batch, time, heads, size]` turned by their positions `offset, offset + 1, …`.
    #[track_caller]
    pub fn rotary(self, rotary: &Rotary) -> Tensor<'g> {
        let time = self.shape().get(1).copied().unwrap_or(0);
        let position = self.graph().iota([time], 0);
        self.rotary_at(if rotary.offset == 0 { position } else { position + rotary.offset as f64 }, rotary)
    }

    /// [`Tensor::rotary`] with positions (i32 `[time]`, or `[batch, time]`) known at run time; the offset does
    /// not count.
    #[track_caller]
    pub fn rotary_at(self, positions: Tensor<'g>, rotary: &Rotary) -> Tensor<'g> {
        let (graph, shape, own) = (self.graph(), self.shape(), positions.shape());
        let &[batch, time, _, size] = &shape[..] else {
            graph.record_error("rotary", format!("wants [batch, time, heads, size], got {shape}"));
            return self;
        };
        let turned = rotary.features.unwrap_or(size);
        if turned > size || !turned.is_multiple_of(2) {
            let message = format!("turns an even number of features up to the head's {size}, got {turned}");
            graph.record_error("rotary", message);
            return self;
        }
        let rows = match own[..] {
            [t] if t == time => [1, time, 1, 1],
            [b, t] if t == time && (b == batch || b == 1) => [b, time, 1, 1],
            _ => {
                let message = format!("positions must be [{time}] or [{batch}, {time}] for {shape}, got {own}");
                graph.record_error("rotary", message);
                return self;
            }
        };
        if turned == 0 {
            return self;
        }
        let frequency = constants(graph, &rotary.frequencies(turned));
        let angle = positions.reshape(rows).cast(DType::F32) * frequency;
        let head = turn(self.slice(-1, 0, turned), angle.cos(), angle.sin(), rotary.interleaved);
        if turned == size { head } else { concat(head, &[self.slice(-1, turned, size)], -1) }
    }
}

/// `(a, b)` to `(a cos - b sin, b cos + a sin)` for each pair of the last axis.
fn turn<'g>(x: Tensor<'g>, cos: Tensor<'g>, sin: Tensor<'g>, interleaved: bool) -> Tensor<'g> {
    let shape = x.shape();
    let last = shape.rank() - 1;
    let half = shape[last] / 2;
    if !interleaved {
        let (a, b) = (x.slice(-1, 0, half), x.slice(-1, half, 2 * half));
        return concat(a * cos - b * sin, &[b * cos + a * sin], -1);
    }
    let pairs: Shape = shape[..last].iter().copied().chain([half, 2]).collect();
    let x = x.reshape(pairs);
    let (a, b) = (x.slice(-1, 0, 1).squeeze(-1), x.slice(-1, 1, 2).squeeze(-1));
    concat((a * cos - b * sin).unsqueeze(-1), &[(b * cos + a * sin).unsqueeze(-1)], -1).reshape(shape)
}

/// A short vector of constants, chosen by index.
pub(super) fn constants<'g>(graph: &'g Graph, values: &[f64]) -> Tensor<'g> {
    let index = graph.iota([values.len()], 0);
    let mut vector = graph.float(values.first().copied().unwrap_or(0.0)).broadcast_to([values.len()]);
    for (place, &value) in values.iter().enumerate().skip(1) {
        vector = index.eq(place as f64).select(value, vector);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_stretched_as_published() {
        let plain = Rotary::default().frequencies(8);
        for (got, want) in plain.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((got - want).abs() < 1e-12, "{plain:?}");
        }
        let linear = Rotary { scaling: RotaryScaling::Linear { factor: 4.0 }, ..Rotary::default() }.frequencies(8);
        assert_eq!(linear[1], plain[1] / 4.0);
        let ntk = Rotary { scaling: RotaryScaling::Ntk { factor: 4.0 }, ..Rotary::default() }.frequencies(8);
        // The slowest pair is slowed by the whole factor, the fastest not at all.
        assert!((ntk[3] - plain[3] / 4.0).abs() < 1e-12 && ntk[0] == 1.0, "{ntk:?}");
        let scaling = RotaryScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, context: 8192.0 };
        let llama = Rotary { base: 500_000.0, scaling, ..Rotary::default() }.frequencies(128);
        let plain = Rotary { base: 500_000.0, ..Rotary::default() }.frequencies(128);
        assert_eq!((llama[0], llama[63]), (plain[0], plain[63] / 8.0));
    }
}
