//! The rows of sorting, running sums, and reading and writing by index.

use super::harness::{Draw, Sample, f32s, i32s, refused, sample};
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor};
use wgrad::lower::lower;

fn u(shape: &[usize]) -> Draw {
    f32s(shape, -2.0, 2.0)
}

pub fn cumsum() -> Vec<Sample> {
    let plain = |shape: &[usize], axis: isize| {
        let n = shape.iter().product();
        sample(&[u(shape)], move |x| x[0].cumsum(axis)).sums(n, 2.0)
    };
    let with = |shape: &[usize], axis: isize, reverse: bool, exclusive: bool| {
        sample(&[u(shape)], move |x| x[0].cumsum_with(axis, reverse, exclusive) * 2.0).sums(64, 4.0)
    };
    vec![
        plain(&[1], 0),
        plain(&[0, 3], 0),
        plain(&[3, 0], 1),
        plain(&[5, 7], -1),
        plain(&[5, 7], 0),
        plain(&[2, 33, 4], 1),
        plain(&[3, 700], 1),
        with(&[4, 9], 1, true, false),
        with(&[4, 9], 0, false, true),
        with(&[2, 65], 1, true, true),
        // Long enough to be cut into chunks.
        sample(&[f32s(&[2, 17_000], -0.1, 0.1)], |x| x[0].cumsum(1)).sums(17_000, 0.1),
        sample(&[f32s(&[20_011], -0.1, 0.1)], |x| x[0].cumsum_with(0, true, true)).sums(20_011, 0.1),
        sample(&[i32s(&[3, 300], -99, 99)], |x| x[0].cumsum(1)).no_gradient(),
        sample(&[i32s(&[3, 17_001], -99, 99)], |x| x[0].cumsum_with(1, true, false) + 1).no_gradient(),
        sample(&[Draw { dtype: DType::U32, ..i32s(&[40], 0, 99) }], |x| x[0].cumsum(0)).no_gradient(),
        sample(&[u(&[6, 8]), u(&[8])], |x| (x[0] * x[1]).cumsum(1).tanh() + x[1]).sums(8, 4.0),
    ]
}

pub fn cumulative() -> Vec<Sample> {
    vec![
        sample(&[u(&[5, 7])], |x| x[0].cumprod(1)).sums(64, 20.0),
        sample(&[u(&[1])], |x| x[0].cumprod(0)),
        sample(&[u(&[6, 3])], |x| x[0].cumprod(0)).sums(32, 20.0),
        sample(&[u(&[3, 9])], |x| x[0].cummax(-1).0),
        sample(&[i32s(&[3, 9], 0, 3)], |x| x[0].cummax(-1).1).no_gradient(),
        sample(&[i32s(&[9, 3], 0, 3)], |x| x[0].cummin(0).1).no_gradient(),
        sample(&[u(&[17, 2])], |x| x[0].cummin(0).0),
        sample(&[u(&[4, 13])], |x| x[0].logcumsumexp(1)).tolerance(4e-6, 1e-5),
        sample(&[u(&[0, 4])], |x| x[0].cumprod(0)),
    ]
}

pub fn argsort() -> Vec<Sample> {
    let floats = |shape: &[usize], axis: isize, descending: bool| {
        sample(&[u(shape)], move |x| x[0].argsort(axis, descending)).no_gradient()
    };
    // Few different numbers: the order of equals counts.
    let ints = |shape: &[usize], high: i32, descending: bool| {
        sample(&[i32s(shape, -high, high)], move |x| x[0].argsort(-1, descending)).no_gradient()
    };
    vec![
        floats(&[1], 0, false),
        floats(&[0], 0, false),
        floats(&[7, 5], 1, false),
        floats(&[7, 5], 0, true),
        floats(&[3, 64], 1, true),
        floats(&[2, 65], 1, false),
        floats(&[2, 130, 3], 1, false),
        floats(&[5000], 0, true),
        ints(&[4, 100], 3, false),
        ints(&[4, 100], 3, true),
        ints(&[3000], 9, true),
        sample(&[Draw { dtype: DType::U32, ..i32s(&[3, 77], 0, 9) }], |x| x[0].argsort(1, false)).no_gradient(),
        sample(&[Draw { dtype: DType::Bool, ..i32s(&[90], 0, 2) }], |x| x[0].argsort(0, true)).no_gradient(),
        sample(&[u(&[4, 9])], |x| (x[0] * 2.0).exp().argsort(1, false) + 1).no_gradient(),
    ]
}

