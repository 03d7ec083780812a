//! Memory that a device refuses, submissions and mappings that fail: a trainer gets over it or says so, and a run goes on in
//! smaller micro-batches where it may.

#[cfg(feature = "cli")]
use super::runs::{assert_same, small, train};
use wgrad::dtype::DType::{F32, I32};
use wgrad::error::Result;
use wgrad::gpu::{Device, Fault};
use wgrad::io::HostTensor;
use wgrad::kernels::Profile;
use wgrad::nn::{Linear, Parameters};
use wgrad::optim::AdamW;
use wgrad::train::Trainer;
#[cfg(feature = "cli")]
use wgrad::train::run::{Event, Run};
use wgrad::{Error, ErrorKind};

/// Two micro-batches a step, so that some runs are not read.
fn trainer(device: &Device) -> Result<Trainer> {
    let mut parameters = Parameters::new();
    let layer = Linear::new(&mut parameters, "layer", 4, 3);
    let builder = Trainer::builder(parameters).optimizer(AdamW::new()).clip(1.0).accumulate(2);
    builder.build(device, move |graph| {
        layer.forward(graph.input("x", [2, 4], F32)).cross_entropy(graph.input("y", [2], I32))
    })
}

/// Builds, trains, evaluates, saves, goes back, trains: everything that a trainer asks of a device. Gives the last state.
fn all_of_it(device: &Device) -> Result<Vec<Vec<u8>>> {
    let x: Vec<f32> = (0..16).map(|index| index as f32 / 16.0).collect();
    let batch = [("x", HostTensor::f32([4, 4], &x)?), ("y", HostTensor::i32([4], &[0, 1, 2, 1])?)];
    let part = [("x", HostTensor::f32([2, 4], &x[..8])?), ("y", HostTensor::i32([2], &[0, 1])?)];
    let mut trainer = trainer(device)?;
    trainer.step(&batch)?;
    let checkpoint = trainer.checkpoint()?;
    let failed = (|| {
        trainer.step(&batch)?;
        trainer.evaluate(&part).map(|_| ())
    })();
    if failed.is_err() {
        // After an error the trainer goes on from a checkpoint, if its device is still there.
        trainer.resume(&checkpoint)?;
        trainer.step(&batch)?;
    }
    trainer.step(&batch)?;
    Ok(trainer.checkpoint()?.tensors.into_iter().map(|tensor| tensor.bytes).collect())
}

fn each_fails(fault: Fault, times: usize, open: impl Fn() -> Device, every: usize) {
    let mut device = open();
    let expected = all_of_it(&device).expect("trains");
    let mut n = 0;
    loop {
        device.inject(fault, n, times);
        let outcome = all_of_it(&device);
        let happened = device.injected();
        match outcome.as_ref().map_err(Error::kind) {
            Ok(state) => assert!(*state == expected, "{fault:?} {n}: other numbers"),
            Err(ErrorKind::Memory(message)) => assert!(message.contains("refused"), "{fault:?} {n}: {message}"),
            Err(ErrorKind::DeviceLost { .. }) => {
                assert!(matches!(fault, Fault::Dropped | Fault::Mapping), "{fault:?} {n}")
            }
            Err(kind) => panic!("{fault:?} {n}: {kind}"),
        }
        if happened == 0 {
            assert!(outcome.is_ok());
            println!("{fault:?}: {n} calls");
            return;
        }
        if device.lost().is_some() {
            device = open();
        }
        assert!(all_of_it(&device).expect("trains again") == expected, "{fault:?} {n}: afterwards");
        n += every;
    }
}

const FAULTS: [(Fault, usize); 5] = [
    (Fault::Creation, 1),
    (Fault::Creation, usize::MAX),
    (Fault::Submission, 1),
    (Fault::Dropped, 1),
    (Fault::Mapping, 1),
];

#[test]
fn each_call_to_a_fake_device_may_fail_in_training() {
    for (fault, times) in FAULTS {
        each_fails(fault, times, || Device::fake(&Profile::baseline()).expect("a fake device"), 1);
    }
}

#[test]
fn calls_to_a_device_may_fail_in_training() {
    for (fault, times) in FAULTS {
        each_fails(fault, times, crate::device, 3);
    }
}

#[test]
fn where_work_is_cut_changes_no_bit_of_a_training() {
    let device = crate::device();
    let whole = all_of_it(&device).expect("trains");
    let before = device.submissions();
    device.limit_submissions(1e-6);
    let cut = all_of_it(&device).expect("trains");
    assert!(device.submissions() - before > 30);
    assert!(cut == whole, "other bits");
}

