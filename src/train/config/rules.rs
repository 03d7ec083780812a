//! The update rules and schedules that a configuration can choose, the options that each of them has, and what they are
//! where nothing else is said.
//!
//! An option that the chosen rule does not have is refused: more likely a mistake than a wish. Knows numbers; `recipe.rs`
//! makes rules of them.

use super::{Config, TaskKind};
use crate::error::{Error, Result};
use crate::optim::AdjustLr;
use serde::{Deserialize, Serialize};

/// The rule that updates parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    AdamW,
    Adam,
    AdamW8bit,
    Sgd,
    RmsProp,
    Adagrad,
    Adadelta,
    Adafactor,
    Lion,
    /// For the matrices of a text model's blocks; everything else is updated by AdamW.
    Muon,
}

/// A section of options, each of which may be absent.
macro_rules! options {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $option:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $option: Option<$type>,)*
        }

        impl $name {
            /// The names of the options that are given.
            fn given(&self) -> impl Iterator<Item = &'static str> {
                let all = [$((stringify!($option), self.$option.is_some())),*];
                all.into_iter().filter(|&(_, given)| given).map(|(name, _)| name)
            }
        }
    };
}

options! {
    /// Options of the update rule; `None`: what the rule itself has.
    pub struct OptimizerConfig {
        pub momentum: f64,
        pub dampening: f64,
        pub nesterov: bool,
        pub beta1: f64,
        pub beta2: f64,
        pub eps: f64,
        pub amsgrad: bool,
        pub alpha: f64,
        pub centered: bool,
        pub lr_decay: f64,
        /// What the sums of Adagrad start with.
        pub initial_accumulator_value: f64,
        pub rho: f64,
        pub beta2_decay: f64,
        pub d: f64,
        /// The first of the two of PyTorch's `eps` of Adafactor.
        pub eps1: f64,
        /// The second of them.
        pub eps2: f64,
        pub ns_steps: usize,
        pub adjust_lr_fn: AdjustLr,
    }
}

/// How the learning rate changes over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Linear warm-up, then down along half a cosine.
    Cosine,
    /// Linear warm-up, then unchanged.
    Constant,
    /// Up and down once, as PyTorch's `OneCycleLR`.
    OneCycle,
    /// Linear warm-up, then straight down.
    Linear,
    /// Linear warm-up, then down to 0 by a power of what is left.
    Polynomial,
    /// Linear warm-up, then down along half a cosine again and again.
    Restarts,
    /// Linear warm-up, then unchanged, and straight down at the end (WSD).
    Stable,
    /// Linear warm-up, then lower each time that the validation loss stops getting better.
    Plateau,
}

options! {
    /// Options of the schedule; `None`: see [`crate::train::recipe`].
    pub struct ScheduleConfig {
        /// The lowest rate.
        pub min_lr: f64,
        pub power: f64,
        /// Steps of the first cosine.
        pub period: u64,
        /// How many times as long as the one before each of the others is.
        pub period_growth: u64,
        /// Steps at the end in which the rate goes down.
        pub decay: u64,
        pub factor: f64,
        /// In evaluations.
        pub patience: u64,
        pub threshold: f64,
        /// In evaluations.
        pub cooldown: u64,
    }
}

impl OptimizerKind {
    pub const ALL: [OptimizerKind; 10] = [
        OptimizerKind::AdamW,
        OptimizerKind::Adam,
        OptimizerKind::AdamW8bit,
        OptimizerKind::Sgd,
        OptimizerKind::RmsProp,
        OptimizerKind::Adagrad,
        OptimizerKind::Adadelta,
        OptimizerKind::Adafactor,
        OptimizerKind::Lion,
        OptimizerKind::Muon,
    ];

