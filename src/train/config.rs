//! The configuration of a training run: from raw words to a checked [`Config`], in two steps.
//!
//! Step one, [`RawConfig`]: keys and values as a TOML file and the command line give them, each
//! with where it came from; later ones win. Step two, [`RawConfig::resolve`]: every value becomes
//! its type, is checked against the row of its key in [`KEYS`], and then against the others. What
//! comes out can be trained with, and `Config::to_toml` writes it into the run directory.
//! Knows nothing about models or devices; a value that only they can refuse is refused there.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Everything that a run depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub model: ModelConfig,
    pub data: DataConfig,
    pub train: TrainConfig,
    pub device: DeviceConfig,
}

/// The size of the GPT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    pub layers: usize,
    pub heads: usize,
    pub width: usize,
    pub context: usize,
    pub dropout: f64,
}

/// The text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `None`: the text embedded in the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub validation: f64,
}

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    pub steps: u64,
    pub batch: usize,
    pub lr: f64,
    pub weight_decay: f64,
    pub warmup: u64,
    pub clip: f64,
    pub schedule: Schedule,
    pub seed: u64,
    pub eval_every: u64,
    pub eval_batches: usize,
    pub early_stopping: u64,
    pub checkpoint_every: u64,
    pub tensorboard: bool,
}

/// Where to train.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// `None`: the best adapter that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
}

/// How the learning rate changes over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Linear warm-up, then down along half a cosine.
    Cosine,
    /// Linear warm-up, then unchanged.
    Constant,
    /// Up and down once, as PyTorch's `OneCycleLR`.
    OneCycle,
}

impl Default for ModelConfig {
    fn default() -> ModelConfig {
        // Small enough that a software adapter on two cores learns something in two minutes.
        ModelConfig { layers: 3, heads: 4, width: 64, context: 64, dropout: 0.0 }
    }
}

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig { path: None, validation: 0.1 }
    }
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            steps: 1600,
            batch: 8,
            lr: 4e-3,
            weight_decay: 0.1,
            warmup: 50,
            clip: 1.0,
            schedule: Schedule::Cosine,
            seed: 0,
            eval_every: 200,
            eval_batches: 4,
            early_stopping: 0,
            checkpoint_every: 400,
            tensorboard: false,
        }
    }
}

/// What is said and checked about one key.
pub struct Key {
    /// Section and name, such as `train.lr`.
    pub name: &'static str,
    /// What values are allowed, with their unit; the end of a sentence.
    pub allowed: &'static str,
    /// Whether the command line's words are the value itself, not TOML.
    text: bool,
    valid: fn(&Config) -> bool,
}

const fn key(name: &'static str, allowed: &'static str, valid: fn(&Config) -> bool) -> Key {
    Key { name, allowed, text: false, valid }
}

const fn text(name: &'static str, allowed: &'static str, valid: fn(&Config) -> bool) -> Key {
    Key { name, allowed, text: true, valid }
}

/// TOML has no larger integers.
const MAX: u64 = i64::MAX as u64;
/// Far above what any device holds, and low enough that products of sizes stay within 64 bits.
const MAX_SIZE: usize = 1 << 20;

