//! Measured choices of kernels in a file: those of many adapters, by adapter and driver, as JSON.

use super::files::{read_text, write_atomic};
use super::json::check_cost;
use crate::error::{Error, Result};
use crate::kernels::Choices;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// More than any set of adapters needs.
const MOST_BYTES: u64 = 64 << 20;

/// The version of the file that is written and read.
const FORMAT: u32 = 1;

/// Choices of several adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoiceFile {
    format: u32,
    /// By `Device::identity`.
    adapters: BTreeMap<String, Choices>,
}

impl Default for ChoiceFile {
    fn default() -> ChoiceFile {
        ChoiceFile { format: FORMAT, adapters: BTreeMap::new() }
    }
}

impl ChoiceFile {
    /// Reads a file; one that is not there is empty.
    pub fn read_if_there(path: &Path) -> Result<ChoiceFile> {
        if path.exists() { ChoiceFile::read(path) } else { Ok(ChoiceFile::default()) }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<ChoiceFile> {
        let refuse = |message: String| Error::file_refused(path.display().to_string(), message);
        let text = read_text(path, MOST_BYTES)?;
        ChoiceFile::parse(&text).map_err(|message| refuse(format!("it is no table of kernel choices: {message}")))
    }

    /// From the text of a file.
    pub fn parse(text: &str) -> std::result::Result<ChoiceFile, String> {
        check_cost(text.as_bytes(), text.len() as u64)?;
        let file: ChoiceFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match file.format {
            FORMAT => Ok(file),
            other => {
                Err(format!("its format is {other}, and this version reads {FORMAT}; measure again with `wgrad tune`"))
            }
        }
    }

    /// Writes the file, whole or not at all; its directory is made.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|e| Error::file(directory, &e))?;
        }
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| Error::config(format!("the table of kernel choices cannot be written: {e}")))?;
        write_atomic(path, text.as_bytes())
    }

    /// The choices of an adapter.
    pub fn of(&self, identity: &str) -> Choices {
        self.adapters.get(identity).cloned().unwrap_or_default()
    }

    /// Adds choices of an adapter, which win over those that are there.
    pub fn add(&mut self, identity: &str, choices: Choices) {
        self.adapters.entry(identity.to_string()).or_default().merge(choices);
    }

    /// Adds everything of another machine's file, but its trust in matrix units.
    pub fn merge(&mut self, other: ChoiceFile) {
        other.adapters.into_iter().for_each(|(identity, choices)| self.add(&identity, choices.for_another()));
    }

    /// Adapters with the number of their choices.
    pub fn adapters(&self) -> impl Iterator<Item = (&str, usize)> {
        self.adapters.iter().map(|(identity, choices)| (identity.as_str(), choices.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Units;

    #[test]
    fn a_file_comes_back_and_what_is_none_is_refused() -> Result<()> {
        let directory = tempfile::tempdir().map_err(|e| Error::file("a temporary directory", &e))?;
        let path = directory.path().join("deep/kernels.json");
        assert_eq!(ChoiceFile::read_if_there(&path)?, ChoiceFile::default());
        let text = r#"{"format": 1, "adapters": {"GPU | Vulkan": {"8x8x8 batch 1x1 a k4 b x4 out 4": "Direct"}}}"#;
        let file = ChoiceFile::parse(text).map_err(Error::config)?;
        file.write(&path)?;
        let mut read = ChoiceFile::read(&path)?;
        assert_eq!(read, file);
        assert_eq!((read.of("GPU | Vulkan").len(), read.of("another").len()), (1, 0));
        read.merge(file);
        assert_eq!(read.adapters().collect::<Vec<_>>(), [("GPU | Vulkan", 1)]);
        // Whether matrix units are right is for each machine to see; that they are wrong is taken over.
        for (text, trusted, kept) in [
            (r#"{"matrix units": "right", "a": "Direct"}"#, "", 1),
            (r#"{"matrix units": {"wrong": "a number"}, "a": "Direct"}"#, "a number", 1),
        ] {
            let text = format!(r#"{{"format": 1, "adapters": {{"GPU": {text}}}}}"#);
            let mut joined = ChoiceFile::default();
            joined.merge(ChoiceFile::parse(&text).map_err(Error::config)?);
            let choices = joined.of("GPU");
            let wrong = Units::Wrong(trusted.to_string());
            assert_eq!(
                (choices.units(), choices.len()),
                (if trusted.is_empty() { &Units::Unchecked } else { &wrong }, kept)
            );
            assert_eq!(ChoiceFile::parse(&serde_json::to_string(&joined).expect("JSON")), Ok(joined));
        }
        for (text, said) in [
            ("[]", "no table of kernel choices"),
            (r#"{"format": 7, "adapters": {}}"#, "format is 7"),
            (r#"{"format": 1, "adapters": {"a": {"k": {"Subgroup": {"lanes": -1}}}}}"#, "no table of kernel choices"),
        ] {
            std::fs::write(&path, text).map_err(|e| Error::file(&path, &e))?;
            let message = ChoiceFile::read(&path).expect_err(text).to_string();
            assert!(message.contains(said), "{message}");
        }
        Ok(())
    }
}
