//! The kernels of sorting and of running sums, and the work buffers between them.

use super::anchors::{Hook, Plan, PortSource, Stage};
use crate::dtype::DType;
use crate::kernels::cumsum::{self, CumSum, Pass};
use crate::kernels::sort::{self, Kind};
use crate::kernels::{KernelSpec, Profile};

fn stage(spec: KernelSpec, inputs: Vec<PortSource>, outputs: Vec<PortSource>) -> Stage {
    Stage { spec, inputs, outputs, hook: Hook::None }
}

/// Operand 0 sorted by rows: blocks, then merges. Keys alternate between work buffers 0 and 1, indices between the
/// result and work buffer 2, so that the last merge writes the result.
pub fn argsort(profile: &Profile, (rows, cols): (usize, usize), dtype: DType, descending: bool) -> Plan {
    let kind = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Kind::F32,
        DType::I32 => Kind::I32,
        DType::U32 | DType::Bool | DType::U8 => Kind::U32,
    };
    let merges = sort::merges(cols);
    let keys = |pass: u32| PortSource::Workspace((pass % 2) as usize);
    let order = |pass: u32| {
        if (merges - pass).is_multiple_of(2) { PortSource::Output(0) } else { PortSource::Workspace(2) }
    };
    let block = sort::argsort_block(profile, rows, cols, kind, descending);
    let mut stages = vec![stage(block, vec![PortSource::Operand(0)], vec![keys(0), order(0)])];
    for pass in 1..=merges {
        let spec = sort::argsort_merge(profile, rows, cols, sort::BLOCK << (pass - 1));
        stages.push(stage(spec, vec![keys(pass - 1), order(pass - 1)], vec![keys(pass), order(pass)]));
    }
    let bytes = (rows * cols).max(1) as u64 * 4;
    Plan { stages, workspaces: vec![bytes; if merges == 0 { 1 } else { 3 }], by_runs: false }
}

/// Running sums of operand 0 by rows, in chunks where rows are few and long.
pub fn cumsum(profile: &Profile, sum: &CumSum) -> Plan {
    use PortSource::{Operand, Workspace};
    let chunks = cumsum::chunks(profile, sum.rows, sum.cols);
    let kernel = |pass: Pass| cumsum::cumsum(profile, sum, pass, chunks);
    if chunks == 1 {
        let whole = Stage { hook: Hook::Store, ..stage(kernel(Pass::Whole), vec![Operand(0)], vec![]) };
        return Plan { stages: vec![whole], ..Plan::default() };
    }
    let stages = vec![
        stage(kernel(Pass::Totals), vec![Operand(0)], vec![Workspace(0)]),
        stage(kernel(Pass::Starts), vec![Workspace(0)], vec![Workspace(1)]),
        Stage { hook: Hook::Store, ..stage(kernel(Pass::Chunks), vec![Operand(0), Workspace(1)], vec![]) },
    ];
    Plan { stages, workspaces: vec![(sum.rows * chunks) as u64 * 4; 2], by_runs: false }
}
