//! Graphs within nodes: `If` with a known condition, `Loop` and `Scan` written out step by step.
//!
//! A condition or a number of steps that is known only at run time is refused.

use super::super::call::{Call, Outputs, Val, one};
use super::super::constant::{Constant, Elem};
use super::super::proto::GraphProto;
use super::super::trace::{Env, Frame};
use super::{Op, Run, op};
use crate::error::Result;
use crate::graph::Tensor;
use crate::tensor::concat;

/// Most steps that are written out.
const MAX_STEPS: usize = 4096;

pub fn lookup(name: &str) -> Option<Op> {
    match name {
        "If" => Some(Op { run: Run::Nested(branch), constants: &[0] }),
        "Loop" => Some(Op { run: Run::Nested(repeat), constants: &[0, 1] }),
        "Scan" => Some(Op { run: Run::Nested(scan), constants: &[] }),
        // Optional values are there or not when the model is traced; those of sequences are refused at the inputs.
        "OptionalHasElement" => op(|c| one(Constant::scalar(Elem::Bool, f64::from(u8::from(c.has(0)))))),
        "OptionalGetElement" => op(|c| one(c.required(0)?.clone())),
        _ => None,
    }
}

/// Runs a graph with values for its inputs, in order; it also sees what is around it.
pub fn call<'c, 'g>(
    c: &Call<'c, 'g>,
    body: &'c GraphProto,
    given: Vec<Val<'g>>,
    env: &Env<'g>,
    frame: &Frame<'c>,
) -> Outputs<'g> {
    if body.input.len() != given.len() {
        return Err(c.invalid(format_args!("its graph takes {} inputs, not {}", body.input.len(), given.len())));
    }
    let mut env = env.clone();
    for (input, value) in body.input.iter().zip(given) {
        env.insert(input.name.clone().unwrap_or_default(), value);
    }
    let frame = c.tracer.nested(body, &c.path, frame);
    Ok(c.tracer.graph(body, env, &frame)?.into_iter().map(|(_, value)| value).collect())
}

fn truth(c: &Call<'_, '_>, value: &Val<'_>) -> Result<bool> {
    match value.known.as_deref() {
        Some(known) if known.data.len() == 1 => Ok(known.data[0] != 0.0),
        _ => Err(c.unsupported("a condition that is known only at run time")),
    }
}

fn branch<'c, 'g>(c: &Call<'c, 'g>, env: &Env<'g>, frame: &Frame<'c>) -> Outputs<'g> {
    let name = if truth(c, c.required(0)?)? { "then_branch" } else { "else_branch" };
    call(c, c.attr_graph(name)?, vec![], env, frame)
}

/// Results of each step, joined along a new axis.
fn stacked<'g>(c: &Call<'_, 'g>, parts: &[Val<'g>], axis: i64, backwards: bool) -> Result<Val<'g>> {
    let mut tensors = parts.iter().map(|part| c.tracer.tensor(part)).collect::<Result<Vec<_>>>()?;
    if backwards {
        tensors.reverse();
    }
    let first = *tensors.first().ok_or_else(|| c.unsupported("results of no steps at all"))?;
    let axis = c.axis(axis, first.rank() + 1)? as isize;
    let rows: Vec<Tensor<'g>> = tensors.iter().map(|tensor| tensor.unsqueeze(axis)).collect();
    Ok(concat(rows[0], &rows[1..], axis).into())
}

fn repeat<'c, 'g>(c: &Call<'c, 'g>, env: &Env<'g>, frame: &Frame<'c>) -> Outputs<'g> {
    let most = if c.has(0) { c.int(0)?.max(0) } else { i64::MAX };
    let mut going_on = match c.val(1) {
        Some(condition) => truth(c, condition)?,
        None => true,
    };
    let body = c.attr_graph("body")?;
    let mut carried = (2..c.inputs.len()).map(|index| c.required(index).cloned()).collect::<Result<Vec<_>>>()?;
    let mut stacks: Vec<Vec<Val<'g>>> = vec![vec![]; body.output.len().saturating_sub(1 + carried.len())];
    let mut step = 0;
    while going_on && step < most {
        if step as usize >= MAX_STEPS {
            return Err(c.unsupported(format_args!("more than {MAX_STEPS} steps")));
        }
        let mut given = vec![Constant::scalar(Elem::I64, step as f64).into(), Constant::scalar(Elem::Bool, 1.0).into()];
        given.extend(carried.iter().cloned());
        let mut results = call(c, body, given, env, frame)?;
        if results.len() != 1 + carried.len() + stacks.len() {
            return Err(c.invalid("its graph gives too few results"));
        }
        going_on = truth(c, &results[0])?;
        let rows = results.split_off(1 + carried.len());
        carried = results.split_off(1);
        stacks.iter_mut().zip(rows).for_each(|(stack, row)| stack.push(row));
        step += 1;
    }
    for stack in &stacks {
        if c.wants(carried.len()) {
            carried.push(stacked(c, stack, 0, false)?);
        }
    }
    Ok(carried)
}

fn scan<'c, 'g>(c: &Call<'c, 'g>, env: &Env<'g>, frame: &Frame<'c>) -> Outputs<'g> {
    if c.opset < 9 {
        return Err(c.unsupported("scans of version 8, with a batch axis"));
    }
    let body = c.attr_graph("body")?;
    let scanned = c.count(c.attr_int("num_scan_inputs", 0))?;
    let carries = c.inputs.len().checked_sub(scanned).ok_or_else(|| c.invalid("has too few inputs"))?;
    let mut carried = (0..carries).map(|index| c.required(index).cloned()).collect::<Result<Vec<_>>>()?;
    let entry = |name: &str, index: usize| c.attr_ints(name).and_then(|list| list.get(index).copied()).unwrap_or(0);
    let mut slices = Vec::new();
    let mut length = None;
    for index in 0..scanned {
        let x = c.tensor(carries + index)?;
        let axis = c.axis(entry("scan_input_axes", index), x.rank())?;
        let own = x.shape()[axis];
        if *length.get_or_insert(own) != own || own > MAX_STEPS {
            return Err(
                c.unsupported(format_args!("scanned inputs of {own} steps beside others, or more than {MAX_STEPS}"))
            );
        }
        slices.push((x, axis as isize, entry("scan_input_directions", index) != 0));
    }
    let length = length.unwrap_or(0);
    let mut stacks: Vec<Vec<Val<'g>>> = vec![vec![]; body.output.len().saturating_sub(carries)];
    for step in 0..length {
        let mut given = carried.clone();
        for &(x, axis, backwards) in &slices {
            let at = if backwards { length - 1 - step } else { step };
            given.push(x.slice(axis, at, at + 1).squeeze(axis).into());
        }
        let mut results = call(c, body, given, env, frame)?;
        if results.len() != carries + stacks.len() {
            return Err(c.invalid("its graph gives too few results"));
        }
        let rows = results.split_off(carries);
        carried = results;
        stacks.iter_mut().zip(rows).for_each(|(stack, row)| stack.push(row));
    }
    for (index, stack) in stacks.iter().enumerate() {
        let backwards = entry("scan_output_directions", index) != 0;
        carried.push(stacked(c, stack, entry("scan_output_axes", index), backwards)?);
    }
    Ok(carried)
}
