//! Learning rates as pure functions of the step.
//!
//! Steps count from 0 here: `lr(0)` is the rate of the first update, as PyTorch's schedulers have it
//! before their first `step()`.

use crate::cosine::cos_of_turns;
use crate::error::{Error, Result};

/// How the learning rate changes over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Linear warm-up over `warmup` updates (0: none), then unchanged.
    Constant { lr: f64, warmup: u64 },
    /// Linear warm-up, then down to `min_lr` along half a cosine that ends with update `steps`.
    Cosine { lr: f64, min_lr: f64, warmup: u64, steps: u64 },
    /// Up from `max_lr / div_factor` over the first `pct_start` of the updates, then down to that over
    /// `final_div_factor`, both along half a cosine: `torch.optim.lr_scheduler.OneCycleLR` with
    /// `three_phase=False`, the rate only (it does not cycle momentum).
    OneCycle { max_lr: f64, steps: u64, pct_start: f64, div_factor: f64, final_div_factor: f64 },
    /// Linear warm-up, then straight down to `end_lr`, which update `steps` has: `LinearLR` after the warm-up.
    Linear { lr: f64, end_lr: f64, warmup: u64, steps: u64 },
    /// Linear warm-up, then `lr (1 - done / all)^power` of the updates after it, and 0 from update `steps` on: `PolynomialLR`.
    Polynomial { lr: f64, power: f64, warmup: u64, steps: u64 },
    /// Linear warm-up, then half a cosine from `lr` to `min_lr` over `period` updates, again and again, each time over
    /// `factor` as many: `CosineAnnealingWarmRestarts` (Loshchilov and Hutter 2017).
    CosineRestarts { lr: f64, min_lr: f64, warmup: u64, period: u64, factor: u64 },
    /// Warm-up, stable, decay: linear warm-up, then `lr`, and over the last `decay` updates straight down to `min_lr`,
    /// which update `steps` has (Hu et al. 2024, MiniCPM).
    WarmupStableDecay { lr: f64, min_lr: f64, warmup: u64, decay: u64, steps: u64 },
    /// `lr` times `gamma` for every `size` updates done: `StepLR`, and with a size of 1 `ExponentialLR`.
    Step { lr: f64, gamma: f64, size: u64 },
}

impl From<f64> for Schedule {
    /// The same rate in every step.
    fn from(lr: f64) -> Schedule {
        Schedule::Constant { lr, warmup: 0 }
    }
}

impl Schedule {
    /// Warm-up, then a cosine down to a tenth of `lr`.
    pub fn cosine(lr: f64, warmup: u64, steps: u64) -> Schedule {
        Schedule::Cosine { lr, min_lr: 0.1 * lr, warmup, steps }
    }

    /// One cycle with PyTorch's defaults.
    pub fn one_cycle(max_lr: f64, steps: u64) -> Schedule {
        Schedule::OneCycle { max_lr, steps, pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 }
    }

    /// Refuses rates that are negative or no finite numbers, as PyTorch does.
    pub fn check(&self) -> Result<()> {
        let rates = match *self {
            Schedule::Constant { lr, .. } => [lr, 0.0],
            Schedule::Cosine { lr, min_lr, .. }
            | Schedule::CosineRestarts { lr, min_lr, .. }
            | Schedule::WarmupStableDecay { lr, min_lr, .. } => [lr, min_lr],
            Schedule::Linear { lr, end_lr, .. } => [lr, end_lr],
            Schedule::Polynomial { lr, power, .. } => [lr, lr * 0f64.powf(power)],
            Schedule::Step { lr, gamma, .. } => [lr, lr * gamma],
            Schedule::OneCycle { max_lr, div_factor, final_div_factor, .. } => {
                [max_lr / div_factor, max_lr / div_factor / final_div_factor]
            }
        };
        match rates.iter().find(|rate| !rate.is_finite() || **rate < 0.0) {
            Some(rate) => Err(Error::config(format!("a learning rate must be finite and not negative, got {rate}"))),
            None => Ok(()),
        }
    }

    /// The learning rate of update number `step`, counted from 0. Beyond the end it stays at the last one.
    pub fn lr(&self, step: u64) -> f64 {
        match *self {
            Schedule::Constant { lr, warmup } => warm_up(lr, warmup, step).unwrap_or(lr),
            Schedule::Cosine { lr, min_lr, warmup, steps } => warm_up(lr, warmup, step).unwrap_or_else(|| {
                let last = steps.saturating_sub(1);
                anneal(lr, min_lr, fraction(step.min(last) as f64, warmup as f64, last as f64))
            }),
            Schedule::OneCycle { max_lr, steps, pct_start, div_factor, final_div_factor } => {
                let initial = max_lr / div_factor;
                let (top, last) = (pct_start * steps as f64 - 1.0, steps as f64 - 1.0);
                let step = (step as f64).min(last);
                if step <= top {
                    anneal(initial, max_lr, fraction(step, 0.0, top))
                } else {
                    anneal(max_lr, initial / final_div_factor, fraction(step, top, last))
                }
            }
            Schedule::Linear { lr, end_lr, warmup, steps } => warm_up(lr, warmup, step).unwrap_or_else(|| {
                let last = steps.saturating_sub(1);
                line(lr, end_lr, fraction(step.min(last) as f64, warmup as f64, last as f64))
            }),
            Schedule::Polynomial { lr, power, warmup, steps } => warm_up(lr, warmup, step).unwrap_or_else(|| {
                lr * (1.0 - fraction(step.min(steps) as f64, warmup as f64, steps as f64)).powf(power)
            }),
            Schedule::CosineRestarts { lr, min_lr, warmup, period, factor } => warm_up(lr, warmup, step)
                .unwrap_or_else(|| {
                    let (at, period) = within_period(step - warmup, period, factor);
                    anneal(lr, min_lr, at as f64 / period as f64)
                }),
            Schedule::WarmupStableDecay { lr, min_lr, warmup, decay, steps } => warm_up(lr, warmup, step)
                .unwrap_or_else(|| {
                    let (last, first) = (steps.saturating_sub(1), steps.saturating_sub(decay + 1));
                    if step <= first && first < last {
                        return lr;
                    }
                    line(lr, min_lr, fraction(step.min(last) as f64, first as f64, last as f64))
                }),
            Schedule::Step { lr, gamma, size } => {
                lr * gamma.powi(i32::try_from(step / size.max(1)).unwrap_or(i32::MAX))
            }
        }
    }
}