    /// The name in configurations, and the keys of the section `optimizer` that it reads.
    pub fn row(self) -> (&'static str, &'static [&'static str]) {
        match self {
            OptimizerKind::AdamW => ("adamw", &["beta1", "beta2", "eps", "amsgrad"]),
            OptimizerKind::Adam => ("adam", &["beta1", "beta2", "eps", "amsgrad"]),
            OptimizerKind::AdamW8bit => ("adamw8bit", &["beta1", "beta2", "eps"]),
            OptimizerKind::Sgd => ("sgd", &["momentum", "dampening", "nesterov"]),
            OptimizerKind::RmsProp => ("rmsprop", &["alpha", "eps", "momentum", "centered"]),
            OptimizerKind::Adagrad => ("adagrad", &["lr_decay", "initial_accumulator_value", "eps"]),
            OptimizerKind::Adadelta => ("adadelta", &["rho", "eps"]),
            OptimizerKind::Adafactor => ("adafactor", &["beta2_decay", "d", "eps1", "eps2"]),
            OptimizerKind::Lion => ("lion", &["beta1", "beta2"]),
            OptimizerKind::Muon => ("muon", &["momentum", "nesterov", "ns_steps", "adjust_lr_fn", "eps"]),
        }
    }

    /// The learning rate of a run that names none, given that of AdamW: the rules' steps are of different sizes.
    #[cfg(any(feature = "cli", feature = "web"))]
    fn usual_lr(self, of_adamw: f64) -> f64 {
        match self {
            OptimizerKind::AdamW | OptimizerKind::Adam | OptimizerKind::AdamW8bit => of_adamw,
            // Its steps are made as large as AdamW's.
            OptimizerKind::Muon | OptimizerKind::RmsProp => of_adamw,
            // A tenth to a third of AdamW's, as its authors advise.
            OptimizerKind::Lion => 0.1 * of_adamw,
            OptimizerKind::Sgd => 0.1,
            OptimizerKind::Adagrad | OptimizerKind::Adafactor => 1e-2,
            OptimizerKind::Adadelta => 1.0,
        }
    }

    /// Whether weight decay is a part of the gradient, where what suits AdamW would be far too much.
    #[cfg(any(feature = "cli", feature = "web"))]
    fn decays_by_gradient(self) -> bool {
        use OptimizerKind::{Adadelta, Adagrad, Adam, RmsProp, Sgd};
        matches!(self, Adam | Sgd | RmsProp | Adagrad | Adadelta)
    }
}

impl Schedule {
    pub const ALL: [Schedule; 8] = [
        Schedule::Cosine,
        Schedule::Constant,
        Schedule::OneCycle,
        Schedule::Linear,
        Schedule::Polynomial,
        Schedule::Restarts,
        Schedule::Stable,
        Schedule::Plateau,
    ];

    /// The name in configurations, and the keys of the section `schedule` that it reads.
    pub fn row(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Schedule::Cosine => ("cosine", &["min_lr"]),
            Schedule::Constant => ("constant", &[]),
            Schedule::OneCycle => ("onecycle", &[]),
            Schedule::Linear => ("linear", &["min_lr"]),
            Schedule::Polynomial => ("polynomial", &["power"]),
            Schedule::Restarts => ("restarts", &["min_lr", "period", "period_growth"]),
            Schedule::Stable => ("stable", &["min_lr", "decay"]),
            Schedule::Plateau => ("plateau", &["min_lr", "factor", "patience", "threshold", "cooldown"]),
        }
    }
}

impl Config {
    /// Learning rate and weight decay of a rule that is not AdamW, where they were not given.
    #[cfg(any(feature = "cli", feature = "web"))]
    pub(crate) fn use_rules_defaults(&mut self, lr_given: bool, weight_decay_given: bool) {
        let kind = self.train.optimizer;
        if !lr_given {
            self.train.lr = kind.usual_lr(self.train.lr);
        }
        if !weight_decay_given && kind.decays_by_gradient() {
            self.train.weight_decay = 0.0;
        }
    }
}

/// Options that nothing reads, and rules that a task has no use for.
pub(super) fn check(config: &Config) -> Result<()> {
    let train = &config.train;
    let (name, options) = train.optimizer.row();
    refuse_useless("optimizer", config.optimizer.given(), "train.optimizer", name, options)?;
    let (name, options) = train.schedule.row();
    refuse_useless("schedule", config.schedule.given(), "train.schedule", name, options)?;
    if train.optimizer == OptimizerKind::Muon && config.task != TaskKind::Text {
        return Err(Error::config(format!(
            "train.optimizer = muon is for the matrices of --task text; the task `{}` has none between its first layer \
             and its last",
            config.task
        )));
    }
    let still = config.optimizer.momentum.unwrap_or(0.0) == 0.0;
    if train.optimizer == OptimizerKind::Sgd && config.optimizer.nesterov == Some(true) && still {
        return Err(Error::config("optimizer.nesterov of sgd needs an optimizer.momentum above 0, such as 0.9".into()));
    }
    if train.schedule == Schedule::Plateau && train.eval_every == 0 {
        return Err(Error::config(
            "train.schedule = plateau needs evaluations, but train.eval_every is 0; set it to a number of steps".into(),
        ));
    }
    Ok(())
}

