//! Reductions: by rows (lanes share an output) or by columns (each lane owns outputs), in one
//! stage or two. The trees are fixed, so the same device gives the same bits.

use super::profile::{AdapterClass, Profile};
use super::spec::{Element, KernelSpec, Param, Port};
use super::wgsl::wgsl;
use crate::graph::ReduceKind;

/// One stage of a reduction. Its hook `element(o, r)` is written by the lowering, or reads `partials`.
#[derive(Debug, Clone)]
pub struct ReduceStage {
    pub spec: KernelSpec,
    /// Reads the partial results of the stage before.
    pub second: bool,
    /// Writes partial results for a stage behind it.
    pub first_of_two: bool,
}

/// How `outputs` sums of `length` elements each are computed.
pub struct ReducePlan {
    pub stages: Vec<ReduceStage>,
    pub partial_elements: usize,
}

/// Plans a reduction to `size = [outputs, length]`: that many results of that many elements each.
/// `element` is the type in WGSL (`f32`, `i32`, `u32`), `by_rows` says that reduced neighbours lie
/// side by side, `wide` that four neighbouring outputs can be read at once.
pub fn plan(
    profile: &Profile,
    kind: ReduceKind,
    element: &'static str,
    size: [usize; 2],
    by_rows: bool,
    wide: bool,
) -> ReducePlan {
    // Lanes are joined in f32 only.
    let by_rows = by_rows && element == "f32";
    let [outputs, length] = size;
    let chunks = chunks(profile, outputs, length, by_rows);
    let shape = Form { kind, element, outputs, length, chunks, by_rows, wide, second: false, first_of_two: false };
    if chunks == 1 {
        return ReducePlan { stages: vec![stage(profile, &shape)], partial_elements: 0 };
    }
    let first = Form { first_of_two: true, ..shape };
    let rows = element == "f32" && outputs < 32;
    let second = Form { length: chunks, chunks: 1, by_rows: rows, wide: true, second: true, ..shape };
    ReducePlan { stages: vec![stage(profile, &first), stage(profile, &second)], partial_elements: chunks * outputs }
}

/// What decides a stage's text and size.
#[derive(Clone, Copy)]
struct Form {
    kind: ReduceKind,
    element: &'static str,
    outputs: usize,
    length: usize,
    chunks: usize,
    by_rows: bool,
    wide: bool,
    second: bool,
    first_of_two: bool,
}

/// Into how many chunks the reduced axes are cut, so that the device has enough to do.
pub(super) fn chunks(profile: &Profile, outputs: usize, length: usize, by_rows: bool) -> usize {
    let (busy, least) = match (profile.class, by_rows) {
        (AdapterClass::Cpu, true) => (8, 4096),
        (AdapterClass::Cpu, false) => (256, 64),
        (_, true) => (256, 1024),
        (_, false) => (1 << 14, 32),
    };
    // A chunk must not be too long for a lane either.
    let lanes = if by_rows { profile.subgroup.unwrap_or(64) as usize } else { 1 };
    let needed = length.div_ceil(profile.most_turns().saturating_mul(lanes)).max(1);
    if outputs == 0 || outputs >= busy {
        return needed;
    }
    (busy.div_ceil(outputs)).min(length / least).max(needed)
}

fn stage(profile: &Profile, form: &Form) -> ReduceStage {
    let Form { element, outputs, length, chunks, by_rows, second, first_of_two, .. } = *form;
    let width = if !by_rows && form.wide && outputs.is_multiple_of(4) { 4 } else { 1 };
    let (name, file, workgroup) = match (by_rows, profile.subgroup) {
        (true, Some(lanes)) => ("reduce_rows", wgsl!("reduce_rows"), lanes),
        (true, None) => ("reduce_rows", wgsl!("reduce_rows"), 64),
        (false, _) => ("reduce_columns", wgsl!("reduce_columns"), 64),
    };
    let lanes = (outputs * chunks) as u64;
    let groups = if by_rows { lanes } else { (lanes / u64::from(width)).div_ceil(u64::from(workgroup)) };
    let partials = |first: bool| if first { vec![Port::new("partials", port_element(element, width))] } else { vec![] };
    let mut parts = vec![];
    if by_rows {
        parts.push(if profile.subgroup.is_some() { "reduce_subgroup" } else { "reduce_workgroup" });
    }
    let spec = KernelSpec {
        name: name.into(),
        body: format!("{}{}", hooks(form, width), file).into(),
        parts,
        inputs: partials(second),
        outputs: partials(first_of_two),
        params: vec![
            ("outputs", Param::U32(outputs as u32)),
            ("length", Param::U32(length as u32)),
            ("chunk", Param::U32(length.div_ceil(chunks) as u32)),
        ],
        constants: vec![],
        width,
        workgroup,
        groups,
        flops: (outputs * length) as u64,
    };
    ReduceStage { spec, second, first_of_two }
}

