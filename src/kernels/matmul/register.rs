//! The product for adapters without shared memory worth the name: each invocation keeps a block of
//! outputs in registers and reads its operands straight from storage.

use super::block::{self, Layout, Port};
use super::text::Text;
use super::walk::Walks;

/// Invocations of a workgroup along `m` and `n`.
pub const ROWS: u32 = 8;
pub const COLS: u32 = 8;
pub const WORKGROUP: u32 = ROWS * COLS;

pub fn body(layout: &Layout, walks: &[Option<Walks>; 2], rows: u32, quads: u32) -> String {
    let mut text = Text::new();
    let (a, b) = (Port::a(layout, walks).counted(), Port::b(layout, walks).counted());
    block::store_quad(&mut text, layout);
    block::open_main(&mut text, "local_invocation_index", ROWS * rows, COLS * 4 * quads);
    text.line(format!("let row = row0 + lane / {COLS}u * {rows}u;"));
    (0..quads).for_each(|q| text.line(format!("let col_q{q} = col0 + (lane % {COLS}u + {}u) * 4u;", q * COLS)));
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
    block::store_row_sums(&mut text, layout, rows, &format!("lane % {COLS}u == 0u"), |i| format!("row + {i}u"));
    block::store_rotating(&mut text, layout, (rows, quads), "row", |q| format!("col_q{q}"));
    text.close();
    text.finish()
}
