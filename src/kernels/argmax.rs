//! The index of the largest element of each row, the first of equals (`torch.argmax`).
//!
//! Input `x [rows, cols]`; secondary output `index [rows]` i32. Nothing goes through `store`.

use super::row::RowPlan;
use super::wgsl::wgsl;
use super::{Element, KernelSpec, Port, Profile};

/// The index of the first largest element of each row.
pub fn argmax(profile: &Profile, rows: usize, cols: usize) -> KernelSpec {
    // Each element is looked at once, so nothing is worth keeping.
    let plan = RowPlan { slots: 1, ..RowPlan::new(profile, rows, cols, 1) };
    let kernel = plan.kernel("argmax", wgsl!("argmax"), 1);
    let (inputs, outputs) = (vec![Port::new("x", Element::Wide)], vec![Port::new("index", Element::I32)]);
    KernelSpec { inputs, outputs, ..kernel }
}
