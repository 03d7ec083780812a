//! Attention over long sequences: its memory grows with the sequence and not with its square, and what it computes there is
//! right, forward and backward.

use wgrad::autodiff::grad;
use wgrad::dtype::DType::F32;
use wgrad::gpu::Session;
use wgrad::graph::Graph;
use wgrad::kernels::Profile;
use wgrad::lower::lower;
use wgrad::program::{Program, StateLayout};
use wgrad::tensor::{AttentionOptions, AttentionWindow};
use wgrad::train::workloads::uniform;

const HEADS: usize = 2;
const SIZE: usize = 8;

/// One causal attention of two heads that share their keys, with its gradients; a window if one is given.
fn program(time: usize, before: Option<usize>, profile: &Profile) -> Program {
    let graph = Graph::new();
    let q = graph.input("q", [1, time, HEADS, SIZE], F32);
    let [k, v] = ["k", "v"].map(|name| graph.input(name, [1, time, 1, SIZE], F32));
    let window = before.map(|before| AttentionWindow { before: Some(before), after: Some(0) });
    let o = q.attention_with(k, v, &AttentionOptions { window, ..AttentionOptions::causal() });
    let loss = (o * graph.input("dout", [1, time, HEADS, SIZE], F32)).sum_all();
    let gradients = grad(loss, &[q, k, v]).expect("differentiable");
    graph.output("o", o);
    ["dq", "dk", "dv"].iter().zip(gradients).for_each(|(name, gradient)| graph.output(name, gradient));
    lower("attention", &graph, &StateLayout::default(), profile).expect("compiles")
}

/// All device memory of a program but its staging.
fn bytes(program: &Program) -> u64 {
    program.buffers.iter().map(|buffer| buffer.bytes).sum()
}

#[test]
fn memory_grows_with_the_sequence_and_not_with_its_square() {
    let cpu = Profile { class: wgrad::kernels::AdapterClass::Cpu, subgroup: Some(8), ..Profile::baseline() };
    for profile in [Profile::baseline(), cpu] {
        for before in [None, Some(255)] {
            let [short, long] = [4096, 8192].map(|time| bytes(&program(time, before, &profile)));
            assert!(long <= 2 * short + 4096, "{short} bytes for 4096 queries, {long} for 8192");
            // One matrix of weights a head would be 512 MiB.
            let matrix = (HEADS * 8192 * 8192 * 4) as u64;
            assert!(long * 64 < matrix, "{long} bytes");
        }
    }
}

/// The definition in f64, row by row.
struct Reference<'a> {
    time: usize,
    window: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    dout: &'a [f32],
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

