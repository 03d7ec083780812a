//! Where batches come from.
//!
//! A batch depends on the seed and the index of its first sample only, so a resumed or split run sees
//! the same data. Knows nothing about models beyond the names of the inputs it fills.

use crate::error::Result;
use crate::io::HostTensor;
use crate::io::text::{Corpus, Windows};
use std::cell::RefCell;

/// Tensors by the names of the inputs that they feed.
pub type Batch = Vec<(&'static str, HostTensor)>;

/// A source of training and validation batches, all of one shape.
pub trait DataSource {
    /// The batch that begins with sample number `first_sample` of the endless sequence of a seed.
    fn training(&self, seed: u64, first_sample: u64) -> Result<Batch>;

    /// Batch `index` of `batches` held-out ones, the same whenever asked.
    fn validation(&self, index: usize, batches: usize) -> Result<Batch>;

    /// Tokens (or samples, where there are no tokens) in a batch.
    fn tokens_per_batch(&self) -> usize;

    /// What went wrong since this was last asked and was got over, such as a file that cannot be read: a sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The input that holds the tokens of a language model, `[batch, context]` i32.
pub const TOKENS: &str = "tokens";
/// The input that holds the tokens to predict, `[batch, context]` i32.
pub const TARGETS: &str = "targets";

/// Windows of a text for a language model.
#[derive(Debug)]
pub struct TextData {
    corpus: Corpus,
    batch: usize,
    context: usize,
    /// What is to be said of the text, once.
    remark: RefCell<Option<String>>,
}

impl TextData {
    /// Batches of `batch` windows with `context` tokens, which the corpus must have been made for.
    pub fn new(corpus: Corpus, batch: usize, context: usize) -> TextData {
        let remark = RefCell::new(corpus.source().remark());
        TextData { corpus, batch, context, remark }
    }

    /// The text.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }
}

impl DataSource for TextData {
    fn training(&self, seed: u64, first_sample: u64) -> Result<Batch> {
        tensors(&self.corpus.sample_batch(seed, first_sample, self.batch)?)
    }

    fn validation(&self, index: usize, batches: usize) -> Result<Batch> {
        tensors(&self.corpus.validation_batch(index, batches, self.batch)?)
    }

    fn tokens_per_batch(&self) -> usize {
        self.batch * self.context
    }

    fn warnings(&self) -> Vec<String> {
        self.remark.take().into_iter().collect()
    }
}

fn tensors(windows: &Windows) -> Result<Batch> {
    let shape = [windows.batch, windows.context];
    let tensor = |tokens: Vec<u32>| HostTensor::i32(shape, &tokens.into_iter().map(|t| t as i32).collect::<Vec<_>>());
    Ok(vec![(TOKENS, tensor(windows.inputs())?), (TARGETS, tensor(windows.targets())?)])
}
