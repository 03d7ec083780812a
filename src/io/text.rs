//! A text corpus of any size that fits the disk, and the windows that a language model trains on.
//!
//! A token is a byte: the vocabulary is the 256 byte values ([`VOCABULARY`]), so any file works, in
//! any language and encoding, and needs no tokenizer. The file is never loaded as a whole; each
//! window is one positioned read. Which windows make up a batch depends only on the seed and the
//! global index of the sample, not on earlier calls: a resumed or split run sees the same data.
//! Knows nothing about models, devices or the training loop.

use crate::error::{Error, Result};
use std::ops::Range;

/// The number of different tokens: one for each value of a byte.
pub const VOCABULARY: usize = 256;

/// The text that is trained on when no file is named: a snapshot of this crate's own Rust and WGSL
/// sources, made by `scripts/snapshot_corpus.sh`.
pub const EMBEDDED: &[u8] = include_bytes!("corpus.txt");

/// Where the bytes of a corpus are.
#[derive(Debug)]
pub enum TextSource {
    /// In the program itself.
    Embedded(&'static [u8]),
    /// In memory: a text that a program was given.
    Memory(Vec<u8>),
    /// In an open file, of this many bytes when it was opened.
    #[cfg(not(target_arch = "wasm32"))]
    File { file: std::fs::File, path: std::path::PathBuf, bytes: u64 },
}

impl TextSource {
    /// Opens a file; its size is taken now, and text appended later is not seen. Any bytes are a text, but not those of a
    /// pickle, which somebody took for something else.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<TextSource> {
        let path = path.as_ref();
        let (file, bytes) = super::files::open_regular(path)?;
        let source = TextSource::File { file, path: path.into(), bytes };
        if super::safetensors::is_pickle(&source.start()?) {
            let message = super::safetensors::PICKLE.into();
            return Err(Error::format(source.name(), "text", message));
        }
        Ok(source)
    }

    /// The first bytes, as many as tell what a file is.
    fn start(&self) -> Result<Vec<u8>> {
        let mut start = vec![0; self.bytes().min(512) as usize];
        self.read(&mut start, 0)?;
        Ok(start)
    }

    /// What a user should know before the training on a text whose bytes say little each.
    pub fn remark(&self) -> Option<String> {
        let start = self.start().ok()?;
        let wide = start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]);
        wide.then(|| {
            format!(
                "{} is UTF-16, in which most characters are two bytes, hence two tokens; a model learns more from the same \
                 text in UTF-8 (`iconv -f UTF-16 -t UTF-8 FILE`)",
                self.name()
            )
        })
    }

    /// Length in bytes, which is its length in tokens.
    pub fn bytes(&self) -> u64 {
        match self {
            TextSource::Embedded(text) => text.len() as u64,
            TextSource::Memory(text) => text.len() as u64,
            #[cfg(not(target_arch = "wasm32"))]
            TextSource::File { bytes, .. } => *bytes,
        }
    }

    /// The name to show: the path, or words for the embedded text.
    pub fn name(&self) -> String {
        match self {
            TextSource::Embedded(_) => "the embedded sources".into(),
            TextSource::Memory(_) => "the text in memory".into(),
            #[cfg(not(target_arch = "wasm32"))]
            TextSource::File { path, .. } => path.display().to_string(),
        }
    }

    /// Fills `window` from byte `offset` on.
    fn read(&self, window: &mut [u8], offset: u64) -> Result<()> {
        match self {
            TextSource::Embedded(text) => self.copy(text, window, offset),
            TextSource::Memory(text) => self.copy(text, window, offset),
            #[cfg(not(target_arch = "wasm32"))]
            TextSource::File { file, path, bytes } => {
                super::files::read_exact_at(file, window, offset).map_err(|e| match e.kind() {
                    std::io::ErrorKind::UnexpectedEof => Error::file_refused(
                        path.display().to_string(),
                        format!(
                            "the file became shorter while it was in use ({bytes} bytes at the start, {} now); \
                             train on a copy that nothing else writes to",
                            file.metadata().map_or("unknown".into(), |about| about.len().to_string())
                        ),
                    ),
                    _ => Error::file(path, &e),
                })
            }
        }
    }

    /// Fills `window` from a text in memory.
    fn copy(&self, text: &[u8], window: &mut [u8], offset: u64) -> Result<()> {
        let part = usize::try_from(offset).ok().and_then(|start| text.get(start..)?.get(..window.len()));
        let Some(part) = part else {
            let message = format!("bytes {offset}..+{} lie outside of the text", window.len());
            return Err(Error::file_refused(self.name(), message));
        };
        window.copy_from_slice(part);
        Ok(())
    }
}

