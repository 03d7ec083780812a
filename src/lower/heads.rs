//! Attention's kernels: strided views of queries, keys and values, and gradients that may be
//! written into one packed tensor.

use super::anchors::{Hook, Plan, PortSource, Stage};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{MacroOp, Node, Sight};
use crate::kernels::KernelSpec;
use crate::kernels::Profile;
use crate::kernels::attention::{self, AttentionShape, GradViews, HeadView};
use crate::shape::View;

/// Plans the forward or the backward kernels, of operands that are seen and stored so. `part` gives the place of an output
/// within a larger tensor, if it has one.
#[deny(clippy::wildcard_enum_match_arm)]
pub fn plan(
    profile: &Profile,
    op: MacroOp,
    node: &Node,
    operands: &[(View, DType)],
    part: &dyn Fn(u32) -> Option<View>,
) -> Result<Plan> {
    match op {
        MacroOp::Attention { sight, scale } => {
            forward(profile, node, sizes(operands, &[0, 1, 2], sight, scale.value()), operands)
        }
        MacroOp::AttentionGrad { sight, scale } => {
            backward(profile, node, &sizes(operands, &[0, 1, 2, 5], sight, scale.value()), operands, part)
        }
        MacroOp::Softmax
        | MacroOp::LogSoftmax
        | MacroOp::LayerNorm { .. }
        | MacroOp::LayerNormGrad { .. }
        | MacroOp::RmsNorm { .. }
        | MacroOp::RmsNormGrad { .. }
        | MacroOp::BatchNorm { .. }
        | MacroOp::ChannelMoments
        | MacroOp::ChannelProducts
        | MacroOp::BatchNormGrad { .. }
        | MacroOp::CrossEntropy
        | MacroOp::CrossEntropyGrad
        | MacroOp::CrossEntropyWithGrad
        | MacroOp::Conv { .. }
        | MacroOp::ConvDataGrad { .. }
        | MacroOp::ConvWeightGrad { .. }
        | MacroOp::MaxPool { .. }
        | MacroOp::MaxPoolGrad { .. } => Err(no_kernel(op.name())),
    }
}

pub(super) fn no_kernel(name: &str) -> Error {
    Error::compile(name.into(), "has no kernel for these sizes (please report this)".into())
}

/// `multiplied` are the operands that matrix units would multiply.
fn sizes(operands: &[(View, DType)], multiplied: &[usize], sight: Sight, scale: f32) -> AttentionShape {
    let (q, k) = (&operands[0].0.shape, &operands[1].0.shape);
    let halves = multiplied.iter().all(|&operand| operands[operand].1 == DType::F16);
    let [batch, time, heads, size] = [q[0], q[1], q[2], q[3]];
    AttentionShape { batch, time, source: k[1], heads, key_heads: k[2], size, sight, scale, halves }
}

fn head(view: &View) -> HeadView {
    // The stride of an axis of size 1 is never walked, and need not be aligned.
    let stride = |axis: usize| if view.shape[axis] == 1 { 0 } else { view.strides[axis] };
    HeadView { offset: view.offset, batch: stride(0), time: stride(1), head: stride(2) }
}

fn stage(spec: KernelSpec, inputs: &[PortSource], outputs: &[PortSource]) -> Stage {
    Stage { spec, inputs: inputs.to_vec(), outputs: outputs.to_vec(), hook: Hook::None }
}

fn forward(profile: &Profile, node: &Node, shape: AttentionShape, operands: &[(View, DType)]) -> Result<Plan> {
    use PortSource::{Operand, Output};
    let o = View::contiguous(&node.outputs[0].shape);
    let [q, k, v] = [0, 1, 2].map(|index| head(&operands[index].0));
    let spec = attention::attention_forward(profile, &shape, q, k, v, head(&o));
    let spec = spec.ok_or_else(|| no_kernel("attention"))?;
    let stages = vec![stage(spec, &[Operand(0), Operand(1), Operand(2)], &[Output(0), Output(1)])];
    Ok(Plan { stages, attention: Some(shape), ..Plan::default() })
}

fn backward(
    profile: &Profile,
    node: &Node,
    shape: &AttentionShape,
    operands: &[(View, DType)],
    part: &dyn Fn(u32) -> Option<View>,
) -> Result<Plan> {
    use PortSource::{Operand, Output, Workspace};
    let out =
        |output: u32| head(&part(output).unwrap_or_else(|| View::contiguous(&node.outputs[output as usize].shape)));
    let operand = |index: usize| head(&operands[index].0);
    let views = GradViews {
        q: operand(0),
        k: operand(1),
        v: operand(2),
        o: operand(3),
        dout: operand(5),
        dq: out(0),
        dk: out(1),
        dv: out(2),
    };
    let first = attention::attention_grad_q(profile, shape, &views).ok_or_else(|| no_kernel("attention_grad"))?;
    let mut second = attention::attention_grad_kv(profile, shape, &views).ok_or_else(|| no_kernel("attention_grad"))?;
    let mut outputs = vec![Output(1), Output(2)];
    if part(1).is_some() {
        // Both lie in one packed tensor, which can be bound for writing only once.
        second.body = second.body.replace("dv[", "dk[").into();
        second.outputs.truncate(1);
        outputs.truncate(1);
    }
    let delta = (shape.batch * shape.heads * shape.time) as u64 * 4;
    let q_ports = [Operand(0), Operand(1), Operand(2), Operand(3), Operand(5), Operand(4)];
    let kv_ports = [Operand(0), Operand(1), Operand(2), Operand(5), Operand(4), Workspace(0)];
    Ok(Plan {
        stages: vec![stage(first, &q_ports, &[Output(0), Workspace(0)]), stage(second, &kv_ports, &outputs)],
        workspaces: vec![delta.max(4)],
        ..Plan::default()
    })
}
