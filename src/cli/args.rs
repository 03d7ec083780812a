//! What can be typed: every command and flag, with its help text.
//!
//! Words only: a value's meaning is checked by whoever owns it, the configuration's keys by
//! [`crate::train::config`]. A flag of `train` is a short way to set one of those keys.

mod measuring;
mod training;

pub use measuring::{BenchArgs, ExplainArgs, ExplainModel, Limits, PlanArgs, RoofArgs, Stage, TuneArgs};
pub use training::{DebugArgs, EvalArgs, PredictArgs, SampleArgs, TrainArgs};

use clap::{Args, Parser, Subcommand};

/// Train neural networks on any GPU.
#[derive(Debug, Parser)]
#[command(name = "wgrad", version, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model on a text, on handwritten digits or on a folder of images, and leave a run directory
    ///
    /// The task `text` trains a byte-level GPT on --data FILE, or on wgrad's own sources, which are
    /// embedded in the program. `digits` trains a small convolutional network on the 1,437 handwritten
    /// digits that are embedded too, and tests it on 360 others. `images` trains a convolutional
    /// network on --data DIR, which has one subfolder of PNG or JPEG files for each class (or `train`
    /// and `val` folders that have).
    ///
    /// The run directory holds config.toml, metrics.jsonl, loss.svg, best.safetensors and checkpoints,
    /// and of images accuracy.svg and confusion.svg too. Flags win over --config, and --set over both.
    ///
    /// Ctrl-C (or SIGTERM) saves a checkpoint and ends with exit code 0; a second one ends at once.
    Train(Box<TrainArgs>),
    /// Measure the best weights of a run on its held-out part, anew
    ///
    /// Prints the loss and, of images, how many of each class were classified right; writes the
    /// confusion matrix where --out says.
    Eval(EvalArgs),
    /// Say what images show, with the weights of a run of the task `digits` or `images`
    Predict(PredictArgs),
    /// Continue a prompt with the weights of a run of the task `text`
    Sample(SampleArgs),
    /// Find the tensor that went bad first when a loss is not a finite number
    ///
    /// Makes the steps after the newest checkpoint of a run again, without changing the run, to the first
    /// whose loss or gradients are not finite (or to --step), and prints every value of that step that
    /// is not finite and was before, in the order in which they are computed.
    Debug(DebugArgs),
    /// List the adapters with driver, features, limits and kernel tier
    Devices,
    /// Measure what an adapter can do at most: operations a second, and bytes a second by amount
    ///
    /// No kernel can be faster than both allow; `bench --profile` and `train --profile` say how near each comes.
    Roof(RoofArgs),
    /// Print how a model becomes GPU work: graph, gradients, passes, program
    Explain(ExplainArgs),
    /// Measure which kernels are fastest on this adapter, and keep what is found
    ///
    /// Every candidate for each matrix product and convolution is compared with a simple kernel and timed. The table is kept
    /// by adapter and driver; runs with device.autotune = true use it (and measure by themselves what it lacks).
    Tune(TuneArgs),
    /// Say what a step will need before anything is allocated: memory, work, an estimated time, what makes the peak
    ///
    /// Memory is exact: what is planned is what is created. Times are estimates from the adapter's roofs (see `wgrad
    /// roof`), which no kernel passes; with --limits no adapter is opened, and they are guesses for a class of adapters.
    Plan(PlanArgs),
    /// Run standard workloads, each in a process of its own, and print a JSON line for each
    Bench(BenchArgs),
}

/// The environment variable behind `--adapter`.
pub const ADAPTER_VARIABLE: &str = "WGRAD_ADAPTER";

/// Which GPU.
#[derive(Debug, Clone, Default, Args)]
pub struct AdapterArgs {
    /// The GPU: a part of its name, or its index in `wgrad devices` [default: the environment
    /// variable WGRAD_ADAPTER, else the fastest kind present]
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
}

impl AdapterArgs {
    /// The flag, or else the environment variable; `None` leaves the choice to the program.
    pub fn choice(&self) -> Option<String> {
        self.adapter.clone().or_else(|| std::env::var(ADAPTER_VARIABLE).ok()).filter(|name| !name.is_empty())
    }
}
fn temperature(words: &str) -> std::result::Result<f32, String> {
    let parsed = words.parse::<f32>().ok().filter(|x| x.is_finite() && *x >= 0.0);
    parsed.ok_or_else(|| "must be a number of at least 0".into())
}

