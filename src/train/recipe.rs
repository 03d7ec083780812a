//! From a configuration to how parameters are trained: update rules, groups, schedule, clipping, precision.
//!
//! What all tasks have in common; models are not its affair. Read before: `config/rules.rs`.

use super::config::{
    Config, OptimizerConfig, OptimizerKind, Recompute as Twice, Schedule as ScheduleKind, TrainConfig,
};
use super::trainer::{Trainer, TrainerBuilder};
use crate::lower::Recompute;
use crate::nn::Parameters;
use crate::optim::{
    Adadelta, Adafactor, Adagrad, Adam, AdamW, AdamW8bit, AdjustLr, Ema, Lion, Muon, Optimizer, Plateau, RmsProp,
    Schedule, Sgd,
};
use crate::shape::Shape;

/// The group of gains and biases, which do not decay.
const NO_DECAY: &str = "no_decay";
/// The group that Muon updates.
const MATRICES: &str = "matrices";

/// How a configuration trains these parameters; `adamw` has the task's own betas.
pub fn builder(config: &Config, mut parameters: Parameters, adamw: AdamW) -> TrainerBuilder {
    let train = &config.train;
    parameters.group_by(NO_DECAY, |_, shape| shape.rank() < 2).weight_decay(0.0);
    let muon = train.optimizer == OptimizerKind::Muon;
    if muon {
        parameters.group_by(MATRICES, is_inner_matrix);
    }
    let builder = Trainer::builder(parameters).lr(schedule(config)).seed(train.seed);
    let builder = builder.accumulate(train.accumulate).precision(train.precision);
    let builder = match muon {
        true => builder.optimizer(adamw.weight_decay(train.weight_decay)).optimizer_of(MATRICES, rule(config, adamw)),
        false => builder.optimizer(rule(config, adamw)),
    };
    let builder = match plateau(config) {
        Some(plateau) => builder.plateau(plateau),
        None => builder,
    };
    let builder = match train.ema {
        0.0 => builder,
        decay => builder.ema(Ema { decay, warm_up: train.ema_warmup }),
    };
    let builder = if train.recompute == Twice::Auto { builder.recompute(Recompute::Auto) } else { builder };
    let builder = match config.device.memory {
        // What activations are saved in stays as it was asked for: a run is what its configuration says.
        Some(budget) => builder.memory(budget).save_activations(train.precision.dtype()),
        None => builder,
    };
    let builder = builder.norms(train.norms_every > 0);
    // The norm is wanted in any case: it tells whether the gradients are finite.
    builder.clip(if train.clip > 0.0 { train.clip } else { f64::INFINITY })
}

/// The matrices of numbered blocks: neither embeddings nor what makes the answer.
fn is_inner_matrix(name: &str, shape: &Shape) -> bool {
    shape.rank() == 2 && name.starts_with("block.")
}

/// The chosen update rule with its options; where none is given, with its own.
fn rule(config: &Config, adamw: AdamW) -> Box<dyn Optimizer> {
    let (own, weight_decay) = (&config.optimizer, config.train.weight_decay);
    let momentum = own.momentum.unwrap_or(0.0);
    let eps = |usual: f64| own.eps.unwrap_or(usual);
    let adamw = with_options(own, weight_decay, adamw);
    match config.train.optimizer {
        OptimizerKind::AdamW => Box::new(adamw),
        OptimizerKind::AdamW8bit => Box::new(AdamW8bit { rule: adamw, ..AdamW8bit::new() }),
        OptimizerKind::Adam => {
            let AdamW { beta1, beta2, eps, weight_decay, amsgrad } = adamw;
            Box::new(Adam { beta1, beta2, eps, weight_decay, amsgrad })
        }
        OptimizerKind::Sgd => {
            let (dampening, nesterov) = (own.dampening.unwrap_or(0.0), own.nesterov.unwrap_or(false));
            Box::new(Sgd { momentum, dampening, nesterov, weight_decay })
        }
        OptimizerKind::RmsProp => {
            let usual = RmsProp::new();
            let (alpha, centered) = (own.alpha.unwrap_or(usual.alpha), own.centered.unwrap_or(false));
            Box::new(RmsProp { alpha, eps: eps(usual.eps), momentum, centered, weight_decay })
        }
        OptimizerKind::Adagrad => {
            let usual = Adagrad::new();
            let lr_decay = own.lr_decay.unwrap_or(usual.lr_decay);
            let initial_accumulator_value = own.initial_accumulator_value.unwrap_or(usual.initial_accumulator_value);
            Box::new(Adagrad { lr_decay, initial_accumulator_value, eps: eps(usual.eps), weight_decay })
        }
        OptimizerKind::Adadelta => {
            let usual = Adadelta::new();
            Box::new(Adadelta { rho: own.rho.unwrap_or(usual.rho), eps: eps(usual.eps), weight_decay })
        }
        OptimizerKind::Adafactor => {
            let usual = Adafactor::new();
            let (beta2_decay, d) = (own.beta2_decay.unwrap_or(usual.beta2_decay), own.d.unwrap_or(usual.d));
            let (eps1, eps2) = (own.eps1.unwrap_or(usual.eps1), own.eps2.unwrap_or(usual.eps2));
            Box::new(Adafactor { beta2_decay, eps1, eps2, d, weight_decay })
        }
        OptimizerKind::Lion => {
            let usual = Lion::new();
            let (beta1, beta2) = (own.beta1.unwrap_or(usual.beta1), own.beta2.unwrap_or(usual.beta2));
            Box::new(Lion { beta1, beta2, weight_decay })
        }
        OptimizerKind::Muon => {
            let usual = Muon::new();
            Box::new(Muon {
                momentum: own.momentum.unwrap_or(usual.momentum),
                nesterov: own.nesterov.unwrap_or(usual.nesterov),
                ns_steps: own.ns_steps.unwrap_or(usual.ns_steps),
                // One learning rate is for both rules.
                adjust_lr: own.adjust_lr_fn.unwrap_or(AdjustLr::MatchRmsAdamW),
                eps: eps(usual.eps),
                weight_decay,
                ..usual
            })
        }
    }
}

