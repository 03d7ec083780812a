//! How much work goes into one submission: less than a watchdog minds, estimated before and corrected by what is measured.
//!
//! Windows resets a GPU that is busy for two seconds, and a page wants its share of it too. Estimates come from rates of a
//! class of adapters, and may be wrong by far: what runs took corrects them. Where work is cut changes no result. A
//! single dispatch is not cut, however long it is.

use super::lock;
use crate::kernels::AdapterClass;
use crate::program::Dispatch;
use std::sync::Mutex;
use std::time::Duration;
use web_time::Instant;

/// The longest submission, in microseconds.
const LONGEST: f32 = 200_000.0;
/// Below this share of the longest, what is measured is latency, and no cut depends on it.
const NOTICED: f32 = 0.1;
/// How wrong estimates may be.
const WRONG: std::ops::RangeInclusive<f32> = 1.0 / 64.0..=64.0;

/// Rough throughput of a class of adapters.
#[derive(Clone, Copy)]
pub(super) struct Rates {
    gflops: f32,
    gigabytes: f32,
}

impl Rates {
    pub fn of(class: AdapterClass) -> Rates {
        match class {
            AdapterClass::Discrete => Rates { gflops: 4000.0, gigabytes: 300.0 },
            AdapterClass::Apple => Rates { gflops: 1500.0, gigabytes: 100.0 },
            AdapterClass::Integrated => Rates { gflops: 300.0, gigabytes: 30.0 },
            AdapterClass::Cpu => Rates { gflops: 20.0, gigabytes: 5.0 },
        }
    }

    /// The estimated time of a dispatch.
    pub fn micros(self, dispatch: &Dispatch) -> f32 {
        dispatch.flops as f32 / (self.gflops * 1e3) + dispatch.bytes_moved as f32 / (self.gigabytes * 1e3)
    }
}

/// The pace of a session.
pub(super) struct Pace {
    /// The longest submission, in corrected microseconds.
    longest: f32,
    learnt: Mutex<Learnt>,
}

struct Learnt {
    /// Measured over estimated time.
    factor: f32,
    /// When the run with this number was complete, if the host was there to see it.
    seen: Option<(u64, Instant)>,
}

/// A run, and those before it whose results nobody asked for.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// Estimated, in microseconds, without correction.
    pub micros: f32,
    /// When the first of it was submitted.
    pub begun: Instant,
    /// Nothing was under way then.
    pub idle: bool,
}

impl Pace {
    /// On a class of adapters; none of a software adapter is cut, because no watchdog guards it.
    pub fn new(class: AdapterClass, longest: Option<f32>) -> Pace {
        let usual = if class == AdapterClass::Cpu { f32::INFINITY } else { LONGEST };
        let learnt = Learnt { factor: 1.0, seen: None };
        Pace { longest: longest.unwrap_or(usual), learnt: Mutex::new(learnt) }
    }

    /// The longest submission in estimated microseconds, as things stand.
    pub fn longest(&self) -> f32 {
        self.longest / lock(&self.learnt).factor
    }

    /// The host waited until the run with this number was complete, which it is now.
    pub fn saw(&self, number: u64, stretch: Option<Stretch>) {
        let mut learnt = lock(&self.learnt);
        let (now, before) = (Instant::now(), learnt.seen);
        learnt.seen = Some((number, now));
        let Some(stretch) = stretch else { return };
        let start = match before {
            _ if stretch.idle => stretch.begun,
            // It began when the one before it was complete.
            Some((earlier, at)) if earlier + 1 == number => at.max(stretch.begun),
            _ => return,
        };
        learnt.learn(stretch.micros, now.saturating_duration_since(start));
    }
}

impl Learnt {
    fn learn(&mut self, estimated: f32, took: Duration) {
        let took = took.as_secs_f32() * 1e6;
        if estimated <= 0.0 || took.max(estimated * self.factor) < NOTICED * LONGEST {
            return;
        }
        let ratio = (took / estimated).clamp(*WRONG.start(), *WRONG.end());
        // What is slower than believed is dangerous at once; what is faster may be so by chance.
        self.factor = if ratio > self.factor { ratio } else { self.factor * (ratio / self.factor).sqrt().sqrt() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(class: AdapterClass) -> Pace {
        Pace::new(class, None)
    }

    #[test]
    fn what_is_measured_corrects_the_estimates() {
        let discrete = pace(AdapterClass::Discrete);
        let learn = |micros, took| lock(&discrete.learnt).learn(micros, Duration::from_micros(took));
        // Four times slower than estimated: known at once.
        learn(100_000.0, 400_000);
        assert_eq!(discrete.longest(), 50_000.0);
        // Latency says nothing.
        learn(10.0, 5_000);
        assert_eq!(discrete.longest(), 50_000.0);
        // Faster: believed after a while, even if a submission is short because of the correction.
        (0..40).for_each(|_| learn(50_000.0, 10_000));
        let longest = discrete.longest();
        assert!((500_000.0..1_100_000.0).contains(&longest), "{longest}");
        // Not more than estimates can be wrong.
        learn(1.0, u64::from(u32::MAX));
        assert_eq!(discrete.longest(), LONGEST / 64.0);
        assert_eq!(pace(AdapterClass::Cpu).longest(), f32::INFINITY);
    }

    #[test]
    fn a_run_is_measured_only_where_its_beginning_is_known() {
        let pace = pace(AdapterClass::Discrete);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(2)).expect("the clock has run for two seconds");
        let stretch = |idle| Some(Stretch { micros: 500_000.0, begun: long_ago, idle });
        // Something was under way before it, and nobody saw when that ended.
        pace.saw(5, stretch(false));
        assert_eq!(pace.longest(), LONGEST);
        // The one before it has only just ended.
        pace.saw(6, stretch(false));
        assert!(pace.longest() > LONGEST);
        // Alone for two seconds.
        pace.saw(8, stretch(true));
        assert!(pace.longest() < LONGEST / 3.0, "{}", pace.longest());
    }
}
