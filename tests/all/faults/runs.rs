//! A run that was stopped or killed anywhere and goes on is the run that was not: the same bits in weights, optimizer
//! and losses, and one line a step in its metrics.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wgrad::io::safetensors::Weights;
use wgrad::random::Stream;
use wgrad::train::config::{Config, RawConfig};
use wgrad::train::keeper::newest;
pub use wgrad::train::run::METRICS;
use wgrad::train::run::{BEST, Ended, Event, Outcome, Run};

/// Everything that a resumed run could get wrong, on a model that takes no time: dropout, clipping, a schedule,
/// evaluations, batches of a text.
const SMALL: [&str; 9] = [
    "model.layers=1",
    "model.heads=1",
    "model.width=8",
    "model.context=8",
    "model.dropout=0.1",
    "train.batch=2",
    "train.warmup=3",
    "train.eval_every=4",
    "train.eval_batches=1",
];

pub fn small(more: &[&str]) -> Config {
    let mut raw = RawConfig::default();
    for pair in SMALL.iter().chain(more) {
        raw.set_pair(pair).expect("a key");
    }
    raw.resolve().expect("a configuration")
}

/// Trains, and stops as soon as step `stop` is recorded.
pub fn train(run: &mut Run, stop: Option<u64>) -> (Outcome, Vec<String>) {
    let (flag, mut warnings) = (run.stop_flag(), Vec::new());
    let outcome = run.train(&mut |event| match event {
        Event::Step(record) if Some(record.step) == stop => flag.store(true, Ordering::Relaxed),
        Event::Step(_) | Event::Saved(_) | Event::Slower { .. } => {}
        Event::Warning(warning) => warnings.push(warning.to_string()),
    });
    (outcome.unwrap_or_else(|error| panic!("{error}; {warnings:?}")), warnings)
}

/// The lines of the metrics without what depends on the clock.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join(METRICS)).expect("metrics");
    let timeless = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a line of JSON");
        let object = value.as_object_mut().expect("an object");
        for key in ["tokens_s", "images_s", "elapsed_s"] {
            object.remove(key);
        }
        value
    };
    text.lines().map(timeless).collect()
}

/// Both runs end in the same state, with the same records and the same best weights.
pub fn assert_same(run: &Path, undisturbed: &Path, what: &str) {
    assert_eq!(metrics(run), metrics(undisturbed), "{what}");
    let state = |run: &Path| {
        let mut state = newest(run).expect("reads").expect("has a checkpoint").state;
        for key in ["elapsed_s", "metrics_bytes", "config"] {
            state.metadata.remove(key);
        }
        state
    };
    let best = |run: &Path| Weights::load(run.join(BEST)).expect("the best weights");
    for (got, want) in [(state(run), state(undisturbed)), (best(run), best(undisturbed))] {
        assert_eq!(got.metadata, want.metadata, "{what}");
        let names = |weights: &Weights| weights.tensors.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&got), names(&want), "{what}");
        assert!(got.tensors == want.tensors, "{what}: other bits");
    }
}

#[test]
fn a_run_that_was_stopped_at_any_step_goes_on_with_the_same_bits() {
    let dir = tempfile::tempdir().expect("a directory");
    let (device, config) = (crate::device(), small(&["train.steps=11", "train.checkpoint_every=3"]));
    let whole = dir.path().join("whole");
    let (outcome, warnings) = train(&mut Run::begin(config.clone(), &whole, &device).expect("begins"), None);
    assert_eq!((outcome.ended, outcome.steps, warnings.len()), (Ended::Finished, 11, 0));
    for stop in 1..10 {
        let what = format!("stopped after step {stop}");
        let run = dir.path().join(stop.to_string());
        let (outcome, _) = train(&mut Run::begin(config.clone(), &run, &device).expect("begins"), Some(stop));
        assert_eq!(outcome.ended, Ended::Interrupted, "{what}");
        assert!((stop..=stop + 2).contains(&outcome.steps), "{what}: only after {}", outcome.steps);
        let (outcome, warnings) = train(&mut Run::resume(config.clone(), &run, &device).expect("resumes"), None);
        assert_eq!((outcome.ended, outcome.steps, warnings.len()), (Ended::Finished, 11, 0), "{what}: {warnings:?}");
        assert_same(&run, &whole, &what);
    }
}

