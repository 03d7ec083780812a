//! Indices that sort rows (`torch.argsort(stable=True)`): blocks by counting, then runs merged pairwise.
//!
//! Each element finds its own place by reading, so that there are no barriers, no atomics and no shared memory;
//! `cols * (block + log2(cols / block)^2)` reads a row.

use super::wgsl::wgsl;
use super::{Element, KernelSpec, Param, Port, Profile};

/// Elements that are sorted by counting.
pub const BLOCK: usize = 64;

const KEYS: Port = Port::new("keys", Element::U32);
const ORDER: Port = Port::new("order", Element::I32);

/// What the elements are, as their bits are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    F32,
    I32,
    U32,
}

/// How many times runs must be merged in rows of `cols`.
pub fn merges(cols: usize) -> u32 {
    cols.div_ceil(BLOCK).max(1).next_power_of_two().trailing_zeros()
}

/// `x [rows, cols]` to secondary outputs `keys` u32 and `order` i32 of the same shape, sorted in blocks.
pub fn argsort_block(profile: &Profile, rows: usize, cols: usize, kind: Kind, descending: bool) -> KernelSpec {
    let kernel = kernel(profile, "argsort_block", rows, cols, BLOCK);
    KernelSpec {
        body: wgsl!("argsort_block").into(),
        inputs: vec![Port::new("x", Element::U32)],
        constants: vec![("BLOCK", BLOCK as u32), ("KIND", kind as u32), ("DESCENDING", u32::from(descending))],
        ..kernel
    }
}

/// `keys_in` and `order_in`, sorted in runs of `run`, to `keys` and `order`, sorted in runs of twice that.
pub fn argsort_merge(profile: &Profile, rows: usize, cols: usize, run: usize) -> KernelSpec {
    let mut kernel = kernel(profile, "argsort_merge", rows, cols, 2 * run.ilog2() as usize);
    kernel.params.push(("run", Param::U32(run as u32)));
    KernelSpec {
        body: wgsl!("argsort_merge").into(),
        inputs: vec![Port::new("keys_in", Element::U32), Port::new("order_in", Element::I32)],
        ..kernel
    }
}

/// An invocation for each element, which reads `reads` others.
fn kernel(profile: &Profile, name: &str, rows: usize, cols: usize, reads: usize) -> KernelSpec {
    let (len, workgroup) = (rows * cols, 256.min(profile.max_invocations));
    KernelSpec {
        name: name.to_string(),
        body: "".into(),
        parts: Vec::new(),
        inputs: Vec::new(),
        outputs: vec![KEYS, ORDER],
        params: vec![("cols", Param::U32(cols as u32)), ("len", Param::U32(len as u32))],
        constants: Vec::new(),
        width: 1,
        workgroup,
        groups: (len as u64).div_ceil(u64::from(workgroup)),
        flops: (len * reads) as u64,
    }
}
