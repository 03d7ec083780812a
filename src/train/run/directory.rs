//! What a run's directory holds, for whoever looks into one.

use super::{BEST, CONFIG};
use crate::error::{Error, Result};
use crate::io::files::read_text;
use crate::io::safetensors::Weights;
use crate::train::average::in_place;
use crate::train::config::MAX_CONFIG;
use crate::train::keeper::newest;
use std::path::{Path, PathBuf};

/// The first of `parent/1`, `parent/2`, … that does not exist.
pub fn next_free_directory(parent: &Path) -> PathBuf {
    let mut number = 1u64;
    while parent.join(number.to_string()).exists() {
        number += 1;
    }
    parent.join(number.to_string())
}

/// The configuration of the run in a directory, as TOML text, with its path for messages.
pub fn read_config(directory: &Path) -> Result<(String, String)> {
    let path = directory.join(CONFIG);
    if std::fs::metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Err(Error::config(format!(
            "there is no run in {}: it has no {CONFIG}; give the directory that `wgrad train` printed",
            directory.display()
        )));
    }
    Ok((path.display().to_string(), read_text(&path, MAX_CONFIG)?))
}

/// The best weights of a run; those of its newest checkpoint if it was never evaluated.
pub fn read_weights(directory: &Path) -> Result<Weights> {
    let best = directory.join(BEST);
    if best.exists() {
        return Weights::load(best);
    }
    let nothing = || {
        let shown = directory.display();
        Error::config(format!("the run in {shown} has no weights yet: neither {BEST} nor a checkpoint"))
    };
    newest(directory)?.map(|checkpoint| in_place(checkpoint.state)).ok_or_else(nothing)
}
