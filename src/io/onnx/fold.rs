//! Computing what is known while importing, by the reference's meaning of the traced operator.
//!
//! Integers of 64 bits do not fit the graph's 32; where an operator means the same in floats (adding, moving, comparing)
//! its integers are traced as floats, which the reference computes in f64. Elsewhere an integer that does not fit is an error.

use super::call::{Call, Outputs, Val};
use super::constant::{Constant, Elem};
use super::limits::MAX_FOLDED;
use super::trace::foldable;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::reference::{self, Array};
use crate::shape::Shape;
use std::collections::HashMap;

/// Which inputs may be traced as floats although they are integers.
#[derive(Clone, Copy, PartialEq)]
enum AsFloats {
    All,
    First,
    None,
}

fn as_floats(op: &str) -> AsFloats {
    match op {
        "Add" | "Sub" | "Mul" | "Neg" | "Abs" | "Max" | "Min" | "Sum" | "Where" | "Equal" | "Less" | "LessOrEqual"
        | "Greater" | "GreaterOrEqual" | "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" | "Concat"
        | "Identity" | "Transpose" | "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" | "Slice"
        | "Split" => AsFloats::All,
        "Gather" | "GatherElements" | "GatherND" | "CumSum" => AsFloats::First,
        _ => AsFloats::None,
    }
}

/// The outputs as constants, if all inputs are and there are some.
pub fn fold<'g>(
    call: &Call<'_, 'g>,
    run: for<'c, 's> fn(&Call<'c, 's>) -> Outputs<'s>,
) -> Result<Option<Vec<Val<'g>>>> {
    if call.inputs.iter().flatten().next().is_none() || !foldable(&call.inputs) {
        return Ok(None);
    }
    let graph = Graph::new();
    let tracer = call.tracer.scratch(&graph);
    let rule = as_floats(call.op());
    let mut feeds = HashMap::new();
    let mut inputs = Vec::new();
    for (index, value) in call.inputs.iter().enumerate() {
        let Some(known) = value.as_ref().and_then(|value| value.known.clone()) else {
            inputs.push(None);
            continue;
        };
        let float = known.elem.is_int() && (rule == AsFloats::All || rule == AsFloats::First && index == 0);
        let dtype = if float { DType::F32 } else { known.elem.dtype() };
        let name = index.to_string();
        // Operators read integers that do not fit (the end of a slice, say) as constants, not as tensors.
        let tensor = (float || known.fits()).then(|| graph.input(&name, &known.shape, dtype));
        let label = value.as_ref().map_or("".into(), |value| value.name.clone());
        feeds.insert(name, Array::new(&known.shape, dtype, known.data.clone()));
        inputs.push(Some(Val { known: Some(known), tensor, name: label }));
    }
    let inner = Call {
        node: call.node,
        opset: call.opset,
        inputs,
        tracer: &tracer,
        path: call.path.clone(),
        bound: call.bound,
    };
    let outputs = run(&inner)?;
    graph.error()?;
    let ints = rule != AsFloats::None && is(call, Elem::is_int);
    let doubles = is(call, |elem| elem == Elem::F64);
    // What is not computed here is computed by the graph.
    if !work(&graph, &outputs).is_some_and(|elements| call.tracer.may_compute(elements)) {
        return Ok(None);
    }
    for (name, (array, _)) in tracer.states.take() {
        feeds.insert(name, array);
    }
    let values: Vec<Value> = outputs.iter().filter_map(|value| value.tensor.map(|tensor| tensor.value())).collect();
    let states = feeds.clone();
    let mut arrays = reference::eval(&graph, &values, &feeds, &states)?.into_iter();
    let mut known = Vec::new();
    for output in outputs {
        let constant = match (output.known, output.tensor.and_then(|_| arrays.next())) {
            (Some(constant), _) => (*constant).clone(),
            (None, Some(array)) => typed(array, ints, doubles),
            (None, None) => return Ok(None),
        };
        known.push(Val::from(constant));
    }
    Ok(Some(known))
}

/// Whether the elements that pass through are of a kind: those of the first input, or of the second after a condition.
fn is(call: &Call<'_, '_>, kind: impl Fn(Elem) -> bool) -> bool {
    let data = if call.op() == "Where" { 1 } else { 0 };
    call.val(data).and_then(|value| value.known.as_ref()).is_some_and(|known| kind(known.elem))
}

fn typed(array: Array, ints: bool, doubles: bool) -> Constant {
    let constant = Constant::from_array(array);
    let elem = match constant.elem {
        Elem::F32 if ints => Elem::I64,
        Elem::F32 if doubles => Elem::F64,
        other => other,
    };
    Constant { elem, ..constant }
}

/// How many elements the results and everything on the way to them have, if each is small enough to be computed here.
fn work(graph: &Graph, outputs: &[Val<'_>]) -> Option<usize> {
    let within = |shape: &Shape, most: usize| {
        let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        elements.filter(|&count| count <= most)
    };
    for value in outputs {
        within(&value.shape(), MAX_FOLDED)?;
    }
    let on_the_way = (0..graph.len() as u32).map(|node| graph.type_of(Value { node, output: 0 }).shape);
    on_the_way.into_iter().try_fold(0, |sum: usize, shape| sum.checked_add(within(&shape, 4 * MAX_FOLDED)?))
}