/// Every key of the configuration.
pub const KEYS: &[Key] = &[
    key("model.layers", "an integer from 1 to 1024", |c| (1..=1024).contains(&c.model.layers)),
    key("model.heads", "an integer from 1 to 1024 that divides model.width", |c| (1..=1024).contains(&c.model.heads)),
    key("model.width", "an integer from 1 to 65536, a multiple of model.heads", |c| {
        (1..=65_536).contains(&c.model.width)
    }),
    key("model.context", "a number of tokens from 1 to 1048576", |c| (1..=MAX_SIZE).contains(&c.model.context)),
    key("model.dropout", "a probability from 0 (off) to below 1", |c| (0.0..1.0).contains(&c.model.dropout)),
    text("data.path", "the path of a file (without the key: the embedded text)", |c| {
        c.data.path.as_deref() != Some("")
    }),
    key("data.validation", "a fraction between 0 and 1, such as 0.1", |c| {
        c.data.validation > 0.0 && c.data.validation < 1.0
    }),
    key("train.steps", "an integer of at least 1", |c| (1..=MAX).contains(&c.train.steps)),
    key("train.batch", "a number of samples from 1 to 1048576", |c| (1..=MAX_SIZE).contains(&c.train.batch)),
    key("train.lr", "a number above 0, such as 1e-3", |c| c.train.lr > 0.0 && c.train.lr.is_finite()),
    key("train.weight_decay", "a number of at least 0 (off)", |c| {
        c.train.weight_decay >= 0.0 && c.train.weight_decay.is_finite()
    }),
    key("train.warmup", "a number of steps, 0 (off) or more, below train.steps", |c| c.train.warmup <= MAX),
    key("train.clip", "a largest global gradient norm above 0, or 0 (off)", |c| {
        c.train.clip >= 0.0 && c.train.clip.is_finite()
    }),
    text("train.schedule", "\"cosine\", \"constant\" or \"onecycle\"", |_| true),
    key("train.seed", "an integer from 0 to 9223372036854775807", |c| c.train.seed <= MAX),
    key("train.eval_every", "a number of steps, or 0 (never)", |c| c.train.eval_every <= MAX),
    key("train.eval_batches", "an integer from 1 to 1048576", |c| (1..=MAX_SIZE).contains(&c.train.eval_batches)),
    key("train.early_stopping", "a number of evaluations without a better loss, or 0 (off)", |c| {
        c.train.early_stopping <= MAX
    }),
    key("train.checkpoint_every", "a number of steps, or 0 (only at the end)", |c| c.train.checkpoint_every <= MAX),
    key("train.tensorboard", "true or false", |_| true),
    text("device.adapter", "a part of an adapter's name, or its index, as `wgrad devices` lists them", |c| {
        c.device.adapter.as_deref() != Some("")
    }),
];

/// Keys with values that are not checked yet.
#[derive(Debug, Clone, Default)]
pub struct RawConfig {
    values: BTreeMap<&'static str, (Value, String)>,
}

impl RawConfig {
    /// Takes over all keys of a TOML text; `path` is for messages.
    pub fn read_toml(&mut self, path: &str, text: &str) -> Result<()> {
        let table: Table = toml::from_str(text).map_err(|e| {
            let message = e.to_string().trim_end().to_string();
            Error::Format { path: path.into(), format: "TOML", message }
        })?;
        for (section, content) in table {
            let Value::Table(entries) = content else {
                return Err(unknown_key(&section, path));
            };
            if entries.is_empty() && !KEYS.iter().any(|key| section_of(key) == section) {
                return Err(unknown_key(&section, path));
            }
            for (name, value) in entries {
                let known = find_key(&format!("{section}.{name}"), path)?;
                self.values.insert(known.name, (value, path.to_string()));
            }
        }
        Ok(())
    }

    /// Sets one key from the command line's words; `origin` names the flag in messages.
    pub fn set(&mut self, name: &str, words: &str, origin: &str) -> Result<()> {
        let key = find_key(name, origin)?;
        let value = if key.text { Value::String(words.into()) } else { scalar(words) };
        self.values.insert(key.name, (value, origin.to_string()));
        Ok(())
    }

    /// Sets one key from `key=value`, the form of `--set`.
    pub fn set_pair(&mut self, pair: &str) -> Result<()> {
        let Some((name, words)) = pair.split_once('=') else {
            let message = format!("`--set {pair}`: expected key=value, such as `--set train.lr=3e-4`");
            return Err(Error::Config(message));
        };
        self.set(name.trim(), words.trim(), "--set")
    }

    /// Checks everything. Keys that were not given have their defaults.
    pub fn resolve(self) -> Result<Config> {
        let mut all = Table::new();
        for key in KEYS {
            let Some((value, origin)) = self.values.get(key.name) else { continue };
            // On its own first, so that the message can name this key and where it came from.
            let mut alone = Table::new();
            insert(&mut alone, key.name, value.clone());
            if !Config::deserialize(alone).is_ok_and(|config| (key.valid)(&config)) {
                let (name, allowed) = (key.name, key.allowed);
                return Err(Error::Config(format!("{name} = {value} (from {origin}): must be {allowed}")));
            }
            insert(&mut all, key.name, value.clone());
        }
        let mut config = Config::deserialize(all).map_err(|e| Error::Config(e.to_string()))?;
        if !self.values.contains_key("train.warmup") {
            // The default is for runs of usual length; a short one warms up for a tenth of it.
            config.train.warmup = config.train.warmup.min(config.train.steps / 10);
        }
        config.check_together()?;
        Ok(config)
    }
}