/// AdamW, whose options Adam and AdamW with moments of eight bits share.
fn with_options(own: &OptimizerConfig, weight_decay: f64, usual: AdamW) -> AdamW {
    AdamW {
        beta1: own.beta1.unwrap_or(usual.beta1),
        beta2: own.beta2.unwrap_or(usual.beta2),
        eps: own.eps.unwrap_or(usual.eps),
        weight_decay,
        amsgrad: own.amsgrad.unwrap_or(usual.amsgrad),
    }
}

/// The learning rate of each step, apart from what a plateau changes. Where no lowest rate is given it is a tenth of the
/// highest; restarts make four periods, and the stable schedule goes down in the last fifth of its steps.
pub fn schedule(config: &Config) -> Schedule {
    let (train, own) = (&config.train, &config.schedule);
    let &TrainConfig { lr, warmup, steps, .. } = train;
    let min_lr = own.min_lr.unwrap_or(0.1 * lr);
    match train.schedule {
        ScheduleKind::Cosine => Schedule::Cosine { lr, min_lr, warmup, steps },
        ScheduleKind::Constant | ScheduleKind::Plateau => Schedule::Constant { lr, warmup },
        ScheduleKind::OneCycle => Schedule::one_cycle(lr, steps),
        ScheduleKind::Linear => Schedule::Linear { lr, end_lr: min_lr, warmup, steps },
        ScheduleKind::Polynomial => Schedule::Polynomial { lr, power: own.power.unwrap_or(1.0), warmup, steps },
        ScheduleKind::Restarts => {
            let period = own.period.unwrap_or((steps.saturating_sub(warmup) / 4).max(1));
            Schedule::CosineRestarts { lr, min_lr, warmup, period, factor: own.period_growth.unwrap_or(1) }
        }
        ScheduleKind::Stable => {
            let decay = own.decay.unwrap_or(steps / 5).min(steps);
            Schedule::WarmupStableDecay { lr, min_lr, warmup, decay, steps }
        }
    }
}

/// What lowers the learning rate when the validation loss stops getting better. A run has few evaluations, so that where
/// nothing else is said it waits for two and halves the rate.
pub fn plateau(config: &Config) -> Option<Plateau> {
    let (own, usual) = (&config.schedule, Plateau::default());
    (config.train.schedule == ScheduleKind::Plateau).then(|| Plateau {
        factor: own.factor.unwrap_or(0.5),
        patience: own.patience.unwrap_or(2),
        threshold: own.threshold.unwrap_or(usual.threshold),
        cooldown: own.cooldown.unwrap_or(usual.cooldown),
        min_lr: own.min_lr.unwrap_or(usual.min_lr),
        ..usual
    })
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::graph::Graph;
    use crate::optim::{Operands, Slot, StepHyper};
    use crate::shape::Shape;
    use crate::train::config::RawConfig;

    /// All that a rule says of a matrix: what it remembers, its scalars, and its update.
    fn written(settings: &[&str]) -> String {
        let mut raw = RawConfig::default();
        settings.iter().for_each(|setting| raw.set_pair(setting).unwrap());
        let rule = rule(&raw.resolve().unwrap(), AdamW::new());
        rule.check().unwrap();
        let (graph, shape) = (Graph::new(), Shape::from([4, 8]));
        let slots = rule.slots(&shape);
        let state = |slot: &Slot| graph.state(slot.name, &slot.shape, slot.dtype);
        let state: Vec<_> = slots.iter().map(state).collect();
        let scalars: Vec<_> = rule.scalars().iter().map(|name| graph.input(name, [], DType::F32)).collect();
        let (parameter, gradient) = (graph.state("w", &shape, DType::F32), graph.state("g", &shape, DType::F32));
        let new = rule.update(Operands { parameter, gradient, slots: &state, scalars: &scalars });
        graph.output("w", new.parameter);
        new.slots.iter().zip(&slots).for_each(|(new, slot)| graph.assign(slot.name, *new));
        let values = rule.scalar_values(StepHyper { step: 3, lr: 0.01, weight_decay: None });
        format!("{slots:?} {values:?}\n{}", graph.to_text())
    }

    #[test]
    fn every_option_reaches_its_rule() {
        for kind in OptimizerKind::ALL {
            let (name, options) = kind.row();
            // What other options need to show.
            let mut settings = vec![format!("train.optimizer={name}")];
            settings.extend((kind == OptimizerKind::Sgd).then(|| "optimizer.momentum=0.5".to_string()));
            let told = |more: &[String]| {
                let all = [&settings[..], more].concat();
                written(&all.iter().map(String::as_str).collect::<Vec<_>>())
            };
            let usual = told(&[]);
            for option in options {
                let value = match *option {
                    "nesterov" if kind == OptimizerKind::Muon => "false",
                    "nesterov" | "amsgrad" | "centered" => "true",
                    "ns_steps" => "3",
                    "adjust_lr_fn" => "original",
                    "beta2_decay" => "-0.6",
                    "d" => "1.5",
                    _ => "0.125",
                };
                assert_ne!(told(&[format!("optimizer.{option}={value}")]), usual, "{name}: {option}");
            }
        }
    }
}