#[cfg(feature = "cli")]
#[test]
fn a_run_is_cut_into_smaller_micro_batches_only_where_that_is_allowed_and_says_so_for_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let device = crate::device();
    let path = |name: &str| dir.path().join(name);
    let config = |more: &[&str]| small(&[&["train.steps=8", "train.checkpoint_every=3"][..], more].concat());
    // Not allowed: an error that says what it was for and what would help.
    device.inject(Fault::Creation, 0, usize::MAX);
    let refused = Run::begin(config(&[]), &path("refused"), &device).map(|_| ());
    device.injected();
    let Err(ErrorKind::Memory(message)) = refused.as_ref().map_err(Error::kind) else { panic!("{refused:?}") };
    assert!(["bytes for", "largest tensor", "device.memory"].iter().all(|words| message.contains(words)), "{message}");
    // Allowed, and the first try and its second fail.
    device.inject(Fault::Creation, 0, 2);
    let mut run = Run::begin(config(&["device.memory=1GiB"]), &path("begun"), &device).expect("begins smaller");
    assert_eq!((device.injected(), run.overview().micro_batches), (2, 2));
    let (_, warnings) = train(&mut run, Some(4));
    assert!(warnings.len() == 1 && warnings[0].contains("from step 1 on: train.accumulate = 2"), "{warnings:?}");
    drop(run);
    let (_, text) = wgrad::train::run::read_config(&path("begun")).expect("reads");
    assert!(text.contains("accumulate = 2"), "{text}");
    // The same as a run that was asked for so.
    let mut asked = Run::begin(config(&["train.accumulate=2"]), &path("asked"), &device).expect("begins");
    train(&mut asked, None);
    let resumed = wgrad::train::config::Config::from_toml("config.toml", &text).expect("reads");
    train(&mut Run::resume(resumed, &path("begun"), &device).expect("resumes"), None);
    let newest = wgrad::train::keeper::newest(&path("begun")).expect("reads").expect("is there");
    assert!(newest.state.metadata["changes"].starts_with("from step 1 on: train.accumulate = 2"));
    assert_weights(&path("begun"), &path("asked"));
}

#[cfg(feature = "cli")]
fn assert_weights(run: &std::path::Path, other: &std::path::Path) {
    let tensors = |run| wgrad::train::keeper::newest(run).expect("reads").expect("is there").state.tensors;
    assert!(tensors(run) == tensors(other), "other bits");
}

#[cfg(feature = "cli")]
#[test]
fn a_run_whose_memory_runs_short_in_its_middle_goes_on_from_its_last_state_in_smaller_micro_batches() {
    let dir = tempfile::tempdir().expect("a directory");
    let device = crate::device();
    let config = small(&["train.steps=9", "train.checkpoint_every=3", "device.memory=1GiB"]);
    let mut run = Run::begin(config, dir.path(), &device).expect("begins");
    let (mut failed, mut warnings) = (0, Vec::new());
    let outcome = run.train(&mut |event| match event {
        Event::Step(record) if record.step == 5 && failed == 0 => {
            failed = 1;
            device.inject(Fault::Creation, 0, 2);
        }
        Event::Warning(warning) => warnings.push(warning.to_string()),
        _ => {}
    });
    assert_eq!(outcome.expect("ends").steps, 9);
    assert_eq!(device.injected(), 2);
    assert!(warnings.len() == 1 && warnings[0].contains("from step 4 on: train.accumulate = 2"), "{warnings:?}");
    let newest = wgrad::train::keeper::newest(dir.path()).expect("reads").expect("is there");
    assert!(newest.state.metadata["config"].contains("accumulate = 2"));
    assert!(newest.state.metadata["changes"].contains("from step 4 on"));
}

#[cfg(feature = "cli")]
#[test]
fn a_run_whose_work_is_dropped_goes_on_with_the_same_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = small(&["train.steps=9", "train.checkpoint_every=3"]);
    let (whole, path) = (dir.path().join("whole"), dir.path().join("run"));
    train(&mut Run::begin(config.clone(), &whole, &crate::device()).expect("begins"), None);
    let device = crate::device();
    let mut run = Run::begin(config, &path, &device).expect("begins");
    let (mut dropped, mut warnings) = (false, Vec::new());
    let outcome = run.train(&mut |event| match event {
        Event::Step(record) if record.step == 4 && !dropped => {
            dropped = true;
            device.inject(Fault::Dropped, 0, 1);
        }
        Event::Warning(warning) => warnings.push(warning.to_string()),
        _ => {}
    });
    assert_eq!(outcome.expect("ends").steps, 9);
    assert!(warnings.len() == 1 && warnings[0].contains("dropped work"), "{warnings:?}");
    assert_same(&path, &whole, "after work that was dropped");
}
