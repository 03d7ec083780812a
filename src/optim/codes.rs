//! Numbers in eight bits: dynamic tree quantisation in blocks (Dettmers et al. 2022, "8-bit Optimizers via Block-wise
//! Quantization"), as bitsandbytes' `create_dynamic_map` has it.
//!
//! A block's numbers are divided by the largest of them and rounded to the nearest of 256 values: 0, 1, and seven decades
//! from 1e-7 to 1, each with twice as many values as the one below. Four codes make a word; a word holds elements that
//! lie a quarter of a block apart, so that neighbours are unpacked from neighbouring words. Written as tensors.

use crate::dtype::DType;
use crate::graph::Tensor;

/// Elements that share a scale.
pub const BLOCK: usize = 256;
/// Words of a block.
const WORDS: usize = BLOCK / 4;
const DECADES: i32 = 7;

/// Which values the codes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codes {
    /// From about -0.993 to 1. Code 127 is 0.
    Signed,
    /// From 0 to 1, with twice as many values. Code 0 is 0.
    Unsigned,
}

/// The values of one decade: those of the numbers `first`, …, `2 first - 1`.
#[derive(Clone, Copy)]
struct Decade {
    first: f64,
    /// The value of number `n` is `slope n + offset`.
    slope: f64,
    offset: f64,
    /// What is nearer to this decade than to the one below is at least this.
    from: f64,
}

impl Codes {
    /// The decades from the lowest on. Magnitudes are numbered so that a decade begins at a power of two.
    fn decades(self) -> Vec<Decade> {
        let first = |decade: i32| match self {
            Codes::Signed => 2f64.powi(decade),
            Codes::Unsigned => 2f64.powi(decade + 1),
        };
        let mut below = 0.0;
        let decade = |index: i32| {
            let (first, top) = (first(index), 10f64.powi(index + 1 - DECADES));
            let slope = 0.9 * top / first;
            let offset = 0.1 * top - slope * (first - 0.5);
            let from = 0.5 * (below + slope * first + offset);
            below = slope * (2.0 * first - 1.0) + offset;
            Decade { first, slope, offset, from }
        };
        (0..DECADES).map(decade).collect()
    }

    /// The number of the magnitude 1.
    fn top(self) -> f64 {
        match self {
            Codes::Signed => 128.0,
            Codes::Unsigned => 256.0,
        }
    }

    /// What codes (f32) stand for.
    fn value<'g>(self, code: Tensor<'g>) -> Tensor<'g> {
        let signed = code - 127.0;
        let number = match self {
            Codes::Signed => signed.abs(),
            Codes::Unsigned => code + 1.0,
        };
        let mut value = number.zeros_like();
        for Decade { first, slope, offset, .. } in self.decades() {
            value = number.ge(first).select(number * slope + offset, value);
        }
        value = number.ge(self.top()).select(1.0, value);
        match self {
            Codes::Signed => value * signed.sign(),
            Codes::Unsigned => value,
        }
    }

    /// The codes (f32) of the values that are nearest to `x`, which lies in -1..=1 or 0..=1.
    fn nearest<'g>(self, x: Tensor<'g>) -> Tensor<'g> {
        let (size, decades) = (x.abs(), self.decades());
        let mut number = size.zeros_like() + if self == Codes::Signed { 0.0 } else { 1.0 };
        let mut last = 0.0;
        for Decade { first, slope, offset, from } in decades {
            let rounded = ((size - offset) / slope + 0.5).floor().clamp_min(first).minimum(2.0 * first - 1.0);
            number = size.ge(from).select(rounded, number);
            last = slope * (2.0 * first - 1.0) + offset;
        }
        number = size.ge(0.5 * (last + 1.0)).select(self.top(), number);
        match self {
            // There is no -1.
            Codes::Signed => (x.sign() * number + 127.0).clamp_min(0.0),
            Codes::Unsigned => number - 1.0,
        }
    }

    /// `count` numbers (f32, `[count]`) from words (u32, `[blocks, 64]`) and scales (f32, `[blocks]`).
    pub fn unpack<'g>(self, words: Tensor<'g>, scales: Tensor<'g>, count: usize) -> Tensor<'g> {
        let blocks = scales.shape().numel();
        let shift = words.graph().iota([1, 4, 1], 1).cast(DType::U32) * 8;
        let words = words.reshape([blocks, 1, WORDS]).broadcast_to([blocks, 4, WORDS]);
        let code = words.bitwise_right_shift(shift.broadcast_to([blocks, 4, WORDS])).bitwise_and(255);
        let value = self.value(code.cast(DType::F32)) * scales.reshape([blocks, 1, 1]);
        let all = value.reshape([blocks * BLOCK]);
        if blocks * BLOCK == count { all } else { all.slice(0, 0, count) }
    }

    /// Words (u32, `[blocks, 64]`) and scales (f32, `[blocks]`) of numbers (f32, any shape).
    pub fn pack<'g>(self, x: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let count = x.shape().numel();
        let blocks = blocks(count);
        let flat = x.reshape([count]);
        let flat = if blocks * BLOCK == count { flat } else { flat.pad(0, 0, blocks * BLOCK - count, 0.0) };
        let flat = flat.reshape([blocks, 4, WORDS]);
        let scales = flat.abs().max(&[1, 2]);
        let inverse = scales.gt(0.0).select(1.0 / scales, 0.0).reshape([blocks, 1]);
        let part = |index: usize| {
            let numbers = flat.slice(1, index, index + 1).reshape([blocks, WORDS]) * inverse;
            self.nearest(numbers).cast(DType::U32).bitwise_left_shift(8 * index as i32)
        };
        let words = (1..4).fold(part(0), |words, index| words.bitwise_or(part(index)));
        (words, scales)
    }
}

