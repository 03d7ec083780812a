//! A product as a program of its own, without anything fused into it: to be measured, and compared with another variant.

use super::{Matmul, Operand, Variant, Walks, emit};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::TensorType;
use crate::kernels::doubled::finished;
use crate::kernels::{Element, KernelSpec, Port, Profile};
use crate::program::{
    Binding, BufferDecl, Category, Dispatch, Io, Kernel, Program, Role, Segment, StateLayout, StateSpec, grid,
};
use crate::shape::Shape;
use std::fmt::Write;

/// The results of a product's program, in order: the product, and the sums that it gives beside.
pub const RESULTS: [&str; 2] = ["product", "sums"];

/// The operands, in order.
pub const OPERANDS: [&str; 2] = ["a", "b"];

/// The tensors of the state that [`state`] lays out, `a` and `b`, to the results: programs of several variants share them.
pub fn program(variant: Variant, mm: &Matmul, profile: &Profile) -> Program {
    let spec = emit(variant, mm, profile);
    let [a, b] = lengths(mm);
    let batches = mm.batch[0] * mm.batch[1];
    let sums = match (mm.bias_gradient, mm.row_sums) {
        (true, _) => mm.n * batches,
        (_, true) => mm.m * batches,
        (false, false) => 0,
    };
    let [a_type, b_type] = mm.stored;
    let mut sizes = vec![stored_bytes(a_type, a), stored_bytes(b_type, b), bytes(mm.m * mm.n * batches)];
    let mut roles = vec![Role::State(0), Role::State(1), Role::Transient];
    let mut lengths = vec![mm.m * mm.n * batches];
    if sums > 0 {
        sizes.push(bytes(sums));
        roles.push(Role::Transient);
        lengths.push(sums);
    }
    let flat = |name: &str, dtype: DType, elements: usize, buffer| {
        let shape = Shape::from([elements]);
        Io { name: name.into(), dtype, shape, buffer, offset: 0 }
    };
    let groups = grid(spec.groups, profile.max_workgroups);
    let params = spec.params.iter().map(|(_, param)| param.bits()).chain([spec.groups as u32]);
    let bindings = sizes.iter().enumerate().map(|(buffer, &bytes)| Binding { buffer, offset: 0, bytes });
    let dispatch = Dispatch {
        kernel: 0,
        label: spec.name.clone(),
        bindings: bindings.collect(),
        params: params.collect(),
        groups,
        flops: spec.flops,
        bytes_moved: sizes.iter().sum(),
    };
    let results = RESULTS.iter().zip(lengths).enumerate().map(|(i, (name, n))| flat(name, DType::F32, n, i + 2));
    Program {
        name: spec.name.clone(),
        kernels: vec![kernel(&spec, mm, profile)],
        buffers: roles.into_iter().zip(&sizes).map(|(role, &bytes)| BufferDecl { role, bytes }).collect(),
        segments: vec![Segment::Gpu(vec![dispatch])],
        inputs: Vec::new(),
        scalars: Vec::new(),
        constants: Vec::new(),
        outputs: results.collect(),
        expired: Vec::new(),
    }
}

/// Vectors are bound whole.
fn bytes(elements: usize) -> u64 {
    stored_bytes(DType::F32, elements)
}

fn stored_bytes(dtype: DType, elements: usize) -> u64 {
    dtype.bytes(&Shape::from([elements.max(1)])).next_multiple_of(16)
}

/// The state that [`program`] reads: `a` and `b`, stored as the product says and of [`lengths`], each in a buffer of its own. An error where a device
/// does not bind so much at once.
pub fn state(mm: &Matmul, profile: &Profile) -> Result<StateLayout> {
    let tensor = |((name, elements), dtype): ((&&str, usize), DType)| StateSpec {
        name: (*name).into(),
        ty: TensorType::new([stored_bytes(dtype, elements) as usize / (4 / dtype.per_word())], dtype),
        category: Category::Other,
        group: (*name).into(),
    };
    let specs: Vec<StateSpec> = OPERANDS.iter().zip(lengths(mm)).zip(mm.stored).map(tensor).collect();
    StateLayout::build(&specs, profile.max_binding_bytes)
}