/// Some windows of a text, all of one length: `batch` rows of `context + 1` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// The rows, one after the other.
    pub bytes: Vec<u8>,
    /// Number of rows.
    pub batch: usize,
    /// Tokens that the model sees of each row; the row has one more, the last target.
    pub context: usize,
}

impl Windows {
    /// The tokens that go in, `[batch, context]`.
    pub fn inputs(&self) -> Vec<u32> {
        self.columns(0)
    }

    /// The tokens to predict, `[batch, context]`: the inputs moved by one.
    pub fn targets(&self) -> Vec<u32> {
        self.columns(1)
    }

    fn columns(&self, first: usize) -> Vec<u32> {
        let rows = self.bytes.chunks_exact(self.context.saturating_add(1));
        rows.flat_map(|row| row.iter().skip(first).take(self.context)).map(|&byte| u32::from(byte)).collect()
    }
}

/// A text cut into a training part and, behind it, a held-out validation part.
#[derive(Debug)]
pub struct Corpus {
    source: TextSource,
    context: usize,
    training: Range<u64>,
    validation: Range<u64>,
}

impl Corpus {
    /// Holds out the last `validation` of the bytes (a fraction, such as 0.1), but no less than one
    /// window of `context + 1` bytes and no more than leaves one window to train on.
    pub fn new(source: TextSource, context: usize, validation: f64) -> Result<Corpus> {
        if context == 0 || !(validation > 0.0 && validation < 1.0) {
            let message = format!("context {context} must be at least 1 and validation {validation} between 0 and 1");
            return Err(Error::config(message));
        }
        let bytes = source.bytes();
        let window = (context as u64).saturating_add(1);
        if bytes / 2 < window {
            let message = format!(
                "the text has {bytes} bytes, but a context of {context} needs at least {} (one window of {window} to \
                 train on and one to validate on); give a longer text or a shorter context",
                window.saturating_mul(2)
            );
            return Err(Error::file_refused(source.name(), message));
        }
        let held_out = ((bytes as f64 * validation) as u64).clamp(window, bytes.saturating_sub(window));
        let border = bytes.saturating_sub(held_out);
        Ok(Corpus { source, context, training: 0..border, validation: border..bytes })
    }

    /// Where the text comes from.
    pub fn source(&self) -> &TextSource {
        &self.source
    }

    /// The bytes trained on. A batch never reaches beyond them.
    pub fn training(&self) -> Range<u64> {
        self.training.clone()
    }

    /// The bytes held out.
    pub fn validation(&self) -> Range<u64> {
        self.validation.clone()
    }

    /// Training windows number `first_sample .. first_sample + batch` of the endless sequence that
    /// `seed` stands for, each at a uniformly random place. Step `s` of a run with batch size `b`
    /// asks for `first_sample = s * b`; asking in parts or again gives the same windows.
    pub fn sample_batch(&self, seed: u64, first_sample: u64, batch: usize) -> Result<Windows> {
        let places = self.places(&self.training);
        self.windows(batch, |row| {
            let hash = hash(seed, first_sample.wrapping_add(row as u64));
            // The high half of a 64 x 64 bit product: uniform over the places without a division.
            self.training.start.saturating_add((u128::from(hash).wrapping_mul(u128::from(places)) >> 64) as u64)
        })
    }

    /// Batch `index` of the `batches` that the model is evaluated on: `batches * batch` windows
    /// spread evenly over the held-out part, the same in every evaluation.
    pub fn validation_batch(&self, index: usize, batches: usize, batch: usize) -> Result<Windows> {
        let last_place = self.places(&self.validation).saturating_sub(1);
        let last_window = (batches as u64).saturating_mul(batch as u64).saturating_sub(1).max(1);
        // number * last_place / last_window, whose product need not fit.
        let share = |n: u64| (n.checked_div(last_window).unwrap_or(0), n.checked_rem(last_window).unwrap_or(0));
        let (whole, rest) = share(last_place);
        self.windows(batch, |row| {
            let number = (index as u64).saturating_mul(batch as u64).saturating_add(row as u64).min(last_window);
            let place = number.saturating_mul(whole).saturating_add(share(number.saturating_mul(rest)).0);
            self.validation.start.saturating_add(place)
        })
    }

