//! The reference against results worked out by hand, one test per group of operations.

use super::*;
use crate::dtype::DType;
use crate::graph::{CustomOp, Literal, PointwiseOp, ReduceKind};
use crate::random::random_bits;
use std::sync::Arc;

/// One operation on these operands.
fn apply(op: Op, operands: &[Array]) -> Array {
    apply_in(Precision::F64, op, operands)
}

fn apply_in(precision: Precision, op: Op, operands: &[Array]) -> Array {
    let graph = Graph::new();
    let mut inputs = HashMap::new();
    let mut values = Vec::new();
    for (index, operand) in operands.iter().enumerate() {
        let name = format!("x{index}");
        values.push(graph.input(&name, &operand.ty.shape, operand.ty.dtype).value());
        inputs.insert(name, operand.clone());
    }
    let value = graph.push(op, &values);
    let states = HashMap::new();
    Reference::new(&graph, &inputs, &states).precision(precision).eval(&[value]).unwrap().remove(0)
}

fn floats(shape: impl Into<crate::shape::Shape>, data: &[f32]) -> Array {
    Array::floats(shape, data)
}

/// 0, 1, 2, … in this shape.
fn counting(shape: impl Into<crate::shape::Shape>) -> Array {
    let shape = shape.into();
    let data: Vec<f32> = (0..shape.numel()).map(|i| i as f32).collect();
    Array::floats(shape, &data)
}

#[test]
fn integers_wrap_and_divide_like_wgsl() {
    let binary = |op, a: &[i32], b: &[i32]| {
        apply(Op::Pointwise(op), &[Array::ints([a.len()], a), Array::ints([b.len()], b)]).data
    };
    assert_eq!(binary(PointwiseOp::Add, &[i32::MAX], &[1]), [f64::from(i32::MIN)]);
    assert_eq!(binary(PointwiseOp::Mul, &[123_456_789], &[987_654_321]), [f64::from(-67_153_019)]);
    let quotients = binary(PointwiseOp::Div, &[-7, 7, 5, i32::MIN], &[2, -2, 0, -1]);
    assert_eq!(quotients, [-3.0, -3.0, 5.0, f64::from(i32::MIN)]);
    let unsigned = |value: u32| Array::new([], DType::U32, vec![f64::from(value)]);
    let product = apply(Op::Pointwise(PointwiseOp::Mul), &[unsigned(0xFFFF_FFFF), unsigned(0xFFFF_FFFE)]);
    assert_eq!(product.data, [2.0]);
    let difference = apply(Op::Pointwise(PointwiseOp::Sub), &[unsigned(1), unsigned(2)]);
    assert_eq!(difference.data, [4_294_967_295.0]);
}

#[test]
fn casts_truncate_clamp_and_round() {
    let x = floats([4], &[-1.7, 1.7, 3e9, f32::NAN]);
    assert_eq!(apply(Op::Cast(DType::I32), std::slice::from_ref(&x)).data, [-1.0, 1.0, 2_147_483_520.0, 0.0]);
    assert_eq!(apply(Op::Cast(DType::U32), &[x]).data[..2], [0.0, 1.0]);
    assert_eq!(apply(Op::Cast(DType::U32), &[Array::ints([1], &[-1])]).data, [4_294_967_295.0]);
    assert_eq!(apply(Op::Cast(DType::Bool), &[floats([2], &[0.0, 0.5])]).data, [0.0, 1.0]);
    let third = Array::new([1], DType::F32, vec![1.0 / 3.0]);
    let half = apply_in(Precision::F32, Op::Cast(DType::F16), std::slice::from_ref(&third));
    assert_eq!(half.data, [half::f16::from_f32(1.0 / 3.0).to_f64()]);
    assert_eq!(apply(Op::Cast(DType::F16), &[third]).data, [1.0 / 3.0]);
}

#[test]
fn precision_decides_the_rounding() {
    let x = floats([1], &[3.0]);
    let op = Op::Pointwise(PointwiseOp::Reciprocal);
    assert_eq!(apply(op.clone(), std::slice::from_ref(&x)).data, [1.0 / 3.0]);
    assert_eq!(apply_in(Precision::F32, op, &[x]).data, [f64::from(1.0f32 / 3.0)]);
}