/// An error if a section has a key that the chosen rule does not read.
fn refuse_useless(
    section: &str,
    mut given: impl Iterator<Item = &'static str>,
    key: &str,
    choice: &str,
    options: &[&str],
) -> Result<()> {
    let Some(name) = given.find(|name| !options.contains(name)) else { return Ok(()) };
    let has = match options {
        [] => "has no options".to_string(),
        _ => format!("has {}", options.join(", ")),
    };
    Err(Error::config(format!("{section}.{name}: {key} = {choice} has no use for this; it {has}")))
}

#[cfg(test)]
mod tests {
    use super::super::KEYS;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_option_belongs_to_a_rule_and_every_rule_is_in_the_list() {
        let keys = |section: &str| -> BTreeSet<String> {
            let own = KEYS.iter().filter_map(|key| key.name.strip_prefix(section));
            own.map(str::to_string).collect()
        };
        let all = |rows: Vec<(&'static str, &'static [&'static str])>| -> BTreeSet<String> {
            rows.into_iter().flat_map(|(_, options)| options).map(|name| name.to_string()).collect()
        };
        assert_eq!(keys("optimizer."), all(OptimizerKind::ALL.map(OptimizerKind::row).to_vec()));
        assert_eq!(keys("schedule."), all(Schedule::ALL.map(Schedule::row).to_vec()));
        let allowed = |name: &str| KEYS.iter().find(|key| key.name == name).unwrap().allowed;
        for kind in OptimizerKind::ALL {
            assert!(allowed("train.optimizer").contains(&format!("\"{}\"", kind.row().0)));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.row().0);
        }
        for schedule in Schedule::ALL {
            assert!(allowed("train.schedule").contains(&format!("\"{}\"", schedule.row().0)));
            assert_eq!(serde_json::to_value(schedule).unwrap(), schedule.row().0);
        }
    }

    #[cfg(feature = "cli")]
    #[test]
    fn rules_have_rates_of_their_own_and_options_that_others_refuse() {
        let read = |text: &str| Config::from_toml("run.toml", text);
        let train = |text: &str| read(text).unwrap().train;
        let lion = train("[train]\noptimizer = 'lion'");
        assert_eq!((lion.lr, lion.weight_decay), (4e-4, 0.1));
        let sgd = train("[train]\noptimizer = 'sgd'");
        assert_eq!((sgd.lr, sgd.weight_decay), (0.1, 0.0));
        let told = train("[train]\noptimizer = 'sgd'\nlr = 0.5\nweight_decay = 0.01");
        assert_eq!((told.lr, told.weight_decay), (0.5, 0.01));
        let full = read(
            "[train]\noptimizer = 'sgd'\nschedule = 'stable'\n[optimizer]\nmomentum = 0.9\n[schedule]\ndecay = 100",
        );
        let full = full.unwrap();
        // What is written is what is read again, rates that were not given too.
        assert_eq!(read(&full.to_toml().unwrap()).unwrap(), full);
        let message = |text: &str| read(text).unwrap_err().to_string();
        let useless = message("[optimizer]\nmomentum = 0.9");
        assert!(useless.contains("optimizer.momentum") && useless.contains("beta1, beta2, eps, amsgrad"), "{useless}");
        let useless = message("[train]\nschedule = 'constant'\n[schedule]\nmin_lr = 0.1");
        assert!(useless.contains("constant has no use for this; it has no options"), "{useless}");
        assert!(message("task = 'digits'\n[train]\noptimizer = 'muon'").contains("--task text"));
        assert!(message("[train]\noptimizer = 'sgd'\n[optimizer]\nnesterov = true").contains("momentum above 0"));
        assert!(message("[train]\nschedule = 'plateau'\neval_every = 0").contains("needs evaluations"));
        assert!(message("[train]\noptimizer = 'adamx'").contains("\"lion\" or \"muon\""));
    }
}