/// The kernel with plain hooks, bound as `a`, `b`, the product, the sums.
fn kernel(spec: &KernelSpec, mm: &Matmul, profile: &Profile) -> Kernel {
    let params_in_storage = profile.params_in_storage();
    let mut outputs = vec![Port::new("product", Element::Wide)];
    outputs.extend(spec.outputs.iter().cloned());
    if mm.row_sums {
        outputs.push(Port::new("row_sums", Element::F32x4));
    }
    let subgroups = spec.body.contains("subgroup");
    let writable = [false, false].into_iter().chain(outputs.iter().map(|_| true)).collect();
    let prelude = prelude(spec, &outputs, params_in_storage);
    let wgsl = finished(format!("{}{prelude}{}{}", spec.enables(), hooks(mm.row_sums), spec.body), profile);
    let (name, workgroup) = (spec.name.clone(), spec.workgroup);
    Kernel { name, wgsl, writable, workgroup, params_in_storage, subgroups, foreign: false }
}

fn prelude(spec: &KernelSpec, outputs: &[Port], params_in_storage: bool) -> String {
    let wide = if spec.width == 4 { "vec4<f32>" } else { "f32" };
    let (width, workgroup) = (spec.width, spec.workgroup);
    let mut text = format!("alias F = {wide};\nconst W: u32 = {width}u;\nconst WG: u32 = {workgroup}u;\n\n");
    // Writing to a `String` cannot fail.
    text.push_str("struct Params {\n");
    for (name, param) in &spec.params {
        let _ = writeln!(text, "    {name}: {},", param.wgsl());
    }
    let space = if params_in_storage { "storage, read" } else { "uniform" };
    let _ = writeln!(text, "    groups: u32,\n}}\n\n@group(0) @binding(0) var<{space}> params: Params;");
    let inputs = spec.inputs.iter().map(|port| (port, "read"));
    for (index, (port, access)) in inputs.chain(outputs.iter().map(|port| (port, "read_write"))).enumerate() {
        let (name, element, binding) = (port.name, port.element.wgsl(), index + 1);
        let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;");
    }
    text
}

fn hooks(row_sums: bool) -> String {
    let mut text = "
fn workgroup_index(wid: vec3<u32>, nwg: vec3<u32>) -> u32 {
    return wid.x + wid.y * nwg.x;
}

fn store(batch: u32, row: u32, col: u32, value: F) {
    product[((batch * params.m + row) * params.n + col) / W] = value;
}

"
    .to_string();
    if row_sums {
        text += "\
fn store_row_sums(batch: u32, row: u32, value: vec4<f32>) {
    row_sums[(batch * params.m + row) / 4u] = value;
}

";
    }
    text
}

/// Elements that `a` and `b` need, from the first to the last that is read.
pub fn lengths(mm: &Matmul) -> [usize; 2] {
    let [a, b] = &mm.walks;
    let plain = |operand: &Operand, rows: usize, cols: usize| end(0, &[(rows, operand.row), (cols, operand.col)]);
    let a_end = a.as_ref().map_or_else(|| plain(&mm.a, mm.m, mm.k), walked_end);
    let b_end = b.as_ref().map_or_else(|| plain(&mm.b, mm.k, mm.n), walked_end);
    [(&mm.a, a_end), (&mm.b, b_end)].map(|(operand, within)| {
        let batches = [(mm.batch[0], operand.batch[0]), (mm.batch[1], operand.batch[1])];
        // An offset before the first element is a negative number, modulo 2^32.
        let last = end(i64::from(operand.offset as u32 as i32) + within, &batches);
        (last + 1).max(1) as usize
    })
}

/// The last position that is reached from `start`: along each axis the end that lies further on.
fn end(start: i64, axes: &[(usize, usize)]) -> i64 {
    let reach =
        |&(size, stride): &(usize, usize)| (size.saturating_sub(1) as i64 * i64::from(stride as u32 as i32)).max(0);
    start + axes.iter().map(reach).sum::<i64>()
}

fn walked_end(walks: &Walks) -> i64 {
    let axes = |walk: &super::Walk| walk.sizes.iter().copied().zip(walk.strides.iter().copied()).collect::<Vec<_>>();
    end(end(0, &axes(&walks.x)), &axes(&walks.k))
}
