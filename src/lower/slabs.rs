//! Where transient values lie: lifetimes packed into few buffers, offline.
//!
//! Until here each transient value of a program has a buffer to itself. When all dispatches are known, so are all
//! lifetimes, and values that do not live at the same time may share bytes of a slab. WebGPU tracks usage by buffer: in one
//! dispatch a buffer may not be bound both for reading and for writing, so values that a dispatch reads lie in other slabs
//! than those that it writes, unless that costs much (`docs/decisions/transient-buffers.md`). Knows programs and sizes, no
//! graph.

use crate::kernels::Profile;
use crate::program::{Binding, BufferDecl, Expired, Kernel, Program, Role, lifetimes};
use std::collections::HashMap;

/// Every value begins at a multiple of this, at which any binding may begin.
const ALIGNMENT: u64 = 256;
/// Less is not worth that a dispatch reads and writes one slab.
const WORTH_MIXING: u64 = 256 << 10;
/// How often the order is mended, for a program of many values and at most.
const MENDED: (usize, usize) = (12, 200);

/// A value to be placed.
#[derive(Debug, Clone)]
struct Item {
    bytes: u64,
    first: usize,
    last: usize,
    /// Items that must lie in another slab, as long as each binding has its own mode.
    apart: Vec<usize>,
    /// Those that must in any case: a range that is bound twice cannot be bound for writing.
    always: Vec<usize>,
}

/// Places of all items, and the height of each slab.
#[derive(Debug, Clone, Default)]
struct Packing {
    places: Vec<(usize, u64)>,
    heights: Vec<u64>,
    /// Items that made a slab higher although others ended below.
    raised: Vec<usize>,
}

/// Puts the transient values of programs that share their memory into slabs.
///
/// Each transient buffer of these programs must hold one value. The program that needs most is packed first, and the
/// others into the slabs that it has.
pub fn pack(programs: &mut [Program], profile: &Profile) {
    let items: Vec<(Vec<usize>, Vec<Item>)> = programs.iter().map(items).collect();
    let mut order: Vec<usize> = (0..programs.len()).collect();
    crate::sort::sort_by_key(&mut order, |&index| std::cmp::Reverse(most_alive(&items[index].1)));
    let most = profile.max_buffer_bytes / ALIGNMENT * ALIGNMENT;
    let mut heights: Vec<u64> = Vec::new();
    for index in order {
        let (buffers, items) = &items[index];
        let (packing, mixed) = packed(items, &heights, most);
        heights.resize(heights.len().max(packing.heights.len()), 0);
        heights.iter_mut().zip(&packing.heights).for_each(|(height, &own)| *height = (*height).max(own));
        rebind(&mut programs[index], buffers, &packing, items);
        if mixed {
            bind_alike(&mut programs[index]);
        }
    }
}

/// The packing of one program, and whether a dispatch may read and write one slab in it: where keeping them apart costs
/// much, as it may where few large values follow each other.
fn packed(items: &[Item], floors: &[u64], most: u64) -> (Packing, bool) {
    let total = |packing: &Packing| with_floors(&packing.heights, floors).sum::<u64>();
    let apart = best(items, floors, most);
    let bound = most_alive(items).max(floors.iter().sum());
    if total(&apart) <= bound + (bound / 12).max(WORTH_MIXING) {
        return (apart, false);
    }
    let free: Vec<Item> = items.iter().map(|item| Item { apart: item.always.clone(), ..item.clone() }).collect();
    let mixed = best(&free, floors, most);
    if total(&mixed) + bound / 40 < total(&apart) { (mixed, true) } else { (apart, false) }
}

/// Binds a slab that a dispatch writes for writing everywhere in this dispatch, in a kernel that says so.
fn bind_alike(program: &mut Program) {
    let (mut kernels, buffers) = (std::mem::take(&mut program.kernels), program.buffers.clone());
    let mut known: HashMap<(usize, Vec<bool>), usize> = HashMap::new();
    for dispatch in program.each_dispatch_mut() {
        let kernel = kernels[dispatch.kernel].clone();
        let bound = || dispatch.bindings.iter().zip(&kernel.writable);
        let written = |buffer: usize| {
            buffers[buffer].role == Role::Transient
                && bound().any(|(binding, &write)| write && binding.buffer == buffer)
        };
        let writable: Vec<bool> = bound().map(|(binding, &write)| write || written(binding.buffer)).collect();
        if writable == kernel.writable {
            continue;
        }
        let number = *known.entry((dispatch.kernel, writable.clone())).or_insert_with(|| {
            kernels.push(writing(&kernel, writable));
            kernels.len() - 1
        });
        dispatch.kernel = number;
    }
    program.kernels = kernels;
    drop_unused_kernels(program);
}

