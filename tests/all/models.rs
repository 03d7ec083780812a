//! The standard workloads traced by hand, as a user of the bare tensors would.

use wgrad::autodiff::grad;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor, TensorType};
use wgrad::program::{Category, StateLayout, StateSpec};

pub struct Traced {
    pub graph: Graph,
    pub specs: Vec<StateSpec>,
}

pub fn state<'g>(g: &'g Graph, specs: &mut Vec<StateSpec>, name: &str, shape: &[usize]) -> Tensor<'g> {
    for (category, name) in [(Category::Weights, name.to_string()), (Category::Gradients, format!("grad/{name}"))] {
        specs.push(StateSpec { name, ty: TensorType::new(shape, DType::F32), category, group: "all".into() });
    }
    g.state(name, shape, DType::F32)
}

pub fn finish(g: &Graph, specs: &[StateSpec], loss: Tensor<'_>) {
    let weights: Vec<_> = specs.iter().filter(|s| s.category == Category::Weights).collect();
    let wrt: Vec<Tensor<'_>> = weights.iter().map(|s| g.state(&s.name, &s.ty.shape, s.ty.dtype)).collect();
    let grads = grad(loss, &wrt).expect("differentiable");
    for (spec, gradient) in weights.iter().zip(grads) {
        g.assign(&format!("grad/{}", spec.name), gradient);
    }
    g.output("loss", loss);
}

pub fn mlp(batch: usize) -> Traced {
    let (graph, mut specs) = (Graph::new(), Vec::new());
    let x = graph.input("x", [batch, 784], DType::F32);
    let y = graph.input("y", [batch], DType::I32);
    let mut h = x;
    for (i, (a, b)) in [(784, 512), (512, 512), (512, 10)].into_iter().enumerate() {
        let w = state(&graph, &mut specs, &format!("w{i}"), &[a, b]);
        let bias = state(&graph, &mut specs, &format!("b{i}"), &[b]);
        h = h.matmul(w) + bias;
        if i < 2 {
            h = h.relu();
        }
    }
    finish(&graph, &specs, h.cross_entropy(y));
    Traced { graph, specs }
}

/// Convolutions of every kind that has a kernel of its own: padded, far apart, grouped, by channel, reversed.
pub fn cnn(batch: usize) -> Traced {
    use wgrad::tensor::{AvgOptions, ConvOptions, PoolOptions};
    let (graph, mut specs) = (Graph::new(), Vec::new());
    let x = graph.input("x", [batch, 1, 28, 28], DType::F32);
    let y = graph.input("y", [batch], DType::I32);
    let mut weight = |name: &str, shape: &[usize]| state(&graph, &mut specs, name, shape);
    let plain = ConvOptions::new();
    let h = x.conv2d(weight("w0", &[16, 1, 3, 3]), plain.padding(1)) + weight("b0", &[16, 1, 1]);
    let h = h.relu().max_pool2d(PoolOptions::new([2, 2]));
    let h = (h.conv2d(weight("w1", &[32, 16, 3, 3]), plain.padding(1)) + weight("b1", &[32, 1, 1])).relu();
    let h = h.conv2d(weight("w2", &[24, 32, 1, 1]), plain).max_pool2d(PoolOptions::new([3, 3]).stride([2, 2]));
    let h = h.conv2d(weight("w3", &[24, 1, 3, 3]), plain.padding(1).groups(24)).relu();
    let h = h.conv2d(weight("w4", &[24, 12, 3, 3]), plain.stride(2).padding(1).groups(2));
    let h = h.conv_transpose2d(weight("w5", &[24, 8, 3, 3]), plain, [0, 0]).relu();
    let h = h.avg_pool2d(PoolOptions::new([3, 3]), AvgOptions::default()).flatten(1, -1);
    let head = weight("head", &[h.shape()[1], 10]);
    finish(&graph, &specs, h.matmul(head).cross_entropy(y));
    Traced { graph, specs }
}

pub fn gpt(batch: usize, t: usize, d: usize, layers: usize, heads: usize, vocab: usize) -> Traced {
    let (graph, mut specs) = (Graph::new(), Vec::new());
    {
        let g = &graph;
        let s = &mut specs;
        let tokens = g.input("tokens", [batch, t], DType::I32);
        let targets = g.input("targets", [batch, t], DType::I32);
        let wte = state(g, s, "wte", &[vocab, d]);
        let wpe = state(g, s, "wpe", &[t, d]);
        let mut h = wte.gather(tokens) + wpe;
        for l in 0..layers {
            let lin = |s: &mut Vec<StateSpec>, n: &str, i: usize, o: usize| {
                (state(g, s, &format!("{l}.{n}.w"), &[i, o]), state(g, s, &format!("{l}.{n}.b"), &[o]))
            };
            let ln = |s: &mut Vec<StateSpec>, n: &str| {
                (state(g, s, &format!("{l}.{n}.g"), &[d]), state(g, s, &format!("{l}.{n}.b"), &[d]))
            };
            let (g1, b1) = ln(s, "ln1");
            let (wq, bq) = lin(s, "qkv", d, 3 * d);
            let (wp, bp) = lin(s, "proj", d, d);
            let (g2, b2) = ln(s, "ln2");
            let (wf, bf) = lin(s, "fc", d, 4 * d);
            let (wo, bo) = lin(s, "out", 4 * d, d);
            let qkv = h.layer_norm(g1, b1, 1e-5).matmul(wq) + bq;
            let part = |i: usize| qkv.slice(-1, i * d, (i + 1) * d).reshape([batch, t, heads, d / heads]);
            let a = part(0).attention(part(1), part(2), true).reshape([batch, t, d]);
            h = h + (a.matmul(wp) + bp);
            let m = (h.layer_norm(g2, b2, 1e-5).matmul(wf) + bf).gelu_tanh();
            h = h + (m.matmul(wo) + bo);
        }
        let (gf, bf) = (state(g, s, "lnf.g", &[d]), state(g, s, "lnf.b", &[d]));
        let head = state(g, s, "head", &[d, vocab]);
        let logits = h.layer_norm(gf, bf, 1e-5).matmul(head);
        finish(g, s, logits.cross_entropy(targets));
    }
    Traced { graph, specs }
}

pub fn layout(specs: &[StateSpec]) -> StateLayout {
    StateLayout::build(specs, 128 << 20).expect("fits")
}
