//! Measured choices of kernels: they are right, they are used, and a run keeps those that it began with.

use super::device;
use super::faults::runs::{assert_same, small, train};
use wgrad::gpu::Device;
use wgrad::kernels::Choices;
use wgrad::kernels::matmul::candidates;
use wgrad::train::run::Run;
use wgrad::train::task::Task;
use wgrad::train::tune::{Clock, Found, tune};
use wgrad::train::workloads::{Workload, setup};

/// For every product of the small run another kernel than that of the rules.
fn others(device: &Device) -> Choices {
    let model = Task::new(&small(&[])).expect("a task").model;
    let products = model.trainer.tunable(device.profile(), &*model.loss).expect("products").products;
    assert!(products.len() >= 5, "{products:?}");
    let mut choices = Choices::default();
    for (product, _) in &products {
        let candidates = candidates(device.profile(), product);
        choices.set(product, candidates[candidates.len() / 2]);
    }
    choices
}

#[test]
fn a_run_keeps_the_kernels_that_it_began_with() {
    let device = device();
    let tuned = device.with_choices(others(&device));
    let texts = |device: &Device| {
        let model = Task::new(&small(&[])).expect("a task").model;
        let plan = model.trainer.plan(device.profile(), model.loss).expect("a plan");
        plan.programs[0].kernels.iter().map(|kernel| kernel.wgsl.clone()).collect::<Vec<_>>()
    };
    assert_ne!(texts(&device), texts(&tuned), "the choices change nothing");

    let directory = tempfile::tempdir().expect("a directory");
    let (whole, parts) = (directory.path().join("whole"), directory.path().join("parts"));
    let config = small(&["train.steps=8", "train.checkpoint_every=2"]);
    train(&mut Run::begin(config.clone(), &whole, &tuned).expect("begins"), None);
    train(&mut Run::begin(config.clone(), &parts, &tuned).expect("begins"), Some(5));
    // The device is opened as any other: the checkpoint says with which kernels the run began.
    train(&mut Run::resume(config, &parts, &device).expect("goes on"), None);
    assert_same(&parts, &whole, "with measured kernels");
}

/// Products and convolutions as models have them, walked operands and sums beside them among them.
#[test]
#[ignore = "nightly: compiles some ten kernels for each product"]
fn every_candidate_for_the_products_of_the_workloads_is_right() {
    let device = device();
    for workload in [Workload::W2, Workload::W3, Workload::W4] {
        let setup = setup(workload, 0).expect("a workload");
        let tunable = setup.trainer.tunable(device.profile(), &*setup.loss).expect("products");
        let choices = tune(&device, tunable.clone(), Clock::Device, &mut |found| {
            let Found::Product(tuned) = found else { return Ok(()) };
            for candidate in &tuned.candidates {
                assert!(candidate.micros.is_some(), "{workload}: {} is wrong for {:?}", candidate.variant, tuned.of);
            }
            Ok(())
        });
        let choices = choices.expect("measures");
        assert!(tunable.products.iter().all(|(product, _)| choices.knows(product)), "{workload}");
    }
}
