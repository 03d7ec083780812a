//! Products with few outputs and a long sum: the sum is cut into chunks, so that more of a device has something to do, and a
//! second kernel adds these up, always in the same order.

use super::anchors::{Hook, Plan, PortSource, Stage};
use crate::kernels::matmul::{self, Matmul, Operand};
use crate::kernels::{AdapterClass, Element, KernelSpec, Param, Port, Profile, reduce};

/// Bytes that partial sums may take.
pub(super) const PARTIAL_BYTES: usize = 16 << 20;

/// Steps of `k` in a chunk, at least: the second kernel, and the memory for the partial sums, must be little beside them.
const LEAST: usize = 1024;
/// The same for a software adapter's core, which waits for no memory.
const LEAST_CPU: usize = 2048;

/// Into how many chunks the sum of a product is cut: as many as give every part of the device a tile, and 1 where there are
/// tiles enough without, or where sums ride along, which belong to the whole product.
///
/// On a GPU few tiles wait for memory at every 16 steps of `k`, about a microsecond, while a kernel more costs a few of
/// these: 1024 steps saved are many times what is added. That is an estimate; no GPU was there to measure it.
fn count(profile: &Profile, mm: &Matmul) -> usize {
    let outputs = mm.m * mm.n * mm.batch[1];
    let rides = mm.bias_gradient || mm.row_sums || mm.walks.iter().any(Option::is_some);
    // Fewer outputs are added up by another form of the second kernel, which stores single numbers.
    if rides || mm.batch[0] != 1 || !mm.n.is_multiple_of(4) || outputs < 32 {
        return 1;
    }
    let tiles = match profile.class {
        AdapterClass::Cpu => mm.m.div_ceil(32) * mm.n.div_ceil(32) * mm.batch[1],
        AdapterClass::Discrete | AdapterClass::Integrated | AdapterClass::Apple => matmul::small_tiles(mm),
    };
    let (wanted, least) = match profile.class {
        AdapterClass::Discrete => (96, LEAST),
        AdapterClass::Integrated | AdapterClass::Apple => (24, LEAST),
        AdapterClass::Cpu => (2, LEAST_CPU),
    };
    // A software adapter must have chunks that are short enough for it, however many tiles there are.
    let needed = mm.k.div_ceil(profile.most_turns().saturating_mul(2));
    let most = (wanted / tiles).max(needed).min(PARTIAL_BYTES / (4 * outputs)).min(mm.k / least);
    // Equal chunks, whose starts are as aligned as that of the whole.
    (2..=most).rev().find(|&chunks| mm.k.is_multiple_of(16 * chunks)).unwrap_or(1)
}

/// The two kernels of a product whose sum is cut; `None` where one does it all.
pub fn product(profile: &Profile, mm: &Matmul) -> Option<Plan> {
    let chunks = count(profile, mm);
    if chunks == 1 {
        return None;
    }
    let k = mm.k / chunks;
    let within = |operand: Operand, step: usize| Operand { batch: [k * step, operand.batch[1]], ..operand };
    let cut =
        Matmul { k, batch: [chunks, mm.batch[1]], a: within(mm.a, mm.a.col), b: within(mm.b, mm.b.row), ..mm.clone() };
    let outputs = mm.m * mm.n * mm.batch[1];
    let mut first = matmul::emit(matmul::choose(profile, &cut), &cut, profile);
    store_partials(&mut first, outputs);
    let mut second = reduce::sum_chunks(profile, [outputs, 0], chunks);
    let place = "store(o / (params.rows * params.cols), o / params.cols % params.rows, o % params.cols, value);";
    second.body = second.body.replace("store(0u, 0u, o, value);", place).into();
    second.name = "matmul_sum_chunks".into();
    second.params.extend([("rows", Param::U32(mm.m as u32)), ("cols", Param::U32(mm.n as u32))]);
    let work = vec![PortSource::Workspace(0)];
    let operands = (0..2).map(PortSource::Operand).collect();
    Some(Plan {
        stages: vec![
            Stage { spec: first, inputs: operands, outputs: work.clone(), hook: Hook::None },
            Stage { spec: second, inputs: work, outputs: vec![], hook: Hook::Store },
        ],
        workspaces: vec![(chunks * outputs) as u64 * 4],
        product: Some(cut),
        ..Plan::default()
    })
}

/// Lets a product write what another stage adds up: the partial sums of each chunk, the outer batches, one after the other.
pub(super) fn store_partials(spec: &mut KernelSpec, each: usize) {
    const STORE: &str = "\
fn store(batch: u32, row: u32, col: u32, value: F) {
    let within = (batch % params.batch_inner * params.m + row) * params.n + col;
    partials[(batch / params.batch_inner * PARTIALS + within) / W] = value;
}

";
    spec.body = format!("{STORE}{}", spec.body).into();
    spec.constants.push(("PARTIALS", each as u32));
    spec.outputs = vec![Port::new("partials", Element::Wide)];
}
