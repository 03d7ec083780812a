//! The rows of windows, folds, convolutions and poolings.

use super::harness::{Draw, Sample, f32s, sample};
use wgrad::dtype::DType;
use wgrad::graph::{Op, Tensor};
use wgrad::tensor::{AvgOptions, ConvOptions, PoolOptions};

fn u(shape: &[usize]) -> Draw {
    f32s(shape, -2.0, 2.0)
}

fn over(shapes: &[&[usize]], build: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + Copy + 'static) -> Vec<Sample> {
    shapes.iter().map(|shape| sample(&[u(shape)], move |x| build(x[0])).sums(64, 2.0)).collect()
}

fn windows<'g>(x: Tensor<'g>, axis: usize, [size, stride, dilation]: [usize; 3]) -> Tensor<'g> {
    x.apply(Op::Window { axis, size, stride, dilation }, &[])
}

pub fn window() -> Vec<Sample> {
    let mut rows = over(&[&[7], &[4, 9], &[2, 8, 3]], |x| windows(x, x.rank() / 2, [3, 1, 1]) * 2.0);
    rows.extend(over(&[&[9, 4], &[12, 8]], |x| windows(x, 0, [2, 3, 2])));
    rows.extend(over(&[&[8, 12]], |x| windows(x, 1, [4, 4, 1]).exp()));
    rows.extend(over(&[&[5, 16], &[8, 31]], |x| windows(x, 1, [5, 2, 3]).sum(&[2])));
    rows.extend(over(&[&[6, 40]], |x| windows(windows(x, 1, [4, 4, 2]), 0, [3, 1, 1]).sum(&[1, 2])));
    // Overlapping windows as operands of products and of vector loads.
    rows.push(sample(&[u(&[11]), u(&[4, 8])], |x| windows(x[0], 0, [4, 1, 1]).matmul(x[1])).sums(4, 4.0));
    rows.push(sample(&[u(&[19]), u(&[6, 16])], |x| x[1].matmul(windows(x[0], 0, [4, 1, 1]))).sums(16, 4.0));
    rows.push(
        sample(&[u(&[1, 67]), u(&[16, 64])], |x| windows(x[0].reshape([67]), 0, [64, 1, 1]).matmul(x[1].t()).relu())
            .sums(64, 4.0)
            .no_gradient(),
    );
    rows.push(sample(&[u(&[11]), u(&[8, 4])], |x| windows(x[0], 0, [4, 1, 1]) * x[1]));
    rows.push(sample(&[u(&[11])], |x| windows(x[0], 0, [4, 1, 1]).pad(0, 4, 0, 1.0)));
    rows.push(sample(&[u(&[13])], |x| windows(x[0] * 2.0, 0, [4, 3, 1]).t().square()));
    rows.push(sample(&[u(&[6, 3])], |x| x[0].t().unfold(1, 2, 1).sum(&[0])).sums(3, 2.0));
    rows
}

fn folded<'g>(x: Tensor<'g>, axis: usize, [length, stride, dilation]: [usize; 3]) -> Tensor<'g> {
    x.apply(Op::Fold { axis, length, stride, dilation }, &[])
}

pub fn fold() -> Vec<Sample> {
    let mut rows = over(&[&[5, 3], &[5, 1]], |x| folded(x, 0, [7, 1, 1]));
    rows.extend(over(&[&[4, 3, 2]], |x| folded(x, 1, [9, 3, 1])));
    rows.extend(over(&[&[4, 3, 5]], |x| folded(x, 1, [9, 2, 1]) * 2.0));
    rows.extend(over(&[&[4, 3, 4]], |x| folded(x, 0, [20, 2, 3]).exp()).into_iter().map(|s| s.tolerance(1e-5, 1e-5)));
    rows.extend(over(&[&[3, 8, 4], &[3, 16, 2]], |x| folded(x.exp(), 0, [8, 2, 1])));
    rows.extend(over(&[&[6, 5, 4]], |x| folded(x.permute(&[1, 2, 0]), 0, [12, 1, 1]).sum(&[1])));
    rows.push(sample(&[u(&[4, 1, 6]), u(&[4, 9])], |x| folded(x[0].broadcast_to([4, 4, 6]), 1, [9, 1, 1]) * x[1]));
    rows.push(sample(&[u(&[])], |x| folded(x[0].broadcast_to([4, 3]), 0, [12, 2, 2])));
    rows.push(sample(&[u(&[0, 3, 2])], |x| folded(x[0], 1, [4, 1, 1])));
    rows
}

