//! A running mean of the weights, whose evaluation is often better than that of the weights themselves (Polyak and
//! Juditsky 1992): as `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn`.
//!
//! Knows numbers and tensors; which states hold the means is `train/average.rs`'s affair.

use super::require;
use crate::error::Result;
use crate::graph::Tensor;

/// An exponential moving average. It begins with the weights after the first update, so that nothing pulls it to 0 and no
/// bias has to be corrected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ema {
    /// How much of the mean is kept in an update; what is averaged over is about `1 / (1 - decay)` updates.
    pub decay: f64,
    /// Keeps at most `(1 + n) / (10 + n)` in the update after `n` others, so that a short run does not average over
    /// its beginning (TensorFlow's `ExponentialMovingAverage` with `num_updates`).
    pub warm_up: bool,
}

impl Ema {
    /// Without a warm-up, as PyTorch's.
    pub fn new(decay: f64) -> Ema {
        Ema { decay, warm_up: false }
    }

    /// With a smaller decay in the first updates.
    pub fn warm_up(self) -> Ema {
        Ema { warm_up: true, ..self }
    }

    /// What the weights of an update, counted from 1, enter the mean with.
    pub fn share(&self, step: u64) -> f64 {
        let before = step.saturating_sub(1) as f64;
        if before == 0.0 {
            return 1.0;
        }
        let most = if self.warm_up { (1.0 + before) / (10.0 + before) } else { 1.0 };
        1.0 - self.decay.min(most)
    }

    /// Refuses a decay that cannot be meant.
    pub fn check(&self) -> Result<()> {
        require("ema", "decay", self.decay, 0.0..1.0)
    }

    /// The new mean; `share` is that of the update, a scalar.
    #[track_caller]
    pub fn update<'g>(&self, mean: Tensor<'g>, parameter: Tensor<'g>, share: Tensor<'g>) -> Tensor<'g> {
        mean + (parameter - mean) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_begin_at_one_and_end_at_what_is_not_kept() {
        let plain = Ema::new(0.99);
        assert_eq!([1, 2, 1000].map(|step| plain.share(step)), [1.0, 1.0 - 0.99, 1.0 - 0.99]);
        let warm = plain.warm_up();
        assert_eq!(warm.share(1), 1.0);
        assert_eq!([2, 11].map(|step| warm.share(step)), [1.0 - 2.0 / 11.0, 1.0 - 11.0 / 20.0]);
        assert_eq!(warm.share(1_000_000), 1.0 - 0.99);
    }

    #[test]
    fn a_decay_that_keeps_everything_is_refused() {
        assert!(Ema::new(0.0).check().is_ok() && Ema::new(0.9999).check().is_ok());
        for wrong in [1.0, -0.1, f64::NAN] {
            let message = Ema::new(wrong).check().unwrap_err().to_string();
            assert!(message.contains("ema: decay"), "{message}");
        }
    }
}
