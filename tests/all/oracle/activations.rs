//! Activations.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let dim = a.int("dim", -1) as isize;
    let t = x[0];
    vec![match op {
        "relu" => t.relu(),
        "relu6" => t.relu6(),
        "leaky_relu" => t.leaky_relu(a.f64("negative_slope", 0.01)),
        "elu" => t.elu(a.f64("alpha", 1.0)),
        "celu" => t.celu(a.f64("alpha", 1.0)),
        "selu" => t.selu(),
        "gelu" if a.str("approximate", "none") == "tanh" => t.gelu_tanh(),
        "gelu" => t.gelu(),
        "silu" => t.silu(),
        "sigmoid" => t.sigmoid(),
        "tanh" => t.tanh(),
        "mish" => t.mish(),
        "softplus" if a.has("beta") => t.softplus_with(a.f64("beta", 1.0), a.f64("threshold", 20.0)),
        "softplus" => t.softplus(),
        "softsign" => t.softsign(),
        "tanhshrink" => t.tanhshrink(),
        "softshrink" => t.softshrink(a.f64("lambd", 0.5)),
        "hardshrink" => t.hardshrink(a.f64("lambd", 0.5)),
        "hardtanh" => t.hardtanh(a.f64("min_val", -1.0), a.f64("max_val", 1.0)),
        "hardsigmoid" => t.hardsigmoid(),
        "hardswish" => t.hardswish(),
        "threshold" => t.threshold(a.f64("threshold", 0.5), a.f64("value", -1.0)),
        "logsigmoid" => t.log_sigmoid(),
        "rrelu" => t.rrelu(a.f64("lower", 1.0 / 8.0), a.f64("upper", 1.0 / 3.0)),
        "prelu" => t.prelu(x[1]),
        "glu" => t.glu(dim),
        "geglu" => t.geglu(dim),
        "swiglu" => t.swiglu(dim),
        "reglu" => t.reglu(dim),
        "softmax" => t.softmax(dim),
        "log_softmax" => t.log_softmax(dim),
        "softmin" => t.softmin(dim),
        other => panic!("no such case: {other}"),
    }]
}

#[test]
fn activations() {
    check(include_bytes!("../../oracle/ops/activations.safetensors"), build);
}
