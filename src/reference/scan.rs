//! The meaning of a scan: a plain loop over the interpreter of its body.

use super::value::Array;
use super::{Precision, Reference};
use crate::error::Result;
use crate::graph::{Graph, ScanBody, Tensor, Value};
use std::collections::HashMap;

/// The final carries, then the stacked results.
pub(super) fn scan(
    body: &ScanBody,
    length: usize,
    reverse: bool,
    x: &[&Array],
    precision: Precision,
) -> Result<Vec<Vec<f64>>> {
    let graph = Graph::new();
    let results: Vec<Value> = body.write(&graph, &body.declare(&graph)).into_iter().map(Tensor::value).collect();
    let (carries, slices) = (body.carries(), body.slices());
    let mut operands: HashMap<String, Array> = (0..body.operands())
        .map(|index| (index.to_string(), Array { ty: body.operand_type(index).clone(), data: x[index].data.clone() }))
        .collect();
    let mut stacked: Vec<Vec<f64>> =
        (carries..body.results()).map(|result| vec![0.0; length * body.result_type(result).shape.numel()]).collect();
    for step in 0..length {
        let at = if reverse { length - 1 - step } else { step };
        for (index, whole) in x.iter().enumerate().skip(carries).take(slices) {
            let size = body.operand_type(index).shape.numel();
            if let Some(slice) = operands.get_mut(&index.to_string()) {
                slice.data = whole.data[at * size..][..size].to_vec();
            }
        }
        let none = HashMap::new();
        let arrays = Reference::new(&graph, &operands, &none).precision(precision).eval(&results)?;
        for (index, array) in arrays.into_iter().enumerate() {
            match index.checked_sub(carries) {
                None => drop(operands.insert(index.to_string(), array)),
                Some(stack) => stacked[stack][at * array.data.len()..][..array.data.len()].copy_from_slice(&array.data),
            }
        }
    }
    let finals = (0..carries).map(|index| operands[&index.to_string()].data.clone());
    Ok(finals.chain(stacked).collect())
}
