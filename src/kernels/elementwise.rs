//! The shells around fused elementwise code and around users' own operations.

use super::spec::{Element, KernelSpec, Param, Port};
use super::wgsl::wgsl;

/// Fused operations on a grid of `len` elements, `width` at a time, through the hook `element`.
pub fn pointwise(len: usize, width: u32) -> KernelSpec {
    shell("pointwise", wgsl!("pointwise"), len, width, 256)
}

/// `len` words from port `source` to port `result`.
pub fn copy(len: usize) -> KernelSpec {
    let shell = shell("copy", wgsl!("copy"), len, 1, 256);
    KernelSpec {
        inputs: vec![Port::new("source", Element::U32)],
        outputs: vec![Port::new("result", Element::U32)],
        flops: 0,
        ..shell
    }
}

/// A user's operation: its text gives `fn element(i: u32) -> f32`, and sees inputs `in0`, `in1`, ….
pub fn custom(name: &str, text: &str, inputs: Vec<(Element, usize)>, len: usize) -> KernelSpec {
    const NAMES: [&str; 6] = ["in0", "in1", "in2", "in3", "in4", "in5"];
    const LENGTHS: [&str; 6] = ["in0_len", "in1_len", "in2_len", "in3_len", "in4_len", "in5_len"];
    let mut spec = shell("custom", wgsl!("custom"), len, 1, 64);
    spec.name = format!("custom_{name}");
    spec.body = format!("{text}\n{}", spec.body).into();
    for (index, (element, size)) in inputs.into_iter().enumerate().take(NAMES.len()) {
        spec.inputs.push(Port::new(NAMES[index], element));
        spec.params.push((LENGTHS[index], Param::U32(size as u32)));
    }
    spec
}

fn shell(name: &str, text: &'static str, len: usize, width: u32, workgroup: u32) -> KernelSpec {
    KernelSpec {
        name: name.into(),
        body: text.into(),
        parts: vec![],
        inputs: vec![],
        outputs: vec![],
        params: vec![("len", Param::U32(len as u32))],
        constants: vec![],
        width,
        workgroup,
        groups: (len as u64).div_ceil(u64::from(width * workgroup)),
        flops: len as u64,
    }
}
