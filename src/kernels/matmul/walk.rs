//! Operands whose axes are not one stride: the windows of a convolution, read where they lie.
//!
//! Position `x` and step `k` of such an operand lie at `x_offset(x) + k_offset(k)`, each a sum over
//! coordinates that follow from sizes. Where the data is padded, the coordinates that both give along a spatial
//! axis are added up, and what lies outside is 0. Sizes and strides are baked into the text, so that a compiler
//! turns divisions into products; a loop that takes one step of `k` after the other counts instead of dividing.

use crate::kernels::text::Text;
use crate::shape::collapse;

/// One axis of a product as several axes of a tensor, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Walk {
    pub sizes: Vec<usize>,
    /// In elements; a reversed axis has a negative stride, modulo 2^32.
    pub strides: Vec<usize>,
    /// For an axis that moves along a bounded one: which, and by how much.
    pub moves: Vec<Option<(usize, usize)>>,
}

impl Walk {
    /// Without bounds: neighbouring axes that are walked as one are joined.
    pub fn new(sizes: &[usize], strides: &[usize]) -> Walk {
        let (sizes, mut strides) = collapse(&sizes.into(), &[strides]);
        Walk { moves: vec![None; sizes.rank()], sizes: sizes.to_vec(), strides: strides.pop().unwrap_or_default() }
    }

    /// As it is, less axes of size 1 that move nowhere: for negative strides and bounds.
    pub fn unjoined(sizes: &[usize], strides: &[usize], moves: &[Option<(usize, usize)>]) -> Walk {
        let kept = (0..sizes.len()).filter(|&axis| sizes[axis] != 1);
        let all: Vec<_> = kept.map(|axis| (sizes[axis], strides[axis], moves[axis])).collect();
        Walk {
            sizes: all.iter().map(|axis| axis.0).collect(),
            strides: all.iter().map(|axis| axis.1).collect(),
            moves: all.iter().map(|axis| axis.2).collect(),
        }
    }

    /// The stride, if there is only one.
    pub fn stride(&self) -> Option<usize> {
        match self.strides[..] {
            [] => Some(1),
            [stride] => Some(stride),
            _ => None,
        }
    }

    /// The coordinate along one of the axes at position `i`.
    fn coordinate(&self, axis: usize) -> String {
        let inner: usize = self.sizes[axis + 1..].iter().product();
        let above = if inner == 1 { "i".to_string() } else { format!("i / {inner}u") };
        if axis == 0 { above } else { format!("{above} % {}u", self.sizes[axis]) }
    }

    /// `start` and the coordinates, each times its factor.
    fn sum(&self, start: u32, factor: impl Fn(usize) -> Option<usize>) -> String {
        let mut terms = Vec::new();
        for axis in 0..self.sizes.len() {
            match factor(axis) {
                None => {}
                Some(1) => terms.push(self.coordinate(axis)),
                Some(factor) => terms.push(format!("({}) * {}u", self.coordinate(axis), factor as u32)),
            }
        }
        if start != 0 || terms.is_empty() {
            terms.push(format!("{start}u"));
        }
        terms.join(" + ")
    }

    fn moved(&self, bound: usize) -> impl Fn(usize) -> Option<usize> {
        move |axis| self.moves[axis].filter(|(along, _)| *along == bound).map(|(_, step)| step)
    }
}

/// Both axes of an operand: the one that is not `k`, and `k`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Walks {
    pub x: Walk,
    pub k: Walk,
    /// Of each bounded axis of the data: its length, and how far before it the first position lies (which the
    /// operand's offset does too, modulo 2^32).
    pub bounds: Vec<(usize, usize)>,
}

impl Walks {
    /// What a text calls: `{port}_x` and `{port}_k` for offsets, `{port}_x_along0`, `{port}_k_along0`, … for
    /// coordinates along bounded axes, and `{port}_load`, which gives 0 where `inside` does not hold.
    pub fn text(&self, port: &str) -> String {
        let function =
            |name: String, value: String| format!("fn {name}(i: u32) -> u32 {{\n    return {value};\n}}\n\n");
        let mut text = function(format!("{port}_x"), self.x.sum(0, |axis| Some(self.x.strides[axis])));
        text += &function(format!("{port}_k"), self.k.sum(0, |axis| Some(self.k.strides[axis])));
        for (bound, (_, before)) in self.bounds.iter().enumerate() {
            let start = (*before as u32).wrapping_neg();
            text += &function(format!("{port}_x_along{bound}"), self.x.sum(start, self.x.moved(bound)));
            text += &function(format!("{port}_k_along{bound}"), self.k.sum(0, self.k.moved(bound)));
        }
        text += &format!(
            "fn {port}_load(at: u32, inside: bool) -> f32 {{\n    \
             return select(0.0, {port}[select(0u, at, inside)], inside);\n}}\n\n"
        );
        text
    }

    /// Before a loop that takes the steps of `k` one after the other from 0: the counters.
    pub fn declare_counters(&self, text: &mut Text, port: &str) {
        text.line(format!("var {port}_offset = 0u;"));
        (1..self.k.sizes.len()).for_each(|axis| text.line(format!("var {port}_i{axis} = 0u;")));
        (0..self.bounds.len()).for_each(|bound| text.line(format!("var {port}_along{bound} = 0u;")));
    }

    /// In such a loop: `{port}_k{kk}` (and `{port}_k{kk}_{bound}`) of the present step, then one step on.
    pub fn count(&self, text: &mut Text, port: &str, kk: u32) {
        text.line(format!("let {port}_k{kk} = {port}_offset;"));
        for bound in 0..self.bounds.len() {
            text.line(format!("let {port}_k{kk}_{bound} = {port}_along{bound};"));
        }
        let k = &self.k;
        for axis in (1..k.sizes.len()).rev() {
            let grown = if axis + 1 == k.sizes.len() {
                "1u".to_string()
            } else {
                format!("select(0u, 1u, {port}_full{}_{kk})", axis + 1)
            };
            text.line(format!("let {port}_next{axis}_{kk} = {port}_i{axis} + {grown};"));
            text.line(format!("let {port}_full{axis}_{kk} = {port}_next{axis}_{kk} == {}u;", k.sizes[axis]));
            text.line(format!("{port}_i{axis} = select({port}_next{axis}_{kk}, 0u, {port}_full{axis}_{kk});"));
        }
        text.line(format!("{port}_offset += {};", self.growth(port, kk, |axis| k.strides[axis])));
        for bound in 0..self.bounds.len() {
            let moved = k.moved(bound);
            text.line(format!("{port}_along{bound} += {};", self.growth(port, kk, |axis| moved(axis).unwrap_or(0))));
        }
    }

    /// What one step adds to a sum over the axes of `k`: the innermost factor, or, where axes are full, that of the
    /// axis above less what the full ones gave.
    fn growth(&self, port: &str, kk: u32, factor: impl Fn(usize) -> usize) -> String {
        let rank = self.k.sizes.len();
        let Some(last) = rank.checked_sub(1) else { return "0u".into() };
        let mut text = format!("{}u", factor(last) as u32);
        let mut back = 0usize;
        for axis in (0..last).rev() {
            back = back.wrapping_add(factor(axis + 1).wrapping_mul(self.k.sizes[axis + 1] - 1));
            let jump = factor(axis).wrapping_sub(back);
            text = format!("select({text}, {}u, {port}_full{}_{kk})", jump as u32, axis + 1);
        }
        text
    }
}
