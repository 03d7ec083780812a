//! What tells products apart, in words: the keys of measured choices.

use super::{Matmul, Operand, Side, side};
use crate::dtype::DType;

impl Matmul {
    /// What tells products apart, such as `128x512x784 batch 1x1 a k4 b x4 out 4`.
    pub fn name(&self) -> String {
        let Matmul { m, n, k, batch: [outer, inner], .. } = self;
        format!("{m}x{n}x{k} batch {outer}x{inner} {}", self.read())
    }

    /// How the product reads its operands and what it gives, such as `a k4 b x4 out 4`: along which axis an operand lies and
    /// how many elements are read at once.
    pub fn read(&self) -> String {
        described(self)
    }
}

fn described(mm: &Matmul) -> String {
    // All of it: what is added to a product may tell it from others.
    let Matmul { m, n, k, batch: _, a, b, out_wide, bias_gradient, row_sums, pairs, walks, stored } = mm;
    let plain_a = || read(side(*m, *k, a.row, a.col, a), a);
    let plain_b = || read(side(*n, *k, b.col, b.row, b), b);
    let a = walks[0].as_ref().map_or_else(plain_a, |walks| walked(&walks.text("a")));
    let b = walks[1].as_ref().map_or_else(plain_b, |walks| walked(&walks.text("b")));
    let out = if *out_wide { 4 } else { 1 };
    let mut text = format!("a {a} b {b} out {out}");
    for (flag, word) in [(bias_gradient, " column-sums"), (row_sums, " row-sums"), (pairs, " pairs")] {
        text += if *flag { word } else { "" };
    }
    for (stored, port) in stored.iter().zip(["a", "b"]).filter(|(stored, _)| **stored != DType::F32) {
        text += &format!(" {port} {stored}");
    }
    text
}

/// The axis along which an operand is contiguous, the width at which it is read, and whether all batches share it.
fn read(side: Side, operand: &Operand) -> String {
    let axis = if side.along_k { "k" } else { "x" };
    let shared = if operand.batch == [0, 0] { "" } else { "*" };
    format!("{axis}{}{shared}", if side.vec4 { 4 } else { 1 })
}

/// How an operand that is no plain view is read, as a short name: FNV-1a, since the checksums' table is 8 KB that a page
/// would download for nothing else.
fn walked(text: &str) -> String {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("walk-{hash:08x}")
}
