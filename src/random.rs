//! Random numbers: Threefry-2x32-20, the same bits on the host and in `shaders/lib/threefry.wgsl`.
//!
//! A number is a function of a key and a counter, so it depends neither on how many were drawn
//! before nor on how a batch is split. This module knows nothing about graphs: it defines what
//! the bits of a random operation are, and initialises weights on the host.
//! Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

use crate::cosine::cos_of_turns;

const PARITY: u32 = 0x1BD1_1BDA;
const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];

/// Threefry-2x32 with 20 rounds: two words from a two-word key and a two-word counter.
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let schedule = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(key[0]), counter[1].wrapping_add(key[1])];
    for round in 0..20 {
        x[0] = x[0].wrapping_add(x[1]);
        x[1] = x[1].rotate_left(ROTATIONS[round % 8]) ^ x[0];
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            x[0] = x[0].wrapping_add(schedule[injection % 3]);
            x[1] = x[1].wrapping_add(schedule[(injection + 1) % 3]).wrapping_add(injection as u32);
        }
    }
    x
}

/// The bits of one element of the graph's `RandomBits` operation.
///
/// `key` is (seed, index of the run's first sample), `stream` the ordinal of the call site,
/// `sample_index` the element's coordinate along axis 0 and `within` its row-major index in the
/// rest of the shape. A scalar has both 0, a vector has `within` 0.
pub fn random_bits(key: [u32; 2], stream: u32, sample_index: u32, within: u32) -> u32 {
    threefry2x32([key[0], stream], [key[1].wrapping_add(sample_index), within])[0]
}

/// Numbers for initialisation on the host: element `i` depends only on (seed, stream, `i`).
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream of this number under a seed. Different streams are independent.
    pub fn new(seed: u64, stream: u32) -> Stream {
        // 96 bits of name are hashed into the 64-bit key by the generator itself.
        Stream { key: threefry2x32([seed as u32, (seed >> 32) as u32], [stream, 0]) }
    }

    /// The two words of element `index`.
    pub fn words(&self, index: u64) -> [u32; 2] {
        threefry2x32(self.key, [index as u32, (index >> 32) as u32])
    }

    /// `n` numbers uniform between `low` and `high` (rounding to f32 may give `high` itself).
    pub fn uniform(&self, n: usize, low: f32, high: f32) -> Vec<f32> {
        let (low, width) = (f64::from(low), f64::from(high) - f64::from(low));
        (0..n as u64).map(|index| (low + width * unit(self.words(index)[0])) as f32).collect()
    }

    /// `n` numbers from the normal distribution, by Box and Muller's transform.
    pub fn normal(&self, n: usize, mean: f32, std: f32) -> Vec<f32> {
        let (mean, std) = (f64::from(mean), f64::from(std));
        let element = |index| {
            let [a, b] = self.words(index);
            let radius = (-2.0 * unit(a).ln()).sqrt();
            (mean + std * radius * cos_of_turns(unit(b))) as f32
        };
        (0..n as u64).map(element).collect()
    }
}

/// The middle of the word's interval: strictly between 0 and 1, so its logarithm is finite.
fn unit(word: u32) -> f64 {
    (f64::from(word) + 0.5) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threefry_gives_the_known_answers_of_random123() {
        assert_eq!(threefry2x32([0; 2], [0; 2]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        let pi = threefry2x32([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]);
        assert_eq!(pi, [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn a_batch_split_does_not_change_the_bits() {
        let whole = random_bits([7, 0], 3, 5, 2);
        assert_eq!(random_bits([7, 4], 3, 1, 2), whole);
        assert_eq!(random_bits([7, u32::MAX], 3, 6, 2), whole);
    }

    #[test]
    fn elements_depend_only_on_their_index_and_name() {
        let stream = Stream::new(1 << 40, 2);
        assert_eq!(stream.normal(3, 0.0, 1.0), stream.normal(9, 0.0, 1.0)[..3]);
        assert_ne!(stream.words(0), Stream::new(0, 2).words(0));
        assert_ne!(stream.words(0), Stream::new(1 << 40, 3).words(0));
        assert!(stream.uniform(0, 0.0, 1.0).is_empty());
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let moments = |x: &[f32]| {
            let n = x.len() as f64;
            let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            (mean, (x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
        };
        let stream = Stream::new(42, 0);
        let (mean, std) = moments(&stream.normal(100_000, 2.0, 3.0));
        assert!((mean - 2.0).abs() < 0.03 && (std - 3.0).abs() < 0.03, "{mean} {std}");
        let uniform = stream.uniform(100_000, -1.0, 3.0);
        let (mean, std) = moments(&uniform);
        assert!((mean - 1.0).abs() < 0.02 && (std - 4.0 / 12f64.sqrt()).abs() < 0.02, "{mean} {std}");
        assert!(uniform.iter().all(|&x| (-1.0..=3.0).contains(&x)));
    }
}
