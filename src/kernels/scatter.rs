//! Rows added up where an index says (`torch.Tensor.index_add_`): the gradient of an embedding.
//!
//! Deterministic and without atomics, in two kernels: `scatter_links` chains the positions of each
//! table row in increasing order, `scatter_add` walks the chains. Indices outside are dropped.

use super::row::{block, wide};
use super::spec::body;
use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile};
use std::borrow::Cow;

const FIRST: Port = Port::new("first", Element::I32);
const NEXT: Port = Port::new("next", Element::I32);

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
        body: Cow::Borrowed(body(include_str!("../../shaders/scatter_links.wgsl"))),
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
        body: Cow::Borrowed(body(include_str!("../../shaders/scatter_add.wgsl"))),
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
