//! `wgrad eval`: the weights of a run on what it held out.

use super::args::EvalArgs;
use super::cache;
use super::format::table;
use super::say;
use crate::error::{Error, Result};
use crate::io::files::write_atomic;
use crate::train::Evaluator;
use crate::train::classify::Confusion;
use crate::train::config::Config;
use crate::train::pictures::{Pictures, in_words};
use crate::train::run::{evaluate, read_config, read_weights};
use crate::train::task::{Classes, Task};
use std::process::ExitCode;

/// Runs the command.
pub fn eval(args: &EvalArgs) -> Result<ExitCode> {
    let (path, text) = read_config(&args.run)?;
    let config = Config::from_toml(&path, &text)?;
    if args.out.is_some() && !config.task.has_classes() {
        let task = config.task;
        return Err(Error::config(format!("--out: a run of the task `{task}` has no classes and no confusion matrix")));
    }
    let weights = read_weights(&args.run)?;
    let choice = args.adapter.choice().or(config.device.adapter.clone());
    let device = cache::open(choice.as_deref())?;
    let Task { model, subject } = Task::new(&config)?;
    if let Some(warning) = subject.check_same(&weights)? {
        say(format!("warning: {warning}"))?;
    }
    let mut evaluator = Evaluator::new(&device, model.trainer.parameters(), &*model.loss, &weights)?;
    let found = evaluate(&subject, &mut |batch| evaluator.outputs(batch))?;
    for warning in subject.data.warnings() {
        say(format!("warning: {warning}"))?;
    }
    say(format!("loss      {:.4}", found.loss))?;
    if let (Some(classes), Some(confusion)) = (&subject.classes, &found.confusion) {
        say(format!("accuracy  {}\n", in_words(confusion)))?;
        say(by_class(classes, confusion))?;
        if let Some(out) = &args.out {
            let title = format!("{}: {}", args.run.display(), in_words(confusion));
            let picture = Pictures::confusion_svg(classes, confusion, &title, &subject.model);
            write_atomic(out, picture.as_bytes())?;
            say(format!("the confusion matrix is in {}", out.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Right and all images of each class, and what it was most often taken for.
fn by_class(classes: &Classes, confusion: &Confusion) -> String {
    let mut rows = vec![["class", "right", "of", "most often taken for"].map(String::from)];
    for (class, name) in classes.names.iter().enumerate() {
        let others = (0..confusion.classes()).filter(|&other| other != class && confusion.count(class, other) > 0);
        let most = others.max_by_key(|&other| (confusion.count(class, other), std::cmp::Reverse(other)));
        let most = most.map_or(String::new(), |other| {
            format!("{} ({})", classes.names.get(other).map_or("", String::as_str), confusion.count(class, other))
        });
        let (right, all) = (confusion.count(class, class), confusion.of_class(class));
        rows.push([name.clone(), right.to_string(), all.to_string(), most]);
    }
    table(&rows)
}
