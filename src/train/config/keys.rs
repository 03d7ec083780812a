//! The table of configuration keys: what each allows, and which tasks use it.

use super::{Config, TaskKind};

/// What is said and checked about one key.
pub struct Key {
    /// Section and name, such as `train.lr`.
    pub name: &'static str,
    /// What values are allowed, with their unit; the end of a sentence.
    pub allowed: &'static str,
    /// The tasks that it means something for.
    pub tasks: &'static [TaskKind],
    /// Whether the command line's words are the value itself, not TOML.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub(super) text: bool,
    pub(super) valid: fn(&Config) -> bool,
}

const fn key(name: &'static str, allowed: &'static str, valid: fn(&Config) -> bool) -> Key {
    Key { name, allowed, tasks: &TaskKind::ALL, text: false, valid }
}

/// Words, which a page does not give but by names that it checks itself: it does without what would be said of them.
const fn text(name: &'static str, allowed: &'static str, valid: fn(&Config) -> bool) -> Key {
    match cfg!(target_arch = "wasm32") {
        true => Key { name: "", allowed: "", tasks: &[], text: true, valid },
        false => Key { name, allowed, tasks: &TaskKind::ALL, text: true, valid },
    }
}

const fn flag(name: &'static str) -> Key {
    Key { text: false, ..text(name, "true or false", |_| true) }
}

impl Key {
    const fn only(self, tasks: &'static [TaskKind]) -> Key {
        Key { tasks, ..self }
    }
}

const TEXT: &[TaskKind] = &[TaskKind::Text];
const PICTURES: &[TaskKind] = &[TaskKind::Digits, TaskKind::Images];
const IMAGES: &[TaskKind] = &[TaskKind::Images];
const FILES: &[TaskKind] = &[TaskKind::Text, TaskKind::Images];

/// TOML has no larger integers.
const MAX: u64 = i64::MAX as u64;
/// Far above what any device holds, and low enough that products of sizes stay within 64 bits.
const MAX_SIZE: usize = 1 << 20;

/// A number that is neither NaN nor infinite, from 0 to `most`.
fn within(value: f64, most: f64) -> bool {
    (0.0..=most).contains(&value)
}

const BELOW_ONE: &str = "a number from 0 to below 1";
const POSITIVE: &str = "a number of at least 0";
const STEPS: &str = "a number of steps of at least 1";

fn part(value: Option<f64>) -> bool {
    value.is_none_or(|value| (0.0..1.0).contains(&value))
}

fn positive(value: Option<f64>) -> bool {
    value.is_none_or(|value| value >= 0.0 && value.is_finite())
}

fn steps(value: Option<u64>) -> bool {
    value.is_none_or(|value| (1..=MAX).contains(&value))
}