fn convolved(x: &[usize], weight: &[usize], options: ConvOptions<2>) -> Sample {
    let terms = weight[1..].iter().product::<usize>().max(x[0] * x[2] * x[3]);
    sample(&[u(x), u(weight)], move |x| x[0].conv2d(x[1], options)).sums(terms, 4.0)
}

pub fn conv() -> Vec<Sample> {
    let plain = ConvOptions::new();
    vec![
        convolved(&[1, 1, 3, 3], &[1, 1, 3, 3], plain),
        convolved(&[2, 3, 6, 7], &[4, 3, 3, 3], plain.padding(1)),
        convolved(&[2, 4, 9, 8], &[6, 4, 3, 2], plain.stride(2).padding(1)),
        convolved(&[1, 2, 9, 9], &[3, 2, 3, 3], plain.dilation(2)),
        convolved(&[2, 4, 5, 5], &[6, 2, 3, 3], plain.groups(2).padding(1)),
        convolved(&[2, 6, 5, 7], &[6, 1, 3, 3], plain.groups(6).padding(1)),
        convolved(&[1, 3, 6, 6], &[6, 1, 2, 3], plain.groups(3).stride(2)),
        convolved(&[2, 8, 4, 4], &[12, 8, 1, 1], plain),
        convolved(&[2, 3, 5, 5], &[4, 3, 1, 1], plain.stride(2)),
        convolved(&[1, 2, 5, 6], &[2, 2, 4, 3], plain.same([4, 3])),
        convolved(&[3, 16, 12, 12], &[32, 16, 3, 3], plain.padding(1)),
        convolved(&[0, 2, 4, 4], &[3, 2, 3, 3], plain),
        sample(&[u(&[2, 3, 12]), u(&[4, 3, 5])], |x| x[0].conv1d(x[1], ConvOptions::new().stride(2).padding(2)))
            .sums(24, 4.0),
        sample(&[u(&[3, 12]), u(&[3, 1, 3]), u(&[3, 1])], |x| {
            (x[0].conv1d(x[1], ConvOptions::new().groups(3)) + x[2]).relu()
        })
        .sums(12, 4.0),
        sample(&[u(&[1, 2, 4, 5, 4]), u(&[3, 2, 2, 3, 2])], |x| x[0].conv3d(x[1], ConvOptions::new().padding(1)))
            .sums(200, 4.0),
        sample(&[u(&[2, 5, 5, 3]), u(&[4, 3, 3, 3]), u(&[4])], |x| {
            let y = x[0].permute(&[0, 3, 1, 2]).conv2d(x[1], ConvOptions::new().padding(1));
            (y + x[2].reshape([4, 1, 1])).relu()
        })
        .sums(50, 4.0),
    ]
}

pub fn conv_transpose() -> Vec<Sample> {
    let two = |x: &[usize], weight: &[usize], options: ConvOptions<2>, extra: [usize; 2]| {
        sample(&[u(x), u(weight)], move |x| x[0].conv_transpose2d(x[1], options, extra)).sums(100, 4.0)
    };
    let plain = ConvOptions::new();
    vec![
        two(&[1, 1, 2, 2], &[1, 1, 2, 2], plain, [0, 0]),
        two(&[2, 3, 4, 5], &[3, 4, 3, 3], plain.stride(2).padding(1), [1, 1]),
        two(&[2, 4, 3, 3], &[4, 2, 2, 2], plain.stride(2).groups(2), [0, 0]),
        two(&[1, 2, 4, 3], &[2, 3, 3, 3], plain.stride(3).dilation(2), [2, 0]),
        two(&[1, 3, 4, 4], &[3, 2, 4, 4], plain.stride(2).padding(1), [0, 1]),
        two(&[2, 4, 3, 5], &[4, 1, 3, 3], plain.stride(2).groups(4), [1, 0]),
        two(&[2, 5, 4, 4], &[5, 3, 1, 1], plain, [0, 0]),
        sample(&[u(&[2, 3, 6]), u(&[3, 2, 4])], |x| {
            x[0].conv_transpose1d(x[1], ConvOptions::new().stride(3).padding(2), [2])
        })
        .sums(36, 4.0),
        // Twice differentiable: the gradient of a gradient of the weight.
        sample(&[u(&[2, 2, 5, 5]), u(&[3, 2, 3, 3])], |x| {
            let y = x[0].conv2d(x[1], ConvOptions::new().stride(2)).square().sum_all();
            wgrad::autodiff::grad(y, &[x[1]]).map_or(x[1], |grads| grads[0])
        })
        .sums(400, 40.0),
    ]
}

