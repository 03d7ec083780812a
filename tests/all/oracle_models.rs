//! The models of `nn::models` against PyTorch in float64: small ones with the same parameters and batch,
//! trained for 20 steps on the device. `tests/oracle/models.py` has written what they should give.
//!
//! Parameters and batches are not stored: both sides draw them from the generator of
//! `benches/peers/README.md`.

use serde_json::Value as Json;
use std::collections::HashMap;
use wgrad::dtype::DType::{F32, I32};
use wgrad::graph::{Graph, Tensor};
use wgrad::io::HostTensor;
use wgrad::io::safetensors::Weights;
use wgrad::nn::models::{
    Bert, BertConfig, BertInput, BertPretraining, Gpt, GptConfig, Lenet, LenetConfig, Llama, LlamaConfig, LstmLm,
    LstmLmConfig, MobilenetConfig, MobilenetV2, Resnet, ResnetConfig, Shufflenet, ShufflenetConfig, Unet, UnetConfig,
    Vit, VitConfig,
};
use wgrad::nn::{Init, Parameters};
use wgrad::optim::{AdamW, Sgd};
use wgrad::train::workloads::{integers, uniform};
use wgrad::train::{SAME_BATCH, Trainer, TrainerBuilder};

/// Gradients may differ by this part of their norm, and this part of the norm of all of them.
const GRADIENT: (f64, f64) = (1e-4, 1e-6);
/// Products with fixed vectors that are kept of each gradient.
const PROBES: u32 = 4;
const MOMENTUM: f64 = 0.9;
const SGD_DECAY: f64 = 1e-3;