#[test]
fn what_a_checkpoint_does_not_know_of_is_forgotten_and_a_damaged_one_is_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let (device, config) = (crate::device(), small(&["train.steps=9", "train.checkpoint_every=3"]));
    let (whole, run) = (dir.path().join("whole"), dir.path().join("run"));
    train(&mut Run::begin(config.clone(), &whole, &device).expect("begins"), None);
    train(&mut Run::begin(config.clone(), &run, &device).expect("begins"), Some(7));
    // Steps after the last checkpoint that is whole were recorded, and more than that.
    let newest_one = newest(&run).expect("reads").expect("is there").path;
    std::fs::write(newest_one.join("manifest.json"), "{").expect("writes");
    let mut text = std::fs::read_to_string(run.join(METRICS)).expect("metrics");
    text.push_str("{\"step\":3,\"lo");
    std::fs::write(run.join(METRICS), text).expect("writes");
    let (_, warnings) = train(&mut Run::resume(config.clone(), &run, &device).expect("resumes"), None);
    assert!(warnings.len() == 1 && warnings[0].contains("a newer checkpoint cannot be used"), "{warnings:?}");
    assert_same(&run, &whole, "damaged");
    // Without any checkpoint it begins again.
    std::fs::remove_dir_all(run.join("checkpoints")).expect("removes");
    let (_, warnings) = train(&mut Run::resume(config, &run, &device).expect("resumes"), None);
    assert!(warnings.len() == 1 && warnings[0].contains("it begins again"), "{warnings:?}");
    assert_same(&run, &whole, "from the beginning");
}

#[test]
fn a_run_that_was_stopped_early_says_so_when_it_is_resumed() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = dir.path().join("run");
    // No update makes anything better.
    let config = small(&["train.steps=90", "train.early_stopping=2", "train.lr=1e-30", "model.dropout=0"]);
    let (outcome, _) = train(&mut Run::begin(config.clone(), &run, &crate::device()).expect("begins"), None);
    assert_eq!((outcome.ended, outcome.steps), (Ended::StoppedEarly, 12));
    let again = Run::resume(config, &run, &crate::device()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(again.contains("early_stopping=4"), "{again}");
}

/// A disk that is full for a while: training goes on, the user is told, and nothing is missing afterwards.
#[test]
fn a_run_on_a_full_disk_goes_on() {
    let Some(dir) = SmallDisk::mount() else { return eprintln!("NOT TESTED: mounting a small tmpfs needs root") };
    let config = small(&["train.steps=60", "train.checkpoint_every=4"]);
    let elsewhere = tempfile::tempdir().expect("a directory");
    let whole = elsewhere.path().join("whole");
    train(&mut Run::begin(config.clone(), &whole, &crate::device()).expect("begins"), None);
    full_for_a_while(&config, &dir, &whole);
    full_to_the_end(config, &dir);
}

/// A file system of 1 MiB.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub fn mount() -> Option<SmallDisk> {
        let dir = tempfile::tempdir().ok()?;
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path()).output();
        output.is_ok_and(|output| output.status.success()).then_some(SmallDisk(dir))
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Takes all the room there is.
    fn fill(&self) {
        // It ends with an error, as it should.
        let _ = std::fs::write(self.join("ballast"), vec![1; 2 << 20]);
    }

    fn empty(&self) {
        std::fs::remove_file(self.join("ballast")).expect("removes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn full_for_a_while(config: &Config, dir: &SmallDisk, whole: &Path) {
    let path = dir.join("run");
    let mut run = Run::begin(config.clone(), &path, &crate::device()).expect("begins");
    let (mut warnings, mut saved) = (Vec::new(), Vec::new());
    let outcome = run.train(&mut |event| match event {
        Event::Step(record) if record.step == 10 => dir.fill(),
        Event::Step(record) if record.step == 50 => dir.empty(),
        Event::Step(_) | Event::Slower { .. } => {}
        Event::Saved(path) => saved.push(path.display().to_string()),
        Event::Warning(warning) => warnings.push(warning.to_string()),
    });
    assert_eq!(outcome.expect("goes on").ended, Ended::Finished);
    let told = |text: &str| warnings.iter().any(|warning| warning.contains(text));
    assert!(told("records wait") && told("checkpoint") && told("No space left"), "{warnings:#?}");
    assert!(saved.iter().any(|path| path.ends_with("step-8")) && saved.iter().any(|path| path.ends_with("step-60")));
    assert_same(&path, whole, "after a full disk");
}

/// An error in the end, and what was there stays.
fn full_to_the_end(config: Config, dir: &SmallDisk) {
    let path = dir.join("full");
    let mut run = Run::begin(config, &path, &crate::device()).expect("begins");
    let outcome = run.train(&mut |event| {
        if matches!(event, Event::Step(record) if record.step == 10) {
            dir.fill();
        }
    });
    let message = outcome.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("No space left"), "{message}");
    assert_eq!(newest(&path).expect("reads").expect("is there").step, 8);
}