/// Every key of the configuration.
pub const KEYS: &[Key] = &[
    text("task", "\"text\", \"digits\" or \"images\"", |_| true),
    text("model.kind", "\"convnet\", \"resnet18\", \"resnet34\" or \"resnet50\"", |_| true).only(IMAGES),
    key("model.layers", "an integer from 1 to 1024", |c| (1..=1024).contains(&c.model.layers)).only(TEXT),
    key("model.heads", "an integer from 1 to 1024 that divides model.width", |c| (1..=1024).contains(&c.model.heads))
        .only(TEXT),
    key("model.width", "an integer from 1 to 65536 (of a text: a multiple of model.heads)", |c| {
        (1..=65_536).contains(&c.model.width)
    }),
    key("model.context", "a number of tokens from 1 to 1048576", |c| (1..=MAX_SIZE).contains(&c.model.context))
        .only(TEXT),
    key("model.dropout", "a probability from 0 (off) to below 1", |c| (0.0..1.0).contains(&c.model.dropout)),
    text("data.path", "the path of a file of text (without the key: the embedded one) or of a folder of images", |c| {
        c.data.path.as_deref() != Some("")
    })
    .only(FILES),
    key("data.validation", "a fraction between 0 and 1, such as 0.1", |c| {
        c.data.validation > 0.0 && c.data.validation < 1.0
    })
    .only(FILES),
    key("data.image_size", "a number of pixels from 8 to 1024", |c| (8..=1024).contains(&c.data.image_size))
        .only(IMAGES),
    key("data.workers", "a number of threads from 1 to 64", |c| (1..=64).contains(&c.data.workers)).only(IMAGES),
    key("augment.shift", "a fraction of the image's side from 0 (off) to 0.5", |c| within(c.augment.shift, 0.5))
        .only(PICTURES),
    key("augment.rotate", "an angle in degrees from 0 (off) to 180", |c| within(c.augment.rotate, 180.0))
        .only(PICTURES),
    key("augment.scale", "a fraction of the image's size from 0 (off) to 0.9", |c| within(c.augment.scale, 0.9))
        .only(PICTURES),
    key("augment.flip", "a probability from 0 (off) to 1", |c| within(c.augment.flip, 1.0)).only(PICTURES),
    key("augment.brightness", "a change of the factor 1 from 0 (off) to 1", |c| within(c.augment.brightness, 1.0))
        .only(PICTURES),
    key("augment.contrast", "a change of the factor 1 from 0 (off) to 1", |c| within(c.augment.contrast, 1.0))
        .only(PICTURES),
    key("augment.saturation", "a change of the factor 1 from 0 (off) to 1", |c| within(c.augment.saturation, 1.0))
        .only(IMAGES),
    key("train.steps", "an integer of at least 1", |c| (1..=MAX).contains(&c.train.steps)),
    key("train.batch", "a number of samples from 1 to 1048576", |c| (1..=MAX_SIZE).contains(&c.train.batch)),
    key("train.accumulate", "a number of micro-batches from 1 to 65536 that divides train.batch", |c| {
        (1..=65_536).contains(&c.train.accumulate)
    }),
    text("train.precision", "\"f32\", \"f16\" or \"bf16\"", |_| true),
    text("train.recompute", "\"none\" or \"auto\"", |_| true),
    text(
        "train.optimizer",
        "\"adamw\", \"adam\", \"adamw8bit\", \"sgd\", \"rmsprop\", \"adagrad\", \"adadelta\", \"adafactor\", \"lion\" or \"muon\"",
        |_| true,
    ),
    key("train.lr", "a number above 0, such as 1e-3", |c| c.train.lr > 0.0 && c.train.lr.is_finite()),
    key("train.weight_decay", "a number of at least 0 (off)", |c| {
        c.train.weight_decay >= 0.0 && c.train.weight_decay.is_finite()
    }),
    key("train.warmup", "a number of steps, 0 (off) or more, below train.steps", |c| c.train.warmup <= MAX),
    key("train.clip", "a largest global gradient norm above 0, or 0 (off)", |c| {
        c.train.clip >= 0.0 && c.train.clip.is_finite()
    }),
    text(
        "train.schedule",
        "\"cosine\", \"constant\", \"onecycle\", \"linear\", \"polynomial\", \"restarts\", \"stable\" or \"plateau\"",
        |_| true,
    ),
    key("train.ema", "a part of the running mean that a step keeps, from 0 (no mean) to below 1, such as 0.999", |c| {
        (0.0..1.0).contains(&c.train.ema)
    }),
    flag("train.ema_warmup"),
    key("train.seed", "an integer from 0 to 9223372036854775807", |c| c.train.seed <= MAX),
    key("train.eval_every", "a number of steps, or 0 (never)", |c| c.train.eval_every <= MAX),
    key("train.eval_batches", "an integer from 1 to 1048576", |c| (1..=MAX_SIZE).contains(&c.train.eval_batches))
        .only(TEXT),
    key("train.early_stopping", "a number of evaluations without a better loss, or 0 (off)", |c| {
        c.train.early_stopping <= MAX
    }),
    key("train.checkpoint_every", "a number of steps, or 0 (only at the end)", |c| c.train.checkpoint_every <= MAX),
    flag("train.tensorboard"),
    key("train.norms_every", "a number of steps, or 0 (never)", |c| c.train.norms_every <= MAX),
    text("train.on_nonfinite", "\"stop\", \"skip\" or \"rollback\"", |_| true),
    key("optimizer.momentum", BELOW_ONE, |c| part(c.optimizer.momentum)),
    key("optimizer.dampening", BELOW_ONE, |c| part(c.optimizer.dampening)),
    flag("optimizer.nesterov"),
    key("optimizer.beta1", BELOW_ONE, |c| part(c.optimizer.beta1)),
    key("optimizer.beta2", BELOW_ONE, |c| part(c.optimizer.beta2)),
    key("optimizer.eps", POSITIVE, |c| positive(c.optimizer.eps)),
    flag("optimizer.amsgrad"),
    key("optimizer.alpha", BELOW_ONE, |c| part(c.optimizer.alpha)),
    flag("optimizer.centered"),
    key("optimizer.lr_decay", POSITIVE, |c| positive(c.optimizer.lr_decay)),
    key("optimizer.initial_accumulator_value", POSITIVE, |c| positive(c.optimizer.initial_accumulator_value)),
    key("optimizer.rho", BELOW_ONE, |c| part(c.optimizer.rho)),
    key("optimizer.beta2_decay", "a number of at most 0", |c| positive(c.optimizer.beta2_decay.map(|x| -x))),
    key("optimizer.d", "a number of at least 1", |c| c.optimizer.d.is_none_or(|d| d >= 1.0 && d.is_finite())),
    key("optimizer.eps1", POSITIVE, |c| positive(c.optimizer.eps1)),
    key("optimizer.eps2", POSITIVE, |c| positive(c.optimizer.eps2)),
    key("optimizer.ns_steps", "an integer from 1 to 99", |c| {
        c.optimizer.ns_steps.is_none_or(|steps| (1..=99).contains(&steps))
    }),
    text("optimizer.adjust_lr_fn", "\"original\", \"match_rms_adamw\" or \"spectral_unclamped\"", |_| true),
    key("schedule.min_lr", POSITIVE, |c| positive(c.schedule.min_lr)),
    key("schedule.power", POSITIVE, |c| positive(c.schedule.power)),
    key("schedule.period", STEPS, |c| steps(c.schedule.period)),
    key("schedule.period_growth", "an integer from 1 to 1024", |c| {
        c.schedule.period_growth.is_none_or(|growth| (1..=1024).contains(&growth))
    }),
    key("schedule.decay", STEPS, |c| steps(c.schedule.decay)),
    key("schedule.factor", BELOW_ONE, |c| part(c.schedule.factor)),
    key("schedule.patience", "a number of evaluations", |c| c.schedule.patience.is_none_or(|n| n <= MAX)),
    key("schedule.threshold", POSITIVE, |c| positive(c.schedule.threshold)),
    key("schedule.cooldown", "a number of evaluations", |c| c.schedule.cooldown.is_none_or(|n| n <= MAX)),
    text("device.adapter", "a part of an adapter's name, or its index, as `wgrad devices` lists them", |c| {
        c.device.adapter.as_deref() != Some("")
    }),
    flag("device.autotune"),
    text("device.memory", "a size such as \"6GiB\" or \"800MiB\", or \"auto\"", |_| true),
    key("device.timeout", "a number of seconds without an answer, from 1 to 86400", |c| {
        (1..=86_400).contains(&c.device.timeout)
    }),
];
