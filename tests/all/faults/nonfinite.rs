//! Losses that are not finite: the run stops and names the tensor, leaves the batch out, or goes back and learns slowly.

use super::runs::{assert_same, small};
use std::path::Path;
use wgrad::dtype::DType;
use wgrad::io::HostTensor;
use wgrad::nn::{Parameters, models::Mlp};
use wgrad::optim::AdamW;
use wgrad::random::Stream;
use wgrad::train::config::Config;
use wgrad::train::debug::debug;
use wgrad::train::keeper::newest;
use wgrad::train::metrics;
use wgrad::train::recipe::builder;
use wgrad::train::run::{Ended, Event, METRICS, MakeTask, Outcome, Run};
use wgrad::train::task::{Contents, Loss, Model, Subject, Task, Unit};
use wgrad::train::{Batch, DataSource};
use wgrad::{Error, ErrorKind, Result};

const BATCH: usize = 2;

/// Small numbers, but for one batch, whose squares no f32 holds.
struct Points {
    huge: u64,
    /// Without that batch.
    without: bool,
}

impl DataSource for Points {
    fn training(&self, seed: u64, first_sample: u64) -> Result<Batch> {
        let number = first_sample / BATCH as u64;
        let (huge, number) = match self.without {
            true => (false, number + u64::from(number >= self.huge)),
            false => (number == self.huge, number),
        };
        let values = Stream::new(seed, number as u32).uniform(BATCH * 4, -1.0, 1.0);
        let x: Vec<f32> = values[..BATCH * 3].iter().map(|x| if huge { x * 1e30 } else { *x }).collect();
        Ok(vec![("x", HostTensor::f32([BATCH, 3], &x)?), ("y", HostTensor::f32([BATCH, 1], &values[BATCH * 3..])?)])
    }

    fn validation(&self, _index: usize, _batches: usize) -> Result<Batch> {
        self.training(9, 1000)
    }

    fn tokens_per_batch(&self) -> usize {
        BATCH
    }
}

fn task(huge: u64, without: bool) -> MakeTask {
    perceptron(huge, without, [3, 5, 1])
}

fn perceptron(huge: u64, without: bool, sizes: [usize; 3]) -> MakeTask {
    Box::new(move |config: &Config| {
        let mut parameters = Parameters::new();
        let model = Mlp::new(&mut parameters, &sizes);
        let subject = Subject {
            data: Box::new(Points { huge, without }),
            eval_batches: 1,
            classes: None,
            unit: Unit::Tokens,
            per_step: BATCH,
            parts: 1,
            contents: Contents::Text { name: "points".into(), training: 1, validation: 1 },
            model: "a perceptron".into(),
            fingerprint: None,
            sizes: Default::default(),
        };
        let loss: Loss = Box::new(move |graph| {
            let y = graph.input("y", [BATCH, 1], DType::F32);
            (model.forward(graph.input("x", [BATCH, 3], DType::F32)) - y).square().mean_all()
        });
        Ok(Task { model: Model { trainer: builder(config, parameters, AdamW::new()), loss }, subject })
    })
}

fn config(more: &[&str]) -> Config {
    let always = ["train.steps=12", "train.checkpoint_every=4", "train.clip=0"];
    small(&[always.as_slice(), more].concat())
}

fn train(run: &mut Run) -> (Result<Outcome>, Vec<String>) {
    let mut warnings = Vec::new();
    let outcome = run.train(&mut |event| {
        if let Event::Warning(warning) = event {
            warnings.push(warning.to_string());
        }
    });
    (outcome, warnings)
}

fn finished(run: &mut Run) -> Vec<String> {
    let (outcome, warnings) = train(run);
    assert_eq!(outcome.unwrap_or_else(|error| panic!("{error}: {warnings:?}")).ended, Ended::Finished);
    warnings
}