/// The kernel with these bindings declared for writing.
fn writing(kernel: &Kernel, writable: Vec<bool>) -> Kernel {
    let mut wgsl = kernel.wgsl.clone();
    for (index, (before, now)) in kernel.writable.iter().zip(&writable).enumerate() {
        if before != now {
            let declared = format!("@group(0) @binding({}) var<storage, ", index + 1);
            wgsl = wgsl.replace(&format!("{declared}read> "), &format!("{declared}read_write> "));
        }
    }
    Kernel { wgsl, writable, ..kernel.clone() }
}

fn drop_unused_kernels(program: &mut Program) {
    let mut used = vec![false; program.kernels.len()];
    program.each_dispatch().for_each(|dispatch| used[dispatch.kernel] = true);
    let before = |kernel: usize| used[..kernel].iter().filter(|&&used| used).count();
    let new: Vec<usize> = (0..used.len()).map(before).collect();
    let mut keep = used.iter();
    program.kernels.retain(|_| keep.next().copied().unwrap_or(false));
    for dispatch in program.each_dispatch_mut() {
        dispatch.kernel = new[dispatch.kernel];
    }
}

/// The transient buffers of a program, and each as an item.
fn items(program: &Program) -> (Vec<usize>, Vec<Item>) {
    let lives = lifetimes(program);
    let mut number = vec![None; program.buffers.len()];
    for (index, life) in lives.iter().enumerate() {
        number[life.buffer] = Some(index);
    }
    let item = |life: &crate::program::Lifetime| Item {
        bytes: life.bytes.max(4).next_multiple_of(ALIGNMENT),
        first: life.first,
        last: life.last,
        apart: vec![],
        always: vec![],
    };
    let mut items: Vec<Item> = lives.iter().map(item).collect();
    for dispatch in program.each_dispatch() {
        let writable = &program.kernels[dispatch.kernel].writable;
        let bound: Vec<(usize, bool)> = dispatch
            .bindings
            .iter()
            .zip(writable)
            .filter_map(|(binding, &write)| number[binding.buffer].map(|item| (item, write)))
            .collect();
        for &(a, a_written) in &bound {
            let twice = |item: usize| bound.iter().filter(|(other, _)| *other == item).count() > 1;
            for &(b, _) in bound.iter().filter(|&&(b, b_written)| a != b && a_written != b_written) {
                items[a].apart.push(b);
                if twice(a) || twice(b) {
                    items[a].always.push(b);
                }
            }
        }
    }
    for item in &mut items {
        for list in [&mut item.apart, &mut item.always] {
            crate::sort::sort(list);
            list.dedup();
        }
    }
    (lives.iter().map(|life| life.buffer).collect(), items)
}

/// The largest sum of sizes of items that live at the same time: no packing needs less.
fn most_alive(items: &[Item]) -> u64 {
    let end = items.iter().map(|item| item.last + 2).max().unwrap_or(0);
    let mut change = vec![0i128; end];
    for item in items {
        change[item.first] += i128::from(item.bytes);
        change[item.last + 1] -= i128::from(item.bytes);
    }
    let (mut alive, mut most) = (0i128, 0i128);
    for step in change {
        alive += step;
        most = most.max(alive);
    }
    most as u64
}

/// The best of several orders, and of orders in which what made slabs grow goes first.
fn best(items: &[Item], floors: &[u64], most: u64) -> Packing {
    let bound = most_alive(items).max(floors.iter().sum());
    let key = |by: usize, item: &Item| {
        let length = (item.last - item.first + 1) as u64;
        match by {
            0 => item.bytes,
            1 => item.bytes.saturating_mul(length),
            2 => length,
            _ => u64::MAX - item.first as u64,
        }
    };
    let mut best: Option<(u64, Packing)> = None;
    let rounds = (2_000_000 / (items.len() * items.len() + 1)).clamp(MENDED.0, MENDED.1);
    for by in 0..4 {
        let mut order: Vec<usize> = (0..items.len()).collect();
        crate::sort::sort_by_key(&mut order, |&index| std::cmp::Reverse((key(by, &items[index]), items[index].bytes)));
        for _ in 0..rounds {
            let packing = in_order(items, &order, floors, most);
            let total: u64 = with_floors(&packing.heights, floors).sum();
            let raised = packing.raised.clone();
            if best.as_ref().is_none_or(|(known, _)| total < *known) {
                best = Some((total, packing));
            }
            if best.as_ref().is_some_and(|(known, _)| *known <= bound + bound / 200) {
                return best.map(|(_, packing)| packing).unwrap_or_default();
            }
            if raised.is_empty() {
                break;
            }
            order = forward(order, &raised, items.len());
        }
    }
    best.map(|(_, packing)| packing).unwrap_or_default()
}