type Loss = Box<dyn for<'g> Fn(&'g Graph) -> Tensor<'g>>;
type Batch = Vec<(&'static str, HostTensor)>;

// ---- what PyTorch gave

struct Golden(Json);

impl Golden {
    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("`{name}` is a number"))
    }

    /// A size of the model's configuration.
    fn size(&self, name: &str) -> usize {
        self.0["config"][name].as_u64().unwrap_or_else(|| panic!("`{name}` is a size")) as usize
    }

    fn sizes<const N: usize>(&self, name: &str) -> [usize; N] {
        let list = numbers(&self.0["config"][name]).into_iter().map(|size| size as usize).collect::<Vec<_>>();
        list.try_into().unwrap_or_else(|list| panic!("`{name}` is {list:?}"))
    }

    fn flag(&self, name: &str) -> bool {
        self.0["config"][name].as_bool().unwrap_or_else(|| panic!("`{name}` is true or false"))
    }

    fn losses(&self) -> Vec<f64> {
        numbers(&self.0["losses"])
    }

    fn parameters(&self) -> &[Json] {
        self.0["parameters"].as_array().expect("a list of parameters")
    }

    /// The parameters' first values; their names and shapes must be those of the model.
    fn start(&self, parameters: &mut Parameters) {
        let mut values = HashMap::new();
        for (ordinal, row) in self.parameters().iter().enumerate() {
            let name = row["name"].as_str().expect("a name");
            let shape: Vec<usize> = numbers(&row["shape"]).into_iter().map(|size| size as usize).collect();
            let spec = parameters.specs().iter().find(|spec| *spec.name == *name);
            let spec = spec.unwrap_or_else(|| panic!("the model has no parameter `{name}`"));
            assert_eq!(spec.shape[..], shape[..], "`{name}`");
            let (offset, bound) = (row["offset"].as_f64().expect("an offset"), row["bound"].as_f64().expect("a bound"));
            let drawn = uniform(0, 100 + ordinal as u32, shape.iter().product(), bound);
            values.insert(name, drawn.into_iter().map(|x| offset as f32 + x).collect::<Vec<f32>>());
        }
        for spec in parameters.trainable() {
            assert!(values.contains_key(&*spec.name), "PyTorch's model has no parameter `{}`", spec.name);
        }
        parameters.init_by(|name, _| values.get(name).map(|values| Init::Values(values.as_slice().into())));
    }

    /// A trainer with the golden's optimizer.
    fn trainer(&self, parameters: Parameters) -> TrainerBuilder {
        let builder = Trainer::builder(parameters).lr(self.number("lr"));
        match self.0["optimizer"].as_str() {
            Some("sgd") => builder.optimizer(Sgd::new().momentum(MOMENTUM).weight_decay(SGD_DECAY)),
            Some("adamw") => builder.optimizer(AdamW::new().weight_decay(0.01)),
            other => panic!("unknown optimizer {other:?}"),
        }
    }

    /// The gradients of the first step, from what the optimizer remembers of it.
    fn check_gradients(&self, first: &Weights, start: &HashMap<String, Vec<f32>>) {
        let sketches: Vec<Vec<f64>> = self.parameters().iter().map(|row| numbers(&row["gradient"])).collect();
        let total = sketches.iter().map(|sketch| sketch[0] * sketch[0]).sum::<f64>().sqrt();
        for (ordinal, (row, wanted)) in self.parameters().iter().zip(sketches).enumerate() {
            let name = row["name"].as_str().expect("a name");
            let slot = |slot: &str| first.get(&format!("{slot}/{name}")).and_then(|tensor| tensor.to_f32());
            let gradient: Vec<f64> = match (slot("sgd.velocity"), slot("adamw.m")) {
                (Some(v), _) => {
                    v.iter().zip(&start[name]).map(|(v, w)| f64::from(*v) - SGD_DECAY * f64::from(*w)).collect()
                }
                (_, Some(m)) => m.into_iter().map(|m| f64::from(m) / (1.0 - 0.9)).collect(),
                _ => panic!("the checkpoint has no gradient of `{name}`"),
            };
            let allowed = GRADIENT.0 * wanted[0] + GRADIENT.1 * total;
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!((norm - wanted[0]).abs() <= allowed, "gradient of `{name}`: norm {norm}, should be {}", wanted[0]);
            for (probe, wanted) in wanted[1..].iter().enumerate() {
                let fixed = uniform(0, 10_000 + PROBES * ordinal as u32 + probe as u32, gradient.len(), 1.0);
                let product: f64 = gradient.iter().zip(fixed).map(|(g, f)| g * f64::from(f)).sum();
                let off = (product - wanted).abs();
                assert!(off <= allowed, "gradient of `{name}`: product {probe} is {product}, should be {wanted}");
            }
        }
    }
}

fn numbers(list: &Json) -> Vec<f64> {
    list.as_array().expect("a list").iter().filter_map(Json::as_f64).collect()
}

/// Trains on one batch for as many steps as the golden has losses, or `steps`, and evaluates after that.
fn agrees(golden: &Golden, mut parameters: Parameters, loss: Loss, batch: Batch, steps: Option<usize>) {
    golden.start(&mut parameters);
    let start = (0..parameters.specs().len())
        .map(|i| (parameters.specs()[i].name.to_string(), parameters.initial_values(i, 0).expect("values")))
        .collect();
    let mut trainer = golden.trainer(parameters).build(&crate::device(), loss).expect("compiles");
    let close = |what: &str, got: f32, want: f64| {
        let off = (f64::from(got) - want).abs();
        assert!(off <= 1e-4 * want.abs(), "{what}: {got}, should be {want}");
    };
    for (step, want) in golden.losses().into_iter().enumerate().take(steps.unwrap_or(usize::MAX)) {
        let report = if step == 0 { trainer.step(&batch) } else { trainer.step(SAME_BATCH) };
        close(&format!("step {}", step + 1), report.expect("trains").loss, want);
        if step == 0 {
            golden.check_gradients(&trainer.checkpoint().expect("reads back"), &start);
        }
    }
    if steps.is_none() {
        close("evaluated", trainer.evaluate(&batch).expect("evaluates"), golden.number("loss_after"));
    }
}

