//! The kernels of sorting, of sums by index and of running sums, and the work buffers between them.

use super::anchors::{Hook, Plan, PortSource, Stage};
use crate::dtype::DType;
use crate::kernels::cumsum::{self, CumSum, Pass};
use crate::kernels::scatter::{self, Sorted};
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
    let block = sort::argsort_block(profile, rows, cols, kind, descending);
    let stages = passes(profile, (rows, cols), block, PortSource::Output(0));
    let bytes = (rows * cols).max(1) as u64 * 4;
    Plan { stages, workspaces: vec![bytes; if sort::merges(cols) == 0 { 1 } else { 3 }], ..Plan::default() }
}

/// The passes of a sort; the last one writes the indices to `result`.
fn passes(profile: &Profile, (rows, cols): (usize, usize), block: KernelSpec, result: PortSource) -> Vec<Stage> {
    let merges = sort::merges(cols);
    let order = |pass: u32| if (merges - pass).is_multiple_of(2) { result } else { PortSource::Workspace(2) };
    let mut stages = vec![stage(block, vec![PortSource::Operand(0)], vec![keys(0), order(0)])];
    for pass in 1..=merges {
        let spec = sort::argsort_merge(profile, rows, cols, sort::BLOCK << (pass - 1));
        stages.push(stage(spec, vec![keys(pass - 1), order(pass - 1)], vec![keys(pass), order(pass)]));
    }
    stages
}

/// Where the keys of a pass lie.
fn keys(pass: u32) -> PortSource {
    PortSource::Workspace((pass % 2) as usize)
}

/// Rows of operand 1 added up by the indices in operand 0: chained where they are few, else sorted.
pub fn scatter_add(profile: &Profile, sum: &Sorted) -> Plan {
    use PortSource::{Operand, Workspace};
    let &Sorted { rows, count, rest, .. } = sum;
    let words = |count: usize| count.max(1) as u64 * 4;
    let finish = |spec, inputs| Stage { hook: Hook::Store, ..stage(spec, inputs, vec![]) };
    if sum.element == "f32" && scatter::linked(rows, count) {
        let links = scatter::scatter_links(profile, rows, count);
        let add = scatter::scatter_add(profile, rows, count, rest);
        let stages = vec![
            stage(links, vec![Operand(0)], vec![Workspace(0), Workspace(1)]),
            finish(add, vec![Workspace(0), Workspace(1), Operand(1)]),
        ];
        return Plan { stages, workspaces: vec![words(rows), words(count)], ..Plan::default() };
    }
    // Work buffers: two for keys, two for the order, the rows' bounds, the sums of parts.
    let block = sort::argsort_block(profile, 1, count, Kind::I32, false);
    let mut stages = passes(profile, (1, count), block, Workspace(3));
    let bounds = scatter::scatter_bounds(rows, count);
    stages.push(stage(bounds, vec![keys(sort::merges(count))], vec![Workspace(4)]));
    let parts = sum.parts(profile);
    let (add, inputs) = (scatter::scatter_sorted(sum, parts), vec![Workspace(4), Workspace(3), Operand(1)]);
    let mut workspaces = vec![words(count); 4];
    workspaces.push(words(rows + 1));
    if parts == 1 {
        stages.push(finish(add, inputs));
    } else {
        stages.push(stage(add, inputs, vec![Workspace(5)]));
        stages.push(finish(scatter::scatter_parts(sum, parts), vec![Workspace(5)]));
        workspaces.push(words(parts * rows * rest));
    }
    Plan { stages, workspaces, ..Plan::default() }
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
    Plan { stages, workspaces: vec![(sum.rows * chunks) as u64 * 4; 2], ..Plan::default() }
}