/// Distinct values far apart, so that central differences do not change which one is largest.
fn spread(shape: &[usize]) -> Draw {
    f32s(shape, -40.0, 40.0)
}

pub fn max_pool() -> Vec<Sample> {
    let two = |shape: &[usize], options: PoolOptions<2>| sample(&[spread(shape)], move |x| x[0].max_pool2d(options));
    let mut rows = vec![
        two(&[1, 1, 2, 2], PoolOptions::new([2, 2])),
        two(&[2, 3, 8, 8], PoolOptions::new([2, 2])),
        two(&[2, 3, 7, 9], PoolOptions::new([3, 3]).stride([2, 2]).padding([1, 1])),
        two(&[1, 2, 9, 7], PoolOptions::new([2, 3]).stride([1, 2]).dilation([2, 1])),
        two(&[1, 2, 6, 7], PoolOptions::new([2, 2]).ceil_mode(true)),
        two(&[3, 5, 5], PoolOptions::new([3, 2]).stride([1, 1])),
        sample(&[spread(&[2, 3, 11])], |x| x[0].max_pool1d(PoolOptions::new([3]).padding([1]).ceil_mode(true))),
        sample(&[spread(&[1, 2, 4, 4, 6])], |x| x[0].max_pool3d(PoolOptions::new([2, 2, 3]))),
        sample(&[spread(&[2, 2, 7, 5])], |x| {
            x[0].max_pool2d_with_indices(PoolOptions::new([3, 2]).stride([2, 2]).padding([1, 1])).1.cast(DType::F32)
        })
        .no_gradient(),
        sample(&[spread(&[2, 4, 8, 8])], |x| x[0].relu().max_pool2d(PoolOptions::new([2, 2])) * 2.0),
    ];
    rows.push(sample(&[spread(&[2, 3, 7, 9])], |x| x[0].adaptive_max_pool2d([3, 4])));
    rows.push(sample(&[spread(&[2, 3, 8, 9])], |x| x[0].adaptive_max_pool2d([4, 3])));
    rows.push(sample(&[spread(&[2, 3, 10])], |x| x[0].adaptive_max_pool1d([4])));
    rows.push(sample(&[spread(&[2, 3, 4, 5])], |x| x[0].global_max_pool()));
    rows
}

pub fn avg_pool() -> Vec<Sample> {
    let two = |shape: &[usize], options: PoolOptions<2>, divisor: AvgOptions| {
        sample(&[u(shape)], move |x| x[0].avg_pool2d(options, divisor)).sums(32, 2.0)
    };
    let (all, inner) = (AvgOptions::default(), AvgOptions { count_include_pad: false, divisor_override: None });
    let mut rows = vec![
        two(&[1, 1, 2, 2], PoolOptions::new([2, 2]), all),
        two(&[2, 3, 8, 8], PoolOptions::new([2, 2]), all),
        two(&[2, 3, 7, 9], PoolOptions::new([3, 3]).stride([2, 2]).padding([1, 1]), all),
        two(&[2, 3, 7, 9], PoolOptions::new([3, 3]).stride([2, 1]).padding([1, 1]), inner),
        two(&[1, 2, 6, 7], PoolOptions::new([3, 2]).stride([2, 2]).padding([1, 0]).ceil_mode(true), all),
        two(&[1, 2, 6, 7], PoolOptions::new([3, 2]).stride([2, 2]).padding([1, 0]).ceil_mode(true), inner),
        two(&[3, 5, 5], PoolOptions::new([3, 2]), AvgOptions { divisor_override: Some(5), ..all }),
        sample(&[u(&[2, 3, 11])], |x| x[0].avg_pool1d(PoolOptions::new([4]).stride([3]), AvgOptions::default())),
    ];
    rows.push(sample(&[u(&[2, 3, 7, 9])], |x| x[0].adaptive_avg_pool2d([3, 3])).sums(32, 2.0));
    rows.push(sample(&[u(&[2, 3, 8, 9])], |x| x[0].adaptive_avg_pool2d([4, 3])).sums(32, 2.0));
    rows.push(sample(&[u(&[3, 5])], |x| x[0].adaptive_avg_pool1d([7])).sums(32, 2.0));
    rows.push(sample(&[u(&[2, 3, 4, 5])], |x| x[0].global_avg_pool()).sums(20, 2.0));
    rows.push(
        sample(&[f32s(&[2, 3, 6, 5], 0.5, 2.0)], |x| {
            x[0].lp_pool2d(2.0, PoolOptions::new([2, 2])) + x[0].lp_pool2d(3.0, PoolOptions::new([2, 2]))
        })
        .tolerance(1e-5, 1e-5),
    );
    rows
}