fn port_element(element: &str, width: u32) -> Element {
    match (element, width) {
        ("f32", _) => Element::Wide,
        ("i32", 4) => Element::I32x4,
        ("i32", _) => Element::I32,
        (_, 4) => Element::U32x4,
        _ => Element::U32,
    }
}

fn hooks(form: &Form, width: u32) -> String {
    let Form { kind, element, by_rows, second, first_of_two, .. } = *form;
    let ty = if width == 4 { format!("vec4<{element}>") } else { element.to_string() };
    let (combine, across) = match kind {
        ReduceKind::Sum => ("a + b", "row_sum(value, lane)"),
        ReduceKind::Max => ("max(a, b)", "row_max(value, lane)"),
        ReduceKind::Min => ("min(a, b)", "-row_max(-value, lane)"),
    };
    let init = match (kind, element) {
        (ReduceKind::Sum, _) => "E()",
        (ReduceKind::Max, "f32") => "E(-3.4028234e38)",
        (ReduceKind::Min, "f32") => "E(3.4028234e38)",
        (ReduceKind::Max, "i32") => "E(-2147483647 - 1)",
        (ReduceKind::Min, "i32") => "E(2147483647)",
        (ReduceKind::Max, _) => "E()",
        (ReduceKind::Min, _) => "E(4294967295u)",
    };
    let mut text =
        format!("alias E = {ty};\nconst INIT = {init};\nfn combine(a: E, b: E) -> E {{ return {combine}; }}\n");
    if by_rows {
        text += &format!("fn across(value: E, lane: u32) -> E {{ return {across}; }}\n");
    }
    if second {
        text += "fn element(o: u32, r: u32) -> E { return partials[(r * params.outputs + o) / W]; }\n";
    }
    text += if first_of_two {
        "fn put(o: u32, chunk: u32, value: E) { partials[(chunk * params.outputs + o) / W] = value; }\n"
    } else {
        "fn put(o: u32, chunk: u32, value: E) { store(0u, 0u, o, value); }\n"
    };
    text
}

/// Sums of `chunks` partial results of each of some outputs, which a kernel before has written chunk by chunk: the
/// first ones go to `store`, the second ones to `sums`.
pub fn sum_chunks(profile: &Profile, [first, second]: [usize; 2], chunks: usize) -> KernelSpec {
    let (kind, element, outputs, length) = (ReduceKind::Sum, "f32", first + second, chunks);
    let by_rows = outputs < 32;
    let form =
        Form { kind, element, outputs, length, chunks: 1, by_rows, wide: true, second: true, first_of_two: false };
    let mut spec = stage(profile, &form).spec;
    if second > 0 {
        let put = "if (o < FIRST) { store(0u, 0u, o, value); } else { sums[(o - FIRST) / W] = value; }";
        spec.body = spec.body.replace("store(0u, 0u, o, value);", put).into();
        spec.outputs = vec![Port::new("sums", Element::Wide)];
        spec.constants = vec![("FIRST", first as u32)];
    }
    spec
}

/// `vec4` elements that one workgroup of [`sum_squares`] takes.
pub const SQUARES_CHUNK: usize = 4096;