// ---- batches

fn text(samples: usize, time: usize, vocabulary: usize) -> Batch {
    let z = classes(1, samples * (time + 1), vocabulary);
    let columns = |first: usize| {
        let rows = z.chunks_exact(time + 1).flat_map(|row| &row[first..first + time]);
        HostTensor::i32([samples, time], &rows.copied().collect::<Vec<_>>()).expect("a column a position")
    };
    vec![("tokens", columns(0)), ("targets", columns(1))]
}

fn images(samples: usize, channels: usize, size: usize, kinds: usize) -> Batch {
    let shape = [samples, channels, size, size];
    let x = uniform(0, 1, shape.iter().product(), f64::sqrt(3.0));
    let y = classes(2, samples, kinds);
    vec![("x", HostTensor::f32(shape, &x).expect("an image")), ("y", HostTensor::i32([samples], &y).expect("a label"))]
}

fn classes(stream: u32, count: usize, kinds: usize) -> Vec<i32> {
    integers(0, stream, count).into_iter().map(|h| (h as usize % kinds) as i32).collect()
}

/// Sample `i` ends with `i` positions of padding; a quarter of the others has to be guessed.
fn bert_batch(samples: usize, time: usize, vocabulary: usize) -> Batch {
    let (mut mask, mut types, mut targets) = (Vec::new(), Vec::new(), classes(4, samples * time, vocabulary));
    for (at, hash) in integers(0, 3, samples * time).into_iter().enumerate() {
        let (sample, place) = (at / time, at % time);
        mask.push(i32::from(place < time - sample));
        types.push(i32::from(place >= time / 2));
        if hash % 4 != 0 || mask[at] == 0 {
            targets[at] = -100;
        }
    }
    let grid = |values: &[i32]| HostTensor::i32([samples, time], values).expect("a value a position");
    let next = HostTensor::i32([samples], &classes(2, samples, 2)).expect("a label");
    let tokens = classes(1, samples * time, vocabulary);
    let grids = [("tokens", &tokens), ("types", &types), ("mask", &mask), ("targets", &targets)];
    grids.into_iter().map(|(name, values)| (name, grid(values))).chain([("next", next)]).collect()
}

/// The mean cross-entropy of a language model's predictions.
fn predict(samples: usize, time: usize, model: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + 'static) -> Loss {
    Box::new(move |graph| {
        let input = |name| graph.input(name, [samples, time], I32);
        model(input("tokens")).cross_entropy(input("targets"))
    })
}

/// The mean cross-entropy of a classifier of images.
fn classify(shape: [usize; 4], model: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g> + 'static) -> Loss {
    Box::new(move |graph| model(graph.input("x", shape, F32)).cross_entropy(graph.input("y", [shape[0]], I32)))
}

macro_rules! golden {
    ($name:literal) => {
        Golden(serde_json::from_str(include_str!(concat!("../oracle/models/", $name, ".json"))).expect("JSON"))
    };
}

// ---- the models

#[test]
fn gpt_agrees_with_pytorch() {
    let golden = golden!("gpt");
    let [vocabulary, context, layers, heads, width] =
        ["vocabulary", "context", "layers", "heads", "width"].map(|name| golden.size(name));
    let mut parameters = Parameters::new();
    let config = GptConfig { vocabulary, context, layers, heads, width, dropout: 0.0, tied: true };
    let model = Gpt::new(&mut parameters, config);
    let loss = predict(4, 11, move |tokens| model.forward(tokens));
    agrees(&golden, parameters, loss, text(4, 11, vocabulary), None);
}

