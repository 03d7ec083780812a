//! Einstein summation: an equation such as `bij,bjk->bik` compiled to movements, products of matrices and sums.
//!
//! [`Equation`] reads the text and knows no tensors; [`Term`] is a tensor with a label for each axis, and two
//! terms are contracted at a time, from left to right.

use crate::graph::Tensor;
use crate::shape::Shape;

/// The name of an axis: a letter, or an axis of the ellipsis, counted from the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// The sum of products that an equation names, as `torch.einsum`: letters name axes, an axis whose letter is not in the
/// result is summed over, a letter that an operand has twice means its diagonal, `...` stands for any axes, which broadcast,
/// and without `->` the result has the axes of the ellipsis and then the letters that occur once, in alphabetical order. Axes of
/// size 1 broadcast.
#[track_caller]
pub fn einsum<'g>(equation: &str, first: Tensor<'g>, rest: &[Tensor<'g>]) -> Tensor<'g> {
    first.graph().called(|| contract_all(equation, first, rest))
}

fn contract_all<'g>(equation: &str, first: Tensor<'g>, rest: &[Tensor<'g>]) -> Tensor<'g> {
    let operands: Vec<Tensor<'g>> = std::iter::once(first).chain(rest.iter().copied()).collect();
    let terms = Equation::parse(equation).and_then(|equation| equation.terms(&operands));
    let (terms, output) = match terms {
        Ok(found) => found,
        Err(message) => {
            first.graph().record_error("einsum", format!("`{equation}`: {message}"));
            return first;
        }
    };
    let mut terms = terms.into_iter();
    let Some(mut product) = terms.next() else { return first };
    let mut left: Vec<Term<'g>> = terms.collect();
    while !left.is_empty() {
        let next = left.remove(0);
        let needed = |label: &Label| output.contains(label) || left.iter().any(|term| term.labels.contains(label));
        product = product.summed(|label| needed(label) || next.labels.contains(label));
        let next = next.summed(|label| needed(label) || product.labels.contains(label));
        product = product.contract(next, needed);
    }
    product.summed(|label| output.contains(label)).ordered(&output).tensor
}

/// An equation taken apart: labels of each operand and of the result, the ellipsis still a mark.
struct Equation {
    operands: Vec<Vec<Option<char>>>,
    output: Option<Vec<Option<char>>>,
}

impl Equation {
    fn parse(text: &str) -> Result<Equation, String> {
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text, None),
        };
        let operands = left.split(',').map(subscripts).collect::<Result<Vec<_>, _>>()?;
        let output = right.map(subscripts).transpose()?;
        for (index, label) in output.iter().flatten().enumerate() {
            let Some(letter) = label else { continue };
            if output.iter().flatten().take(index).any(|other| other == label) {
                return Err(format!("`{letter}` occurs twice in the result"));
            }
            if !operands.iter().flatten().any(|other| other == label) {
                return Err(format!("`{letter}` of the result is in no operand"));
            }
        }
        Ok(Equation { operands, output })
    }

    /// The operands as terms, diagonals taken and sizes checked, and the labels of the result.
    fn terms<'g>(&self, operands: &[Tensor<'g>]) -> Result<(Vec<Term<'g>>, Vec<Label>), String> {
        if operands.len() != self.operands.len() {
            return Err(format!("names {} operands, got {}", self.operands.len(), operands.len()));
        }
        let mut terms = Vec::new();
        let mut ellipsis = 0;
        for (index, (marks, &tensor)) in self.operands.iter().zip(operands).enumerate() {
            let named = marks.iter().flatten().count();
            let free = tensor.rank().checked_sub(named).filter(|&free| free == 0 || named < marks.len());
            let Some(free) = free else {
                return Err(format!("operand {index} has {named} letters for the axes of {}", tensor.shape()));
            };
            ellipsis = ellipsis.max(free);
            terms.push(Term { tensor, labels: spell(marks, free) }.diagonals(index)?);
        }
        let output = match &self.output {
            Some(marks) => spell(marks, ellipsis),
            None => self.implicit_output(ellipsis),
        };
        squeeze_broadcast(&mut terms)?;
        Ok((terms, output))
    }

    fn implicit_output(&self, ellipsis: usize) -> Vec<Label> {
        let letters: Vec<char> = self.operands.iter().flatten().copied().flatten().collect();
        let mut once: Vec<char> = letters
            .iter()
            .copied()
            .filter(|letter| letters.iter().filter(|other| *other == letter).count() == 1)
            .collect();
        crate::sort::sort(&mut once);
        (0..ellipsis).rev().map(Label::Ellipsis).chain(once.into_iter().map(Label::Letter)).collect()
    }
}

/// The marks of one operand: letters, and `None` for an ellipsis.
fn subscripts(text: &str) -> Result<Vec<Option<char>>, String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut marks = Vec::new();
    let mut rest = text.as_str();
    while let Some(next) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            if marks.contains(&None) {
                return Err(format!("`{text}` has two ellipses"));
            }
            marks.push(None);
            rest = after;
        } else if next.is_ascii_alphabetic() {
            marks.push(Some(next));
            rest = &rest[1..];
        } else {
            return Err(format!("`{next}` is neither a letter nor part of `...`, `,` or `->`"));
        }
    }
    Ok(marks)
}

/// Marks as labels, the ellipsis as so many axes.
fn spell(marks: &[Option<char>], ellipsis: usize) -> Vec<Label> {
    let mut labels = Vec::new();
    for mark in marks {
        match mark {
            Some(letter) => labels.push(Label::Letter(*letter)),
            None => labels.extend((0..ellipsis).rev().map(Label::Ellipsis)),
        }
    }
    labels
}

