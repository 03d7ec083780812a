//! What a configuration says of rules, schedules and means becomes training: every rule trains, rates go down on a plateau,
//! and runs that are stopped go on with the same bits.

use crate::faults::runs::{assert_same, small, train};
use std::path::Path;
use wgrad::io::safetensors::Weights;
use wgrad::train::average::in_place;
use wgrad::train::config::OptimizerKind;
use wgrad::train::keeper::newest;
use wgrad::train::metrics::{self, Record};
use wgrad::train::run::{BEST, Ended, METRICS, Run};

fn records(run: &Path) -> Vec<Record> {
    metrics::read(run.join(METRICS)).expect("metrics")
}

#[test]
fn every_rule_can_be_chosen_and_learns() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = |kind: OptimizerKind| match kind {
        OptimizerKind::Sgd => "optimizer.momentum=0.9",
        OptimizerKind::RmsProp => "optimizer.alpha=0.9",
        OptimizerKind::Muon => "optimizer.ns_steps=3",
        OptimizerKind::Adafactor => "train.lr=0.1",
        OptimizerKind::Adadelta => "optimizer.rho=0.8",
        _ => "train.lr=0.01",
    };
    for kind in OptimizerKind::ALL {
        let (name, _) = kind.row();
        let run = dir.path().join(name);
        let chosen = format!("train.optimizer={name}");
        let config = small(&["train.steps=40", "train.eval_every=0", "model.dropout=0", &chosen, options(kind)]);
        train(&mut Run::begin(config, &run, &crate::device()).expect("begins"), None);
        let losses: Vec<f32> = records(&run).iter().map(|record| record.loss).collect();
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (mean(&losses[..4]), mean(&losses[36..]));
        assert!(last < first - 0.01, "{name}: from {first} to {last}");
        let state = newest(&run).expect("reads").expect("is there").state;
        let begins = |start: &str| state.tensors.iter().any(|tensor| tensor.name.starts_with(start));
        // Plain descent remembers nothing, and here it has momentum; only Muon shares the work.
        assert!(begins(&format!("{name}.")), "{name}");
        assert_eq!(begins("adamw."), matches!(kind, OptimizerKind::AdamW | OptimizerKind::Muon), "{name}");
    }
}

#[test]
fn the_rate_goes_down_when_the_validation_loss_stops_getting_better() {
    let dir = tempfile::tempdir().expect("a directory");
    // Steps so small that nothing gets better: every second evaluation halves the rate, down to a quarter.
    let config = small(&[
        "train.steps=20",
        "train.schedule=plateau",
        "schedule.patience=1",
        "schedule.min_lr=2.5e-7",
        "train.lr=1e-6",
        "train.warmup=0",
        "train.eval_every=2",
        "model.dropout=0",
    ]);
    let run = dir.path().join("run");
    train(&mut Run::begin(config, &run, &crate::device()).expect("begins"), None);
    let records = records(&run);
    let losses: Vec<f32> = records.iter().filter_map(|record| record.val_loss).collect();
    assert!(losses.len() == 10 && losses.iter().all(|loss| *loss > losses[0] * 0.9999), "{losses:?}");
    for record in &records {
        let wanted = match record.step {
            0..=6 => 1e-6,
            7..=10 => 5e-7,
            _ => 2.5e-7,
        };
        assert!((record.lr - wanted).abs() < 1e-18, "step {}: {}", record.step, record.lr);
    }
}

#[test]
fn runs_with_means_and_plateaus_go_on_with_the_same_bits() {
    let dir = tempfile::tempdir().expect("a directory");
    let device = crate::device();
    let config = small(&[
        "train.steps=13",
        "train.checkpoint_every=5",
        "train.ema=0.8",
        "train.schedule=plateau",
        "schedule.patience=0",
        "schedule.threshold=0.2",
        "train.eval_every=2",
    ]);
    let whole = dir.path().join("whole");
    let (outcome, _) = train(&mut Run::begin(config.clone(), &whole, &device).expect("begins"), None);
    assert_eq!(outcome.ended, Ended::Finished);
    let rates: Vec<f64> = records(&whole).iter().map(|record| record.lr).collect();
    assert!(rates[12] < 0.3 * rates[4], "no rate went down: {rates:?}");
    for stop in [2, 5, 8] {
        let run = dir.path().join(stop.to_string());
        train(&mut Run::begin(config.clone(), &run, &device).expect("begins"), Some(stop));
        train(&mut Run::resume(config.clone(), &run, &device).expect("resumes"), None);
        assert_same(&run, &whole, &format!("stopped after step {stop}"));
    }
}

#[test]
fn the_best_weights_are_means() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = dir.path().join("run");
    let config = small(&["train.steps=30", "train.ema=0.7", "train.lr=0.01", "train.eval_every=10", "model.dropout=0"]);
    let (outcome, _) = train(&mut Run::begin(config, &run, &crate::device()).expect("begins"), None);
    assert_eq!(outcome.best.map(|(step, _)| step), Some(30), "{outcome:?}");
    let best = Weights::load(run.join(BEST)).expect("the best weights");
    let state = newest(&run).expect("reads").expect("is there").state;
    let means = in_place(state.clone());
    assert!(!means.tensors.iter().any(|tensor| tensor.name.starts_with("ema/")));
    let mut different = 0;
    for tensor in &best.tensors {
        assert_eq!(means.get(&tensor.name), Some(tensor));
        assert_eq!(state.get(&format!("ema/{}", tensor.name)).map(|mean| &mean.bytes), Some(&tensor.bytes));
        different += usize::from(state.get(&tensor.name) != Some(tensor));
    }
    assert_eq!(different, best.tensors.len(), "the means are the weights");
}
