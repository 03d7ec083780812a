//! Rows added up where an index says (`torch.Tensor.index_add_`): the gradient of an embedding.
//!
//! Deterministic and without atomics. Small problems take two kernels: `scatter_links` chains the positions of each
//! table row in increasing order, `scatter_add` walks the chains. Large ones sort the indices (see [`super::sort`]), look
//! up where each row's positions start (`scatter_bounds`), and add them up (`scatter_sorted`, `scatter_parts`).
//! Indices outside are dropped.

use super::row::{block, wide};
use super::wgsl::wgsl;
use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile};
use std::borrow::Cow;

/// The most pairs of indices and rows or indices that `scatter_links` compares.
const LINKED: u64 = 1 << 22;

const FIRST: Port = Port::new("first", Element::I32);
const NEXT: Port = Port::new("next", Element::I32);
const STARTS: Port = Port::new("starts", Element::U32);

/// `index [count]` i32 to secondary outputs `first [rows]` i32 (the first position whose index is
/// the row) and `next [count]` i32 (the next later position with the same index); -1 for none.
///
/// Time grows with `(rows + count) * count`.
pub fn scatter_links(profile: &Profile, rows: usize, count: usize) -> KernelSpec {
    let workgroup = lanes(profile, 64);
    let row_groups = (rows as u32).div_ceil(workgroup);
    let groups = u64::from(row_groups) + (count as u64).div_ceil(u64::from(workgroup));
    KernelSpec {
        name: "scatter_links".to_string(),
        body: Cow::Borrowed(wgsl!("scatter_links")),
        parts: Vec::new(),
        inputs: vec![Port::new("index", Element::I32)],
        outputs: vec![FIRST, NEXT],
        params: vec![
            ("rows", Param::U32(rows as u32)),
            ("count", Param::U32(count as u32)),
            ("row_groups", Param::U32(row_groups)),
        ],
        constants: Vec::new(),
        width: 1,
        workgroup,
        groups,
        flops: (rows + count) as u64 * count as u64,
    }
}

/// `first [rows]`, `next [count]` and `values [count, rest]` to `[rows, rest]` through `store`.
pub fn scatter_add(profile: &Profile, rows: usize, count: usize, rest: usize) -> KernelSpec {
    let width = if rest.is_multiple_of(4) { 4 } else { 1 };
    let chunks = rest as u32 / width;
    let block = block(profile, rows as u32, 64);
    KernelSpec {
        name: "scatter_add".to_string(),
        body: Cow::Borrowed(wgsl!("scatter_add")),
        parts: vec![wide(width)],
        inputs: vec![FIRST, NEXT, Port::new("values", Element::Wide)],
        outputs: Vec::new(),
        params: vec![
            ("rows", Param::U32(rows as u32)),
            ("cols", Param::U32(rest as u32)),
            ("block", Param::U32(block)),
        ],
        constants: Vec::new(),
        width,
        workgroup: lanes(profile, if chunks <= 32 { 32 } else { 64 }),
        groups: (rows as u64).div_ceil(u64::from(block)),
        flops: (count * rest) as u64,
    }
}

/// Lanes per workgroup: `gpu` of them, or one hardware vector on a software adapter.
fn lanes(profile: &Profile, gpu: u32) -> u32 {
    if profile.class == AdapterClass::Cpu { profile.subgroup.unwrap_or(8) } else { gpu }
}

/// Whether `count` indices into `rows` are few enough for chains.
pub fn linked(rows: usize, count: usize) -> bool {
    (rows + count) as u64 * count as u64 <= LINKED
}

/// What is added up behind sorted indices.
#[derive(Debug, Clone, Copy)]
pub struct Sorted {
    pub rows: usize,
    pub count: usize,
    /// Elements of a row.
    pub rest: usize,
    /// The element type in WGSL: `f32`, `i32` or `u32`.
    pub element: &'static str,
}

