//! The tasks of `wgrad train` from a configuration to what a run leaves behind.

use std::path::Path;
use wgrad::Result;
use wgrad::io::digits::{INK, SIDE, TRAINING, digits};
use wgrad::io::safetensors::Weights;
use wgrad::train::config::{Config, RawConfig, TrainConfig};
use wgrad::train::keeper::newest;
use wgrad::train::predict::Predictor;
use wgrad::train::run::{BEST, Event, Outcome, Run, read_weights};
use wgrad::train::task::{Model, Task};

fn config(settings: &[&str]) -> Result<Config> {
    let mut raw = RawConfig::default();
    settings.iter().try_for_each(|pair| raw.set_pair(pair))?;
    raw.resolve()
}

/// Trains in a directory; also the warnings.
fn train(config: &Config, directory: &Path) -> Result<(Outcome, Vec<String>)> {
    finish(Run::begin(config.clone(), directory, &crate::device())?)
}

fn finish(mut run: Run) -> Result<(Outcome, Vec<String>)> {
    let mut warnings = Vec::new();
    let outcome = run.train(&mut |event| {
        if let Event::Warning(warning) = event {
            warnings.push(warning.to_string());
        }
    })?;
    Ok((outcome, warnings))
}

fn accuracy(outcome: &Outcome) -> f32 {
    outcome.confusion.as_ref().expect("classes").accuracy()
}

fn message<T>(result: Result<T>) -> String {
    result.err().map_or_else(|| "no error".to_string(), |error| error.to_string())
}

/// The losses of every step, and the pictures that must be there.
fn losses(directory: &Path) -> Vec<u32> {
    let records = wgrad::train::metrics::read(directory.join("metrics.jsonl")).expect("metrics");
    records.iter().map(|record| record.loss.to_bits()).collect()
}

#[test]
fn digits_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = dir.path().join("run");
    // Fewer steps than the default: the default with three seeds is in the nightly tier.
    let config = config(&["task=digits", "train.steps=400", "train.eval_every=200"]).expect("a configuration");
    let (outcome, warnings) = train(&config, &run).expect("trains");
    assert!(accuracy(&outcome) >= 0.98, "{:?}", outcome.confusion);
    assert!(warnings.is_empty(), "{warnings:?}");
    for file in ["config.toml", "metrics.jsonl", "loss.svg", "accuracy.svg", "confusion.svg", BEST] {
        assert!(run.join(file).metadata().is_ok_and(|about| about.len() > 0), "{file}");
    }
    let picture = std::fs::read_to_string(run.join("confusion.svg")).expect("a picture");
    assert!(picture.contains("of 360 right") && picture.contains("read as"));
    predictions(&config, &run, dir.path());
    resuming_refuses_what_is_done(&config, &run);
}

#[test]
#[ignore = "minutes: nightly"]
fn digits_are_read_with_every_seed() {
    for seed in 0..3 {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(&["task=digits", &format!("train.seed={seed}")]).expect("a configuration");
        let (outcome, _) = train(&config, &dir.path().join("run")).expect("trains");
        println!("seed {seed}: {} of 360 right", outcome.confusion.as_ref().expect("classes").right());
        assert!(accuracy(&outcome) >= 0.98, "seed {seed}: {:?}", outcome.confusion);
    }
}

