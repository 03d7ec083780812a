//! A learning rate that goes down when something stops getting better, as `torch.optim.lr_scheduler.ReduceLROnPlateau`.
//!
//! Unlike a [`super::Schedule`] it is no function of the step: what it has seen is its state, which belongs into a
//! checkpoint. Knows nothing of what is observed, and when.

use super::require;
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How and when the rate goes down. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plateau {
    pub mode: PlateauMode,
    /// What the rate is multiplied by; below 1.
    pub factor: f64,
    /// Observations without anything better that are waited for: the one after them lowers the rate.
    pub patience: u64,
    /// How much better counts as better.
    pub threshold: f64,
    pub threshold_mode: ThresholdMode,
    /// Observations after a lower rate that are not counted.
    pub cooldown: u64,
    /// The rate goes no lower.
    pub min_lr: f64,
    /// Changes up to this are not made.
    pub eps: f64,
}

/// What is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlateauMode {
    /// Less, as of a loss.
    Min,
    /// More, as of an accuracy.
    Max,
}

/// What a threshold is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThresholdMode {
    /// Parts of the best so far.
    Relative,
    /// The unit of what is observed.
    Absolute,
}

impl Default for Plateau {
    fn default() -> Plateau {
        Plateau {
            mode: PlateauMode::Min,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Relative,
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

impl Plateau {
    /// Refuses options that cannot be meant.
    pub fn check(&self) -> Result<()> {
        require("plateau", "factor", self.factor, 0.0..1.0)?;
        require("plateau", "threshold", self.threshold, 0.0..f64::INFINITY)?;
        require("plateau", "min_lr", self.min_lr, 0.0..f64::INFINITY)?;
        require("plateau", "eps", self.eps, 0.0..f64::INFINITY)
    }

    fn is_better(&self, metric: f64, best: f64) -> bool {
        match (self.mode, self.threshold_mode) {
            (PlateauMode::Min, ThresholdMode::Relative) => metric < best * (1.0 - self.threshold),
            (PlateauMode::Min, ThresholdMode::Absolute) => metric < best - self.threshold,
            (PlateauMode::Max, ThresholdMode::Relative) => metric > best * (1.0 + self.threshold),
            (PlateauMode::Max, ThresholdMode::Absolute) => metric > best + self.threshold,
        }
    }
}

/// What was seen so far. As words (`Display`) and back it is the same to the bit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlateauState {
    /// The best that was observed.
    pub best: f64,
    /// Observations since then, as far as they count.
    pub bad: u64,
    /// Observations that will not count.
    pub cooldown: u64,
    /// What learning rates are multiplied by.
    pub scale: f64,
}

impl PlateauState {
    /// Nothing seen yet.
    pub fn new(plateau: &Plateau) -> PlateauState {
        let best = match plateau.mode {
            PlateauMode::Min => f64::INFINITY,
            PlateauMode::Max => f64::NEG_INFINITY,
        };
        PlateauState { best, bad: 0, cooldown: 0, scale: 1.0 }
    }

    /// Takes note of an observation, while the learning rate (with the scale in it) is `lr`. Gives whether the rate goes
    /// down. What is not a number is no better than anything.
    pub fn observe(&mut self, plateau: &Plateau, metric: f64, lr: f64) -> bool {
        if plateau.is_better(metric, self.best) {
            (self.best, self.bad) = (metric, 0);
        } else {
            self.bad += 1;
        }
        if self.cooldown > 0 {
            (self.cooldown, self.bad) = (self.cooldown - 1, 0);
        }
        if self.bad <= plateau.patience {
            return false;
        }
        (self.cooldown, self.bad) = (plateau.cooldown, 0);
        let lower = (lr * plateau.factor).max(plateau.min_lr);
        let goes_down = lr - lower > plateau.eps;
        if goes_down {
            self.scale *= lower / lr;
        }
        goes_down
    }
}

/// A number as a checkpoint's text: a whole one as it is, another by its bits, in hexadecimal. Reading decimals takes a table
/// of powers of five, which would be a fortieth of what a page downloads.
pub(crate) fn exact(number: f64) -> String {
    let (whole, bits) = (number as u32, number.to_bits());
    if f64::from(whole).to_bits() == bits { whole.to_string() } else { format!("{bits:016x}") }
}

/// The number of such a text. The first checkpoints wrote decimals, of which a page reads whole ones only.
pub(crate) fn from_exact(text: &str) -> Option<f64> {
    let bits = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16).map(f64::from_bits);
    if cfg!(target_arch = "wasm32") {
        bits.or_else(|| text.parse::<u32>().ok().map(f64::from))
    } else {
        bits.or_else(|| text.parse().ok())
    }
}

impl fmt::Display for PlateauState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", exact(self.best), self.bad, self.cooldown, exact(self.scale))
    }
}

impl FromStr for PlateauState {
    type Err = Error;

