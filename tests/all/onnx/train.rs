//! An imported network is trained: SqueezeNet 1.1 as it lies in the `onnx` package, without its weights, which that
//! package replaced by constants; they are drawn anew. The images are smaller than those it was made for.

use super::cases;
use std::collections::HashMap;
use wgrad::autodiff;
use wgrad::dtype::DType;
use wgrad::graph::{Graph, Tensor, TensorType};
use wgrad::io::HostTensor;
use wgrad::io::onnx::{Model, Trainable};
use wgrad::nn::{Init, Parameters};
use wgrad::optim::Sgd;
use wgrad::random::Stream;
use wgrad::reference::{Array, eval};
use wgrad::train::Trainer;

const BATCH: usize = 4;
const SIDE: usize = 32;

/// The network with its parameters, if the package's files are there.
fn squeezenet() -> Option<(Parameters, Trainable)> {
    let path = cases::folder()?.join("light/light_squeezenet.onnx");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let model = Model::parse(&bytes).expect("a model").any_sizes();
    let mut parameters = Parameters::new();
    let inputs = [("data_0", TensorType::new([BATCH, 3, SIDE, SIDE], DType::F32))];
    let net = Trainable::new(&mut parameters, model, &inputs, &[]).expect("every operator is there");
    // He's initialisation by the number of inputs of a filter.
    parameters.init_by(|_, shape| {
        let inputs: usize = shape.iter().skip(1).product();
        Some(if shape.rank() > 1 { Init::Normal((2.0 / inputs as f32).sqrt()) } else { Init::Zeros })
    });
    Some((parameters, net))
}

/// Mean of minus the logarithm of the class's probability; the network ends in a softmax.
fn loss<'g>(net: &Trainable, graph: &'g Graph) -> Tensor<'g> {
    let image = graph.input("image", [BATCH, 3, SIDE, SIDE], DType::F32);
    let class = graph.input("class", [BATCH], DType::I32);
    let probability = net.first(graph, &[("data_0", image)]).reshape([BATCH, 1000]);
    let place = graph.iota([BATCH], 0) * 1000 + class;
    -(probability.reshape([BATCH * 1000]).gather(place).log().mean_all())
}

fn images() -> Vec<f32> {
    Stream::new(3, 0).uniform(BATCH * 3 * SIDE * SIDE, -1.0, 1.0)
}

const CLASSES: [i32; BATCH] = [1, 300, 555, 999];

#[test]
fn an_imported_network_is_fine_tuned() {
    let Some((parameters, net)) = squeezenet() else { return };
    assert_eq!(parameters.count(), 1_235_496, "SqueezeNet 1.1");
    let device = crate::device();
    let shared = net.clone();
    let builder = Trainer::builder(parameters).optimizer(Sgd::new().momentum(0.9)).lr(0.01).clip(1.0);
    let mut trainer = builder.build(&device, move |graph: &Graph| loss(&shared, graph)).expect("compiles");
    let batch = [
        ("image", HostTensor::f32([BATCH, 3, SIDE, SIDE], &images()).expect("an image")),
        ("class", HostTensor::i32([BATCH], &CLASSES).expect("classes")),
    ];
    let losses: Vec<f32> = (0..12).map(|_| trainer.step(&batch).expect("a step").loss).collect();
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    assert!(losses[11] < 0.8 * losses[0], "the loss does not fall: {losses:?}");
}

#[test]
fn gradients_of_an_imported_network_are_slopes() {
    let Some((parameters, net)) = squeezenet() else { return };
    let graph = Graph::new();
    let loss = loss(&net, &graph);
    let specs: Vec<_> = parameters.trainable().collect();
    // The first filter, one in the middle, the last, and a bias.
    let chosen: Vec<usize> = [0, specs.len() / 2, specs.len() - 1, 1].to_vec();
    let weights: Vec<Tensor<'_>> =
        chosen.iter().map(|&i| graph.state(&specs[i].name, &specs[i].shape, DType::F32)).collect();
    let gradients = autodiff::grad(loss, &weights).expect("differentiable");
    let mut states: HashMap<String, Array> = HashMap::new();
    for (ordinal, spec) in parameters.specs().iter().enumerate() {
        let values = parameters.initial_values(ordinal, 5).expect("values");
        states.insert(spec.name.to_string(), Array::floats(&spec.shape, &values));
    }
    let classes = Array::ints([BATCH], &CLASSES);
    let feeds: HashMap<String, Array> =
        [("image".to_string(), Array::floats([BATCH, 3, SIDE, SIDE], &images())), ("class".to_string(), classes)]
            .into();
    let values: Vec<_> = gradients.iter().map(|gradient| gradient.value()).collect();
    let exact = eval(&graph, &values, &feeds, &states).expect("evaluates");
    let at =
        |states: &HashMap<String, Array>| eval(&graph, &[loss.value()], &feeds, states).expect("evaluates")[0].data[0];
    for (&index, gradient) in chosen.iter().zip(&exact) {
        let name = specs[index].name.to_string();
        let element =
            gradient.data.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).map_or(0, |(i, _)| i);
        let step = 1e-5;
        let mut moved = |by: f64| {
            if let Some(array) = states.get_mut(&name) {
                array.data[element] += by;
            }
            at(&states)
        };
        let slope = (moved(step) - moved(-2.0 * step)) / (2.0 * step);
        moved(step);
        let want = gradient.data[element];
        assert!((slope - want).abs() <= 1e-7 + 1e-3 * want.abs(), "{name}[{element}]: {want}, slope {slope}");
    }
}