/// Partial sums of squares of `len` elements (rounded up to whole `vec4`s), written from `base` on.
pub fn sum_squares(profile: &Profile, len: usize, base: usize) -> KernelSpec {
    let quads = len.div_ceil(4);
    KernelSpec {
        name: "sum_squares".into(),
        body: wgsl!("sum_squares").into(),
        parts: vec![if profile.subgroup.is_some() { "reduce_subgroup" } else { "reduce_workgroup" }],
        inputs: vec![Port::new("x", Element::F32x4)],
        outputs: vec![Port::new("partials", Element::F32)],
        params: vec![
            ("elements", Param::U32(len as u32)),
            ("len", Param::U32(quads as u32)),
            ("chunk", Param::U32(SQUARES_CHUNK as u32)),
            ("base", Param::U32(base as u32)),
        ],
        constants: vec![],
        width: 1,
        workgroup: profile.subgroup.unwrap_or(64),
        groups: quads.div_ceil(SQUARES_CHUNK) as u64,
        flops: 2 * len as u64,
    }
}

/// A tensor within a run of several, for [`squares_each`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first `vec4` element in the run.
    pub start: usize,
    /// Its elements, at least one.
    pub elements: usize,
}

impl Part {
    /// Workgroups of [`squares_each`], and so partial sums.
    pub fn groups(&self) -> usize {
        self.elements.div_ceil(4).div_ceil(SQUARES_CHUNK)
    }
}

/// Partial sums of squares of each tensor of a run by itself, written from `base` on, tensor by tensor.
pub fn squares_each(profile: &Profile, parts: &[Part], base: usize) -> KernelSpec {
    let mut rows = Vec::new();
    let mut groups = 0;
    for part in parts {
        rows.push((groups, [groups, part.start, part.elements]));
        groups += part.groups();
    }
    KernelSpec {
        name: "squares_each".into(),
        body: format!("{}{}", table("tensor_of", &rows), wgsl!("squares_each")).into(),
        inputs: vec![Port::new("x", Element::F32x4)],
        outputs: vec![Port::new("partials", Element::F32)],
        params: vec![("chunk", Param::U32(SQUARES_CHUNK as u32)), ("base", Param::U32(base as u32))],
        groups: groups as u64,
        flops: 2 * parts.iter().map(|part| part.elements as u64).sum::<u64>(),
        ..sum_squares(profile, 4, 0)
    }
}

/// The sums of some tensors' partial sums behind [`squares_each`]: where each tensor's begin, and how many they are.
pub fn squares_join(profile: &Profile, parts: &[[usize; 2]]) -> KernelSpec {
    let rows: Vec<_> = parts.iter().enumerate().map(|(index, &[first, count])| (index, [first, count, 0])).collect();
    KernelSpec {
        name: "squares_join".into(),
        body: format!("{}{}", table("partials_of", &rows), wgsl!("squares_join")).into(),
        inputs: vec![Port::new("partials", Element::F32)],
        outputs: vec![],
        params: vec![],
        groups: parts.len() as u64,
        flops: parts.iter().map(|[_, count]| *count as u64).sum(),
        ..sum_squares(profile, 4, 0)
    }
}

/// A function that gives three numbers by an index: those of the last row that begins at or before it. Written as
/// comparisons, because arrays of constants that are indexed at run time are slow or missing on some back ends.
fn table(name: &str, rows: &[(usize, [usize; 3])]) -> String {
    let vector = |row: &[usize; 3]| format!("vec3<u32>({}u, {}u, {}u)", row[0], row[1], row[2]);
    let first = rows.first().map_or([0; 3], |(_, row)| *row);
    let mut text = format!("fn {name}(index: u32) -> vec3<u32> {{\n    var row = {};\n", vector(&first));
    for (begin, row) in rows.iter().skip(1) {
        text += &format!("    if (index >= {begin}u) {{ row = {}; }}\n", vector(row));
    }
    text + "    return row;\n}\n\n"
}

/// The sum of the `length` partial sums behind [`sum_squares`].
pub fn sum_partials(profile: &Profile, length: usize) -> ReduceStage {
    let (kind, element) = (ReduceKind::Sum, "f32");
    stage(
        profile,
        &Form {
            kind,
            element,
            outputs: 1,
            length,
            chunks: 1,
            by_rows: true,
            wide: false,
            second: true,
            first_of_two: false,
        },
    )
}