fn with_floors(heights: &[u64], floors: &[u64]) -> impl Iterator<Item = u64> {
    let slabs = heights.len().max(floors.len());
    let at = |list: &[u64], slab: usize| list.get(slab).copied().unwrap_or(0);
    (0..slabs).map(move |slab| at(heights, slab).max(at(floors, slab)))
}

/// Moves what made slabs grow some way to the front.
fn forward(order: Vec<usize>, raised: &[usize], count: usize) -> Vec<usize> {
    let jump = (count / 6).max(2) as i64;
    let mut ranked: Vec<(i64, usize)> = order
        .into_iter()
        .enumerate()
        .map(|(rank, item)| (2 * rank as i64 - if raised.contains(&item) { 2 * jump + 1 } else { 0 }, item))
        .collect();
    crate::sort::sort_by_key(&mut ranked, |(rank, _)| *rank);
    ranked.into_iter().map(|(_, item)| item).collect()
}

/// Places items one after the other, each where it makes the slabs grow least, into the tightest gap.
fn in_order(items: &[Item], order: &[usize], floors: &[u64], most: u64) -> Packing {
    let mut packing =
        Packing { places: vec![(usize::MAX, 0); items.len()], heights: vec![0; floors.len()], raised: vec![] };
    // Items of each slab by their offset.
    let mut slabs: Vec<Vec<usize>> = vec![vec![]; floors.len()];
    for &index in order {
        let item = &items[index];
        let mut chosen: Option<(u64, u64, usize, u64)> = None;
        for (slab, inside) in slabs.iter().enumerate() {
            if item.apart.iter().any(|&other| packing.places[other].0 == slab) {
                continue;
            }
            let (offset, spare) = gap(items, &packing.places, inside, item);
            let end = offset + item.bytes;
            if end > most {
                continue;
            }
            let height = packing.heights[slab].max(floors.get(slab).copied().unwrap_or(0));
            let candidate = (end.saturating_sub(height), spare, slab, offset);
            if chosen.is_none_or(|known| candidate < known) {
                chosen = Some(candidate);
            }
        }
        let (growth, slab, offset) = match chosen {
            Some((growth, _, slab, offset)) => (growth, slab, offset),
            None => {
                slabs.push(vec![]);
                packing.heights.push(0);
                (item.bytes, slabs.len() - 1, 0)
            }
        };
        if growth > 0 {
            packing.raised.push(index);
        }
        packing.places[index] = (slab, offset);
        packing.heights[slab] = packing.heights[slab].max(offset + item.bytes);
        let at = slabs[slab].partition_point(|&other| packing.places[other].1 <= offset);
        slabs[slab].insert(at, index);
    }
    packing
}

/// The tightest gap in a slab that is free while the item lives, and what is left of it; else the place above all others.
fn gap(items: &[Item], places: &[(usize, u64)], inside: &[usize], item: &Item) -> (u64, u64) {
    let (mut top, mut tightest) = (0, None);
    for &other in inside {
        let known = &items[other];
        if known.last < item.first || item.last < known.first {
            continue;
        }
        let offset = places[other].1;
        if offset >= top + item.bytes {
            let spare = offset - top - item.bytes;
            if tightest.is_none_or(|(_, least)| spare < least) {
                tightest = Some((top, spare));
            }
        }
        top = top.max(offset + known.bytes);
    }
    tightest.unwrap_or((top, u64::MAX))
}

