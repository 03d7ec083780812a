//! softmax and log_softmax over the last axis (`torch.softmax`, `torch.log_softmax`).
//!
//! Input `x [rows, cols]`; the result goes through `store`.

use super::row::RowPlan;
use super::wgsl::wgsl;
use super::{Element, KernelSpec, Port, Profile};

/// `exp(x - max) / sum(exp(x - max))` of each row.
pub fn softmax(profile: &Profile, rows: usize, cols: usize) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, cols, 1);
    let kernel = plan.kernel("softmax", wgsl!("softmax"), 5);
    KernelSpec { inputs: vec![Port::new("x", Element::Wide)], ..kernel }
}

/// `x - max - log(sum(exp(x - max)))` of each row.
pub fn log_softmax(profile: &Profile, rows: usize, cols: usize) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, cols, 1);
    let kernel = plan.kernel("log_softmax", wgsl!("log_softmax"), 5);
    KernelSpec { inputs: vec![Port::new("x", Element::Wide)], ..kernel }
}
