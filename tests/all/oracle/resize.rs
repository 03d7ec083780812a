//! Resampling, channels exchanged for space, and padding.

use super::{Attributes, check};
use serde_json::Value as Json;
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{Interpolation, Padding, Resize};

fn build<'g>(graph: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    vec![match op {
        "pixel_shuffle" => x[0].pixel_shuffle(a.usize("factor", 1)),
        "pixel_unshuffle" => x[0].pixel_unshuffle(a.usize("factor", 1)),
        "channel_shuffle" => x[0].channel_shuffle(a.usize("groups", 1)),
        _ if op.starts_with("interpolate") => interpolate(graph, x[0], a),
        _ if op.starts_with("pad") => pad(x[0], a),
        other => panic!("no such case: {other}"),
    }]
}

fn interpolate<'g>(graph: &'g Graph, x: Tensor<'g>, a: &Attributes) -> Tensor<'g> {
    let list = |name: &str| a.get(name).and_then(Json::as_array);
    let to = match (list("size"), list("scale")) {
        (Some(sizes), None) => Resize::Size(sizes.iter().filter_map(Json::as_u64).map(|size| size as usize).collect()),
        (None, Some(scales)) => Resize::Scale(scales.iter().filter_map(Json::as_f64).collect()),
        _ => panic!("either `size` or `scale` in {}", graph.to_text()),
    };
    let align_corners = a.bool("align_corners", false);
    x.interpolate(
        &to,
        match a.str("mode", "nearest").as_str() {
            "nearest" => Interpolation::Nearest,
            "nearest-exact" => Interpolation::NearestExact,
            "bicubic" => Interpolation::Cubic { align_corners },
            _ => Interpolation::Linear { align_corners },
        },
    )
}

fn pad<'g>(x: Tensor<'g>, a: &Attributes) -> Tensor<'g> {
    let pads: Vec<isize> = a.ints("pads", &[], 1).into_iter().map(|pad| pad as isize).collect();
    x.pad_axes(
        &pads,
        match a.str("mode", "constant").as_str() {
            "constant" => Padding::Constant(a.f64("value", 0.0)),
            "reflect" => Padding::Reflect,
            "replicate" => Padding::Replicate,
            _ => Padding::Circular,
        },
    )
}

#[test]
fn resize() {
    check(include_bytes!("../../oracle/ops/resize.safetensors"), build);
}