/// The rate during warm-up: `lr / warmup` first, `lr` in its last update.
fn warm_up(lr: f64, warmup: u64, step: u64) -> Option<f64> {
    (step < warmup).then(|| lr * (step + 1) as f64 / warmup as f64)
}

/// How far `at` lies from `start` to `end`; 1 if there is no way between them.
fn fraction(at: f64, start: f64, end: f64) -> f64 {
    if end > start { ((at - start) / (end - start)).max(0.0) } else { 1.0 }
}

/// Where a step lies in its period, and how long that is, if each is `factor` times as long as the one before.
fn within_period(step: u64, period: u64, factor: u64) -> (u64, u64) {
    let (mut at, mut period, factor) = (step, period.max(1), factor.max(1));
    if factor == 1 {
        return (at % period, period);
    }
    while at >= period {
        at -= period;
        period = period.saturating_mul(factor);
    }
    (at, period)
}

/// From `start` to `end` along a straight line.
fn line(start: f64, end: f64, fraction: f64) -> f64 {
    start + (end - start) * fraction
}

/// From `start` to `end` along half a cosine.
fn anneal(start: f64, end: f64, fraction: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + cos_of_turns(fraction / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    fn assert_rates(schedule: Schedule, expected: &[(u64, f64)]) {
        for &(step, lr) in expected {
            let found = schedule.lr(step);
            assert!((found - lr).abs() <= 1e-12 * lr.abs().max(1e-3), "{schedule:?} at {step}: {found}, not {lr}");
        }
    }

    /// Values of `OneCycleLR(optimizer, max_lr=0.1, total_steps=10)` as PyTorch computes them.
    #[test]
    fn one_cycle_is_pytorchs() {
        let (initial, last): (f64, f64) = (0.1 / 25.0, 0.1 / 25.0 / 1e4);
        let down = |step: f64| last + (0.1 - last) / 2.0 * (1.0 + (PI * (step - 2.0) / 7.0).cos());
        let expected = [(0, initial), (1, 0.052), (2, 0.1), (3, down(3.0)), (8, down(8.0)), (9, last), (50, last)];
        assert_rates(Schedule::one_cycle(0.1, 10), &expected);
        // The number itself, against a slip in the formula above: 4e-7 + 0.0499998 * (1 + cos(pi / 7)).
        assert!((Schedule::one_cycle(0.1, 10).lr(3) - 0.095_048_463_2).abs() < 1e-9);
    }

    #[test]
    fn cosine_warms_up_peaks_and_ends_at_its_minimum() {
        let schedule = Schedule::Cosine { lr: 1.0, min_lr: 0.2, warmup: 4, steps: 13 };
        assert_rates(schedule, &[(0, 0.25), (3, 1.0), (4, 1.0), (8, 0.6), (12, 0.2), (100, 0.2)]);
    }

    #[test]
    fn constant_warms_up_and_stays() {
        let warm = Schedule::Constant { lr: 0.3, warmup: 3 };
        assert_rates(warm, &[(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.3), (1000, 0.3)]);
        assert_rates(Schedule::from(0.5), &[(0, 0.5), (7, 0.5)]);
    }

    #[test]
    fn what_repeats_or_bends_comes_after_its_warm_up() {
        let restarts = Schedule::CosineRestarts { lr: 1.0, min_lr: 0.0, warmup: 2, period: 4, factor: 1 };
        assert_rates(restarts, &[(0, 0.5), (1, 1.0), (2, 1.0), (4, 0.5), (6, 1.0), (8, 0.5)]);
        let bent = Schedule::Polynomial { lr: 1.0, power: 2.0, warmup: 2, steps: 6 };
        assert_rates(bent, &[(0, 0.5), (1, 1.0), (2, 1.0), (4, 0.25), (5, 0.0625), (6, 0.0), (9, 0.0)]);
    }

    #[test]
    fn degenerate_runs_have_finite_rates() {
        for steps in 0..3 {
            for step in 0..3 {
                assert!(Schedule::one_cycle(1.0, steps).lr(step).is_finite());
                assert!(Schedule::cosine(1.0, 0, steps).lr(step).is_finite());
            }
        }
    }
}