    /// Offsets at which a window fits into a part; at least one, which `new` sees to.
    fn places(&self, part: &Range<u64>) -> u64 {
        part.end.saturating_sub(part.start).saturating_sub(self.context as u64)
    }

    fn windows(&self, batch: usize, offset: impl Fn(usize) -> u64) -> Result<Windows> {
        // `new` has seen to it that a window fits the text.
        let window = self.context.saturating_add(1);
        let mut bytes = Vec::new();
        let size = batch.checked_mul(window).filter(|&size| bytes.try_reserve_exact(size).is_ok());
        let Some(size) = size else {
            return Err(Error::config(format!("a batch of {batch} windows of {window} bytes is too large")));
        };
        bytes.resize(size, 0);
        for (row, window) in bytes.chunks_exact_mut(window).enumerate() {
            self.source.read(window, offset(row))?;
        }
        Ok(Windows { bytes, batch, context: self.context })
    }
}

/// 64 well-mixed bits of a counter under a seed (the finalizer of SplitMix64, Steele et al. 2014,
/// on both in turn, so that neighbouring seeds do not give shifted sequences).
fn hash(seed: u64, counter: u64) -> u64 {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    mix(mix(seed.wrapping_add(GOLDEN)) ^ counter.wrapping_add(1).wrapping_mul(GOLDEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte `i` is `i mod 256`, so that a window shows where it comes from.
    fn text(bytes: usize) -> TextSource {
        TextSource::Embedded((0..bytes).map(|i| i as u8).collect::<Vec<u8>>().leak())
    }

    #[test]
    fn the_embedded_text_is_enough_to_train_on() {
        let corpus = Corpus::new(TextSource::Embedded(EMBEDDED), 128, 0.1).unwrap();
        let share = corpus.validation().count() as f64 / EMBEDDED.len() as f64;
        assert!((0.09..0.11).contains(&share), "{share}");
        assert!(EMBEDDED.starts_with(b"// ==== "));
    }

    #[test]
    fn targets_are_the_inputs_moved_by_one() {
        let corpus = Corpus::new(text(200), 4, 0.1).unwrap();
        let windows = corpus.sample_batch(7, 0, 3).unwrap();
        let (inputs, targets) = (windows.inputs(), windows.targets());
        assert_eq!((inputs.len(), targets.len(), windows.bytes.len()), (12, 12, 15));
        assert!(inputs.iter().zip(&targets).all(|(i, t)| t - i == 1));
    }

    #[test]
    fn samples_depend_on_seed_and_index_only() {
        let corpus = Corpus::new(text(256), 3, 0.1).unwrap();
        let all = corpus.sample_batch(1, 0, 8).unwrap().bytes;
        let parts: Vec<u8> = (0..4).flat_map(|i| corpus.sample_batch(1, 2 * i, 2).unwrap().bytes).collect();
        assert_eq!(all, parts);
        assert_ne!(all, corpus.sample_batch(2, 0, 8).unwrap().bytes);
        // Fixed for good: a change would make every earlier run impossible to resume.
        let first: Vec<u8> = all.chunks(4).map(|row| row[0]).collect();
        assert_eq!(first, [197, 109, 172, 164, 38, 24, 24, 100]);
    }

    #[test]
    fn samples_cover_the_training_part_and_never_the_held_out_one() {
        let corpus = Corpus::new(text(100), 9, 0.3).unwrap();
        assert_eq!((corpus.training(), corpus.validation()), (0..70, 70..100));
        let windows = corpus.sample_batch(3, 0, 20_000).unwrap();
        let mut hits = [0; 61];
        windows.bytes.chunks(10).for_each(|row| hits[row[0] as usize] += 1);
        let (least, most) = (hits.iter().min().unwrap(), hits.iter().max().unwrap());
        assert!(*least > 240 && *most < 420, "{hits:?}");
    }

    #[test]
    fn validation_windows_are_spread_from_the_first_to_the_last() {
        let corpus = Corpus::new(text(100), 9, 0.3).unwrap();
        let starts = |batches: usize, batch: usize| -> Vec<u8> {
            let all = (0..batches).flat_map(|i| corpus.validation_batch(i, batches, batch).unwrap().bytes);
            all.collect::<Vec<u8>>().chunks(10).map(|row| row[0]).collect()
        };
        assert_eq!(starts(1, 1), [70]);
        assert_eq!(starts(1, 3), [70, 80, 90]);
        assert_eq!(starts(5, 1), [70, 75, 80, 85, 90]);
        assert_eq!(starts(2, 2), [70, 76, 83, 90]);
        assert_eq!(starts(2, 50).len(), 100);
    }

    #[test]
    fn the_shortest_texts_work_and_shorter_ones_say_what_is_needed() {
        let corpus = Corpus::new(text(10), 4, 0.001).unwrap();
        assert_eq!((corpus.training(), corpus.validation()), (0..5, 5..10));
        assert_eq!(corpus.sample_batch(0, 0, 1).unwrap().bytes, [0, 1, 2, 3, 4]);
        assert_eq!(corpus.validation_batch(0, 1, 2).unwrap().bytes, [5, 6, 7, 8, 9, 5, 6, 7, 8, 9]);
        let corpus = Corpus::new(text(100), 4, 0.999).unwrap();
        assert_eq!(corpus.training(), 0..5);
        for bytes in [0, 1, 9] {
            let message = Corpus::new(text(bytes), 4, 0.1).unwrap_err().to_string();
            assert!(message.contains("needs at least 10"), "{message}");
        }
        assert!(Corpus::new(text(100), 0, 0.1).is_err());
        assert!(Corpus::new(text(100), usize::MAX, 0.1).is_err());
        assert!(Corpus::new(text(100), 4, f64::NAN).is_err());
    }

    #[test]
    fn a_file_gives_what_the_same_bytes_in_memory_give() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("any.txt");
        let bytes: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 3) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = Corpus::new(TextSource::open(&path).unwrap(), 16, 0.1).unwrap();
        let memory = Corpus::new(TextSource::Embedded(bytes.leak()), 16, 0.1).unwrap();
        assert_eq!(file.sample_batch(5, 9, 33).unwrap(), memory.sample_batch(5, 9, 33).unwrap());
        assert_eq!(file.validation_batch(1, 3, 4).unwrap(), memory.validation_batch(1, 3, 4).unwrap());
    }

    #[test]
    fn a_text_may_have_any_encoding_and_a_pickle_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pt");
        let open = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            TextSource::open(&path)
        };
        let archive = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\x12\0archive/data.pklFB";
        for pickle in [&archive[..], b"\x80\x02}q\0.", b"\x80\x04\x95"] {
            let message = open(pickle).unwrap_err().to_string();
            assert!(message.contains("x.pt is not") && message.contains("save_file"), "{message}");
        }
        // Nor does one that is never opened ask for anything: an archive of something else is bytes as others are.
        for text in [
            &b"PK\x03\x04 of something else"[..],
            "\u{feff}gr\u{f6}\u{df}er".as_bytes(),
            b"gr\xf6\xdfer",
            b"\0\x80\xff",
            b"",
        ] {
            let source = open(text).unwrap();
            assert_eq!(source.remark(), None);
            assert_eq!(source.bytes(), text.len() as u64);
        }
        let wide: Vec<u8> = "\u{feff}größer".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let source = open(&wide).unwrap();
        let remark = source.remark().unwrap();
        assert!(remark.contains("UTF-16") && remark.contains("iconv"), "{remark}");
        let corpus = Corpus::new(source, 2, 0.5).unwrap();
        assert!(corpus.sample_batch(0, 0, 4).unwrap().bytes.iter().all(|byte| wide.contains(byte)));
    }

    #[test]
    fn a_file_that_shrinks_is_reported_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("any.txt");
        std::fs::write(&path, [b'x'; 1000]).unwrap();
        let corpus = Corpus::new(TextSource::open(&path).unwrap(), 16, 0.1).unwrap();
        std::fs::write(&path, b"short").unwrap();
        let message = corpus.sample_batch(0, 0, 4).unwrap_err().to_string();
        assert!(message.contains("shorter") && message.contains("1000") && message.contains("5 now"), "{message}");
        assert!(TextSource::open(dir.path()).is_err());
    }
}
