//! Keys and values as files and flags give them, until every one of them is checked.

use super::keys::{KEYS, Key};
use super::{Config, TaskKind};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

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
            Error::format(path.into(), "TOML", message)
        })?;
        for (section, content) in table {
            let Value::Table(entries) = content else {
                let known = find_key(&section, path)?;
                self.values.insert(known.name, (content, path.to_string()));
                continue;
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
            return Err(Error::config(message));
        };
        self.set(name.trim(), words.trim(), "--set")
    }

    /// The task, or that of a run which names none.
    fn task(&self) -> Result<TaskKind> {
        let Some((value, origin)) = self.values.get("task") else { return Ok(TaskKind::ALL[0]) };
        TaskKind::deserialize(value.clone()).map_err(|_| wrong_value("task", value, origin))
    }

    /// Checks everything. Keys that were not given have the defaults of the task.
    pub fn resolve(self) -> Result<Config> {
        let task = self.task()?;
        let failed = |e: &dyn std::fmt::Display| Error::config(e.to_string());
        let mut all = Table::try_from(Config::for_task(task)).map_err(|e| failed(&e))?;
        for key in KEYS {
            let Some((value, origin)) = self.values.get(key.name) else { continue };
            if !key.tasks.contains(&task) {
                return Err(useless(key, value, origin, task));
            }
            // On its own first, so that the message can name this key and where it came from.
            let mut alone = Table::new();
            insert(&mut alone, key.name, value.clone());
            if !Config::deserialize(alone).is_ok_and(|config| (key.valid)(&config)) {
                return Err(wrong_value(key.name, value, origin));
            }
            insert(&mut all, key.name, value.clone());
        }
        let mut config = Config::deserialize(all).map_err(|e| failed(&e))?;
        if !self.values.contains_key("train.warmup") {
            // The default is for runs of usual length; a short one warms up for a tenth of it.
            config.train.warmup = config.train.warmup.min(config.train.steps / 10);
        }
        let given = |name: &str| self.values.contains_key(name);
        config.use_rules_defaults(given("train.lr"), given("train.weight_decay"));
        config.check_together()?;
        Ok(config)
    }
}

fn wrong_value(name: &str, value: &Value, origin: &str) -> Error {
    let allowed = KEYS.iter().find(|key| key.name == name).map_or("", |key| key.allowed);
    Error::config(format!("{name} = {value} (from {origin}): must be {allowed}"))
}

/// A key that the task does not look at: more likely a mistake than a wish.
fn useless(key: &Key, value: &Value, origin: &str, task: TaskKind) -> Error {
    let tasks: Vec<String> = key.tasks.iter().map(|task| format!("--task {task}")).collect();
    Error::config(format!(
        "{} = {value} (from {origin}): the task `{task}` has no use for this; it is for {}",
        key.name,
        tasks.join(" and ")
    ))
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
    Error::config(format!("unknown configuration key `{name}` (from {origin}); {hint}"))
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
    use super::super::super::budget::Budget;
    use super::super::{DataConfig, DeviceConfig, Schedule, TrainConfig};
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
            data: DataConfig { path: Some("C:\\text\\\"a\".txt".into()), validation: 0.25, ..DataConfig::default() },
            device: DeviceConfig {
                adapter: Some("0".into()),
                autotune: true,
                timeout: 30,
                memory: Some(Budget::Bytes(6 << 30)),
            },
            ..Config::default()
        };
        let text = full.to_toml().unwrap();
        assert_eq!(read(&text).unwrap(), full);
    }

    #[test]
    fn a_task_has_defaults_and_keys_of_its_own() {
        for task in TaskKind::ALL {
            let mut config = Config::for_task(task);
            config.device.adapter = Some("0".into());
            config.device.memory = Some(Budget::Auto);
            if KEYS.iter().any(|key| key.name == "data.path" && key.tasks.contains(&task)) {
                config.data.path = Some("data".into());
            }
            let text = config.to_toml().unwrap();
            assert_eq!(read(&text).unwrap(), config);
            // Every key of the task is in the file, and no other: the table and the structs go together. Options of rules
            // are there only if they are given.
            let table: Table = toml::from_str(&text).unwrap();
            let mut written = Vec::new();
            for (section, content) in &table {
                match content.as_table() {
                    Some(entries) => written.extend(entries.keys().map(|name| format!("{section}.{name}"))),
                    None => written.push(section.clone()),
                }
            }
            let listed = KEYS.iter().filter(|key| key.tasks.contains(&task)).map(|key| key.name);
            let listed = listed.filter(|name| !name.starts_with("optimizer.") && !name.starts_with("schedule."));
            let mut listed: Vec<&str> = listed.collect();
            written.sort();
            listed.sort();
            assert_eq!(written, listed, "{task}");
        }
        assert_eq!(read("task = \"digits\"").unwrap().train, Config::for_task(TaskKind::Digits).train);
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert!(message("task = \"numbers\"").contains("\"text\", \"digits\" or \"images\""));
        assert!(message("task = 3").contains("task = 3 (from run.toml)"));
        assert!(message("task = \"images\"").contains("--data DIR"));
        let heads = message("task = \"digits\"\n[model]\nheads = 2");
        assert!(heads.contains("`digits` has no use") && heads.contains("--task text"), "{heads}");
        assert!(message("[augment]\nflip = 0.5").contains("--task digits and --task images"));
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
            ("train.schedule=sudden", "\"cosine\""),
            ("train.optimizer=adamx", "\"adafactor\", \"lion\" or \"muon\""),
            ("train.ema=1", "below 1"),
            ("optimizer.momentum=1", "below 1"),
            ("optimizer.beta2_decay=0.5", "at most 0"),
            ("schedule.period=0", "at least 1"),
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
        assert!(message("train.learning_rat=1").contains("the keys are task, model.kind"));
        assert!(message("model.layer=1").contains("did you mean `model.layers`?"));
        assert!(message("steps=1").contains("did you mean `train.steps`?"));
        assert!(message("train.width=1").contains("did you mean `model.width`?"));
        assert!(message("no equals sign").contains("key=value"));
        let message = |text: &str| read(text).unwrap_err().to_string();
        assert!(message("[train]\nstep = 1").contains("did you mean `train.steps`?"));
        assert!(message("lr = 1").contains("did you mean `train.lr`?"));
        assert!(message("[optimiser]").contains("unknown configuration key `optimiser`"));
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
        let resnet = "task = 'images'\ndata.path = 'a'\nmodel = { kind = 'resnet18', dropout = 0.5 }";
        assert!(message(resnet).contains("a resnet18 has no dropout"), "{}", message(resnet));
        assert!(message("[train]\nsteps = 10\nwarmup = 50").contains("warmup = 50 must be below train.steps = 10"));
        assert!(message("[train]\neval_every = 0\nearly_stopping = 3").contains("needs evaluations"));
    }
}
