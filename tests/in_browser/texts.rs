//! Every distinct kernel that a browser may be given: of the rows, the models, the standard workloads and whole training
//! setups, for a GPU and for a software adapter with and without subgroups.

use super::ops::{all_rows, harness::trace_all};
use super::{CLASSES, SUBGROUP, models};
use js_sys::Array;
use std::collections::BTreeMap;
use wasm_bindgen::prelude::*;
use wgrad::dtype::DType;
use wgrad::error::{Error, Result};
use wgrad::graph::{Graph, TensorType};
use wgrad::kernels::{AdapterClass, Profile};
use wgrad::lower::{Recompute, lower};
use wgrad::nn::models::{Cnn, CnnConfig, Gpt, GptConfig};
use wgrad::nn::{Augment, Parameters};
use wgrad::optim::{Adadelta, Adafactor, Adagrad, Adam, AdamW, AdamW8bit, Ema, Lion, Muon, RmsProp, Sgd};
use wgrad::program::{Category, Program, StateLayout, StateSpec};
use wgrad::train::workloads::{Workload, outline};
use wgrad::train::{Precision, Trainer, TrainerBuilder, trace_decode};

/// Says what could not be compiled.
fn named<T>(whose: &str, outcome: Result<T>) -> Result<T> {
    outcome.map_err(|error| Error::config(format!("{whose}: {error}")))
}

/// Kernels by their texts: a name and the first that needs each.
#[derive(Default)]
struct Texts(BTreeMap<String, String>);

impl Texts {
    fn add(&mut self, whose: &str, program: &Program) {
        for kernel in &program.kernels {
            let enable = if kernel.subgroups { "enable subgroups;\n" } else { "" };
            let text = format!("{enable}{}", kernel.wgsl);
            self.0.entry(text).or_insert_with(|| format!("{} of {whose}", kernel.name));
        }
    }

    fn add_rows(&mut self, profile: &Profile) -> Result<()> {
        for (name, samples) in all_rows() {
            let graph = Graph::new();
            trace_all(name, &samples, &graph);
            self.add(name, &named(name, lower(name, &graph, &StateLayout::default(), profile))?);
        }
        Ok(())
    }

    fn add_models(&mut self, profile: &Profile) -> Result<()> {
        let traced = [
            ("mlp", models::mlp(128)),
            ("cnn", models::cnn(6)),
            ("gpt", models::gpt(2, 64, 64, 2, 4, 256)),
            ("odd gpt", models::gpt(1, 7, 6, 1, 2, 10)),
        ];
        for (name, traced) in &traced {
            self.add(name, &named(name, lower("step", &traced.graph, &models::layout(&traced.specs), profile))?);
        }
        Ok(())
    }

    fn add_training(&mut self, profile: &Profile) -> Result<()> {
        type Change = fn(TrainerBuilder) -> TrainerBuilder;
        let ways: [(&str, Change); 7] = [
            ("as it is", |trainer| trainer),
            ("clipped, in micro-batches", |trainer| trainer.clip(1.0).accumulate(2)),
            ("watched", TrainerBuilder::watched),
            ("in f16", |trainer| trainer.precision(Precision::F16)),
            ("in bf16", |trainer| trainer.precision(Precision::BF16)),
            ("activations in f16", |trainer| trainer.save_activations(DType::F16)),
            ("computed twice", |trainer| trainer.recompute(Recompute::Within(0))),
        ];
        for workload in [Workload::W2, Workload::W3, Workload::W4] {
            for (way, change) in ways {
                let (trainer, loss) = outline(workload)?;
                let plan = named(way, change(trainer).plan(profile, loss))?;
                plan.programs.iter().for_each(|program| self.add(&format!("{workload} {way}"), program));
            }
        }
        Ok(())
    }

    fn add_optimizers(&mut self, profile: &Profile) -> Result<()> {
        let rules: [fn(TrainerBuilder) -> TrainerBuilder; 14] = [
            |trainer| trainer.optimizer(Sgd::new().momentum(0.9)),
            |trainer| trainer.optimizer(Adam::new()),
            |trainer| trainer.optimizer(AdamW::new()),
            |trainer| trainer.optimizer(AdamW8bit::new()),
            |trainer| trainer.optimizer(Adafactor::new()),
            |trainer| trainer.optimizer(Adagrad::new()),
            |trainer| trainer.optimizer(Lion::new()),
            // Muon is for matrices alone.
            |trainer| trainer.optimizer(AdamW::new()).optimizer_of("matrices", Muon::new()),
            |trainer| trainer.optimizer(RmsProp::new()),
            |trainer| trainer.optimizer(RmsProp::new().centered().momentum(0.9)),
            |trainer| trainer.optimizer(Adadelta::new()),
            |trainer| trainer.optimizer(Adam::new().amsgrad()),
            |trainer| trainer.optimizer(AdamW::new().amsgrad()),
            |trainer| trainer.optimizer(AdamW::new()).ema(Ema::new(0.9).warm_up()),
        ];
        let changed = Augment { shift: 0.1, rotate: 10.0, scale: 0.1, ..Augment::default() };
        for rule in rules {
            let mut parameters = Parameters::new();
            let config = CnnConfig { picture: [1, 8, 8], channels: vec![4, 6], hidden: 10, classes: 3 };
            let model = Cnn::new(&mut parameters, &config);
            parameters.group_by("matrices", |_, shape| shape.rank() == 2);
            let plan = rule(Trainer::builder(parameters)).plan(profile, |graph| {
                let x = changed.forward(graph.input("x", [5, 1, 8, 8], DType::U8), 255.0);
                model.forward(x).cross_entropy(graph.input("y", [5], DType::I32))
            })?;
            plan.programs.iter().for_each(|program| self.add("an optimizer", program));
        }
        Ok(())
    }

    /// What continues a text, token by token.
    fn add_decoding(&mut self, profile: &Profile) -> Result<()> {
        for width in [6, 64] {
            let mut parameters = Parameters::new();
            let (layers, heads, vocabulary, context, dropout) = (1, 2, 256, 48, 0.0);
            let config = GptConfig { vocabulary, context, layers, heads, width, dropout, tied: true };
            let gpt = Gpt::new(&mut parameters, config);
            let weights = parameters.specs().iter().map(|spec| (spec.name.to_string(), spec.shape.clone()));
            let spec = |(name, shape): (String, wgrad::shape::Shape)| {
                let (ty, group) = (TensorType::new(shape, DType::F32), name.clone());
                StateSpec { name, ty, category: Category::Weights, group }
            };
            let specs: Vec<StateSpec> = weights.chain(gpt.cache()).map(spec).collect();
            let layout = StateLayout::build(&specs, profile.max_binding_bytes)?;
            self.add("decoding", &named("decoding", lower("decode", &trace_decode(&gpt)?, &layout, profile))?);
        }
        Ok(())
    }
}

/// Pairs of a name and a text.
#[wasm_bindgen]
pub fn kernels() -> std::result::Result<Array, JsError> {
    let mut texts = Texts::default();
    let (without, with) = (CLASSES.map(|class| (class, None)), [(AdapterClass::Cpu, Some(SUBGROUP))]);
    for (class, subgroup) in without.into_iter().chain(with) {
        let profile = Profile { class, subgroup, ..Profile::baseline() };
        texts.add_rows(&profile)?;
        texts.add_models(&profile)?;
        texts.add_training(&profile)?;
        texts.add_optimizers(&profile)?;
        texts.add_decoding(&profile)?;
    }
    let pair = |(text, name): (String, String)| Array::of2(&name.into(), &text.into());
    Ok(texts.0.into_iter().map(pair).collect())
}