    fn from_str(text: &str) -> Result<PlateauState> {
        let wrong =
            || Error::feed(format!("`{text}` does not say what a plateau has seen: best, bad, cooldown, scale"));
        let words: Vec<&str> = text.split(' ').collect();
        let &[best, bad, cooldown, scale] = &words[..] else { return Err(wrong()) };
        let count = |word: &str| word.parse::<u64>().ok();
        let state = from_exact(best).zip(count(bad)).zip(count(cooldown)).zip(from_exact(scale));
        let (((best, bad), cooldown), scale) = state.ok_or_else(wrong)?;
        if !(0.0..=1.0).contains(&scale) {
            return Err(wrong());
        }
        Ok(PlateauState { best, bad, cooldown, scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate that each observation is made with, as `param_groups[0]["lr"]` before `step(metric)`.
    fn rates(plateau: Plateau, lr: f64, metrics: &[f64]) -> Vec<f64> {
        let mut state = PlateauState::new(&plateau);
        let rate = |&metric: &f64| {
            let now = lr * state.scale;
            state.observe(&plateau, metric, now);
            // A state that went through a checkpoint is the state.
            state = state.to_string().parse().unwrap();
            now
        };
        metrics.iter().map(rate).collect()
    }

    fn assert_rates(plateau: Plateau, metrics: &[f64], wanted: &[f64]) {
        let found = rates(plateau, 0.8, metrics);
        let close = |(found, wanted): (&f64, &f64)| (found - wanted).abs() <= 1e-15;
        assert!(found.len() == wanted.len() && found.iter().zip(wanted).all(close), "{plateau:?}: {found:?}");
    }

    /// Each followed by hand through the text of `ReduceLROnPlateau.step`.
    #[test]
    fn the_rate_goes_down_as_pytorchs() {
        let plain = Plateau { factor: 0.5, patience: 1, ..Plateau::default() };
        // Two bad ones in a row lower the rate before the next; an equal one is bad, a better one begins anew.
        let metrics = [3.0, 3.0, 3.0, 2.0, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0];
        assert_rates(plain, &metrics, &[0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2]);
        // Not better by a tenth is not better; the best stays 10.
        let coarse = Plateau { threshold: 0.1, ..plain };
        assert_rates(coarse, &[10.0, 9.5, 9.1, 8.9, 8.5, 8.1], &[0.8, 0.8, 0.8, 0.4, 0.4, 0.4]);
        let absolute = Plateau { threshold: 1.0, threshold_mode: ThresholdMode::Absolute, ..plain };
        assert_rates(absolute, &[10.0, 9.5, 9.0, 8.9, 8.5, 8.1], &[0.8, 0.8, 0.8, 0.4, 0.4, 0.4]);
        // After a lower rate two are not counted, whatever they are.
        let slow = Plateau { cooldown: 2, ..plain };
        assert_rates(slow, &[1.0; 9], &[0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2]);
        // A larger one is better, and what is not a number never is.
        let most = Plateau { mode: PlateauMode::Max, ..plain };
        assert_rates(most, &[1.0, 2.0, f64::NAN, 1.5, 3.0], &[0.8, 0.8, 0.8, 0.8, 0.4]);
    }

    #[test]
    fn the_rate_stops_at_its_least_and_small_changes_are_not_made() {
        let floor = Plateau { factor: 0.5, patience: 0, min_lr: 0.3, ..Plateau::default() };
        assert_rates(floor, &[1.0; 5], &[0.8, 0.8, 0.4, 0.3, 0.3]);
        let coarse = Plateau { eps: 0.25, min_lr: 0.0, ..floor };
        assert_rates(coarse, &[1.0; 5], &[0.8, 0.8, 0.4, 0.4, 0.4]);
    }

    #[test]
    fn options_and_words_that_cannot_be_meant_are_refused() {
        assert!(Plateau::default().check().is_ok());
        for wrong in [1.0, f64::NAN, -0.5] {
            assert!(Plateau { factor: wrong, ..Plateau::default() }.check().is_err());
        }
        let fresh = PlateauState::new(&Plateau::default());
        let (best, one, two, nan) = (exact(f64::INFINITY), exact(1.0), exact(2.0), exact(f64::NAN));
        assert_eq!(fresh.to_string(), format!("{best} 0 0 {one}"));
        for number in [0.0, -0.0, 1.0, 0.1, -3.0, 1e300, 4_294_967_295.0, 4_294_967_296.0] {
            assert_eq!(from_exact(&exact(number)).map(f64::to_bits), Some(number.to_bits()), "{number}");
        }
        assert_eq!((best.as_str(), one.as_str()), ("7ff0000000000000", "1"));
        assert_eq!(format!("inf 0 0 {one}").parse::<PlateauState>().unwrap(), fresh);
        for wrong in ["", "0 0", "B 0 0", "none 0 0 O", "B 0 0 O O", "B -1 0 O", "B 2 3 N", "B 2 3 T"] {
            let wrong = wrong.replace('B', &best).replace('O', &one).replace('T', &two).replace('N', &nan);
            assert!(wrong.parse::<PlateauState>().is_err(), "{wrong}");
        }
    }
}
