//! What goes wrong on purpose, and what is watched more closely than usual: for tests.
//!
//! A device without any of it pays for one relaxed load where something may fail. Knows no programs; the failures
//! themselves are made where buffers are created (`supply.rs`), work is submitted and results are mapped.

use super::{Device, lock};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// A way in which a device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no memory for a buffer, or for the staging of an upload.
    Creation,
    /// A submission is refused.
    Submission,
    /// A submission counts as complete, and nothing of it was done.
    Dropped,
    /// A buffer cannot be mapped.
    Mapping,
}

/// What tests set on a device.
#[derive(Default)]
pub(super) struct Faults {
    armed: AtomicBool,
    plan: Mutex<Option<Plan>>,
    poisoned: AtomicBool,
    /// The longest submission in estimated microseconds, as bits; 0 for the usual one.
    longest: AtomicU32,
    submissions: AtomicUsize,
}

struct Plan {
    fault: Fault,
    /// So many pass before.
    before: usize,
    /// So many fail then.
    times: usize,
    happened: usize,
}

impl Faults {
    /// Whether it is the turn of this failure.
    pub fn due(&self, fault: Fault) -> bool {
        if !self.armed.load(Ordering::Relaxed) {
            return false;
        }
        let mut plan = lock(&self.plan);
        let Some(plan) = plan.as_mut().filter(|plan| plan.fault == fault) else { return false };
        if plan.before > 0 {
            plan.before -= 1;
            return false;
        }
        let due = plan.happened < plan.times;
        plan.happened += usize::from(due);
        due
    }

    /// The error of a failure whose turn it is, as a device would report it.
    pub fn error(&self, fault: Fault) -> Option<wgpu::Error> {
        self.due(fault).then(|| wgpu::Error::OutOfMemory { source: "injected by a test".into() })
    }

    pub fn poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }

    /// The longest submission in estimated microseconds, if a test says so.
    pub fn longest(&self) -> Option<f32> {
        let bits = self.longest.load(Ordering::Relaxed);
        (bits != 0).then(|| f32::from_bits(bits))
    }

    pub fn count_submission(&self) {
        self.submissions.fetch_add(1, Ordering::Relaxed);
    }
}

/// For tests.
#[doc(hidden)]
impl Device {
    /// From now on the failure happens after so many successes, so many times. Replaces an earlier plan.
    pub fn inject(&self, fault: Fault, before: usize, times: usize) {
        *lock(&self.faults().plan) = Some(Plan { fault, before, times, happened: 0 });
        self.faults().armed.store(true, Ordering::Relaxed);
    }

    /// Ends the injection; how often the failure happened.
    pub fn injected(&self) -> usize {
        self.faults().armed.store(false, Ordering::Relaxed);
        lock(&self.faults().plan).take().map_or(0, |plan| plan.happened)
    }

    /// Sessions that are made from now on fill with NaN whatever a program has not written: new buffers, and what
    /// other programs and earlier runs left in memory that is shared.
    pub fn poison(&self) {
        self.faults().poisoned.store(true, Ordering::Relaxed);
    }

    /// The longest submission, in estimated microseconds, of sessions that are made from now on.
    pub fn limit_submissions(&self, micros: f32) {
        self.faults().longest.store(micros.to_bits(), Ordering::Relaxed);
    }

    /// Submissions of runs and of reading state so far.
    pub fn submissions(&self) -> usize {
        self.faults().submissions.load(Ordering::Relaxed)
    }
}
