//! Classification: the inputs and outputs of its programs, and the count of what was told apart and what was not.
//!
//! Knows no model and no file; a model gives logits, see `digits.rs` and `images.rs`.

use super::data::Batch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::Results;
use crate::graph::Tensor;

/// The input that holds images, `[batch, channels, side, side]` u8.
pub const IMAGES: &str = "images";
/// The input that holds the class of each image, `[batch]` i32; -1 for a row that only fills a held-out batch up.
pub const LABELS: &str = "labels";
/// The output of the micro-step: the fraction of the batch that was classified right.
pub const ACCURACY: &str = "accuracy";
/// The output of the evaluation: `[batch, classes]` f32, in nats.
pub const LOG_PROBABILITIES: &str = "log_probabilities";

/// Mistakes that are kept with their images: the surest ones.
const KEPT: usize = 40;

/// Mean cross-entropy of logits `[batch, classes]`, and the outputs that [`Confusion::add`] reads.
pub fn loss<'g>(logits: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
    let graph = logits.graph();
    if graph.is_training() {
        let right = logits.argmax(-1).eq(labels).cast(DType::F32);
        graph.output(ACCURACY, right.mean_all());
        return logits.cross_entropy(labels);
    }
    graph.output(LOG_PROBABILITIES, logits.log_softmax(-1));
    logits.cross_entropy_ignoring(labels, -1)
}

/// How pixels become visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// One channel of dark ink on white paper; this value is full ink.
    Ink(u8),
    /// Red, green, blue from 0 to 255.
    Colour,
}

impl Look {
    #[cfg(feature = "cli")]
    pub(super) fn said(self) -> &'static str {
        match self {
            Look::Ink(_) => "read as",
            Look::Colour => "taken for",
        }
    }
}

/// A held-out image that was taken for another class.
#[derive(Debug, Clone, PartialEq)]
pub struct Misread {
    /// What it is.
    pub label: usize,
    /// What it was taken for.
    pub predicted: usize,
    /// Probability of that, in the model's opinion.
    pub confidence: f32,
    /// `[channels, side, side]`, as it was fed.
    pub pixels: Vec<u8>,
    pub channels: usize,
}

/// How often each class was taken for which.
#[derive(Debug, Clone, PartialEq)]
pub struct Confusion {
    classes: usize,
    /// `[is, taken for]`, row by row.
    counts: Vec<u64>,
    /// Sum of the losses, in nats.
    loss: f64,
    misread: Vec<Misread>,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Confusion {
        Confusion { classes, counts: vec![0; classes * classes], loss: 0.0, misread: Vec::new() }
    }

    /// Counts a batch with the results of its evaluation. Rows without a class are left out.
    pub fn add(&mut self, batch: &Batch, results: &Results) -> Result<()> {
        self.add_rows(batch, &results.f32(LOG_PROBABILITIES)?)
    }

    pub(super) fn add_rows(&mut self, batch: &Batch, log_probabilities: &[f32]) -> Result<()> {
        let input = |name: &str| batch.iter().find(|(own, _)| *own == name).map(|(_, tensor)| tensor);
        let missing = || Error::feed(format!("a batch of images needs the inputs `{IMAGES}` and `{LABELS}`"));
        let (images, labels) = (input(IMAGES).ok_or_else(missing)?, input(LABELS).ok_or_else(missing)?);
        let pixels: usize = images.shape.iter().skip(1).product();
        let labels = labels.bytes.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let rows = log_probabilities.chunks_exact(self.classes.max(1));
        for (row, (label, scores)) in labels.zip(rows).enumerate() {
            let Some(label) = usize::try_from(label).ok().filter(|label| *label < self.classes) else { continue };
            let predicted = likeliest(scores);
            self.loss -= f64::from(scores[label]);
            self.counts[label * self.classes + predicted] += 1;
            if label != predicted {
                let own = images.bytes.get(row * pixels..(row + 1) * pixels).unwrap_or_default();
                let channels = images.shape.get(1).copied().unwrap_or(1);
                let confidence = f64::from(scores[predicted]).exp() as f32;
                self.misread.push(Misread { label, predicted, confidence, pixels: own.to_vec(), channels });
            }
        }
        // Stable: of two that are as sure, the earlier one stays in front.
        crate::sort::sort_by(&mut self.misread, |a, b| b.confidence.total_cmp(&a.confidence));
        self.misread.truncate(KEPT);
        Ok(())
    }

