//! The product for GPUs: tiles of both operands are staged in workgroup memory, where they lie
//! across `k` whatever their layout in storage, and each invocation keeps a block of outputs in
//! registers.

use super::block::{self, Layout, Port};
use super::walk::Walks;
use crate::kernels::text::Text;

/// The sizes of a tile and of an invocation's block (`rows` x `4 * quads`).
#[derive(Clone, Copy)]
pub struct Tile {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    pub rows: u32,
    pub quads: u32,
}

impl Tile {
    /// Invocations along `m` and `n`.
    fn threads(&self) -> (u32, u32) {
        (self.m / self.rows, self.n / (4 * self.quads))
    }
}

/// Vectors between two steps of `k` in workgroup memory: one more than a row holds, which spreads
/// the writes of transposed blocks over the banks.
fn pitch(extent: u32) -> u32 {
    extent / 4 + 1
}

/// Workgroup memory of a tile, in bytes.
pub fn workgroup_bytes(m: u32, n: u32, k: u32) -> u32 {
    16 * k * (pitch(m) + pitch(n))
}

pub fn body(layout: &Layout, walks: &[Option<Walks>; 2], tile: Tile) -> String {
    let mut text = Text::new();
    let (a, b) = (Port::a(layout, walks), Port::b(layout, walks));
    let Tile { rows, quads, .. } = tile;
    let (threads_m, threads_n) = tile.threads();
    text.line(format!("var<workgroup> tile_a: array<vec4<f32>, {}>;", tile.k * pitch(tile.m)));
    text.line(format!("var<workgroup> tile_b: array<vec4<f32>, {}>;", tile.k * pitch(tile.n)));
    text.line("");
    block::store_quad(&mut text, layout);
    block::open_main(&mut text, "local_invocation_index", tile.m, tile.n);
    text.line(format!("let quad_m = lane / {threads_n}u;"));
    text.line(format!("let quad_n = lane % {threads_n}u;"));
    a.declare(&mut text);
    b.declare(&mut text);
    text.line(block::k_end(layout));
    block::accumulators(&mut text, layout, rows, quads);
    text.open(format!("for (var k0 = 0u; k0 < k_end; k0 += {}u)", tile.k));
    stage(&mut text, &a, tile, tile.m);
    stage(&mut text, &b, tile, tile.n);
    text.line("workgroupBarrier();");
    text.open(format!("for (var kk = 0u; kk < {}u; kk += 1u)", tile.k));
    for p in 0..rows / 4 {
        text.line(format!("let a{p} = tile_a[kk * {}u + quad_m + {}u];", pitch(tile.m), p * threads_m));
    }
    for q in 0..quads {
        text.line(format!("let b{q} = tile_b[kk * {}u + quad_n + {}u];", pitch(tile.n), q * threads_n));
    }
    let a_element = |i: u32, _| format!("a{}.{}", i / 4, block::component(i % 4));
    block::products(&mut text, layout, (rows, quads, 1), a_element, |q, _| format!("b{q}"));
    text.close();
    text.line("workgroupBarrier();");
    text.close();
    let row = |i: u32| format!("row0 + (quad_m + {}u) * 4u + {}u", i / 4 * threads_m, i % 4);
    let col = |q: u32| format!("col0 + (quad_n + {}u) * 4u", q * threads_n);
    block::store_row_sums(&mut text, layout, rows, "quad_n == 0u", row);
    block::store_all(&mut text, layout, (rows, quads), row, col);
    text.close();
    text.finish()
}

/// Copies one operand's tile into workgroup memory, a 4 x 4 block per invocation and turn.
fn stage(text: &mut Text, port: &Port<'_>, tile: Tile, extent: u32) {
    let p = port.name;
    let (threads_m, threads_n) = tile.threads();
    let (fours_k, fours_x) = (tile.k / 4, extent / 4);
    let blocks = fours_k * fours_x;
    text.open(format!("for (var block = lane; block < {blocks}u; block += {}u)", threads_m * threads_n));
    // Neighbouring invocations read neighbouring vectors of storage.
    let (block_k, block_x) = match port.side.along_k {
        true => (format!("block % {fours_k}u"), format!("block / {fours_k}u")),
        false => (format!("block / {fours_x}u"), format!("block % {fours_x}u")),
    };
    text.line(format!("let block_k = {block_k} * 4u;"));
    text.line(format!("let block_x = {block_x};"));
    text.line("let k = k0 + block_k;");
    let origin = if p == "a" { "row0" } else { "col0" };
    port.place(text, 0, &format!("{origin} + block_x * 4u"));
    port.advance(text, "k");
    port.load(text, 0);
    for kk in 0..4 {
        let pitch = pitch(extent);
        text.line(format!("tile_{p}[(block_k + {kk}u) * {pitch}u + block_x] = {};", port.across(0, kk)));
    }
    text.close();
}
