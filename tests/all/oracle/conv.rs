//! Convolutions, transposed convolutions, poolings, windows.

use super::{Attributes, check};
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{AvgOptions, ConvOptions, PoolOptions};

fn list<const N: usize>(a: &Attributes, name: &str, default: [usize; N]) -> [usize; N] {
    let default: Vec<i64> = default.iter().map(|&size| size as i64).collect();
    let sizes = a.ints(name, &default, N);
    std::array::from_fn(|axis| usize::try_from(sizes[axis % sizes.len()]).unwrap_or(0))
}

fn conv_options<const N: usize>(a: &Attributes, weight: Tensor<'_>) -> ConvOptions<N> {
    let options = ConvOptions {
        stride: list(a, "stride", [1; N]),
        dilation: list(a, "dilation", [1; N]),
        groups: a.usize("groups", 1),
        ..ConvOptions::default()
    };
    if a.get("padding").is_some_and(|padding| padding.is_string()) {
        return options.same(std::array::from_fn(|axis| weight.shape()[2 + axis]));
    }
    ConvOptions { padding: list::<N>(a, "padding", [0; N]).map(|amount| [amount; 2]), ..options }
}

fn pool_options<const N: usize>(a: &Attributes) -> PoolOptions<N> {
    let kernel = list(a, "kernel_size", [1; N]);
    PoolOptions {
        kernel,
        stride: list(a, "stride", kernel),
        padding: list(a, "padding", [0; N]),
        dilation: list(a, "dilation", [1; N]),
        ceil_mode: a.bool("ceil_mode", false),
    }
}

fn divisor(a: &Attributes) -> AvgOptions {
    AvgOptions {
        count_include_pad: a.bool("count_include_pad", true),
        divisor_override: a.has("divisor_override").then(|| a.usize("divisor_override", 1)),
    }
}

fn build<'g>(_: &'g Graph, op: &str, x: &[Tensor<'g>], a: &Attributes) -> Vec<Tensor<'g>> {
    let x0 = x[0];
    vec![match op {
        "conv1d" => x0.conv1d(x[1], conv_options(a, x[1])),
        "conv2d" => x0.conv2d(x[1], conv_options(a, x[1])),
        "conv_transpose1d" => x0.conv_transpose1d(x[1], conv_options(a, x[1]), list(a, "output_padding", [0])),
        "conv_transpose2d" => x0.conv_transpose2d(x[1], conv_options(a, x[1]), list(a, "output_padding", [0; 2])),
        "max_pool1d" => x0.max_pool1d(pool_options(a)),
        "max_pool2d" => x0.max_pool2d(pool_options(a)),
        "max_pool2d_indices" => {
            let (largest, index) = x0.max_pool2d_with_indices(pool_options(a));
            return vec![largest, index];
        }
        "avg_pool1d" => x0.avg_pool1d(pool_options(a), divisor(a)),
        "avg_pool2d" => x0.avg_pool2d(pool_options(a), divisor(a)),
        "lp_pool2d" => x0.lp_pool2d(a.f64("norm_type", 2.0), pool_options(a)),
        "adaptive_avg_pool1d" => x0.adaptive_avg_pool1d(list(a, "output_size", [1])),
        "adaptive_avg_pool2d" => x0.adaptive_avg_pool2d(list(a, "output_size", [1; 2])),
        "adaptive_max_pool1d" => x0.adaptive_max_pool1d(list(a, "output_size", [1])),
        "adaptive_max_pool2d" => x0.adaptive_max_pool2d(list(a, "output_size", [1; 2])),
        "unfold" => x0.unfold(a.int("dimension", 0) as isize, a.usize("size", 1), a.usize("step", 1)),
        other => panic!("no such case: {other}"),
    }]
}

#[test]
fn conv() {
    check(include_bytes!("../../oracle/ops/conv.safetensors"), build);
}