    /// How often images of class `label` were taken for class `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        self.counts.get(label * self.classes + predicted).copied().unwrap_or(0)
    }

    /// Images of a class.
    pub fn of_class(&self, label: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(label, predicted)).sum()
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Images counted.
    pub fn images(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Images that were classified right.
    pub fn right(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    /// The fraction that was classified right; NaN if nothing was counted.
    pub fn accuracy(&self) -> f32 {
        (self.right() as f64 / self.images() as f64) as f32
    }

    /// Mean loss in nats; NaN if nothing was counted.
    pub fn loss(&self) -> f32 {
        (self.loss / self.images() as f64) as f32
    }

    /// The surest mistakes, the surest first; not all of them if there are many.
    pub fn misread(&self) -> &[Misread] {
        &self.misread
    }
}

/// The index of the first largest score.
pub fn likeliest(scores: &[f32]) -> usize {
    let better = |best: usize, index: usize| if scores[index] > scores[best] { index } else { best };
    (0..scores.len()).fold(0, better)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::HostTensor;

    #[test]
    fn a_batch_is_counted_without_the_rows_that_fill_it_up() -> Result<()> {
        let images = HostTensor::u8([4, 1, 1, 2], &[1, 2, 3, 4, 5, 6, 7, 8])?;
        let batch: Batch = vec![(IMAGES, images), (LABELS, HostTensor::i32([4], &[0, 1, 2, -1])?)];
        let rows = [[0.9, 0.05, 0.05], [0.7, 0.2, 0.1], [0.0, 0.6, 0.4], [1.0, 0.0, 0.0]].concat();
        let rows: Vec<f32> = rows.into_iter().map(f32::ln).collect();
        let mut confusion = Confusion::new(3);
        assert!(confusion.accuracy().is_nan());
        confusion.add_rows(&batch, &rows)?;
        assert_eq!((confusion.images(), confusion.right()), (3, 1));
        assert_eq!([confusion.count(0, 0), confusion.count(1, 0), confusion.count(2, 1)], [1, 1, 1]);
        let loss = -(0.9f64.ln() + 0.2f64.ln() + 0.4f64.ln()) / 3.0;
        assert!((f64::from(confusion.loss()) - loss).abs() < 1e-6);
        let misread: Vec<_> = confusion.misread().iter().map(|m| (m.label, m.predicted, m.pixels.clone())).collect();
        assert_eq!(misread, [(1, 0, vec![3, 4]), (2, 1, vec![5, 6])]);
        assert!(confusion.add_rows(&Vec::new(), &rows).unwrap_err().to_string().contains("`labels`"));
        Ok(())
    }

    #[test]
    fn only_the_surest_mistakes_are_kept() -> Result<()> {
        let n = 100;
        let images = HostTensor::u8([n, 1, 1, 1], &vec![0; n])?;
        let batch: Batch = vec![(IMAGES, images), (LABELS, HostTensor::i32([n], &vec![0; n])?)];
        let sure = |i: usize| 0.5 + i as f32 / 256.0;
        let rows: Vec<f32> = (0..n).flat_map(|i| [1.0 - sure(i), sure(i)]).map(f32::ln).collect();
        let mut confusion = Confusion::new(2);
        confusion.add_rows(&batch, &rows)?;
        assert_eq!((confusion.of_class(0), confusion.misread().len()), (100, KEPT));
        assert!((confusion.misread()[0].confidence - sure(n - 1)).abs() < 1e-5);
        Ok(())
    }
}