#[test]
fn bert_agrees_with_pytorch() {
    let golden = golden!("bert");
    let [vocabulary, positions, token_types, layers, heads, width, hidden] =
        ["vocabulary", "positions", "token_types", "layers", "heads", "width", "hidden"].map(|name| golden.size(name));
    let mut parameters = Parameters::new();
    let config = BertConfig {
        vocabulary,
        positions,
        token_types,
        layers,
        heads,
        width,
        hidden,
        dropout: 0.0,
        attention_dropout: 0.0,
    };
    let model = BertPretraining::new(&mut parameters, config);
    let loss: Loss = Box::new(move |graph| {
        let input = |name| graph.input(name, [4, 12], I32);
        let (types, mask) = (Some(input("types")), Some(input("mask").ne(0)));
        let (words, follows) = model.forward(BertInput { tokens: input("tokens"), types, mask });
        words.cross_entropy_ignoring(input("targets"), -100) + follows.cross_entropy(graph.input("next", [4], I32))
    });
    agrees(&golden, parameters, loss, bert_batch(4, 12, vocabulary), None);
}

#[test]
fn a_mask_without_padding_changes_nothing() {
    let (mut parameters, config) = (Parameters::new(), BertConfig { layers: 2, width: 24, ..BertConfig::base() });
    let model = Bert::new(&mut parameters, BertConfig { vocabulary: 9, hidden: 32, heads: 3, dropout: 0.0, ..config });
    let loss: Loss = Box::new(move |graph| {
        let (tokens, mask) = (graph.input("tokens", [2, 5], I32), graph.input("mask", [2, 5], I32));
        let bare = model.forward(BertInput { tokens, types: None, mask: None });
        let types = Some(tokens.zeros_like());
        let masked = model.forward(BertInput { tokens, types, mask: Some(mask.ne(0)) });
        (bare - masked).abs().max(&[0, 1, 2])
    });
    let mut trainer = Trainer::builder(parameters).build(&crate::device(), loss).expect("compiles");
    let ones = HostTensor::i32([2, 5], &[1; 10]).expect("10 values");
    let tokens = HostTensor::i32([2, 5], &classes(1, 10, 9)).expect("10 tokens");
    let off = trainer.evaluate(&[("tokens", &tokens), ("mask", &ones)]).expect("evaluates");
    assert!(off < 1e-5, "differs by {off}");
}

#[test]
fn llama_agrees_with_pytorch() {
    let golden = golden!("llama");
    let [vocabulary, layers, heads, key_heads, width, hidden] =
        ["vocabulary", "layers", "heads", "key_heads", "width", "hidden"].map(|name| golden.size(name));
    let mut parameters = Parameters::new();
    let config =
        LlamaConfig { vocabulary, layers, heads, key_heads, width, hidden, tied: false, ..LlamaConfig::llama2_7b() };
    let model = Llama::new(&mut parameters, config);
    let loss = predict(3, 13, move |tokens| model.forward(tokens));
    agrees(&golden, parameters, loss, text(3, 13, vocabulary), None);
}

#[test]
fn vit_agrees_with_pytorch() {
    let golden = golden!("vit");
    let [image, patch, channels, classes, layers, heads, width, hidden] =
        ["image", "patch", "channels", "classes", "layers", "heads", "width", "hidden"].map(|name| golden.size(name));
    let mut parameters = Parameters::new();
    let config = VitConfig { image, patch, channels, classes, layers, heads, width, hidden, dropout: 0.0 };
    let model = Vit::new(&mut parameters, config);
    let loss = classify([4, channels, image, image], move |x| model.forward(x));
    agrees(&golden, parameters, loss, images(4, channels, image, classes), None);
}

#[test]
fn lstm_lm_agrees_with_pytorch() {
    let golden = golden!("lstm_lm");
    let [vocabulary, width, hidden, layers] = ["vocabulary", "width", "hidden", "layers"].map(|name| golden.size(name));
    let mut parameters = Parameters::new();
    let config = LstmLmConfig { vocabulary, width, hidden, layers, dropout: 0.0 };
    let model = LstmLm::new(&mut parameters, config);
    let loss = predict(4, 9, move |tokens| model.forward(tokens, None).0);
    agrees(&golden, parameters, loss, text(4, 9, vocabulary), None);
}