/// Takes out axes of size 1 whose label is larger elsewhere, so that equal labels have equal sizes.
fn squeeze_broadcast(terms: &mut [Term<'_>]) -> Result<(), String> {
    let mut sizes: Vec<(Label, usize)> = Vec::new();
    for term in terms.iter() {
        for (label, &size) in term.labels.iter().zip(term.tensor.shape().iter()) {
            match sizes.iter_mut().find(|(known, _)| known == label) {
                None => sizes.push((*label, size)),
                Some((_, known)) if *known == 1 => *known = size,
                Some((_, known)) if *known != size && size != 1 => {
                    let axis = match label {
                        Label::Letter(letter) => format!("`{letter}`"),
                        Label::Ellipsis(index) => format!("axis -{} of `...`", index + 1),
                    };
                    return Err(format!("{axis} has the sizes {known} and {size}"));
                }
                Some(_) => {}
            }
        }
    }
    for term in terms {
        for axis in (0..term.labels.len()).rev() {
            let largest = sizes.iter().find(|(label, _)| *label == term.labels[axis]).map_or(1, |(_, size)| *size);
            if term.tensor.shape()[axis] == 1 && largest != 1 {
                term.tensor = term.tensor.squeeze(axis as isize);
                term.labels.remove(axis);
            }
        }
    }
    Ok(())
}

/// A tensor with a label for each axis.
struct Term<'g> {
    tensor: Tensor<'g>,
    labels: Vec<Label>,
}

impl<'g> Term<'g> {
    /// Each label once: two axes of one label become their diagonal.
    fn diagonals(mut self, operand: usize) -> Result<Term<'g>, String> {
        let repeated = |labels: &[Label]| {
            (0..labels.len()).find_map(|i| labels[..i].iter().position(|label| *label == labels[i]).map(|j| (j, i)))
        };
        while let Some((first, second)) = repeated(&self.labels) {
            let shape = self.tensor.shape();
            if shape[first] != shape[second] {
                let (a, b) = (shape[first], shape[second]);
                return Err(format!(
                    "axes {first} and {second} of operand {operand} share a letter but not a size: {a}, {b}"
                ));
            }
            self.tensor = self.tensor.diagonal(0, first as isize, second as isize);
            let label = self.labels.remove(second);
            self.labels.remove(first);
            self.labels.push(label);
        }
        Ok(self)
    }

    /// Summed over the labels that are not kept.
    fn summed(self, keep: impl Fn(&Label) -> bool) -> Term<'g> {
        let gone: Vec<isize> =
            (0..self.labels.len()).filter(|&axis| !keep(&self.labels[axis])).map(|axis| axis as isize).collect();
        let labels = self.labels.into_iter().filter(|label| keep(label)).collect();
        Term { tensor: self.tensor.sum(&gone), labels }
    }

    /// The axes in this order; every label must be among the axes, and none left out.
    fn ordered(self, order: &[Label]) -> Term<'g> {
        let axes: Vec<usize> =
            order.iter().filter_map(|label| self.labels.iter().position(|own| own == label)).collect();
        Term { tensor: self.tensor.permute(&axes), labels: order.to_vec() }
    }

    fn sizes(&self, labels: &[Label]) -> Vec<usize> {
        let size =
            |label: &Label| self.labels.iter().position(|own| own == label).map(|axis| self.tensor.shape()[axis]);
        labels.iter().filter_map(size).collect()
    }

    /// The product of two terms, summed over the labels that both have and nobody needs.
    fn contract(self, other: Term<'g>, needed: impl Fn(&Label) -> bool) -> Term<'g> {
        let both = |label: &&Label| other.labels.contains(label);
        let pick = |labels: &[Label], test: &dyn Fn(&&Label) -> bool| -> Vec<Label> {
            labels.iter().filter(test).copied().collect()
        };
        let batch = pick(&self.labels, &|label| both(label) && needed(label));
        let inner = pick(&self.labels, &|label| both(label) && !needed(label));
        let rows = pick(&self.labels, &|label| !both(label));
        let columns = pick(&other.labels, &|label| !self.labels.contains(label));
        let (lead, m, k, n) = (self.sizes(&batch), self.sizes(&rows), self.sizes(&inner), other.sizes(&columns));
        let shape = |parts: &[&[usize]]| parts.iter().copied().flatten().copied().collect::<Shape>();
        let order = |parts: [&[Label]; 3]| parts.concat();
        let float = self.tensor.dtype().is_float();
        let product = if inner.is_empty() || (rows.is_empty() && columns.is_empty()) || !float {
            // Nothing to sum, or one sum an element: no matrices.
            let a = self.ordered(&order([&batch, &rows, &inner])).tensor;
            let b = other.ordered(&order([&batch, &columns, &inner])).tensor;
            let a = a.reshape(shape(&[&lead, &m, &vec![1; n.len()], &k]));
            let b = b.reshape(shape(&[&lead, &vec![1; m.len()], &n, &k]));
            let axes: Vec<isize> = (1..=k.len() as isize).map(|axis| -axis).collect();
            (a * b).sum(&axes)
        } else {
            let one = |sizes: &[usize]| [sizes.iter().product::<usize>()];
            let a = self.ordered(&order([&batch, &rows, &inner])).tensor;
            let b = other.ordered(&order([&batch, &inner, &columns])).tensor;
            let a = a.reshape(shape(&[&lead, &one(&m), &one(&k)]));
            let b = b.reshape(shape(&[&lead, &one(&k), &one(&n)]));
            a.matmul(b).reshape(shape(&[&lead, &m, &n]))
        };
        Term { tensor: product, labels: order([&batch, &rows, &columns]) }
    }
}