/// Blocks of so many elements.
pub(super) fn blocks(count: usize) -> usize {
    count.div_ceil(BLOCK)
}

/// Words of so many blocks.
pub(super) fn words(blocks: usize) -> [usize; 2] {
    [blocks, WORDS]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::reference::{self, Array};
    use std::collections::HashMap;

    /// `create_dynamic_map(signed, 7, 8)`, from its definition.
    fn map(signed: bool) -> Vec<f64> {
        let mut values = vec![0.0, 1.0];
        for decade in 0..7 {
            let items = 2usize.pow(if signed { decade } else { decade + 1 });
            let bound = |i: usize| 0.1 + 0.9 * i as f64 / items as f64;
            for i in 0..items {
                let mean = 10f64.powi(decade as i32 - 6) * 0.5 * (bound(i) + bound(i + 1));
                values.push(mean);
                if signed {
                    values.push(-mean);
                }
            }
        }
        values.sort_by(f64::total_cmp);
        values
    }

    fn eval(make: impl Fn(&Graph) -> Vec<Tensor<'_>>, inputs: &[(&str, Array)]) -> Vec<Vec<f64>> {
        let graph = Graph::new();
        let values: Vec<_> = make(&graph).into_iter().map(Tensor::value).collect();
        let inputs: HashMap<String, Array> = inputs.iter().map(|(n, a)| (n.to_string(), a.clone())).collect();
        let found = reference::eval(&graph, &values, &inputs, &HashMap::new()).unwrap();
        found.into_iter().map(|array| array.data).collect()
    }

    #[test]
    fn codes_stand_for_the_values_of_the_dynamic_map() {
        for codes in [Codes::Signed, Codes::Unsigned] {
            let code = Array::new([256], DType::F32, (0..256).map(f64::from).collect());
            let found = eval(|g| vec![codes.value(g.input("code", [256], DType::F32))], &[("code", code)]);
            let map = map(codes == Codes::Signed);
            assert_eq!(map.len(), 256);
            // Slope and offset are rounded to f32. At the lower end of a decade their sum is a tenth of either.
            for (found, wanted) in found[0].iter().zip(&map) {
                assert!((found - wanted).abs() <= 2e-6 * wanted.abs(), "{codes:?}: {found}, not {wanted}");
            }
        }
    }

    #[test]
    fn a_number_has_the_code_of_the_nearest_value() {
        for codes in [Codes::Signed, Codes::Unsigned] {
            let signed = codes == Codes::Signed;
            let map = map(signed);
            // Around every value and every middle between two, and at sizes of all decades.
            let between =
                map.windows(2).flat_map(|pair| [0.1, 0.49, 0.51, 0.9].map(|f| pair[0] + f * (pair[1] - pair[0])));
            let xs: Vec<f64> = map.iter().copied().chain(between).chain(signed.then_some(-1.0)).collect();
            let count = xs.len();
            let x = Array::new([count], DType::F32, xs.clone());
            let found = eval(|g| vec![codes.nearest(g.input("x", [count], DType::F32))], &[("x", x)]);
            for (x, code) in xs.iter().zip(&found[0]) {
                let distance = |value: f64| (value - x).abs();
                let best = map.iter().copied().map(distance).fold(f64::INFINITY, f64::min);
                let own = distance(map[*code as usize]);
                assert!(own <= best + 1e-7 * x.abs(), "{codes:?}: {x} has code {code}, {own} away and not {best}");
            }
        }
    }

    #[test]
    fn what_is_packed_comes_back_within_the_steps_of_its_block() {
        // Half a step of the highest decade (of signed ones a step for the largest number's negative, which has no code).
        for (codes, step) in [(Codes::Signed, 0.9 / 128.0), (Codes::Unsigned, 0.9 / 256.0)] {
            let count = 700;
            let lowest = if codes == Codes::Signed { 1.0 } else { 0.0 };
            let scale = |i: usize| if i / BLOCK == 1 { 1e-12 } else { 1.0 };
            let number = |i: usize| (((i * 7919) % 1000) as f64 / 500.0 - lowest) * scale(i);
            let xs: Vec<f64> = (0..count).map(|i| f64::from(number(i) as f32)).collect();
            let found = eval(
                |g| {
                    let (words, scales) = codes.pack(g.input("x", [count], DType::F32));
                    assert_eq!((words.shape(), scales.shape()), ([3, 64].into(), [3].into()));
                    vec![codes.unpack(words, scales, count), words]
                },
                &[("x", Array::new([count], DType::F32, xs.clone()))],
            );
            for (block, (xs, ys)) in xs.chunks(BLOCK).zip(found[0].chunks(BLOCK)).enumerate() {
                let most = xs.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                for (x, y) in xs.iter().zip(ys) {
                    // And the roundings to f32 on the way.
                    assert!((x - y).abs() <= (step + 1e-6) * most, "{codes:?}, block {block}: {x} became {y}");
                }
            }
            assert!(found[1].iter().any(|&word| word > 65536.0));
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        // A state that was never written is zeros too.
        // Words times 0 are as many words that are 0.
        #[allow(clippy::erasing_op)]
        let zeros = |g: &Graph| {
            let (words, scales) = Codes::Signed.pack(g.float(0.0).broadcast_to([300]));
            assert_eq!(words.dtype(), DType::U32);
            Codes::Signed.unpack(words * 0, scales, 300).value()
        };
        let graph = Graph::new();
        let zeros = zeros(&graph);
        let found = reference::eval(&graph, &[zeros], &HashMap::new(), &HashMap::new()).unwrap();
        assert!(found[0].data.iter().all(|&x| x == 0.0));
    }
}
