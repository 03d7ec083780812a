//! Layer and root-mean-square normalisation over the last axis, and their gradients
//! (`torch.nn.functional.layer_norm`, `rms_norm`).
//!
//! A gradient takes two kernels: the first gives `dx` through `store` and, per block of rows, the
//! column sums for gain and bias as secondary output `partials`; the second adds up the blocks in
//! a fixed order. Mean and deviation are computed again from `x`, which costs less than keeping them.

use super::row::{RowPlan, wide};
use super::wgsl::wgsl;
use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile};
use std::borrow::Cow;

const X: Port = Port::new("x", Element::Wide);
const GAIN: Port = Port::new("gain", Element::Wide);
const BIAS: Port = Port::new("bias", Element::Wide);
const DY: Port = Port::new("dy", Element::Wide);
const PARTIALS: Port = Port::new("partials", Element::Wide);

/// `(x - mean) / sqrt(variance + eps) * gain + bias` of each row of `x [rows, cols]`.
pub fn layer_norm(profile: &Profile, rows: usize, cols: usize, eps: f32) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, cols, 1);
    let kernel = plan.kernel("layer_norm", wgsl!("layer_norm"), 8);
    with_eps(KernelSpec { inputs: vec![X, GAIN, BIAS], ..kernel }, eps)
}

/// `x / sqrt(mean(x^2) + eps) * gain` of each row of `x [rows, cols]`.
pub fn rms_norm(profile: &Profile, rows: usize, cols: usize, eps: f32) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, cols, 1);
    let kernel = plan.kernel("rms_norm", wgsl!("rms_norm"), 4);
    with_eps(KernelSpec { inputs: vec![X, GAIN], ..kernel }, eps)
}

/// Blocks of rows of a gradient kernel: the middle size of its `partials`.
pub fn norm_grad_blocks(profile: &Profile, rows: usize) -> usize {
    let most = if profile.class == AdapterClass::Cpu { 16 } else { 128 };
    let block = rows.div_ceil(most).max(1);
    rows.div_ceil(block)
}

/// `dx`, and `partials [2, blocks, cols]` f32 for [`column_sums_pair`]: first the gain's, then the
/// bias's. `blocks` is [`norm_grad_blocks`].
pub fn layer_norm_grad(profile: &Profile, rows: usize, cols: usize, eps: f32) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, cols, 4).with_blocks(norm_grad_blocks(profile, rows) as u32);
    let kernel = plan.kernel("layer_norm_grad", wgsl!("layer_norm_grad"), 18);
    grad_ports(kernel, plan.blocks(), eps)
}

/// `dx`, and `partials [blocks, cols]` f32 for [`column_sums`]. `blocks` is [`norm_grad_blocks`].
pub fn rms_norm_grad(profile: &Profile, rows: usize, cols: usize, eps: f32) -> KernelSpec {
    let plan = RowPlan::new(profile, rows, cols, 3).with_blocks(norm_grad_blocks(profile, rows) as u32);
    let kernel = plan.kernel("rms_norm_grad", wgsl!("rms_norm_grad"), 13);
    grad_ports(kernel, plan.blocks(), eps)
}

/// `partials [blocks, cols]` to secondary output `dgain [cols]`.
pub fn column_sums(profile: &Profile, blocks: usize, cols: usize) -> KernelSpec {
    let text = wgsl!("column_sums");
    sums_kernel(profile, "column_sums", text, 1, blocks, cols)
}

/// `partials [2, blocks, cols]` to secondary outputs `dgain [cols]` and `dbias [cols]`.
pub fn column_sums_pair(profile: &Profile, blocks: usize, cols: usize) -> KernelSpec {
    let text = wgsl!("column_sums_pair");
    sums_kernel(profile, "column_sums_pair", text, 2, blocks, cols)
}

fn with_eps(mut kernel: KernelSpec, eps: f32) -> KernelSpec {
    kernel.params.push(("eps", Param::F32(eps)));
    kernel
}

fn grad_ports(mut kernel: KernelSpec, blocks: u32, eps: f32) -> KernelSpec {
    kernel.inputs = vec![X, GAIN, DY];
    kernel.outputs = vec![PARTIALS];
    kernel.params.push(("blocks", Param::U32(blocks)));
    with_eps(kernel, eps)
}

fn sums_kernel(
    profile: &Profile,
    name: &str,
    text: &'static str,
    halves: usize,
    blocks: usize,
    cols: usize,
) -> KernelSpec {
    let width = if cols.is_multiple_of(4) { 4 } else { 1 };
    let workgroup = if profile.class == AdapterClass::Cpu { profile.subgroup.unwrap_or(16) } else { 32 };
    let outputs = [Port::new("dgain", Element::Wide), Port::new("dbias", Element::Wide)];
    KernelSpec {
        name: name.to_string(),
        body: Cow::Borrowed(text),
        parts: vec![wide(width)],
        inputs: vec![PARTIALS],
        outputs: outputs[..halves].to_vec(),
        params: vec![("cols", Param::U32(cols as u32)), ("blocks", Param::U32(blocks as u32))],
        constants: Vec::new(),
        width,
        workgroup,
        groups: (cols as u64 / u64::from(width)).div_ceil(u64::from(workgroup)),
        flops: (halves * blocks * cols) as u64,
    }
}