impl Sorted {
    fn width(&self) -> u32 {
        if self.element == "f32" && self.rest.is_multiple_of(4) { 4 } else { 1 }
    }

    /// Into how many parts the positions of a row are cut, so that few rows keep a device busy.
    pub fn parts(&self, profile: &Profile) -> usize {
        let busy: usize = if profile.class == AdapterClass::Cpu { 64 } else { 1 << 14 };
        let side_by_side = (self.rows * self.rest / self.width() as usize).max(1);
        // Each part should have some positions to add.
        busy.div_ceil(side_by_side).min(self.count / self.rows.max(1) / 16).clamp(1, 256)
    }

    /// A kernel with an invocation for each of `len` vectors of a result.
    fn kernel(&self, name: &str, len: usize, parts: usize, text: &str) -> KernelSpec {
        let (width, workgroup) = (self.width(), 256);
        let element = if width == 4 { "F" } else { self.element };
        KernelSpec {
            name: name.to_string(),
            body: format!("alias E = {element};\n{text}").into(),
            parts: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            params: vec![
                ("rows", Param::U32(self.rows as u32)),
                ("cols", Param::U32(self.rest as u32)),
                ("parts", Param::U32(parts as u32)),
                ("len", Param::U32(len as u32)),
            ],
            constants: Vec::new(),
            width,
            workgroup,
            groups: (len as u64).div_ceil(u64::from(workgroup)),
            flops: (self.count * self.rest) as u64,
        }
    }

    fn port(&self, name: &'static str) -> Port {
        let element = match self.element {
            "f32" => Element::Wide,
            "i32" => Element::I32,
            _ => Element::U32,
        };
        Port::new(name, element)
    }
}

/// Sorted `keys [count]` to the secondary output `starts [rows + 1]` u32.
pub fn scatter_bounds(rows: usize, count: usize) -> KernelSpec {
    let workgroup = 256;
    KernelSpec {
        name: "scatter_bounds".to_string(),
        body: Cow::Borrowed(wgsl!("scatter_bounds")),
        parts: Vec::new(),
        inputs: vec![Port::new("keys", Element::U32)],
        outputs: vec![STARTS],
        params: vec![("rows", Param::U32(rows as u32)), ("count", Param::U32(count as u32))],
        constants: Vec::new(),
        width: 1,
        workgroup,
        groups: (rows as u64 + 1).div_ceil(u64::from(workgroup)),
        flops: rows as u64 * 20,
    }
}

/// `starts`, `order [count]` and `values [count, rest]` to `[rows, rest]` through `store`, or, of several parts, to the
/// secondary output `partials [parts, rows, rest]`.
pub fn scatter_sorted(sorted: &Sorted, parts: usize) -> KernelSpec {
    let put = if parts == 1 {
        "fn put(part: u32, row: u32, col: u32, value: E) { store(0u, row, col, value); }\n"
    } else {
        "fn put(part: u32, row: u32, col: u32, value: E) {\n\
        \x20   partials[((part * params.rows + row) * params.cols + col) / W] = value;\n}\n"
    };
    let len = sorted.rows * sorted.rest / sorted.width() as usize * parts;
    let text = format!("{put}{}", wgsl!("scatter_sorted"));
    KernelSpec {
        inputs: vec![STARTS, Port::new("order", Element::I32), sorted.port("values")],
        outputs: if parts == 1 { vec![] } else { vec![sorted.port("partials")] },
        ..sorted.kernel("scatter_sorted", len, parts, &text)
    }
}

/// `partials [parts, rows, rest]` to `[rows, rest]` through `store`.
pub fn scatter_parts(sorted: &Sorted, parts: usize) -> KernelSpec {
    let len = sorted.rows * sorted.rest / sorted.width() as usize;
    let text = wgsl!("scatter_parts");
    KernelSpec { inputs: vec![sorted.port("partials")], ..sorted.kernel("scatter_parts", len, parts, text) }
}