#[test]
fn a_batch_that_gives_no_finite_loss_can_be_left_out_as_if_it_had_never_been() {
    let (dir, device) = (tempfile::tempdir().expect("a directory"), crate::device());
    let (skipping, without) = (dir.path().join("skipping"), dir.path().join("without"));
    let config = config(&["train.on_nonfinite=skip"]);
    let warnings = finished(&mut Run::begin_task(config.clone(), &skipping, &device, task(6, false)).expect("begins"));
    assert!(
        warnings.len() == 1 && warnings[0].contains("at step 7") && warnings[0].contains("left out"),
        "{warnings:?}"
    );
    let warnings = finished(&mut Run::begin_task(config.clone(), &without, &device, task(6, true)).expect("begins"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let state = |run: &Path| newest(run).expect("reads").expect("is there").state;
    assert!(state(&skipping).tensors == state(&without).tensors, "other bits");
    let losses = |run: &Path| -> Vec<(u64, u32)> {
        let records = metrics::read(run.join(METRICS)).expect("metrics");
        records.iter().map(|record| (record.step, record.loss.to_bits())).collect()
    };
    assert_eq!(losses(&skipping), losses(&without));
}

#[test]
fn a_run_stops_before_the_bad_step_and_names_the_tensor() {
    let (dir, device) = (tempfile::tempdir().expect("a directory"), crate::device());
    let (run, skipping) = (dir.path().join("run"), dir.path().join("skipping"));
    let (outcome, _) = train(&mut Run::begin_task(config(&[]), &run, &device, task(6, false)).expect("begins"));
    let Err(ErrorKind::NotFinite { step: 7, message }) = outcome.as_ref().map_err(Error::kind) else {
        panic!("{outcome:?}")
    };
    // The input is huge, but finite; what is squared is too large.
    assert!(message.contains("the first tensor that went bad is") && !message.contains("input"), "{message}");
    assert_eq!(newest(&run).expect("reads").expect("is there").step, 6);
    let records = metrics::read(run.join(METRICS)).expect("metrics");
    assert!(records.len() == 7 && !records[6].loss.is_finite(), "{records:?}");
    // It can go on by another policy, and is then the run that had it from the beginning.
    let skip = config(&["train.on_nonfinite=skip"]);
    finished(&mut Run::resume_task(skip.clone(), &run, &device, task(6, false)).expect("resumes"));
    finished(&mut Run::begin_task(skip, &skipping, &device, task(6, false)).expect("begins"));
    assert_same(&run, &skipping, "after stopping");
}

#[test]
fn a_run_that_learns_too_fast_goes_back_and_learns_more_slowly() {
    let (dir, device) = (tempfile::tempdir().expect("a directory"), crate::device());
    let fast = ["train.on_nonfinite=rollback", "train.lr=2e5", "train.warmup=0", "train.schedule=constant"];
    let run = dir.path().join("run");
    let warnings = finished(&mut Run::begin_task(config(&fast), &run, &device, task(99, false)).expect("begins"));
    assert!(warnings.iter().any(|warning| warning.contains("learning rate times 0.25")), "{warnings:?}");
    let records = metrics::read(run.join(METRICS)).expect("metrics");
    assert_eq!(records.iter().map(|record| record.step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    assert!(records.iter().all(|record| record.loss.is_finite() && record.lr < 2e5), "{records:?}");
    let names = std::fs::read_dir(run.join("checkpoints")).expect("is there").flatten();
    assert!(names.filter(|name| name.file_name().to_string_lossy().starts_with("step-")).count() == 2);
    // A batch that is bad at any rate is given up on.
    let config = config(&["train.on_nonfinite=rollback"]);
    let (outcome, warnings) =
        train(&mut Run::begin_task(config, &dir.path().join("bad"), &device, task(6, false)).expect("begins"));
    let Err(ErrorKind::NotFinite { step: 7, message }) = outcome.as_ref().map_err(Error::kind) else {
        panic!("{outcome:?}: {warnings:?}")
    };
    assert!(message.contains("10 times a lower learning rate was tried") && warnings.len() == 10, "{message}");
}

#[test]
fn debugging_looks_at_the_bad_step_again() {
    let (dir, device) = (tempfile::tempdir().expect("a directory"), crate::device());
    let run = dir.path().join("run");
    let config = small(&["train.steps=9", "train.lr=1e25", "train.warmup=0", "train.schedule=constant"]);
    let (outcome, _) = train(&mut Run::begin(config.clone(), &run, &device).expect("begins"));
    let Err(ErrorKind::NotFinite { step, message }) = outcome.as_ref().map_err(Error::kind) else {
        panic!("{outcome:?}")
    };
    let findings = debug(&config, &run, &device, None).expect("looks").expect("finds");
    assert_eq!(&findings.step, step);
    assert!(!findings.bad.is_empty() && message.contains(&findings.first()), "{message}: {findings:?}");
    let calm = Config { train: wgrad::train::config::TrainConfig { lr: 1e-3, ..config.train.clone() }, ..config };
    assert!(debug(&calm, &dir.path().join("none"), &device, None).expect("looks").is_none());
}

/// The gradients of a loss as large as this are infinite in f16, whatever the scale; the loss itself is not.
#[test]
fn a_run_whose_every_step_overflows_ends_after_fifty_and_names_the_tensor() {
    let (dir, device) = (tempfile::tempdir().expect("a directory"), crate::device());
    let run = dir.path().join("run");
    let overflowing: MakeTask = Box::new(|config: &Config| {
        // Halves come in fours.
        let Task { model, subject } = perceptron(u64::MAX, false, [3, 6, 2])(config)?;
        let inner = model.loss;
        let loss: Loss = Box::new(move |graph| inner(graph) * 1e30);
        Ok(Task { model: Model { loss, ..model }, subject })
    });
    let config = config(&["train.precision=f16", "train.steps=90", "train.eval_every=0"]);
    let (outcome, _) = train(&mut Run::begin_task(config, &run, &device, overflowing).expect("begins"));
    let Err(ErrorKind::NotFinite { step: 50, message }) = outcome.as_ref().map_err(Error::kind) else {
        panic!("{outcome:?}")
    };
    assert!(message.contains("come down to 1") && message.contains("the first tensor that went bad is"), "{message}");
    assert!(message.contains("(forward and gradients)"), "{message}");
    let records = metrics::read(run.join(METRICS)).expect("metrics");
    assert_eq!(records.len(), 49);
    for record in &records {
        let scale = (65_536.0 / 2f32.powi(record.step as i32 - 1)).max(1.0);
        assert_eq!((record.loss_scale, record.skipped_steps), (Some(scale), Some(record.step)));
    }
}