impl Reference<'_> {
    const SCALE: f64 = 0.353_553_390_593_273_8;

    fn query<'a>(&self, of: &'a [f32], t: usize, head: usize) -> &'a [f32] {
        &of[(t * HEADS + head) * SIZE..][..SIZE]
    }

    fn key<'a>(&self, of: &'a [f32], s: usize) -> &'a [f32] {
        &of[s * SIZE..][..SIZE]
    }

    /// The first key that a query sees, and its weights from there on.
    fn weights(&self, t: usize, head: usize) -> (usize, Vec<f64>) {
        let first = (t + 1).saturating_sub(self.window);
        let q = self.query(self.q, t, head);
        let scores: Vec<f64> = (first..=t).map(|s| Self::SCALE * dot(q, self.key(self.k, s))).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        (first, weights.into_iter().map(|weight| weight / total).collect())
    }

    fn out(&self, t: usize, head: usize) -> [f64; SIZE] {
        let (first, weights) = self.weights(t, head);
        std::array::from_fn(|i| {
            weights.iter().enumerate().map(|(s, p)| p * f64::from(self.key(self.v, first + s)[i])).sum()
        })
    }

    /// The first key that a query sees, its weights, and the gradients of its scores.
    fn score_gradients(&self, t: usize, head: usize) -> (usize, Vec<f64>, Vec<f64>) {
        let (first, weights) = self.weights(t, head);
        let dout = self.query(self.dout, t, head);
        let slopes: Vec<f64> = (first..=t).map(|s| dot(dout, self.key(self.v, s))).collect();
        let delta: f64 = weights.iter().zip(&slopes).map(|(p, slope)| p * slope).sum();
        let gradients = weights.iter().zip(slopes).map(|(p, slope)| p * (slope - delta)).collect();
        (first, weights, gradients)
    }

    fn dq(&self, t: usize, head: usize) -> [f64; SIZE] {
        let (first, _, gradients) = self.score_gradients(t, head);
        std::array::from_fn(|i| {
            let part = |(s, g): (usize, &f64)| Self::SCALE * g * f64::from(self.key(self.k, first + s)[i]);
            gradients.iter().enumerate().map(part).sum()
        })
    }

    /// The gradients of a key and of its value.
    fn dkv(&self, s: usize) -> [[f64; SIZE]; 2] {
        let mut sums = [[0.0; SIZE]; 2];
        for (t, head) in (s..self.time.min(s + self.window)).flat_map(|t| (0..HEADS).map(move |head| (t, head))) {
            let (first, weights, gradients) = self.score_gradients(t, head);
            let (q, dout) = (self.query(self.q, t, head), self.query(self.dout, t, head));
            for i in 0..SIZE {
                sums[0][i] += Self::SCALE * gradients[s - first] * f64::from(q[i]);
                sums[1][i] += weights[s - first] * f64::from(dout[i]);
            }
        }
        sums
    }
}

fn near(what: &str, found: &[f32], wanted: &[f64]) {
    for (found, wanted) in found.iter().zip(wanted) {
        let off = (f64::from(*found) - wanted).abs();
        assert!(off <= 2e-5 * wanted.abs().max(1.0), "{what}: {found}, should be {wanted}");
    }
}

/// On the adapter at full length: rows spread over the sequence against the definition.
fn agrees(time: usize, before: Option<usize>) {
    let device = crate::device();
    let mut session = Session::new(&device, StateLayout::default(), vec![program(time, before, device.profile())])
        .expect("allocates");
    let lengths = [("q", HEADS), ("k", 1), ("v", 1), ("dout", HEADS)];
    let data: Vec<Vec<f32>> =
        lengths.iter().zip(1..).map(|((_, heads), stream)| uniform(0, stream, time * heads * SIZE, 2.0)).collect();
    for ((name, _), values) in lengths.iter().zip(&data) {
        session.write_input(0, name, bytemuck::cast_slice(values)).expect("fits");
    }
    let ticket = session.run(&[0]).expect("runs");
    let results = session.fetch(ticket).expect("comes back");
    let [o, dq, dk, dv] = ["o", "dq", "dk", "dv"].map(|name| results.f32(name).expect("an output"));
    let [q, k, v, dout] = [&data[0][..], &data[1], &data[2], &data[3]];
    let reference = Reference { time, window: before.map_or(time, |before| before + 1), q, k, v, dout };
    for t in [0, 1, 7, 63, 64, time / 2 - 1, time / 2, time - 65, time - 1] {
        for head in 0..HEADS {
            near(&format!("o of query {t}"), reference.query(&o, t, head), &reference.out(t, head));
            near(&format!("dq of query {t}"), reference.query(&dq, t, head), &reference.dq(t, head));
        }
    }
    // What is seen by few queries, so that the definition is quick: late keys, or all of them where there is a window.
    let early = if before.is_some() { [0, time / 2] } else { [time - 33, time - 20] };
    for s in early.into_iter().chain([time - 64, time - 2, time - 1]) {
        let [key, value] = reference.dkv(s);
        near(&format!("dk of key {s}"), reference.key(&dk, s), &key);
        near(&format!("dv of key {s}"), reference.key(&dv, s), &value);
    }
}

#[test]
fn eight_thousand_positions_are_right_forward_and_backward() {
    agrees(8192, None);
}

#[test]
fn a_window_slides_over_eight_thousand_positions() {
    agrees(8192, Some(255));
}