pub fn sorting() -> Vec<Sample> {
    vec![
        sample(&[u(&[4, 9])], |x| x[0].sort(1, false).0),
        sample(&[u(&[9, 4])], |x| x[0].sort(0, true).0 * 3.0),
        sample(&[u(&[100])], |x| x[0].sort(0, false).0),
        sample(&[u(&[4, 9])], |x| x[0].topk(3, 1, true).0),
        sample(&[u(&[4, 9])], |x| x[0].topk(2, 0, false).0),
        sample(&[u(&[4, 9])], |x| x[0].topk(9, 1, true).1).no_gradient(),
        sample(&[u(&[4, 9])], |x| x[0].kthvalue(4, 1).0),
        sample(&[u(&[6, 5])], |x| x[0].median(0).0),
        sample(&[u(&[5])], |x| x[0].median(0).1).no_gradient(),
        sample(&[u(&[6, 5])], |x| x[0].argmin(0)).no_gradient(),
        sample(&[i32s(&[6, 5], -3, 3)], |x| x[0].argmin(1)).no_gradient(),
        sample(&[i32s(&[6, 5], -3, 3)], |x| x[0].argmax(1)).no_gradient(),
    ]
}

pub fn gathers() -> Vec<Sample> {
    vec![
        sample(&[u(&[5, 4]), i32s(&[3], 0, 5)], |x| x[0].index_select(0, x[1])),
        sample(&[u(&[2, 5, 4]), i32s(&[3], -1, 5)], |x| x[0].index_select(-2, x[1]) + 1.0),
        sample(&[u(&[2, 5, 4]), i32s(&[2, 3], 0, 4)], |x| x[0].index_select(2, x[1])),
        sample(&[u(&[5]), i32s(&[], 0, 5)], |x| x[0].index_select(0, x[1])),
        sample(&[u(&[4, 6]), i32s(&[4, 3], 0, 6)], |x| x[0].gather_along(1, x[1])),
        sample(&[u(&[4, 6]), i32s(&[2, 9], -2, 8)], |x| x[0].gather_along(1, x[1])),
        sample(&[u(&[4, 6, 3]), i32s(&[5, 2, 3], 0, 4)], |x| x[0].gather_along(0, x[1]).exp()),
        sample(&[u(&[4, 6]), i32s(&[1, 3], 0, 6)], |x| x[0].take_along_dim(x[1], 1)),
        sample(&[u(&[1, 6]), i32s(&[4, 3], 0, 6)], |x| x[0].take_along_dim(x[1], 1)),
        sample(&[u(&[4, 5, 3]), i32s(&[7, 2], 0, 4)], |x| x[0].gather_nd(x[1])),
        sample(&[u(&[4, 5]), i32s(&[3, 2, 2], -1, 5)], |x| x[0].gather_nd(x[1])),
        sample(&[u(&[6]), i32s(&[4], -6, 6)], |x| x[0].gather(x[1].wrap_index(6))),
    ]
}