/// Lets a program use slabs in place of one buffer for each value.
fn rebind(program: &mut Program, buffers: &[usize], packing: &Packing, items: &[Item]) {
    let kept: Vec<usize> =
        (0..program.buffers.len()).filter(|&index| program.buffers[index].role != Role::Transient).collect();
    let mut target = vec![(usize::MAX, 0); program.buffers.len()];
    for (new, &old) in kept.iter().enumerate() {
        target[old] = (new, 0);
    }
    // Slabs that another program needs and this one does not are left out.
    let mut used: Vec<Option<usize>> = vec![None; packing.heights.len()];
    let mut decls: Vec<BufferDecl> = kept.iter().map(|&index| program.buffers[index].clone()).collect();
    for (item, &buffer) in buffers.iter().enumerate() {
        let (slab, offset) = packing.places[item];
        let decl = *used[slab].get_or_insert_with(|| {
            decls.push(BufferDecl { role: Role::Transient, bytes: 0 });
            decls.len() - 1
        });
        decls[decl].bytes = decls[decl].bytes.max(offset + items[item].bytes);
        target[buffer] = (decl, offset);
        let range = Binding { buffer: decl, offset, bytes: items[item].bytes };
        program.expired.push(Expired { after: items[item].last, range });
    }
    crate::sort::sort_by_key(&mut program.expired, |expired| expired.after);
    program.buffers = decls;
    for binding in program.each_dispatch_mut().flat_map(|dispatch| &mut dispatch.bindings) {
        let (buffer, offset) = target[binding.buffer];
        (binding.buffer, binding.offset) = (buffer, binding.offset + offset);
    }
    for io in program.inputs.iter_mut().chain(&mut program.outputs) {
        let (buffer, offset) = target[io.buffer];
        (io.buffer, io.offset) = (buffer, io.offset + offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: u64, first: usize, last: usize, apart: &[usize]) -> Item {
        Item { bytes: bytes * ALIGNMENT, first, last, apart: apart.to_vec(), always: vec![] }
    }

    fn legal(items: &[Item], packing: &Packing, most: u64) {
        for (i, a) in items.iter().enumerate() {
            let (slab, offset) = packing.places[i];
            assert!(offset + a.bytes <= packing.heights[slab] && packing.heights[slab] <= most);
            assert!(a.apart.iter().all(|&other| packing.places[other].0 != slab), "{i} lies beside what it may not");
            for (j, b) in items.iter().enumerate().skip(i + 1) {
                let (other, at) = packing.places[j];
                let meet = a.first <= b.last && b.first <= a.last;
                let overlap = slab == other && offset < at + b.bytes && at < offset + a.bytes;
                assert!(!(meet && overlap), "{i} and {j} share bytes while both live");
            }
        }
    }

    #[test]
    fn values_that_follow_each_other_share_bytes() {
        let items = [item(4, 0, 1, &[1]), item(4, 1, 2, &[0, 2]), item(4, 2, 3, &[1]), item(8, 4, 5, &[])];
        let packing = best(&items, &[], u64::MAX);
        legal(&items, &packing, u64::MAX);
        assert_eq!(packing.heights.iter().sum::<u64>(), 8 * ALIGNMENT + 4 * ALIGNMENT);
        assert_eq!(most_alive(&items), 8 * ALIGNMENT);
    }

    #[test]
    fn slabs_of_another_program_cost_nothing() {
        let items = [item(3, 0, 1, &[1]), item(5, 1, 2, &[0])];
        let packing = best(&items, &[6 * ALIGNMENT, 4 * ALIGNMENT], u64::MAX);
        legal(&items, &packing, u64::MAX);
        assert_eq!(packing.heights, [5 * ALIGNMENT, 3 * ALIGNMENT]);
    }

    #[test]
    fn packings_of_any_lifetimes_are_legal_and_tight() {
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..40 {
            let count = 5 + random(60) as usize;
            let mut items: Vec<Item> = (0..count)
                .map(|_| {
                    let (first, length) = (random(40) as usize, random(20) as usize);
                    item(1 + random(12), first, first + length, &[])
                })
                .collect();
            for _ in 0..count {
                let (a, b) = (random(count as u64) as usize, random(count as u64) as usize);
                if a != b {
                    items[a].apart.push(b);
                    items[b].apart.push(a);
                }
            }
            let most = (8 + random(80)) * ALIGNMENT + 12 * ALIGNMENT;
            legal(&items, &best(&items, &[], most), most);
            let packing = best(&items, &[], u64::MAX);
            legal(&items, &packing, u64::MAX);
            let (total, bound) = (packing.heights.iter().sum::<u64>(), most_alive(&items));
            // The bound knows nothing of what must lie apart, which here is much.
            assert!(4 * total <= 7 * bound, "{total} for a bound of {bound}");
        }
    }
}