#[test]
fn lenet_agrees_with_pytorch() {
    let golden = golden!("lenet");
    let mut parameters = Parameters::new();
    let model = Lenet::new(&mut parameters, LenetConfig::digits());
    let loss = classify([4, 1, 28, 28], move |x| model.forward(x));
    agrees(&golden, parameters, loss, images(4, 1, 28, 10), None);
}

fn resnet(golden: &Golden, size: usize) {
    let config = ResnetConfig {
        blocks: golden.sizes("blocks"),
        bottleneck: golden.flag("bottleneck"),
        width: golden.size("width"),
        channels: golden.size("channels"),
        classes: golden.size("classes"),
        small_images: golden.flag("small_images"),
    };
    let mut parameters = Parameters::new();
    let model = Resnet::new(&mut parameters, config);
    let loss = classify([4, config.channels, size, size], move |x| model.forward(x));
    agrees(golden, parameters, loss, images(4, config.channels, size, config.classes), None);
}

#[test]
fn resnet18_agrees_with_pytorch() {
    resnet(&golden!("resnet18"), 16);
}

#[test]
fn bottlenecks_and_the_entrance_for_large_images_agree_with_pytorch() {
    resnet(&golden!("resnet_bottleneck"), 33);
}

/// Rounding grows so fast here that PyTorch's own f32 leaves its f64 by a fifth within 20 steps.
#[test]
fn mobilenet_agrees_with_pytorch_in_its_first_step() {
    let golden = golden!("mobilenet_v2");
    let [channels, classes, features] = ["channels", "classes", "features"].map(|name| golden.size(name));
    let (width, small_images) = (0.25, golden.flag("small_images"));
    let mut parameters = Parameters::new();
    let config = MobilenetConfig { width, channels, classes, features, small_images, dropout: 0.0 };
    let model = MobilenetV2::new(&mut parameters, config);
    let loss = classify([4, channels, 33, 33], move |x| model.forward(x));
    agrees(&golden, parameters, loss, images(4, channels, 33, classes), Some(1));
}

#[test]
fn shufflenet_agrees_with_pytorch() {
    let golden = golden!("shufflenet");
    let [groups, stem, channels, classes] = ["groups", "stem", "channels", "classes"].map(|name| golden.size(name));
    let (widths, units, small_images) = (golden.sizes("widths"), golden.sizes("units"), golden.flag("small_images"));
    let mut parameters = Parameters::new();
    let config = ShufflenetConfig { groups, stem, widths, units, channels, classes, small_images };
    let model = Shufflenet::new(&mut parameters, config);
    let loss = classify([4, channels, 16, 16], move |x| model.forward(x));
    agrees(&golden, parameters, loss, images(4, channels, 16, classes), None);
}

#[test]
fn unet_agrees_with_pytorch() {
    let golden = golden!("unet");
    let [channels, kinds, width, depth] = ["channels", "classes", "width", "depth"].map(|name| golden.size(name));
    let mut parameters = Parameters::new();
    let model = Unet::new(&mut parameters, UnetConfig { channels, classes: kinds, width, depth });
    let loss: Loss = Box::new(move |graph| {
        let logits = model.forward(graph.input("x", [2, channels, 16, 16], F32));
        logits.permute(&[0, 2, 3, 1]).cross_entropy(graph.input("y", [2, 16, 16], I32))
    });
    let x = uniform(0, 1, 2 * channels * 16 * 16, f64::sqrt(3.0));
    let y = classes(2, 2 * 16 * 16, kinds);
    let x = HostTensor::f32([2, channels, 16, 16], &x).expect("images");
    let y = HostTensor::i32([2, 16, 16], &y).expect("a class a pixel");
    agrees(&golden, parameters, loss, vec![("x", x), ("y", y)], None);
}
