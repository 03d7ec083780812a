//! The numbers of NumPy's `RandomState(seed).random_sample()`: MT19937 (Matsumoto and Nishimura, 1998).
//!
//! ONNX's definition of dropout with a seed draws from it, and nothing else here does.

const N: usize = 624;
const M: usize = 397;

/// The generator's state.
pub struct Twister {
    words: [u32; N],
    next: usize,
}

impl Twister {
    /// As `init_genrand`.
    pub fn new(seed: u32) -> Twister {
        let mut words = [seed; N];
        for i in 1..N {
            let last = words[i - 1];
            words[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Twister { words, next: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let joined = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % N] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[i] = self.words[(i + M) % N] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn word(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.words[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in `0..1`, 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let (a, b) = (self.word() >> 5, self.word() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_numpy() {
        let mut twister = Twister::new(0);
        let drawn: Vec<f64> = (0..3).map(|_| twister.uniform()).collect();
        assert_eq!(drawn, [0.548_813_503_927_324_7, 0.715_189_366_372_419_5, 0.602_763_376_071_643_9]);
    }
}
