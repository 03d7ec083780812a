//! The product for adapters without shared memory worth the name: each invocation keeps a block of
//! outputs in registers and reads its operands straight from storage.

use super::Matmul;
use super::block::{self, Layout, Port};
use super::walk::Walks;
use crate::kernels::text::Text;
use std::cmp::Reverse;

/// Invocations of a workgroup along `m` and `n`.
pub const LANES: [u32; 2] = [8, 8];
pub const WORKGROUP: u32 = LANES[0] * LANES[1];
/// A software adapter computes as many invocations at once.
const SIMD: u32 = 4;
/// Workgroups for every core of a software adapter, where there are enough blocks.
const ENOUGH: u64 = 8;

/// [`LANES`] for a software adapter, to which blocks beyond the edge cost as much as others: with the fewest of those. Nothing
/// is shared within a workgroup, so that any shape will do; but each is one more text, so that a tenth more is not minded.
pub fn lanes(mm: &Matmul, rows: u32, quads: u32) -> [u32; 2] {
    let blocks = [mm.m.div_ceil(rows as usize), mm.n.div_ceil(4 * quads as usize)];
    let all = blocks[0] as u64 * blocks[1] as u64 * mm.batch[0] as u64 * mm.batch[1] as u64;
    let most = (all / ENOUGH).clamp(u64::from(SIMD), u64::from(WORKGROUP)) as u32;
    let shapes = (1..=most).flat_map(|m| (1..=most / m).map(move |n| [m, n]));
    let computed = |lanes: [u32; 2]| {
        let along = |axis: usize| blocks[axis].next_multiple_of(lanes[axis] as usize) as u64;
        along(0) * along(1)
    };
    if most == WORKGROUP && 10 * computed(LANES) <= 11 * (blocks[0] * blocks[1]) as u64 {
        return LANES;
    }
    // Among equals the one with the most invocations, and the squarest.
    let order = |&[m, n]: &[u32; 2]| (computed([m, n]), Reverse(m * n), m.abs_diff(n));
    shapes.filter(|[m, n]| (m * n).is_multiple_of(SIMD)).min_by_key(order).unwrap_or(LANES)
}

pub fn body(layout: &Layout, walks: &[Option<Walks>; 2], [rows, quads]: [u32; 2], lanes: [u32; 2]) -> String {
    let [high, wide] = lanes;
    let mut text = Text::new();
    let (a, b) = (Port::a(layout, walks).counted(), Port::b(layout, walks).counted());
    block::store_quad(&mut text, layout);
    block::open_main(&mut text, "local_invocation_index", high * rows, wide * 4 * quads);
    text.line(format!("let row = row0 + lane / {wide}u * {rows}u;"));
    (0..quads).for_each(|q| text.line(format!("let col_q{q} = col0 + (lane % {wide}u + {}u) * 4u;", q * wide)));
    a.declare(&mut text);
    b.declare(&mut text);
    (0..rows / 4).for_each(|p| a.place(&mut text, p, &format!("row + {}u", 4 * p)));
    (0..quads).for_each(|q| b.place(&mut text, q, &format!("col_q{q}")));
    text.line(block::k_end(layout));
    block::accumulators(&mut text, layout, rows, quads);
    text.open("for (var k = 0u; k < k_end; k += 4u)");
    a.advance(&mut text, "k");
    b.advance(&mut text, "k");
    (0..rows / 4).for_each(|p| a.load(&mut text, p));
    (0..quads).for_each(|q| b.load(&mut text, q));
    block::products(&mut text, layout, (rows, quads, 4), |i, kk| a.element(i, kk), |q, kk| b.across(q, kk));
    text.close();
    block::store_row_sums(&mut text, layout, rows, &format!("lane % {wide}u == 0u"), |i| format!("row + {i}u"));
    block::store_rotating(&mut text, layout, (rows, quads), "row", |q| format!("col_q{q}"));
    text.close();
    text.finish()
}
