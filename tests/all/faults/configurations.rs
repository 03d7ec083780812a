//! Resuming holds for whatever is configured: drawn configurations, stopped twice at drawn steps.

use super::runs::{assert_same, small, train};
use std::path::Path;
use wgrad::random::Stream;
use wgrad::train::config::Config;
use wgrad::train::run::{Ended, Run};

const STEPS: u64 = 10;

/// What is drawn from, by key.
const DRAWN: [(&str, &[&str]); 11] = [
    ("train.accumulate", &["1", "2", "4"]),
    ("train.recompute", &["none", "auto"]),
    ("train.schedule", &["cosine", "constant", "onecycle", "plateau"]),
    ("train.optimizer", &["adamw", "adamw8bit", "sgd", "adafactor", "lion", "muon"]),
    ("train.ema", &["0", "0.9"]),
    ("train.clip", &["0", "0.5"]),
    ("train.weight_decay", &["0", "0.1"]),
    ("train.on_nonfinite", &["stop", "skip", "rollback"]),
    ("model.dropout", &["0.1", "0.4"]),
    ("train.checkpoint_every", &["0", "3"]),
    ("train.early_stopping", &["0", "5"]),
];

/// A configuration in a precision, the rest of it by chance.
fn drawn(precision: &str, chance: &[f32]) -> (Config, String) {
    let mut pairs =
        vec!["train.batch=4".into(), format!("train.steps={STEPS}"), format!("train.precision={precision}")];
    for ((key, values), chance) in DRAWN.iter().zip(chance) {
        pairs.push(format!("{key}={}", values[(chance * values.len() as f32) as usize]));
    }
    (small(&pairs.iter().map(String::as_str).collect::<Vec<_>>()), pairs.join(" "))
}

/// Trains to the end, stopped at these steps on the way.
fn in_parts(config: &Config, run: &Path, stops: &[u64], what: &str) {
    let device = crate::device();
    let mut part = Run::begin(config.clone(), run, &device).expect("begins");
    for &stop in stops {
        let (outcome, _) = train(&mut part, Some(stop));
        assert_eq!(outcome.ended, Ended::Interrupted, "{what}");
        part = Run::resume(config.clone(), run, &device).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let (outcome, warnings) = train(&mut part, None);
    assert_eq!((outcome.ended, outcome.steps, warnings.len()), (Ended::Finished, STEPS, 0), "{what}: {warnings:?}");
}

fn drawn_configurations(rounds: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    for round in 0..rounds {
        let chance = Stream::new(11, round).uniform(DRAWN.len() + 2, 0.0, 0.999);
        let (config, what) = drawn(["f16", "bf16", "f32"][round as usize % 3], &chance);
        // A stop takes effect up to two steps later.
        let stops = [1 + (chance[DRAWN.len()] * 3.0) as u64, 6 + (chance[DRAWN.len() + 1] * 2.0) as u64];
        let what = format!("{what}, stopped at {stops:?}");
        let path = |name: &str| dir.path().join(format!("{round}-{name}"));
        in_parts(&config, &path("whole"), &[], &what);
        in_parts(&config, &path("parts"), &stops, &what);
        assert_same(&path("parts"), &path("whole"), &what);
    }
}

#[test]
fn six_drawn_configurations_go_on_with_the_same_bits() {
    drawn_configurations(6);
}

#[test]
#[ignore = "minutes: nightly"]
fn sixty_drawn_configurations_go_on_with_the_same_bits() {
    drawn_configurations(60);
}