/// The program itself, in a process of its own, with half precision and micro-batches too.
pub struct Program {
    pub run: PathBuf,
    pub steps: u64,
    pub every: u64,
}

/// Beside what is [`SMALL`].
const MORE: [&str; 2] = ["train.precision=f16", "train.accumulate=2"];

impl Program {
    /// Begins, or goes on where there is something to go on with.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wgrad"));
        command.arg("train").arg("--steps").arg(self.steps.to_string());
        if self.run.join("config.toml").exists() {
            command.arg("--resume").arg(&self.run);
        } else {
            command.arg("--out").arg(&self.run);
            let every = format!("train.checkpoint_every={}", self.every);
            for pair in SMALL.into_iter().chain(MORE).chain([every.as_str()]) {
                command.args(["--set", pair]);
            }
        }
        if let Ok(adapter) = std::env::var("WGRAD_ADAPTER") {
            command.args(["--adapter", &adapter]);
        }
        command.stdin(Stdio::null());
        command
    }

    fn start(&self) -> Child {
        self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
    }

    pub fn finish(&self) -> String {
        let output = self.start().wait_with_output().expect("ends");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let done = text.contains("has made all of its");
        assert!(output.status.success() || done, "{}: {text}", output.status);
        text
    }

    pub fn recorded(&self) -> usize {
        std::fs::read(self.run.join(METRICS)).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())
    }

    /// Waits until this many steps are recorded.
    #[cfg(unix)]
    fn wait_for(&self, steps: usize) {
        let start = Instant::now();
        while self.recorded() < steps {
            assert!(start.elapsed() < Duration::from_secs(120), "no step {steps} after two minutes");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

/// Kills the program at so many random instants, also while it saves, which it does at every step.
fn killed(times: u64, seed: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let program = |name: &str| Program { run: dir.path().join(name), steps: 4 * times, every: 1 };
    let whole = program("whole");
    whole.finish();
    let run = program("run");
    let mut inside_a_save = 0;
    for attempt in 0..times {
        let before = run.recorded();
        let mut child = run.start();
        let chance = Stream::new(seed, attempt as u32).uniform(2, 0.0, 1.0);
        // Half of them within a few steps, in some of which a save is under way; the others whenever it is.
        let start = Instant::now();
        while attempt % 2 == 0 && run.recorded() <= before && start.elapsed() < Duration::from_secs(60) {
            if child.try_wait().expect("is known").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        let most = if attempt % 2 == 0 { 30_000.0 } else { 1_200_000.0 };
        std::thread::sleep(Duration::from_micros((chance[0] * most) as u64));
        child.kill().expect("is a child of ours");
        child.wait().expect("ends");
        let names = std::fs::read_dir(run.run.join("checkpoints")).into_iter().flatten().flatten();
        inside_a_save += u64::from(names.into_iter().any(|name| name.path().extension().is_some_and(|e| e == "tmp")));
    }
    run.finish();
    println!("{times} kills, {inside_a_save} of them inside a save");
    assert_same(&run.run, &whole.run, "killed");
}

#[test]
fn a_run_that_is_killed_twenty_times_is_the_run_that_was_not() {
    killed(20, 1);
}

#[test]
#[ignore = "minutes: nightly"]
fn a_run_that_is_killed_two_hundred_times_is_the_run_that_was_not() {
    killed(200, 2);
}

#[test]
#[cfg(unix)]
fn signals_save_and_say_how_to_go_on_and_a_second_one_ends_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let program = |name: &str| Program { run: dir.path().join(name), steps: 400, every: 0 };
    for name in ["-INT", "-TERM"] {
        let run = program(name.trim_start_matches('-'));
        let child = run.start();
        run.wait_for(5);
        signal(&child, name);
        let output = child.wait_with_output().expect("ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(&format!("wgrad train --resume {}", run.run.display())), "{text}");
        let saved = newest(&run.run).expect("reads").expect("is saved").step as usize;
        assert!(saved >= 5 && saved == run.recorded(), "{saved} steps saved, {} recorded", run.recorded());
    }
    let run = program("twice");
    let child = run.start();
    run.wait_for(1);
    (0..2).for_each(|_| signal(&child, "-INT"));
    let status = child.wait_with_output().expect("ends").status;
    assert!(status.code() == Some(130) || status.success(), "{status}");
}
