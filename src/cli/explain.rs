//! `wgrad explain`: how a model becomes GPU work, stage by stage.

use super::args::{ExplainArgs, ExplainModel, Limits, Stage};
use super::format::memory;
use super::print;
use crate::dtype::DType;
use crate::error::{ErrorKind, Result};
use crate::gpu::Device;
use crate::lower::Recompute;
use crate::nn::Parameters;
use crate::nn::models::{Gpt, GptConfig, Mlp};
use crate::optim::Sgd;
use crate::passes;
use crate::train::char_gpt;
use crate::train::config::{Config, TaskKind};
use crate::train::task::{Loss, Model, Task};
use crate::train::workloads::{Workload, outline};
use crate::train::{Trainer, TrainerBuilder};
use std::process::ExitCode;

/// Runs the command.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode> {
    let (trainer, loss) = model(args.model)?;
    let trainer = trainer.precision(args.precision.unwrap_or_default());
    let trainer = if args.recompute { trainer.recompute(Recompute::Auto) } else { trainer };
    let [micro, update, forward] = trainer.trace(&*loss)?;
    let wants = |stage| args.stage.is_none_or(|only| only == stage);
    if wants(Stage::Graph) {
        print(&format!("==== graph: the forward pass\n{}\n", forward.to_text()))?;
    }
    if wants(Stage::Gradients) {
        print(&format!("==== gradients: the micro-step\n{}\n", micro.to_text()))?;
        print(&format!("==== gradients: the update\n{}\n", update.to_text()))?;
    }
    if wants(Stage::Passes) {
        let names: Vec<&str> = passes::PASSES.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        print(&format!("==== passes ({names}): the micro-step\n{}\n", passes::run(&micro)?.to_text()))?;
        print(&format!("==== passes ({names}): the update\n{}\n", passes::run(&update)?.to_text()))?;
    }
    if wants(Stage::Program) {
        program(args, &trainer, &loss)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The programs for the chosen adapter; without one, for the limits that every browser grants.
fn program(args: &ExplainArgs, trainer: &TrainerBuilder, loss: &Loss) -> Result<()> {
    let choice = args.adapter.choice();
    let assumed = |limits: Limits| (limits.name().to_string(), limits.profile());
    let (name, profile) = match args.limits.map(assumed) {
        Some(assumed) => assumed,
        None => match Device::open(choice.as_deref()) {
            Ok(device) => (device.name().to_string(), device.profile().clone()),
            Err(error) if choice.is_none() && matches!(error.kind(), ErrorKind::NoAdapter(_)) => {
                assumed(Limits::Webgpu)
            }
            Err(error) => return Err(error),
        },
    };
    let plan = trainer.plan(&profile, loss)?;
    print(&format!("==== programs for {name} ({})\n", profile.tier()))?;
    for program in &plan.programs {
        print(&format!("{}\n", program.to_text()))?;
    }
    let step: usize = plan.programs.iter().take(2).map(crate::program::Program::dispatches).sum();
    print(&format!("a step takes {step} dispatches; memory: {}\n", memory(&plan.memory)))
}

pub(super) fn model(model: ExplainModel) -> Result<(TrainerBuilder, Loss)> {
    match model {
        ExplainModel::Gpt => {
            let config = Config::default();
            let (trainer, gpt) = char_gpt::trainer(&config);
            Ok((trainer, Box::new(move |graph| char_gpt::loss(&gpt, config.train.micro_batch(), graph))))
        }
        ExplainModel::Digits => {
            let Model { trainer, loss } = Task::new(&Config::for_task(TaskKind::Digits))?.model;
            Ok((trainer, loss))
        }
        ExplainModel::Mlp => {
            let mut parameters = Parameters::new();
            let mlp = Mlp::new(&mut parameters, &[4, 8, 3]);
            let loss: Loss = Box::new(move |graph| {
                let (x, y) = (graph.input("x", [16, 4], DType::F32), graph.input("y", [16], DType::I32));
                mlp.forward(x).cross_entropy(y)
            });
            Ok((Trainer::builder(parameters).optimizer(Sgd::new().momentum(0.9)).lr(0.1), loss))
        }
        ExplainModel::W2 => outline(Workload::W2),
        ExplainModel::W3 => outline(Workload::W3),
        ExplainModel::W4 => outline(Workload::W4),
        ExplainModel::W5 => outline(Workload::W5),
        ExplainModel::Gpt2Medium => {
            let mut parameters = Parameters::new();
            let config = GptConfig { layers: 24, heads: 16, width: 1024, ..GptConfig::gpt2() };
            let gpt = Gpt::new(&mut parameters, config);
            Ok((Trainer::builder(parameters), Box::new(move |graph| char_gpt::loss(&gpt, 1, graph))))
        }
    }
}
