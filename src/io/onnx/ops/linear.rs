//! Products of matrices, and what belongs to them.

use super::super::call::{Call, Outputs, one};
use super::{Op, op};
use crate::error::Result;
use crate::graph::Tensor;
use crate::tensor::einsum;
use std::collections::BTreeMap;

/// Largest matrix whose determinant is written out.
const MAX_DETERMINANT: usize = 6;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "MatMul" => op(|c| c.binary(matmul)),
        "Gemm" => op(gemm),
        "Einsum" => op(einstein),
        "Det" => op(determinant),
        _ => None,
    }
}

/// As `numpy.matmul`: vectors are rows on the left and columns on the right, and lose that axis again.
fn matmul<'g>(a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let left = if row { a.unsqueeze(0) } else { a };
    let right = if column { b.unsqueeze(1) } else { b };
    let y = left.matmul(right);
    let y = if column { y.squeeze(-1) } else { y };
    if row { y.squeeze(if column { -1 } else { -2 }) } else { y }
}

/// `alpha A B + beta C`.
fn gemm<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let turned = |x: Tensor<'g>, name: &str| if c.attr_int(name, 0) != 0 { x.t() } else { x };
    let (a, b) = (c.tensor(0)?, c.tensor(1)?);
    if a.rank() != 2 || b.rank() != 2 {
        return Err(c.invalid(format_args!("takes matrices, not {} and {}", a.shape(), b.shape())));
    }
    let scaled = |x: Tensor<'g>, factor: f64| if factor == 1.0 { x } else { x * factor };
    let product = scaled(turned(a, "transA").matmul(turned(b, "transB")), c.attr_float("alpha", 1.0));
    one(match c.optional(2)? {
        Some(added) => product + scaled(added, c.attr_float("beta", 1.0)),
        None => product,
    })
}

/// What the letters of an equation stand for, multiplied, bounds everything on the way to the result.
fn einstein<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let equation = c.attr_text("equation", "").to_string();
    let parts = c.tensors()?;
    let first = *parts.first().ok_or_else(|| c.invalid("takes at least one input"))?;
    let inputs = equation.split("->").next().unwrap_or_default();
    let mut sizes: BTreeMap<char, usize> = BTreeMap::new();
    let mut rest = Vec::new();
    for (term, part) in inputs.split(',').zip(&parts) {
        let letters: Vec<char> = term.chars().filter(|letter| letter.is_alphabetic()).collect();
        let shape = part.shape();
        if letters.len() != shape.rank() {
            rest.extend(shape.iter().copied());
            continue;
        }
        for (&letter, &size) in letters.iter().zip(shape.iter()) {
            let known = sizes.entry(letter).or_insert(size);
            *known = size.max(*known);
        }
    }
    c.view(sizes.into_values().chain(rest))?;
    one(einsum(&equation, first, &parts[1..]))
}

/// By expansion along the first row.
fn determinant<'g>(c: &Call<'_, 'g>) -> Outputs<'g> {
    let x = c.tensor(0)?;
    let shape = x.shape();
    match shape[..] {
        [.., n, m] if n == m && n <= MAX_DETERMINANT => {}
        _ => return Err(c.unsupported(format_args!("takes square matrices up to {MAX_DETERMINANT} rows, not {shape}"))),
    }
    let n = shape[shape.rank() - 1];
    let columns: Vec<usize> = (0..n).collect();
    one(minor(c, x, 0, &columns)?)
}

/// The determinant of the rows from `row` and the listed columns.
fn minor<'g>(c: &Call<'_, 'g>, x: Tensor<'g>, row: usize, columns: &[usize]) -> Result<Tensor<'g>> {
    let mut sum: Option<Tensor<'g>> = None;
    for (position, &column) in columns.iter().enumerate() {
        let element = x.slice(-2, row, row + 1).slice(-1, column, column + 1).squeeze(-1).squeeze(-1);
        let rest: Vec<usize> = columns.iter().copied().filter(|&other| other != column).collect();
        let term = if rest.is_empty() { element } else { element * minor(c, x, row + 1, &rest)? };
        sum = Some(match sum {
            None => term,
            Some(sum) if position % 2 == 0 => sum + term,
            Some(sum) => sum - term,
        });
    }
    sum.ok_or_else(|| c.invalid("an empty matrix"))
}
