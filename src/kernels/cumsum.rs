//! Running sums along rows (`torch.cumsum`), each element read twice and added a constant number of times.
//!
//! Rows that are few and long are cut into chunks, so that the device has enough to do: the totals of the chunks,
//! their running sums, then the chunks themselves. The order of additions is fixed.

use super::wgsl::wgsl;
use super::{AdapterClass, Element, KernelSpec, Param, Port, Profile};

/// Elements that a lane takes at a time.
const ITEMS: u32 = 4;

/// What is summed up: `rows` lines of `cols` elements, which lie side by side.
#[derive(Debug, Clone, Copy)]
pub struct CumSum {
    pub rows: usize,
    pub cols: usize,
    /// From the last column to the first.
    pub reverse: bool,
    /// Without the element itself.
    pub exclusive: bool,
    /// The element type in WGSL: `f32`, `i32` or `u32`.
    pub element: &'static str,
}

/// Which of the kernels, and so what its hooks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// `x` to the main result, a workgroup a row.
    Whole,
    /// `x` to the secondary output `totals [rows, chunks]`.
    Totals,
    /// `x` (the totals of the chunks) to the secondary output `starts [rows, chunks]`: what lies before each chunk.
    Starts,
    /// `x` and `starts` to the main result, a workgroup a chunk.
    Chunks,
}

/// The chunks of a row: one where there are rows enough.
pub fn chunks(profile: &Profile, rows: usize, cols: usize) -> usize {
    let (busy, least) = if profile.class == AdapterClass::Cpu { (8, 8192) } else { (256, 1024) };
    if rows == 0 || rows >= busy { 1 } else { busy.div_ceil(rows).min(cols / least).max(1) }
}

/// One kernel of a sum whose rows are cut into `chunks`.
pub fn cumsum(profile: &Profile, sum: &CumSum, pass: Pass, chunks: usize) -> KernelSpec {
    let CumSum { rows, cols, reverse, exclusive, element } = *sum;
    // The starts are sums over the chunks of a row, in the order of the row's own additions.
    let starts = pass == Pass::Starts;
    let (cols, reverse, exclusive) = if starts { (chunks, false, true) } else { (cols, reverse, exclusive) };
    let per_row = if starts { 1 } else { chunks };
    let chunk = cols.div_ceil(per_row);
    let workgroup = lanes(profile, chunk);
    let port = |name| Port::new(name, element_of(element));
    let (inputs, outputs) = match pass {
        Pass::Whole => (vec![port("x")], vec![]),
        Pass::Totals => (vec![port("x")], vec![port("totals")]),
        Pass::Starts => (vec![port("x")], vec![port("starts")]),
        Pass::Chunks => (vec![port("x"), port("starts")], vec![]),
    };
    KernelSpec {
        name: "cumsum".to_string(),
        body: format!("{}{}", hooks(pass, element), wgsl!("cumsum")).into(),
        parts: Vec::new(),
        inputs,
        outputs,
        params: vec![
            ("cols", Param::U32(cols as u32)),
            ("chunk", Param::U32(chunk as u32)),
            ("chunks", Param::U32(per_row as u32)),
        ],
        constants: vec![("ITEMS", ITEMS), ("REVERSE", u32::from(reverse)), ("EXCLUSIVE", u32::from(exclusive))],
        width: 1,
        workgroup,
        groups: if cols == 0 { 0 } else { (rows * per_row) as u64 },
        flops: 2 * (rows * cols) as u64,
    }
}

fn element_of(element: &str) -> Element {
    match element {
        "f32" => Element::F32,
        "i32" => Element::I32,
        _ => Element::U32,
    }
}

fn hooks(pass: Pass, element: &str) -> String {
    let base = if pass == Pass::Chunks { "starts[group]" } else { "E(0)" };
    let put = match pass {
        Pass::Whole | Pass::Chunks => "store(0u, row, col, value);",
        Pass::Totals => "",
        Pass::Starts => "starts[row * params.cols + col] = value;",
    };
    let finish = if pass == Pass::Totals { "totals[group] = total;" } else { "" };
    format!(
        "alias E = {element};\nfn base(group: u32) -> E {{ return {base}; }}\n\
         fn put(row: u32, col: u32, value: E) {{ {put} }}\nfn finish(group: u32, total: E) {{ {finish} }}\n"
    )
}

/// Lanes of a workgroup: as many as a chunk keeps busy, up to 256; one hardware vector on a software adapter.
fn lanes(profile: &Profile, chunk: usize) -> u32 {
    match profile.class {
        AdapterClass::Cpu => profile.subgroup.unwrap_or(8),
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => {
            let wanted = (chunk as u32).div_ceil(ITEMS).next_power_of_two();
            wanted.clamp(32, 256.min(profile.max_invocations))
        }
    }
}
