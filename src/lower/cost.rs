//! What a dispatch costs, roughly: to compare plans for a device that need not be there.
//!
//! The rates are typical of a class of adapters, not of one of them; `wgrad plan` measures the adapter that is there.

use crate::kernels::{AdapterClass, Profile};
use crate::program::{Dispatch, Program, Segment};

/// Throughput of a class of adapters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Billions of operations a second that kernels reach, not those of the data sheet.
    pub gflops: f64,
    /// Billions of bytes a second.
    pub gigabytes: f64,
    /// Microseconds that a dispatch takes however small it is.
    pub launch: f64,
}

impl Rates {
    /// Rates for an adapter like this one.
    pub fn typical(profile: &Profile) -> Rates {
        let (gflops, gigabytes, launch) = match profile.class {
            AdapterClass::Discrete => (4000.0, 300.0, 5.0),
            AdapterClass::Apple => (1500.0, 100.0, 5.0),
            AdapterClass::Integrated => (300.0, 30.0, 10.0),
            // lavapipe on a few cores.
            AdapterClass::Cpu => (25.0, 4.0, 30.0),
        };
        Rates { gflops, gigabytes, launch }
    }

    /// Microseconds of one dispatch.
    pub fn dispatch(&self, dispatch: &Dispatch) -> f64 {
        let arithmetic = dispatch.flops as f64 / self.gflops / 1e3;
        let memory = dispatch.bytes_moved as f64 / self.gigabytes / 1e3;
        self.launch + arithmetic.max(memory)
    }

    /// Microseconds of one run of a program.
    pub fn program(&self, program: &Program) -> f64 {
        let once = |dispatches: &[Dispatch]| dispatches.iter().map(|dispatch| self.dispatch(dispatch)).sum::<f64>();
        let segment = |segment: &Segment| match segment {
            Segment::Gpu(dispatches) => once(dispatches),
            Segment::Repeat { count, body, .. } => f64::from(*count) * once(body),
            Segment::Host(_) => 0.0,
        };
        program.segments.iter().map(segment).sum()
    }
}
