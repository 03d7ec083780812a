//! `wgrad predict`: what images show, with the weights of a run.

use super::args::PredictArgs;
use super::cache;
use super::say;
use crate::error::{ErrorKind, Result};
use crate::train::config::Config;
use crate::train::predict::Predictor;
use crate::train::run::{read_config, read_weights};
use std::io::Write;
use std::process::ExitCode;

/// Runs the command. A file that cannot be read does not keep the others from being judged.
pub fn predict(args: &PredictArgs) -> Result<ExitCode> {
    let (path, text) = read_config(&args.run)?;
    let config = Config::from_toml(&path, &text)?;
    let weights = read_weights(&args.run)?;
    let choice = args.adapter.choice().or(config.device.adapter.clone());
    let device = cache::open(choice.as_deref())?;
    let mut predictor = Predictor::new(&device, &config, &weights)?;
    let mut code = ExitCode::SUCCESS;
    for path in &args.images {
        match predictor.predict(path) {
            Ok(classes) => {
                let shown = classes.iter().take(args.top).map(|(name, p)| format!("{name} {:.1}%", 100.0 * p));
                say(format!("{}: {}", path.display(), shown.collect::<Vec<_>>().join(", ")))?;
            }
            Err(error) if matches!(error.kind(), ErrorKind::File { .. } | ErrorKind::Format { .. }) => {
                // Nothing can be done if standard error is closed.
                let _ = writeln!(std::io::stderr(), "error: {error}");
                code = ExitCode::from(2);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}