#[test]
fn movement_keeps_row_major_order() {
    let x = counting([2, 3]);
    let data = |op: Op| apply(op, std::slice::from_ref(&x)).data;
    assert_eq!(data(Op::Permute(vec![1, 0])), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(data(Op::Slice { starts: vec![1, 1], sizes: vec![1, 2] }), [4.0, 5.0]);
    assert!(data(Op::Slice { starts: vec![2, 0], sizes: vec![0, 3] }).is_empty());
    let value = Literal::new(DType::F32, 9.0);
    let padded = data(Op::Pad { before: vec![0, 1], after: vec![1, 0], value });
    assert_eq!(padded, [9.0, 0.0, 1.0, 2.0, 9.0, 3.0, 4.0, 5.0, 9.0, 9.0, 9.0, 9.0]);
    let column = counting([2, 1]);
    assert_eq!(apply(Op::Expand([2, 2].into()), std::slice::from_ref(&column)).data, [0.0, 0.0, 1.0, 1.0]);
    let joined = apply(Op::Concat { axis: 1 }, &[x.clone(), counting([2, 0]), column]);
    assert_eq!(joined.data, [0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 1.0]);
    assert_eq!(apply(Op::Reshape([3, 2].into()), &[x]).ty.shape[..], [3, 2]);
}

#[test]
fn dynamic_starts_are_clamped() {
    let x = counting([5]);
    let at = |start| Array::ints([], &[start]);
    let slice = |start| apply(Op::DynamicSlice { axis: 0, size: 2 }, &[x.clone(), at(start)]).data;
    assert_eq!([slice(1), slice(-3), slice(99)], [[1.0, 2.0], [0.0, 1.0], [3.0, 4.0]]);
    let update = floats([2], &[8.0, 9.0]);
    let updated = |start| apply(Op::DynamicUpdate { axis: 0 }, &[x.clone(), update.clone(), at(start)]).data;
    assert_eq!(updated(4), [0.0, 1.0, 2.0, 8.0, 9.0]);
    assert_eq!(updated(1), [0.0, 8.0, 9.0, 3.0, 4.0]);
}

#[test]
fn reductions_of_something_and_of_nothing() {
    let reduce =
        |kind, axes: &[usize], x: &Array| apply(Op::Reduce { kind, axes: axes.to_vec() }, std::slice::from_ref(x)).data;
    let x = counting([2, 3, 2]);
    assert_eq!(reduce(ReduceKind::Sum, &[0, 2], &x), [14.0, 22.0, 30.0]);
    assert_eq!(reduce(ReduceKind::Max, &[1], &x), [4.0, 5.0, 10.0, 11.0]);
    assert_eq!(reduce(ReduceKind::Min, &[0, 1, 2], &x), [0.0]);
    let nothing = counting([2, 0]);
    assert_eq!(reduce(ReduceKind::Sum, &[1], &nothing), [0.0, 0.0]);
    assert_eq!(reduce(ReduceKind::Max, &[1], &nothing), [f64::NEG_INFINITY; 2]);
    assert_eq!(reduce(ReduceKind::Min, &[1], &nothing), [f64::INFINITY; 2]);
    assert!(reduce(ReduceKind::Sum, &[0], &counting([3, 0])).is_empty());
    assert_eq!(reduce(ReduceKind::Sum, &[0], &Array::ints([2], &[i32::MAX, 2])), [f64::from(i32::MIN + 1)]);
    assert_eq!(reduce(ReduceKind::Max, &[0], &Array::ints([0], &[])), [f64::from(i32::MIN)]);
    assert_eq!(apply(Op::SumSquares { each: false }, &[counting([3]), floats([1], &[2.0])]).data, [9.0]);
}

#[test]
fn argmax_takes_the_first_of_equals() {
    let x = floats([2, 3], &[1.0, 5.0, 5.0, 4.0, 5.0, 4.0]);
    assert_eq!(apply(Op::ArgMax { axis: 1 }, std::slice::from_ref(&x)).data, [1.0, 1.0]);
    assert_eq!(apply(Op::ArgMax { axis: 0 }, &[x]).data, [1.0, 0.0, 0.0]);
}

#[test]
fn matmul_of_stacks_and_of_empty_matrices() {
    let product = apply(Op::MatMul, &[counting([2, 1, 3]), counting([2, 3, 2])]);
    assert_eq!(product.data, [10.0, 13.0, 100.0, 112.0]);
    assert_eq!(apply(Op::MatMul, &[counting([2, 0]), counting([0, 2])]).data, [0.0; 4]);
    assert!(apply(Op::MatMul, &[counting([0, 2]), counting([2, 3])]).data.is_empty());
}

#[test]
fn indices_outside_give_zeros_or_are_dropped() {
    let index = Array::ints([2, 2], &[1, -1, 2, 0]);
    let rows = apply(Op::Gather, &[counting([2, 3]), index.clone()]);
    assert_eq!(rows.ty.shape[..], [2, 2, 3]);
    assert_eq!(rows.data, [3.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
    assert_eq!(apply(Op::Gather, &[counting([0, 1]), Array::ints([1], &[0])]).data, [0.0]);
    let index = Array::ints([4], &[1, -1, 2, 1]);
    assert_eq!(apply(Op::ScatterAdd { rows: 2 }, &[index, counting([4, 1])]).data, [0.0, 3.0]);
}

#[test]
fn leaves_make_their_numbers() {
    assert_eq!(apply(Op::Iota { shape: [2, 3].into(), axis: 1 }, &[]).data, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    let key = Array::new([2], DType::U32, vec![5.0, 100.0]);
    let op = |shape: &[usize]| Op::RandomBits { shape: shape.into(), stream: 3 };
    let bits = |shape: &[usize]| apply(op(shape), std::slice::from_ref(&key)).data;
    let wanted = |sample, within| f64::from(random_bits([5, 100], 3, sample, within));
    assert_eq!(bits(&[2, 1, 2]), [wanted(0, 0), wanted(0, 1), wanted(1, 0), wanted(1, 1)]);
    assert_eq!(bits(&[2]), [wanted(0, 0), wanted(1, 0)]);
    assert_eq!(bits(&[]), [wanted(0, 0)]);
    assert!(bits(&[2, 0]).is_empty());
}

#[test]
fn states_are_read_as_they_were_and_assigned_at_the_end() {
    let graph = Graph::new();
    let count = graph.state("count", [], DType::I32);
    graph.assign("count", count + 1);
    graph.output("before", count);
    graph.input("unused", [3], DType::F32);
    let states = HashMap::from([("count".to_string(), Array::ints([], &[4]))]);
    let outcome = run(&graph, &HashMap::new(), &states).unwrap();
    assert_eq!(outcome.outputs, [("before".to_string(), Array::ints([], &[4]))]);
    assert_eq!(outcome.states["count"], Array::ints([], &[5]));
}

#[test]
fn a_wrong_feed_is_named() {
    let graph = Graph::new();
    graph.output("y", graph.input("pixels", [2], DType::F32) * 2.0);
    let message = |array: Option<Array>| {
        let inputs = array.map(|array| ("pixels".to_string(), array)).into_iter().collect();
        run(&graph, &inputs, &HashMap::new()).unwrap_err().to_string()
    };
    assert_eq!(message(None), "input `pixels` (f32[2]) was not given");
    assert_eq!(message(Some(counting([3]))), "input `pixels` is f32[2], but was given f32[3]");
    let short = Array { data: vec![1.0], ..counting([2]) };
    assert_eq!(message(Some(short)), "input `pixels` is f32[2] (2 elements), but was given 1");
}

#[test]
fn custom_operations_use_their_meaning() {
    let op = |meaning| {
        Op::Custom(Arc::new(CustomOp {
            name: "twice".into(),
            infer: |types| Ok(types[0].clone()),
            meaning,
            gradient: None,
            wgsl: String::new(),
        }))
    };
    let twice = op(|_, x| x[0].iter().map(|value| value * 2.0).collect());
    assert_eq!(apply(twice, &[counting([3])]).data, [0.0, 2.0, 4.0]);
    let graph = Graph::new();
    let broken = graph.push(op(|_, _| vec![]), &[graph.float(1.0).value()]);
    let error = eval(&graph, &[broken], &HashMap::new(), &HashMap::new()).unwrap_err();
    assert!(error.to_string().contains("gives 0 elements"), "{error}");
}
