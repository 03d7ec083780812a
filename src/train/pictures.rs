//! The pictures in a run's directory: curves of loss and accuracy, and the confusion matrix.
//!
//! Knows where they lie and what stands above them; `plot.rs` and `confusion.rs` draw.

use super::classify::Confusion;
use super::confusion::ConfusionPicture;
use super::metrics::Record;
use super::plot::{Curve, Quantity};
use super::task::Classes;
use crate::error::Result;
use crate::io::files::write_atomic;
use std::path::{Path, PathBuf};

/// Loss by step.
pub const LOSS_CURVE: &str = "loss.svg";
/// Accuracy by step, where there are classes.
pub const ACCURACY_CURVE: &str = "accuracy.svg";
/// What was taken for what in the last evaluation.
pub const CONFUSION: &str = "confusion.svg";

/// The pictures of one run.
pub struct Pictures {
    directory: PathBuf,
    name: String,
    /// The size of the model in words.
    model: String,
}

impl Pictures {
    /// Those in the directory of a run.
    pub fn new(directory: &Path, model: String) -> Pictures {
        let name = directory.file_name().map_or("run".into(), |name| format!("Run {}", name.to_string_lossy()));
        Pictures { directory: directory.to_path_buf(), name, model }
    }

    /// Draws the curves of what was recorded so far.
    pub fn curves(&self, history: &[Record]) -> Result<()> {
        self.curve(LOSS_CURVE, Quantity::Loss, history, |record| Some(record.loss), |record| record.val_loss)?;
        if history.iter().all(|record| record.accuracy.is_none() && record.val_accuracy.is_none()) {
            return Ok(());
        }
        let (training, validation) = (|record: &Record| record.accuracy, |record: &Record| record.val_accuracy);
        self.curve(ACCURACY_CURVE, Quantity::Accuracy, history, training, validation)
    }

    fn curve(
        &self,
        file: &str,
        quantity: Quantity,
        history: &[Record],
        training: impl Fn(&Record) -> Option<f32>,
        validation: impl Fn(&Record) -> Option<f32>,
    ) -> Result<()> {
        let training: Vec<(u64, f32)> = history.iter().filter_map(|r| Some((r.step, training(r)?))).collect();
        let validation: Vec<(u64, f32)> = history.iter().filter_map(|r| Some((r.step, validation(r)?))).collect();
        let (title, subtitle) = (self.name.as_str(), self.model.as_str());
        let curve = Curve { quantity, title, subtitle, training: &training, validation: &validation };
        write_atomic(&self.directory.join(file), curve.to_svg().as_bytes())
    }

    /// Draws what was taken for what after a step.
    pub fn confusion(&self, classes: &Classes, confusion: &Confusion, step: u64) -> Result<()> {
        let title = format!("{}, step {step}: {}", self.name, in_words(confusion));
        let picture = Pictures::confusion_svg(classes, confusion, &title, &self.model);
        write_atomic(&self.directory.join(CONFUSION), picture.as_bytes())
    }

    /// The same picture under any title.
    pub fn confusion_svg(classes: &Classes, confusion: &Confusion, title: &str, subtitle: &str) -> String {
        ConfusionPicture { title, subtitle, classes: &classes.names, confusion, look: classes.look }.to_svg()
    }
}

/// Such as `356 of 360 right (98.9%)`.
pub fn in_words(confusion: &Confusion) -> String {
    let percent = 100.0 * f64::from(confusion.accuracy());
    format!("{} of {} right ({percent:.1}%)", confusion.right(), confusion.images())
}
