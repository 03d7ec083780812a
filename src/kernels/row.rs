//! The shape that kernels over rows have in common: how wide, how many lanes, how many rows each.
//!
//! A row kernel's workgroup takes `block` consecutive rows, one after the other; its lanes share a
//! row, in chunks of `width` columns. This module knows no kernel and no text, only the numbers.

use super::{AdapterClass, KernelSpec, Param, Profile};
use std::borrow::Cow;

/// Chunks of a row that a lane may keep in registers, per array kept.
const MOST_SLOTS: u32 = 8;
/// Chunks that a lane may keep of all arrays together, which bounds the registers.
const MOST_KEPT: u32 = 24;
/// The same on a software adapter, where the stack takes what overflows.
const MOST_KEPT_CPU: u32 = 32;

/// How a row kernel covers `rows x cols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPlan {
    pub rows: u32,
    pub cols: u32,
    /// Vector width: 4 where the columns divide by it.
    pub width: u32,
    pub workgroup: u32,
    /// Whether a workgroup is one subgroup, so that reductions need no shared memory.
    pub subgroup: bool,
    /// Chunks of a row per lane.
    pub steps: u32,
    /// Chunks kept in registers: `steps`, or 1 if the row is too long for that.
    pub slots: u32,
    /// Consecutive rows of a workgroup.
    pub block: u32,
}

impl RowPlan {
    /// A plan for a kernel that keeps `kept` arrays of a row's chunks in registers.
    pub fn new(profile: &Profile, rows: usize, cols: usize, kept: u32) -> RowPlan {
        let (rows, cols) = (rows as u32, cols as u32);
        let width = if cols % 4 == 0 { 4 } else { 1 };
        let chunks = cols / width;
        let (workgroup, subgroup) = lanes(profile, chunks);
        let steps = chunks.div_ceil(workgroup).max(1);
        let most = if profile.class == AdapterClass::Cpu { MOST_KEPT_CPU } else { MOST_KEPT };
        let slots = if steps <= MOST_SLOTS && steps * kept <= most { steps } else { 1 };
        RowPlan { rows, cols, width, workgroup, subgroup, steps, slots, block: block(profile, rows, 64) }
    }

    /// The same plan with about `blocks` blocks of rows at most.
    pub fn with_blocks(self, blocks: u32) -> RowPlan {
        RowPlan { block: self.rows.div_ceil(blocks.max(1)).max(1), ..self }
    }

    /// The number of blocks of rows, which is that of the workgroups.
    pub fn blocks(&self) -> u32 {
        self.rows.div_ceil(self.block)
    }

    /// A kernel of this plan: `flops` operations per element, parameters `rows`, `cols`, `block`.
    pub fn kernel(&self, name: &'static str, body: &'static str, flops: u64) -> KernelSpec {
        let reduce = if self.subgroup { "reduce_subgroup" } else { "reduce_workgroup" };
        let exact = u32::from(self.steps * self.workgroup * self.width == self.cols);
        KernelSpec {
            name: name.to_string(),
            body: Cow::Borrowed(body),
            parts: vec![wide(self.width), reduce],
            inputs: Vec::new(),
            outputs: Vec::new(),
            params: vec![
                ("rows", Param::U32(self.rows)),
                ("cols", Param::U32(self.cols)),
                ("block", Param::U32(self.block)),
            ],
            constants: vec![("STEPS", self.steps), ("SLOTS", self.slots), ("EXACT", exact)],
            width: self.width,
            workgroup: self.workgroup,
            groups: u64::from(self.blocks()),
            flops: flops * u64::from(self.rows) * u64::from(self.cols),
        }
    }
}

/// The part with the helpers for a vector width.
pub fn wide(width: u32) -> &'static str {
    if width == 4 { "wide4" } else { "wide1" }
}

/// Lanes per row, and whether they are one subgroup. Long rows get more lanes on a GPU, at the
/// price of shared memory; a software adapter pays for each barrier and each lane.
fn lanes(profile: &Profile, chunks: u32) -> (u32, bool) {
    let cpu = profile.class == AdapterClass::Cpu;
    match profile.subgroup {
        Some(size) if cpu || chunks <= 32 * size => (size, true),
        _ if cpu => (16, false),
        _ if chunks > 1024 => (256.min(profile.max_invocations), false),
        _ => (64, false),
    }
}

/// Rows per workgroup: one on a GPU, unless there are very many; on a software adapter, where
/// starting a workgroup is dear, so many that `cpu_groups` workgroups remain.
pub fn block(profile: &Profile, rows: u32, cpu_groups: u32) -> u32 {
    let groups = if profile.class == AdapterClass::Cpu { cpu_groups } else { 1 << 20 };
    rows.div_ceil(groups).max(1)
}