impl Config {
    /// Reads and checks a whole configuration, such as a run directory's `config.toml`.
    pub fn from_toml(path: &str, text: &str) -> Result<Config> {
        let mut raw = RawConfig::default();
        raw.read_toml(path, text)?;
        raw.resolve()
    }

    /// The TOML text of the configuration, every key in it; reading it gives the same one.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Config(format!("the configuration cannot be written: {e}")))
    }

    /// The rules that hold between keys.
    fn check_together(&self) -> Result<()> {
        let (model, train) = (&self.model, &self.train);
        if !model.width.is_multiple_of(model.heads) {
            let below = model.width / model.heads * model.heads;
            let nearest = if below == 0 { model.heads } else { below };
            return Err(Error::Config(format!(
                "model.width = {} is not a multiple of model.heads = {}; width {nearest} would be",
                model.width, model.heads
            )));
        }
        if train.warmup >= train.steps {
            return Err(Error::Config(format!(
                "train.warmup = {} must be below train.steps = {}; set it to 0 for no warm-up",
                train.warmup, train.steps
            )));
        }
        if train.early_stopping > 0 && train.eval_every == 0 {
            return Err(Error::Config(format!(
                "train.early_stopping = {} needs evaluations, but train.eval_every is 0; set it to a number of steps",
                train.early_stopping
            )));
        }
        Ok(())
    }
}

/// A word of the command line as the TOML value that it looks like, or else as a string.
fn scalar(words: &str) -> Value {
    match toml::from_str::<Table>(&format!("value = {words}")).ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        // `1e3` is TOML but `.5` and `5.` are not.
        None => words.parse().map_or_else(|_| Value::String(words.into()), Value::Float),
    }
}

fn insert(table: &mut Table, name: &str, value: Value) {
    match name.split_once('.') {
        Some((section, name)) => {
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(name.into(), value);
            }
        }
        None => {
            table.insert(name.into(), value);
        }
    }
}

fn section_of(key: &Key) -> &'static str {
    key.name.split('.').next().unwrap_or(key.name)
}

fn find_key(name: &str, origin: &str) -> Result<&'static Key> {
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| unknown_key(name, origin))
}