/// Test digits as a scanner would give them, dark on light.
fn predictions(config: &Config, run: &Path, folder: &Path) {
    let mut predictor =
        Predictor::new(&crate::device(), config, &read_weights(run).expect("weights")).expect("a model");
    let path = folder.join("digit.png");
    let digits = digits();
    let right = digits[TRAINING..TRAINING + 20].iter().filter(|digit| {
        let grey = |x: u32, y: u32| {
            255 - (u32::from(digit.pixels[y as usize * SIDE + x as usize]) * 255 / u32::from(INK)) as u8
        };
        image::GrayImage::from_fn(8, 8, |x, y| image::Luma([grey(x, y)])).save(&path).expect("writes");
        let found = predictor.predict(&path).expect("an answer");
        assert!((found.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-4);
        found[0].0 == digit.label.to_string()
    });
    assert!(right.count() >= 18);
    assert!(message(predictor.predict(&folder.join("absent.png"))).contains("no such file"));
}

/// A run that was begun with other classes does not go on, and one with other images says so.
fn resuming_tells_what_changed(config: &Config, data: &Path, run: &Path) {
    let longer = Config { train: TrainConfig { steps: 121, ..config.train.clone() }, ..config.clone() };
    std::fs::remove_file(data.join("square/000.png")).expect("was there");
    let (_, warnings) = finish(Run::resume(longer, run, &crate::device()).expect("resumes")).expect("trains");
    assert!(warnings.iter().any(|warning| warning.contains("not all those that the run began with")), "{warnings:?}");
    std::fs::rename(data.join("square"), data.join("box")).expect("renames");
    let longer = Config { train: TrainConfig { steps: 122, ..config.train.clone() }, ..config.clone() };
    let changed = message(Run::resume(longer, run, &crate::device()));
    assert!(changed.contains("disc, square, stripes") && changed.contains("box, disc, stripes"), "{changed}");
}

fn resuming_refuses_what_is_done(config: &Config, run: &Path) {
    let again = message(Run::resume(config.clone(), run, &crate::device()));
    assert!(again.contains("all of its 400 steps"), "{again}");
    assert!(message(Run::begin(config.clone(), run, &crate::device())).contains("holds a run already"));
}

/// Shapes in noise: each class has its own colour and shape, at any place; one file of the first class is damaged.
fn shapes(root: &Path, each: usize) {
    for (class, name) in ["disc", "square", "stripes"].into_iter().enumerate() {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for number in 0..each {
            let hash =
                |i: usize| (wgrad::random::threefry2x32([class as u32, number as u32], [i as u32, 0])[0] >> 8) as usize;
            let (cx, cy) = (6 + hash(0) % 8, 6 + hash(1) % 8);
            let inside = |x: usize, y: usize| match class {
                0 => x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) < 25,
                1 => x.abs_diff(cx) < 5 && y.abs_diff(cy) < 5,
                _ => x.abs_diff(cx) < 6 && y % 4 < 2,
            };
            let image = image::RgbImage::from_fn(20, 20, |x, y| {
                let (x, y) = (x as usize, y as usize);
                let noise = |channel: usize| (hash(2 + 3 * (20 * y + x) + channel) % 60) as u8;
                let colour = |channel: usize| if inside(x, y) { 120 + 60 * u8::from(channel == class) } else { 60 };
                image::Rgb([0, 1, 2].map(|channel| colour(channel) + noise(channel)))
            });
            let ending = if number % 2 == 0 { "png" } else { "jpg" };
            image.save(folder.join(format!("{number:03}.{ending}"))).expect("writes");
        }
    }
    std::fs::write(root.join("disc/broken.jpg"), b"\xff\xd8 and then nothing of an image").expect("writes");
}

#[test]
fn a_folder_of_images_is_learned_and_a_damaged_file_is_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    shapes(&data, 40);
    let settings = [
        "task=images".to_string(),
        format!("data.path={}", data.display()),
        "data.image_size=16".into(),
        "data.validation=0.25".into(),
        "model.width=8".into(),
        "train.steps=120".into(),
        "train.batch=24".into(),
        "train.lr=0.01".into(),
        "train.eval_every=60".into(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let config = config(&settings).expect("a configuration");
    let (outcome, warnings) = train(&config, &run).expect("trains");
    assert!(accuracy(&outcome) > 0.9, "{:?}", outcome.confusion);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("broken.jpg") && warnings[0].contains("1 so far"), "{warnings:?}");
    let picture = std::fs::read_to_string(run.join("confusion.svg")).expect("a picture");
    assert!(picture.contains("stripes") && picture.contains("taken for"));
    let mut predictor =
        Predictor::new(&crate::device(), &config, &read_weights(&run).expect("weights")).expect("a model");
    let right = (0..10).filter(|number| {
        let path = data.join("square").join(format!("{number:03}.{}", if number % 2 == 0 { "png" } else { "jpg" }));
        predictor.predict(&path).expect("an answer")[0].0 == "square"
    });
    assert!(right.count() >= 8);
    resuming_tells_what_changed(&config, &data, &run);
}

#[test]
fn a_resumed_run_of_images_goes_on_with_the_same_bits() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    shapes(&data, 10);
    let with = |steps: u64, workers: usize| {
        let settings = [
            "task=images".to_string(),
            format!("data.path={}", data.display()),
            format!("data.workers={workers}"),
            format!("train.steps={steps}"),
            "data.image_size=16".into(),
            "model.width=4".into(),
            // Batches that reach from one epoch into the next.
            "train.batch=7".into(),
            "model.dropout=0.2".into(),
            "train.schedule=constant".into(),
            "train.warmup=0".into(),
            "train.eval_every=4".into(),
            "augment.rotate=10".into(),
        ];
        config(&settings.iter().map(String::as_str).collect::<Vec<_>>()).expect("a configuration")
    };
    let (whole, halves) = (dir.path().join("whole"), dir.path().join("halves"));
    train(&with(14, 3), &whole).expect("trains");
    train(&with(6, 1), &halves).expect("trains");
    finish(Run::resume(with(14, 2), &halves, &crate::device()).expect("resumes")).expect("trains");
    assert_eq!(losses(&halves), losses(&whole));
    let last = |run: &Path| newest(run).expect("reads").expect("a checkpoint").state.tensors;
    assert!(last(&halves) == last(&whole), "other weights");
}

#[test]
fn kernels_of_the_tasks_pass_the_compilers_of_every_tier() {
    let dir = tempfile::tempdir().expect("a directory");
    shapes(dir.path(), 2);
    let images = |kind: &str| {
        let (path, kind) = (format!("data.path={}", dir.path().display()), format!("model.kind={kind}"));
        config(&["task=images", &path, &kind, "data.image_size=32", "model.width=8", "train.batch=4"])
    };
    for config in [config(&["task=digits"]), images("convnet"), images("resnet18"), images("resnet50")] {
        let config = config.expect("a configuration");
        for (tier, profile) in crate::legality::profiles() {
            let Model { trainer, loss } = Task::new(&config).expect("a task").model;
            let plan = trainer.plan(&profile, loss).unwrap_or_else(|error| panic!("{tier}: {error}"));
            plan.programs.iter().for_each(crate::legality::check);
        }
    }
}

