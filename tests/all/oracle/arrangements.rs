//! Stacking, splitting, repeating, reversing; diagonals and triangles; tensors made from nothing.

use super::{Attributes, check};
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{meshgrid, stack};

fn build<'g>(graph: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let dim = a.int("dim", 0) as isize;
    let sizes = |name: &str| -> Vec<usize> { a.ints(name, &[], 1).into_iter().map(|size| size as usize).collect() };
    let shift = |name: &str| a.int(name, 0) as isize;
    vec![match op {
        "stack" => stack(x[0], &x[1..], dim),
        "split" => return x[0].split(a.usize("split_size_or_sections", 1), dim),
        "split_sizes" => return x[0].split_sizes(&sizes("split_size_or_sections"), dim),
        "chunk" => return x[0].chunk(a.usize("chunks", 1), dim),
        "unbind" => return x[0].unbind(dim),
        "meshgrid" => return meshgrid(x, a.str("indexing", "ij") == "xy"),
        "select" => x[0].index(dim, shift("index")),
        "repeat_interleave" => x[0].repeat_interleave(a.usize("repeats", 1), dim),
        "roll" => x[0].roll(shift("shifts"), shift("dims")),
        "flip" => x[0].flip(&a.ints("dims", &[], 1).into_iter().map(|dim| dim as isize).collect::<Vec<_>>()),
        "movedim" => x[0].movedim(shift("source"), shift("destination")),
        "repeat" => x[0].repeat(&sizes("sizes")),
        "tile" => x[0].tile(&sizes("dims")),
        "tril" => x[0].tril(shift("diagonal")),
        "triu" => x[0].triu(shift("diagonal")),
        "diagonal" => x[0].diagonal(shift("offset"), shift("dim1"), a.int("dim2", 1) as isize),
        "diag" => x[0].diag(shift("diagonal")),
        "diag_embed" => x[0].diag_embed(shift("offset")),
        "trace" => x[0].trace(),
        "outer" => x[0].outer(x[1]),
        "dot" => x[0].dot(x[1]),
        "kron" => x[0].kron(x[1]),
        "arange" => graph.arange(a.f64("start", 0.0), a.f64("end", 0.0), a.f64("step", 1.0), DType::F32),
        "linspace" => graph.linspace(a.f64("start", 0.0), a.f64("end", 0.0), a.usize("steps", 1)),
        "eye" => graph.eye(a.usize("n", 1), a.usize("m", 1), DType::F32),
        "full" => graph.full(sizes("size"), DType::F32, a.f64("fill_value", 0.0)),
        other => panic!("no such case: {other}"),
    }]
}

#[test]
fn arrangements() {
    check(include_bytes!("../../oracle/ops/arrangements.safetensors"), build);
}