pub fn scatters() -> Vec<Sample> {
    vec![
        sample(&[u(&[4, 6]), i32s(&[4, 3], 0, 6), u(&[4, 3])], |x| x[0].scatter_add_along(1, x[1], x[2])),
        sample(&[u(&[4, 6]), i32s(&[9, 5], 0, 4), u(&[9, 6])], |x| x[0].scatter_add_along(0, x[1], x[2])),
        sample(&[u(&[40]), i32s(&[90], -3, 45), u(&[90])], |x| x[0].scatter_add_along(0, x[1], x[2])).sums(4, 2.0),
        sample(&[u(&[5, 4]), i32s(&[7], 0, 5), u(&[7, 4])], |x| x[0].index_add(0, x[1], x[2])),
        sample(&[u(&[2, 5, 4]), i32s(&[3], 0, 4), u(&[2, 5, 3])], |x| x[0].index_add(-1, x[1], x[2]) * 2.0),
        sample(&[u(&[2, 5, 4]), i32s(&[3], 0, 5), u(&[2, 3, 4])], |x| x[0].index_add(1, x[1], x[2])),
        // Few rows and many indices: cut into parts; many of both: sorted in several passes.
        sample(&[u(&[3, 4]), i32s(&[3000], 0, 3), u(&[3000, 4])], |x| x[0].index_add(0, x[1], x[2])).sums(3000, 2.0),
        sample(&[u(&[9000, 3]), i32s(&[700], -9, 9100), u(&[700, 3])], |x| x[0].index_add(0, x[1], x[2])),
        sample(&[u(&[4000, 4]), i32s(&[1500], 0, 4000), u(&[1500, 4])], |x| x[0].index_add(0, x[1], x[2] * 2.0).tanh()),
        sample(&[i32s(&[100_000], 0, 50_000), u(&[100_000, 4])], |x| x[1].scatter_add(x[0], 50_000)).no_gradient(),
        sample(&[i32s(&[50], -9, 9), i32s(&[200], 0, 50), i32s(&[200], -9, 9)], |x| x[0].index_add(0, x[1], x[2]))
            .no_gradient(),
        sample(&[u(&[4, 5, 3]), i32s(&[7, 2], 0, 4), u(&[7, 3])], |x| x[0].scatter_nd_add(x[1], x[2])),
        sample(&[u(&[4, 5]), i32s(&[3, 2, 1], -1, 5), u(&[3, 2, 5])], |x| x[0].scatter_nd_add(x[1], x[2])),
    ]
}

pub fn overwrites() -> Vec<Sample> {
    vec![
        sample(&[u(&[4, 6]), i32s(&[4, 3], 0, 6), u(&[4, 3])], |x| x[0].scatter(1, x[1], x[2])),
        // Equal indices, and some outside.
        sample(&[u(&[5, 2]), i32s(&[9, 2], -1, 6), u(&[9, 2])], |x| x[0].scatter(0, x[1], x[2])),
        sample(&[u(&[70]), i32s(&[200], 0, 70), u(&[200])], |x| x[0].scatter(0, x[1], x[2]) * 2.0),
        sample(&[i32s(&[70], 0, 9), i32s(&[200], 0, 70), i32s(&[200], 0, 9)], |x| x[0].scatter(0, x[1], x[2]))
            .no_gradient(),
        sample(&[u(&[3, 4]), i32s(&[0, 4], 0, 3), u(&[0, 4])], |x| x[0].scatter(0, x[1], x[2])),
        sample(&[u(&[2, 5, 4]), i32s(&[3], 0, 5), u(&[2, 3, 4])], |x| x[0].index_copy(1, x[1], x[2])),
        sample(&[u(&[5, 4]), i32s(&[9], 0, 5), u(&[9, 4])], |x| x[0].index_copy(0, x[1], x[2])),
        sample(&[u(&[4, 5, 3]), i32s(&[7, 2], 0, 4), u(&[7, 3])], |x| x[0].scatter_nd(x[1], x[2])),
        sample(&[u(&[4, 5]), i32s(&[3, 2, 1], -1, 5), u(&[3, 2, 5])], |x| x[0].scatter_nd(x[1], x[2])),
    ]
}

pub fn counts() -> Vec<Sample> {
    vec![
        sample(&[i32s(&[7], -1, 6), u(&[7, 5])], |x| x[0].one_hot(5) * x[1]),
        sample(&[i32s(&[2, 3], 0, 4)], |x| x[0].one_hot(4)).no_gradient(),
        sample(&[i32s(&[], 0, 4)], |x| x[0].one_hot(4)).no_gradient(),
        sample(&[i32s(&[3, 30], -1, 9)], |x| x[0].bincount(8)).no_gradient(),
        sample(&[u(&[60])], |x| x[0].histc(7, -1.5, 2.0)).no_gradient(),
        sample(&[i32s(&[9], -4, 4)], |x| x[0].cast(DType::F32).histc(4, -4.0, 3.0)).no_gradient(),
        sample(&[u(&[20]), u(&[3, 5])], |x| x[0].sort(0, false).0.searchsorted(x[1], false)).no_gradient(),
        sample(&[i32s(&[2, 9], 0, 5), i32s(&[2, 4], 0, 5)], |x| x[0].sort(1, false).0.searchsorted(x[1], true))
            .no_gradient(),
        sample(&[i32s(&[3, 4], 0, 9), i32s(&[3], 0, 9)], |x| x[0].bucketize(x[1].sort(0, false).0, false))
            .no_gradient(),
    ]
}

