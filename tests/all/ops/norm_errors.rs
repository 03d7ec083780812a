//! What normalisations, resampling, padding and dropout refuse, and with which words.

use super::harness::refused;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::tensor::{DropPathMode, Interpolation, Kernel, Padding, Positions, Resize};

fn f<'g>(graph: &'g Graph, shape: &[usize]) -> Tensor<'g> {
    graph.input(&format!("x{shape:?}"), shape, DType::F32)
}

#[test]
fn norms_refuse_what_does_not_fit_their_channels() {
    refused(&["batch_norm", "more than one element", "[1, 3]"], |g| {
        f(g, &[1, 3]).batch_norm_train(None, None, 1e-5);
    });
    refused(&["batch_norm", "3 channels", "[4]"], |g| {
        f(g, &[2, 3]).batch_norm_train(Some(f(g, &[4])), None, 1e-5);
    });
    refused(&["batch_norm", "[samples, channels, ..]", "[5]"], |g| {
        f(g, &[5]).batch_norm_train(None, None, 1e-5);
    });
    refused(&["batch_norm", "3 channels", "[2]"], |g| {
        f(g, &[4, 3]).batch_norm(f(g, &[3]), f(g, &[2]), None, None, 1e-5);
    });
    refused(&["group_norm", "4 channels", "3 groups"], |g| {
        f(g, &[2, 4, 5]).group_norm(3, None, None, 1e-5);
    });
    refused(&["group_norm", "0 groups"], |g| {
        f(g, &[2, 4, 5]).group_norm(0, None, None, 1e-5);
    });
    refused(&["group_norm", "more than one element"], |g| {
        f(g, &[1, 2]).group_norm(2, None, None, 1e-5);
    });
    refused(&["instance_norm", "more than one element"], |g| {
        f(g, &[2, 3, 1]).instance_norm(None, None, 1e-5);
    });
    refused(&["layer_norm", "[4, 5]", "[4, 3, 5]"], |g| {
        f(g, &[4, 3, 5]).layer_norm_over(&[4, 5], None, None, 1e-5);
    });
    refused(&["layer_norm", "gain and bias", "[5]"], |g| {
        f(g, &[4, 3, 5]).layer_norm_over(&[3, 5], Some(f(g, &[5])), None, 1e-5);
    });
    refused(&["local_response_norm", "[4, 3]"], |g| {
        f(g, &[4, 3]).local_response_norm(3, 1e-4, 0.75, 1.0);
    });
    refused(&["batch_norm", "f32"], |g| {
        g.input("i", [4, 3], DType::I32).batch_norm_train(None, None, 1e-5);
    });
}

#[test]
fn resampling_refuses_sizes_that_do_not_fit() {
    let linear = Interpolation::Linear { align_corners: false };
    refused(&["interpolate", "one size for each of the 1 axes"], |g| {
        f(g, &[1, 2, 3]).interpolate(&Resize::Size(vec![4, 4]), Interpolation::Nearest);
    });
    refused(&["interpolate", "greater than 0"], |g| {
        f(g, &[1, 2, 3]).interpolate(&Resize::Size(vec![0]), Interpolation::Nearest);
    });
    refused(&["interpolate", "greater than 0", "0.1"], |g| {
        f(g, &[1, 2, 3]).interpolate(&Resize::Scale(vec![0.1]), Interpolation::Nearest);
    });
    refused(&["interpolate", "one factor"], |g| {
        f(g, &[1, 2, 3, 3]).interpolate(&Resize::Scale(vec![]), Interpolation::Nearest);
    });
    refused(&["interpolate", "[2, 3]"], |g| {
        f(g, &[2, 3]).interpolate(&Resize::Size(vec![4]), linear);
    });
    refused(&["interpolate", "cubic", "height"], |g| {
        f(g, &[1, 2, 3]).interpolate(&Resize::Size(vec![4]), Interpolation::Cubic { align_corners: true });
    });
    refused(&["resize", "i32"], |g| {
        g.input("i", [1, 2, 3], DType::I32).interpolate(&Resize::Size(vec![4]), linear);
    });
    refused(&["resize", "axis 3"], |g| {
        f(g, &[1, 2, 3]).resize_axis(3, 4, Positions::align_corners(3, 4), Kernel::Linear);
    });
    refused(&["pixel_shuffle", "[2, 5, 3, 3]", "2 * 2"], |g| {
        f(g, &[2, 5, 3, 3]).pixel_shuffle(2);
    });
    refused(&["pixel_unshuffle", "divisible by 2"], |g| {
        f(g, &[2, 1, 5, 4]).pixel_unshuffle(2);
    });
    refused(&["pixel_unshuffle", "divisible by 0"], |g| {
        f(g, &[2, 1, 5, 4]).pixel_unshuffle(0);
    });
    refused(&["channel_shuffle", "divisible by 2"], |g| {
        f(g, &[2, 5, 3]).channel_shuffle(2);
    });
}

#[test]
fn padding_refuses_more_than_there_is() {
    let pad = |pads: &'static [isize], mode: Padding| {
        move |g: &Graph| {
            f(g, &[1, 2, 4]).pad_axes(pads, mode);
        }
    };
    refused(&["pad", "reflection", "axis 2"], pad(&[4, 0], Padding::Reflect));
    refused(&["pad", "circular", "axis 2"], pad(&[0, 5], Padding::Circular));
    refused(&["pad", "amount before and after"], pad(&[1], Padding::Constant(0.0)));
    refused(&["pad", "at most 3 axes"], pad(&[1; 8], Padding::Replicate));
    refused(&["pad", "cropped"], pad(&[-3, -2], Padding::Constant(0.0)));
    refused(&["pad", "edge"], |g| {
        f(g, &[2, 0]).pad_axes(&[1, 1], Padding::Replicate);
    });
}

#[test]
fn dropout_refuses_what_is_no_probability() {
    refused(&["channel_dropout", "0..=1", "1.5"], |g| {
        f(g, &[2, 3]).channel_dropout(1.5);
    });
    refused(&["channel_dropout", "channels", "[3]"], |g| {
        f(g, &[3]).channel_dropout(0.5);
    });
    refused(&["alpha_dropout", "-0.1"], |g| {
        f(g, &[3]).alpha_dropout(-0.1);
    });
    refused(&["stochastic_depth", "2"], |g| {
        f(g, &[3]).stochastic_depth(2.0, DropPathMode::Row);
    });
    refused(&["stochastic_depth", "scalar"], |g| {
        f(g, &[]).stochastic_depth(0.5, DropPathMode::Row);
    });
    refused(&["dropout", "NaN"], |g| {
        f(g, &[3]).dropout(f64::NAN);
    });
}