fn at_least_one(words: &str) -> std::result::Result<usize, String> {
    words.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be an integer of at least 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::train::config::{Config, RawConfig, TaskKind};
    use crate::train::workloads::Workload;
    use clap::CommandFactory;

    fn train(words: &str) -> Result<Config> {
        let cli = Cli::try_parse_from(["wgrad", "train"].into_iter().chain(words.split_whitespace())).unwrap();
        let Command::Train(args) = cli.command else { panic!("not train") };
        let mut raw = RawConfig::default();
        args.apply(&mut raw)?;
        raw.resolve()
    }

    fn refused(words: &str) -> String {
        let error = Cli::try_parse_from(words.split_whitespace()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    #[test]
    fn the_definitions_hold_together_and_every_flag_has_help() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
        }
    }

    #[test]
    fn flags_set_configuration_keys_and_set_wins() {
        let words = "--data a.txt --steps 900 --batch 4 --lr 5e-4 --layers 2 --heads 2 --width 64 \
                     --context 32 --seed 9 \
                     --eval-every 10 --tensorboard --adapter 1 --set train.warmup=7 --set train.batch=16";
        let config = train(words).unwrap();
        assert_eq!((config.data.path.as_deref(), config.device.adapter.as_deref()), (Some("a.txt"), Some("1")));
        let model = &config.model;
        assert_eq!((model.layers, model.heads, model.width, model.context), (2, 2, 64, 32));
        let t = &config.train;
        assert_eq!((t.steps, t.batch, t.lr, t.seed, t.eval_every, t.warmup), (900, 16, 5e-4, 9, 10, 7));
        assert!(t.tensorboard);
        assert_eq!(train("").unwrap(), Config::default());
        let digits = train("--task digits --width 8").unwrap();
        assert_eq!((digits.task, digits.model.width), (TaskKind::Digits, 8));
        let heads = train("--task digits --heads 2").unwrap_err().to_string();
        assert!(heads.contains("(from --heads)") && heads.contains("--task text"), "{heads}");
        assert!(train("--task images").unwrap_err().to_string().contains("--data DIR"));
        assert_eq!(train("--task images --data a --image-size 32").unwrap().data.image_size, 32);
        let message = train("--steps 0").unwrap_err().to_string();
        assert!(message.contains("(from --steps)"), "{message}");
    }

    #[test]
    fn the_defaults_in_the_help_are_those_of_the_configuration() {
        let help = Cli::command().find_subcommand_mut("train").unwrap().render_help().to_string();
        let help: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
        type Default = fn(&Config) -> String;
        let flags: [(&str, Default); 12] = [
            ("--model <KIND>", |c| c.model.kind.to_string()),
            ("--steps <N>", |c| c.train.steps.to_string()),
            ("--batch <N>", |c| c.train.batch.to_string()),
            ("--accumulate <N>", |c| c.train.accumulate.to_string()),
            ("--lr <X>", |c| c.train.lr.to_string()),
            ("--layers <N>", |c| c.model.layers.to_string()),
            ("--heads <N>", |c| c.model.heads.to_string()),
            ("--width <N>", |c| c.model.width.to_string()),
            ("--context <N>", |c| c.model.context.to_string()),
            ("--image-size <N>", |c| c.data.image_size.to_string()),
            ("--seed <N>", |c| c.train.seed.to_string()),
            ("--eval-every <N>", |c| c.train.eval_every.to_string()),
        ];
        for (flag, default) in flags {
            let text = help.split(flag).nth(1).unwrap_or_else(|| panic!("{flag} in {help}"));
            let text = text.split("[default: ").nth(1).and_then(|text| text.split(']').next()).unwrap_or_default();
            for said in text.split(", ") {
                // `digits 1100`, or one number for every task.
                let (task, value) = said.split_once(' ').unwrap_or(("", said));
                let tasks = TaskKind::ALL.into_iter().filter(|own| task.is_empty() || own.name() == task);
                let wrong: Vec<TaskKind> = tasks.filter(|&own| default(&Config::for_task(own)) != value).collect();
                assert!(wrong.is_empty(), "{flag}: {text}, not so for {wrong:?}");
            }
            let named = TaskKind::ALL.into_iter().filter(|task| text.contains(task.name())).count();
            assert!(named == 3 || !text.contains(','), "{flag} names some tasks only: {text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_exit_code_2() {
        for changed in ["--out b", "--seed 5", "--data c", "--width 128", "--task digits", "--model resnet18"] {
            assert!(refused(&format!("wgrad train --resume a {changed}")).contains("cannot be used with"), "{changed}");
        }
        assert!(refused("wgrad train --step 3").contains("--steps"));
        assert!(refused("wgrad train --steps many").contains("invalid value"));
        for command in ["sample", "eval", "predict a.png"] {
            assert!(refused(&format!("wgrad {command}")).contains("--run"), "{command}");
        }
        assert!(refused("wgrad predict --run a").contains("FILE"));
        assert!(refused("wgrad sample --run a --temperature nan").contains("at least 0"));
        assert!(refused("wgrad explain resnet").contains("possible values"));
        assert!(refused("wgrad bench").contains("WORKLOAD"));
        assert!(refused("wgrad bench W9").contains("W1-512"));
        assert!(refused("wgrad bench W1").contains("matrix size"));
        assert!(refused("wgrad bench W2 --steps 0").contains("at least 1"));
        assert!(refused("wgrad trian").contains("train"));
    }

    #[test]
    fn workloads_and_models_are_read_in_any_case() {
        let cli = Cli::try_parse_from(["wgrad", "bench", "w1-512", "W2", "w4"]).unwrap();
        let Command::Bench(args) = cli.command else { panic!("not bench") };
        assert_eq!(args.workloads, [Workload::W1(512), Workload::W2, Workload::W4]);
        assert_eq!(args.workloads.iter().map(Workload::to_string).collect::<Vec<_>>(), ["W1-512", "W2", "W4"]);
        let cli = Cli::try_parse_from(["wgrad", "explain", "w4", "--stage", "program"]).unwrap();
        let Command::Explain(args) = cli.command else { panic!("not explain") };
        assert_eq!((args.model, args.stage), (ExplainModel::W4, Some(Stage::Program)));
    }
}