fn f<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::F32)
}

fn i<'g>(graph: &'g Graph, name: &str, shape: &[usize]) -> Tensor<'g> {
    graph.input(name, shape, DType::I32)
}

#[test]
fn indices_that_do_not_fit_are_refused() {
    refused(&["topk", "4 elements", "[2, 3]"], |g| {
        f(g, "a", &[2, 3]).topk(4, 1, true);
    });
    refused(&["kthvalue", "1..=3"], |g| {
        f(g, "a", &[2, 3]).kthvalue(0, 1);
    });
    refused(&["argmax", "empty"], |g| {
        f(g, "a", &[2, 0]).argmin(1);
    });
    refused(&["argsort", "axis 2"], |g| {
        f(g, "a", &[2, 3]).sort(2, false);
    });
    refused(&["gather_along", "[2, 4]", "axis 0"], |g| {
        f(g, "a", &[2, 3]).gather_along(0, i(g, "s", &[2, 4]));
    });
    refused(&["gather_along", "indices", "f32"], |g| {
        f(g, "a", &[2, 3]).gather_along(0, f(g, "s", &[2, 3]));
    });
    refused(&["take_along_dim", "[2, 3]", "[4, 3]"], |g| {
        f(g, "a", &[2, 3]).take_along_dim(i(g, "s", &[4, 3]), 1);
    });
    refused(&["index_select", "axis 2"], |g| {
        f(g, "a", &[2, 3]).index_select(2, i(g, "s", &[4]));
    });
    refused(&["scatter_add_along", "smaller than the index"], |g| {
        f(g, "a", &[2, 3]).scatter_add_along(1, i(g, "s", &[2, 4]), f(g, "b", &[2, 3]));
    });
    refused(&["index_add", "n along axis 0"], |g| {
        f(g, "a", &[2, 3]).index_add(0, i(g, "s", &[4]), f(g, "b", &[3, 3]));
    });
    refused(&["gather_nd", "coordinates"], |g| {
        f(g, "a", &[2, 3]).gather_nd(i(g, "s", &[4, 3]));
    });
    refused(&["scatter_nd_add", "[4, 3]"], |g| {
        f(g, "a", &[2, 3]).scatter_nd_add(i(g, "s", &[4, 1]), f(g, "b", &[4, 2]));
    });
    refused(&["histc", "low < high"], |g| {
        f(g, "a", &[2, 3]).histc(4, 1.0, 1.0);
    });
    refused(&["searchsorted", "leading axes"], |g| {
        f(g, "a", &[2, 3]).searchsorted(f(g, "b", &[3, 3]), false);
    });
    refused(&["masked_select", "fixed shapes"], |g| {
        f(g, "a", &[2, 3]).masked_select(g.input("m", [2, 3], DType::Bool));
    });
    refused(&["nonzero", "fixed shapes"], |g| {
        f(g, "a", &[2, 3]).nonzero();
    });
    refused(&["cumsum", "bool"], |g| {
        g.input("m", [2, 3], DType::Bool).cumsum(0);
    });
    refused(&["cumprod", "u32"], |g| {
        g.input("m", [2, 3], DType::U32).cumprod(0);
    });
    refused(&["one_hot", "indices"], |g| {
        f(g, "a", &[2, 3]).one_hot(4);
    });
}

/// Sizes at which each kernel is used, for the devices that are not here.
#[test]
fn kernels_of_sorting_and_indexing_are_legal_on_every_tier() {
    for profile in super::super::legality::profiles() {
        let graph = Graph::new();
        let (x, index) = (f(&graph, "x", &[2, 70_000]), i(&graph, "i", &[70_000]));
        graph.output("sums", x.cumsum_with(1, true, true) + 1.0);
        graph.output("counts", index.cumsum(0));
        graph.output("order", x.argsort(1, true));
        graph.output("rows", f(&graph, "v", &[70_000, 8]).scatter_add(index, 50_000).relu());
        graph.output("few", f(&graph, "v", &[70_000, 8]).scatter_add(index, 3) * 2.0);
        graph.output("bins", index.bincount(7));
        let program = lower("indexing", &graph, &Default::default(), &profile.1).expect("compiles");
        super::super::legality::check(&program);
    }
}