#[test]
fn what_cannot_be_learned_from_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    let begin = |path: &Path| {
        let config = config(&["task=images", &format!("data.path={}", path.display())])?;
        Run::begin(config, &run, &crate::device()).map(|_| ())
    };
    assert!(message(begin(&data)).contains("no such folder"));
    std::fs::create_dir_all(data.join("a")).expect("a folder");
    assert!(message(begin(&data)).contains("only one class"));
    std::fs::create_dir_all(data.join("b")).expect("a folder");
    assert!(message(begin(&data)).contains("there is no image"));
    for class in ["a", "b"] {
        image::RgbImage::new(2, 2).save(data.join(class).join("1.png")).expect("writes");
    }
    assert!(message(begin(&data)).contains("no image is held out"));
    assert!(!run.exists());
    assert!(message(config(&["task=digits", "data.path=x"])).contains("no use for this"));
    assert!(message(config(&["augment.flip=0.5"])).contains("--task digits and --task images"));
}

#[test]
fn micro_batches_leave_a_run_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let with = |task: &str, accumulate: usize| {
        let settings = [
            format!("task={task}"),
            format!("train.accumulate={accumulate}"),
            "train.batch=8".into(),
            "train.steps=12".into(),
            "train.warmup=2".into(),
            "train.eval_every=6".into(),
            "model.width=8".into(),
            "model.dropout=0.1".into(),
        ];
        let config = config(&settings.iter().map(String::as_str).collect::<Vec<_>>()).expect("a configuration");
        let run = dir.path().join(format!("{task}-{accumulate}"));
        train(&config, &run).expect("trains");
        wgrad::train::metrics::read(run.join("metrics.jsonl")).expect("metrics")
    };
    let whole = with("text", 1);
    let split = with("text", 4);
    assert_eq!(whole.len(), 12);
    for (one, four) in whole.iter().zip(&split) {
        assert!((one.loss - four.loss).abs() < 1e-4 * one.loss, "step {}: {} and {}", one.step, one.loss, four.loss);
        let validation = one.val_loss.zip(four.val_loss);
        assert!(validation.is_none_or(|(one, four)| (one - four).abs() < 1e-4 * one), "step {}", one.step);
        assert_eq!(one.val_loss.is_some(), four.val_loss.is_some());
    }
    // Batch norm sees micro-batches, so that images go another way, but every part is counted.
    let digits = with("digits", 2);
    assert!(digits.iter().all(|record| record.accuracy.is_some_and(|part| (part * 8.0).fract().abs() < 1e-3)));
    assert!(message(config(&["train.batch=8", "train.accumulate=3"])).contains("micro-batches of as many each"));
}

#[test]
fn a_run_begins_with_the_weights_of_a_file_and_is_resumed_as_if_they_were_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let small = ["model.layers=1", "model.heads=2", "model.width=16", "model.context=16", "train.batch=4"];
    let settings = |steps: u32| {
        let own = [format!("train.steps={steps}"), format!("train.eval_every={steps}")];
        config(&small.iter().copied().chain(own.iter().map(String::as_str)).collect::<Vec<_>>()).expect("valid")
    };
    train(&settings(60), &dir.path().join("first")).expect("trains");
    let weights = read_weights(&dir.path().join("first")).expect("weights");
    let begin = |run: &Path| Run::begin_from(settings(6), run, &crate::device(), &weights).expect("begins");
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    finish(begin(&whole)).expect("trains");
    // One that ends before its first step has the weights too.
    drop(begin(&killed));
    finish(Run::resume(settings(6), &killed, &crate::device()).expect("resumes")).expect("trains");
    assert_eq!(losses(&whole), losses(&killed));
    let [fresh, learned] = ["first", "whole"].map(|run| f32::from_bits(losses(&dir.path().join(run))[0]));
    assert!(learned < fresh - 1.0, "first losses {fresh} and {learned}");

    let sizes = wgrad::train::char_gpt::sizes_of(&weights);
    let expected = [("model.context", "16"), ("model.heads", "2"), ("model.layers", "1"), ("model.width", "16")];
    assert_eq!(sizes.iter().map(|(key, size)| (*key, &size[..])).collect::<Vec<_>>(), expected);
    let bare = Weights { metadata: Default::default(), ..weights.clone() };
    let seen = wgrad::train::char_gpt::sizes_of(&bare);
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), ["model.context", "model.layers", "model.width"]);
    assert!(wgrad::train::digits::sizes_of(&weights).is_empty());

    let other = config(&["model.width=32", "model.context=16", "model.layers=1"]).expect("valid");
    let refused = message(Run::begin_from(other, &dir.path().join("other"), &crate::device(), &weights));
    assert!(refused.contains("wte.weight") && refused.contains("[256, 16]"), "{refused}");
    assert!(!dir.path().join("other").exists());
}