/// Names the nearest key if one is near, and otherwise all of them.
fn unknown_key(name: &str, origin: &str) -> Error {
    let last = name.rsplit('.').next().unwrap_or(name);
    let distance = |key: &Key| {
        let own_last = key.name.rsplit('.').next().unwrap_or(key.name);
        edit_distance(name, key.name).min(edit_distance(last, own_last))
    };
    let nearest = KEYS.iter().map(|key| (distance(key), key.name)).min();
    let hint = match nearest {
        Some((distance, key)) if distance <= 1 + last.chars().count() / 4 => format!("did you mean `{key}`?"),
        _ => format!("the keys are {}", KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")),
    };
    Error::Config(format!("unknown configuration key `{name}` (from {origin}); {hint}"))
}

/// Insertions, deletions and replacements that turn one word into the other (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config> {
        Config::from_toml("run.toml", text)
    }

    fn set(pair: &str) -> Result<Config> {
        let mut raw = RawConfig::default();
        raw.set_pair(pair)?;
        raw.resolve()
    }

    #[test]
    fn nothing_given_is_the_default_and_writing_it_reads_back() {
        let config = read("").unwrap();
        assert_eq!(config, Config::default());
        let full = Config {
            data: DataConfig { path: Some("C:\\text\\\"a\".txt".into()), validation: 0.25 },
            device: DeviceConfig { adapter: Some("0".into()) },
            ..Config::default()
        };
        let text = full.to_toml().unwrap();
        assert_eq!(read(&text).unwrap(), full);
        // Every key is in the table and in the file: the one cannot be extended without the other.
        let table: Table = toml::from_str(&text).unwrap();
        let written = table.iter().flat_map(|(section, content)| {
            let names = content.as_table().unwrap().keys();
            names.map(move |name| format!("{section}.{name}"))
        });
        let mut written: Vec<String> = written.collect();
        let mut listed: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        written.sort();
        listed.sort();
        assert_eq!(written, listed);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let mut raw = RawConfig::default();
        raw.read_toml("run.toml", "[train]\nlr = 0.1\nsteps = 1000\n[data]\npath = \"a.txt\"").unwrap();
        raw.set("train.lr", "3e-4", "--lr").unwrap();
        raw.set_pair("train.schedule=onecycle").unwrap();
        raw.set_pair("device.adapter = 1").unwrap();
        raw.set_pair("train.weight_decay=.5").unwrap();
        raw.set_pair("train.clip=2").unwrap();
        let config = raw.resolve().unwrap();
        assert_eq!((config.train.lr, config.train.steps), (3e-4, 1000));
        assert_eq!(config.train.schedule, Schedule::OneCycle);
        assert_eq!((config.data.path.as_deref(), config.device.adapter.as_deref()), (Some("a.txt"), Some("1")));
        assert_eq!((config.train.weight_decay, config.train.clip), (0.5, 2.0));
    }

    #[test]
    fn a_wrong_value_names_key_value_origin_and_what_is_allowed() {
        for (pair, allowed) in [
            ("model.layers=0", "from 1 to 1024"),
            ("model.layers=2.5", "an integer"),
            ("model.layers=-1", "an integer"),
            ("model.layers=many", "an integer"),
            ("model.dropout=1", "to below 1"),
            ("model.context=0", "tokens"),
            ("data.validation=0", "fraction"),
            ("data.path=", "path"),
            ("train.lr=nan", "above 0"),
            ("train.lr=inf", "above 0"),
            ("train.lr=0", "above 0"),
            ("train.schedule=linear", "\"cosine\""),
            ("train.tensorboard=yes", "true or false"),
            ("train.seed=9223372036854775808", "integer"),
            ("train.batch=10000000", "1048576"),
            ("device.adapter=", "wgrad devices"),
        ] {
            let message = set(pair).unwrap_err().to_string();
            let key = pair.split('=').next().unwrap();
            assert!(message.contains(key) && message.contains(allowed) && message.contains("--set"), "{message}");
        }
        let message = read("[train]\nlr = \"fast\"").unwrap_err().to_string();
        assert_eq!(message, "train.lr = \"fast\" (from run.toml): must be a number above 0, such as 1e-3");
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest() {
        let message = |pair: &str| set(pair).unwrap_err().to_string();
        assert!(message("train.learning_rat=1").contains("the keys are model.layers"));
        assert!(message("model.layer=1").contains("did you mean `model.layers`?"));
        assert!(message("steps=1").contains("did you mean `train.steps`?"));
        assert!(message("train.width=1").contains("did you mean `model.width`?"));
        assert!(message("no equals sign").contains("key=value"));
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert!(message("[train]\nstep = 1").contains("did you mean `train.steps`?"));
        assert!(message("lr = 1").contains("did you mean `train.lr`?"));
        assert!(message("[optimizer]").contains("unknown configuration key `optimizer`"));
        assert!(message("[train]\nlr = = 1").contains("line 2"));
    }

    #[test]
    fn a_short_run_warms_up_for_a_tenth_unless_told_otherwise() {
        assert_eq!(read("[train]\nsteps = 10").unwrap().train.warmup, 1);
        assert_eq!(read("[train]\nsteps = 10\nwarmup = 5").unwrap().train.warmup, 5);
        assert_eq!(read("").unwrap().train.warmup, TrainConfig::default().warmup);
    }

    #[test]
    fn keys_are_checked_against_each_other() {
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert!(message("[model]\nwidth = 130").contains("width 128 would be"));
        assert!(message("[model]\nwidth = 3").contains("width 4 would be"));
        assert!(message("[train]\nsteps = 10\nwarmup = 50").contains("warmup = 50 must be below train.steps = 10"));
        assert!(message("[train]\neval_every = 0\nearly_stopping = 3").contains("needs evaluations"));
    }
}
