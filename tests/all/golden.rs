//! The standard workloads agree with the losses of float64 PyTorch (`tests/golden/losses.json`),
//! and the same run twice gives the same bits.

use std::collections::HashSet;
use wgrad::kernels::Profile;
use wgrad::optim::LossScaling;
use wgrad::program::Program;
use wgrad::train::TrainerBuilder;
use wgrad::train::workloads::{Workload, losses, outline, setup};

const SEEDS: [u32; 3] = [0, 1, 2];

fn golden(workload: Workload, seed: u32) -> Vec<f64> {
    let text = include_str!("../golden/losses.json");
    let all: serde_json::Value = serde_json::from_str(text).expect("the golden file is JSON");
    let list = all[format!("{workload}/seed{seed}/f64")].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(serde_json::Value::as_f64).collect()
}

/// Within 1e-4 relative plus 1e-6 absolute, as `benches/peers/README.md` asks of an f32 program.
fn agrees(workload: Workload, steps: usize) {
    let device = crate::device();
    for seed in SEEDS {
        let wanted = golden(workload, seed);
        let got = losses(workload, seed, steps, &device).expect("trains");
        assert!(wanted.len() >= steps && got.len() == steps);
        for (step, (got, want)) in got.iter().zip(&wanted).enumerate() {
            let off = (f64::from(*got) - want).abs();
            assert!(
                off <= 1e-4 * want.abs() + 1e-6,
                "{workload}, seed {seed}, step {}: {got}, should be {want}",
                step + 1
            );
        }
    }
}

#[test]
fn w2_agrees_with_pytorch() {
    agrees(Workload::W2, 15);
}

#[test]
fn w3_agrees_with_pytorch() {
    agrees(Workload::W3, 20);
}

#[test]
fn w4_agrees_with_pytorch() {
    agrees(Workload::W4, 20);
}

#[test]
fn the_same_run_twice_gives_the_same_bits() {
    let device = crate::device();
    for workload in [Workload::W2, Workload::W3, Workload::W4] {
        let run = || {
            let setup = setup(workload, 0).expect("a workload");
            let mut trainer = setup.trainer.clip(1.0).build(&device, setup.loss).expect("compiles");
            let losses: Vec<u32> = (0..6).map(|_| trainer.step(&setup.batch).expect("trains").loss.to_bits()).collect();
            (losses, trainer.weights().expect("reads back"))
        };
        let (first, second) = (run(), run());
        assert_eq!(first.0, second.0, "{workload}: losses differ");
        for (a, b) in first.1.tensors.iter().zip(&second.1.tensors) {
            assert_eq!(a.bytes, b.bytes, "{workload}: `{}` differs", a.name);
        }
    }
}

#[test]
fn dispatches_and_memory_are_what_was_planned() {
    let device = crate::device();
    for (workload, most) in [(Workload::W2, 14), (Workload::W3, 25), (Workload::W4, 100)] {
        let setup = setup(workload, 0).expect("a workload");
        let planned = setup.trainer.plan(device.profile(), &setup.loss).expect("compiles").memory;
        let trainer = setup.trainer.build(&device, setup.loss).expect("compiles");
        assert!(trainer.dispatches() <= most, "{workload}: {} dispatches a step", trainer.dispatches());
        assert_eq!(trainer.memory(), planned);
        assert_eq!(trainer.created_bytes(), planned.total(), "{workload}: bytes counted where buffers are created");
    }
}

/// Distinct kernels of a step: what a cold start has to compile.
#[test]
fn a_step_needs_few_pipelines() {
    let profile = crate::device().profile().clone();
    for (workload, most) in [(Workload::W2, 11), (Workload::W3, 23), (Workload::W4, 22)] {
        let (trainer, loss) = outline(workload).expect("a workload");
        let plan = trainer.plan(&profile, loss).expect("compiles");
        let kernels = plan.programs[..2].iter().flat_map(|program| &program.kernels);
        let distinct: HashSet<_> = kernels.map(|kernel| (&kernel.wgsl, &kernel.writable)).collect();
        assert!(distinct.len() <= most, "{workload}: {} pipelines", distinct.len());
    }
}

/// On the adapter at hand, and with the eight bindings that every browser grants.
#[test]
fn clipping_and_scaling_add_few_dispatches() {
    let profiles = [crate::device().profile().clone(), Profile::baseline()];
    let workloads = [Workload::W2, Workload::W3, Workload::W4];
    for (workload, profile) in
        workloads.iter().flat_map(|workload| profiles.iter().map(move |profile| (*workload, profile)))
    {
        let dispatches = |change: fn(TrainerBuilder) -> TrainerBuilder| {
            let (trainer, loss) = outline(workload).expect("a workload");
            let plan = change(trainer).plan(profile, loss).expect("compiles");
            plan.programs[..2].iter().map(Program::dispatches).sum::<usize>()
        };
        let plain = dispatches(|trainer| trainer);
        let both = dispatches(|trainer| trainer.clip(1.0).loss_scaling(LossScaling::default()));
        assert!(both > plain, "{workload}: the change is none");
        assert!(both <= plain + 4, "{workload}: {plain} dispatches, {both} with clipping and scaling");
    }
}
