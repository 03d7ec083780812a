//! Softmax cross-entropy with class indices (`torch.nn.functional.cross_entropy`, no reduction).
//!
//! Inputs `logits [rows, classes]`, `targets [rows]` i32 and, for the gradient, `g [rows]` f32, the
//! gradient of each row's loss. The loss is the secondary output `loss [rows]` f32; the gradient of
//! the logits goes through `store`. A target outside `0..classes` gives 0. (The port is not called
//! `target`, which WGSL reserves.)

use super::row::RowPlan;
use super::wgsl::wgsl;
use super::{Element, KernelSpec, Port, Profile};

const LOGITS: Port = Port::new("logits", Element::Wide);
const TARGETS: Port = Port::new("targets", Element::I32);
const ROW_GRAD: Port = Port::new("g", Element::F32);
const LOSS: Port = Port::new("loss", Element::F32);

/// The loss of each row. Nothing goes through `store`.
pub fn cross_entropy(profile: &Profile, rows: usize, classes: usize) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, classes, 1);
    let kernel = plan.kernel("cross_entropy", wgsl!("cross_entropy"), 4);
    KernelSpec { inputs: vec![LOGITS, TARGETS], outputs: vec![LOSS], ..kernel }
}

/// The gradient of the logits.
pub fn cross_entropy_grad(profile: &Profile, rows: usize, classes: usize) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, classes, 1);
    let kernel = plan.kernel("cross_entropy_grad", wgsl!("cross_entropy_grad"), 7);
    KernelSpec { inputs: vec![LOGITS, TARGETS, ROW_GRAD], ..kernel }
}

/// Loss and gradient from one reading of the logits (rows too long for registers are read again).
pub fn cross_entropy_with_grad(profile: &Profile, rows: usize, classes: usize) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, classes, 1);
    let text = wgsl!("cross_entropy_with_grad");
    let kernel = plan.kernel("cross_entropy_with_grad", text, 7);
    KernelSpec { inputs: vec![LOGITS, TARGETS, ROW_GRAD], outputs: vec![LOSS], ..kernel }
}
