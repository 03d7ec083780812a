//! Batches of a folder's images, read and resized by background threads.
//!
//! What is in a batch depends on the seed, the index of its first sample and the files alone, never on which thread was
//! faster. A file that cannot be read is left out, and said once. Knows nothing about models or configurations.

use super::classify::{IMAGES, LABELS};
use super::data::{Batch, DataSource};
use super::order::EpochOrder;
use super::prefetch::Prefetch;
use crate::error::{Error, Result};
use crate::io::HostTensor;
use crate::io::images::{CHANNELS, ImageFile, ImageFolder, read_image};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of resized images that are kept, so that later epochs need not read the files again.
const KEPT_BYTES: usize = 512 << 20;

/// A folder of images as a source of batches.
pub struct ImageData {
    shared: Arc<Shared>,
    workers: usize,
    training: RefCell<Option<Ahead>>,
    validation: RefCell<Option<(usize, Prefetch<Batch>)>>,
}

/// Training batches under way: those of a seed from a sample on.
struct Ahead {
    seed: u64,
    next_sample: u64,
    batches: Prefetch<Batch>,
}

/// What the threads work on.
struct Shared {
    folder: ImageFolder,
    side: usize,
    batch: usize,
    order: EpochOrder,
    seen: Mutex<Seen>,
}

/// What is known of the files so far, by their place in training and, behind that, validation.
#[derive(Default)]
struct Seen {
    kept: HashMap<usize, Arc<[u8]>>,
    bytes: usize,
    /// Files that cannot be read, with their warnings.
    unreadable: HashMap<usize, String>,
    /// Warnings that nobody has asked for yet.
    news: Vec<String>,
}

impl ImageData {
    /// Batches of so many images `[batch, 3, side, side]` u8 with their labels, read by so many threads.
    pub fn new(folder: ImageFolder, side: usize, batch: usize, workers: usize) -> ImageData {
        let order = EpochOrder::new(folder.training.len());
        let shared = Shared { folder, side, batch, order, seen: Mutex::new(Seen::default()) };
        ImageData { shared: Arc::new(shared), workers, training: RefCell::new(None), validation: RefCell::new(None) }
    }

    /// The listed files.
    pub fn folder(&self) -> &ImageFolder {
        &self.shared.folder
    }

    /// Batches that hold all held-out images, the last one filled up.
    pub fn validation_batches(&self) -> usize {
        self.folder().validation.len().div_ceil(self.shared.batch.max(1))
    }

    /// Begins to read ahead the training batches from a sample on.
    fn ahead(&self, seed: u64, first_sample: u64) -> Result<Ahead> {
        let (shared, batch) = (self.shared.clone(), self.shared.batch as u64);
        let make =
            move |number: u64| shared.training(seed, first_sample.wrapping_add(number.wrapping_mul(batch))).map(Some);
        Ok(Ahead { seed, next_sample: first_sample, batches: Prefetch::start(self.workers, make)? })
    }
}

impl DataSource for ImageData {
    fn training(&self, seed: u64, first_sample: u64) -> Result<Batch> {
        let mut training = self.training.borrow_mut();
        let goes_on = |ahead: &Ahead| (ahead.seed, ahead.next_sample) == (seed, first_sample);
        let mut ahead = match training.take().filter(goes_on) {
            Some(ahead) => ahead,
            None => self.ahead(seed, first_sample)?,
        };
        let batch = ahead.batches.next()?.ok_or_else(ended)?;
        ahead.next_sample = first_sample.wrapping_add(self.shared.batch as u64);
        *training = Some(ahead);
        Ok(batch)
    }

    fn validation(&self, index: usize, _batches: usize) -> Result<Batch> {
        let mut validation = self.validation.borrow_mut();
        let mut ahead = match validation.take().filter(|(next, _)| *next == index) {
            Some((_, batches)) => batches,
            None => {
                let (shared, all) = (self.shared.clone(), self.validation_batches() as u64);
                let make = move |number: u64| {
                    let number = number + index as u64;
                    if number < all { shared.validation(number as usize).map(Some) } else { Ok(None) }
                };
                Prefetch::start(self.workers, make)?
            }
        };
        let batch = ahead.next()?.ok_or_else(ended)?;
        if index + 1 < self.validation_batches() {
            *validation = Some((index + 1, ahead));
        }
        Ok(batch)
    }

    fn tokens_per_batch(&self) -> usize {
        self.shared.batch
    }

    fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.seen().news)
    }
}

fn ended() -> Error {
    Error::config("there are no more batches of images than were asked for".into())
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In place of a file that cannot be read stands the next one of the epoch that can.
    fn training(&self, seed: u64, first_sample: u64) -> Result<Batch> {
        let files = &self.folder.training;
        self.tensors(|row| {
            let index = first_sample.wrapping_add(row as u64);
            for next in 0..files.len() {
                let place = self.order.sample(seed, index, next);
                if let Some(pixels) = self.pixels(place, &files[place]) {
                    return Ok(Some((pixels, files[place].class)));
                }
            }
            let first = self.seen().unreadable.values().min().cloned().unwrap_or_default();
            Err(Error::config(format!("none of the {} images to train on can be read: {first}", files.len())))
        })
    }

    /// A file that cannot be read leaves its row without a class.
    fn validation(&self, index: usize) -> Result<Batch> {
        let files = &self.folder.validation;
        self.tensors(|row| {
            let place = index * self.batch + row;
            let Some(file) = files.get(place) else { return Ok(None) };
            let pixels = self.pixels(self.folder.training.len() + place, file);
            Ok(pixels.map(|pixels| (pixels, file.class)))
        })
    }

    fn tensors(&self, image: impl Fn(usize) -> Result<Option<(Arc<[u8]>, u32)>>) -> Result<Batch> {
        let bytes = CHANNELS * self.side * self.side;
        let (mut pixels, mut labels) = (Vec::with_capacity(self.batch * bytes), Vec::with_capacity(self.batch));
        for row in 0..self.batch {
            match image(row)? {
                Some((own, class)) => {
                    pixels.extend_from_slice(&own);
                    labels.push(class as i32);
                }
                None => {
                    pixels.resize(pixels.len() + bytes, 0);
                    labels.push(-1);
                }
            }
        }
        let images = HostTensor::u8([self.batch, CHANNELS, self.side, self.side], &pixels)?;
        Ok(vec![(IMAGES, images), (LABELS, HostTensor::i32([self.batch], &labels)?)])
    }

    /// The pixels of a file, from memory or from the disk; `None` if it cannot be read.
    fn pixels(&self, place: usize, file: &ImageFile) -> Option<Arc<[u8]>> {
        {
            let seen = self.seen();
            if let Some(pixels) = seen.kept.get(&place) {
                return Some(pixels.clone());
            }
            if seen.unreadable.contains_key(&place) {
                return None;
            }
        }
        // Without the lock: this is the work that the threads are for.
        let read = read_image(&file.path, self.side);
        let mut seen = self.seen();
        match read {
            Ok(pixels) => {
                let pixels: Arc<[u8]> = pixels.into();
                if seen.bytes + pixels.len() <= KEPT_BYTES && seen.kept.insert(place, pixels.clone()).is_none() {
                    seen.bytes += pixels.len();
                }
                Some(pixels)
            }
            Err(error) => {
                // Two threads may have met the same file.
                if seen.unreadable.insert(place, error.to_string()).is_none() {
                    let warning = format!("image left out ({} so far): {error}", seen.unreadable.len());
                    seen.news.push(warning);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Two classes of images, each of one colour that tells its number, and one file in each that is no image.
    fn folder(root: &Path) -> ImageFolder {
        for (class, name) in ["dark", "light"].into_iter().enumerate() {
            std::fs::create_dir_all(root.join(name)).unwrap();
            for i in 0..10u8 {
                let path = root.join(name).join(format!("{i}.png"));
                image::RgbImage::from_pixel(5, 5, image::Rgb([100 * class as u8 + i; 3])).save(path).unwrap();
            }
            std::fs::write(root.join(name).join("broken.png"), "no image").unwrap();
        }
        ImageFolder::open(root, 0.2).unwrap()
    }

    fn values(batch: &Batch) -> Vec<(u8, i32)> {
        let pixels = batch[0].1.shape.iter().skip(1).product();
        let labels: Vec<i32> = bytemuck::pod_collect_to_vec(&batch[1].1.bytes);
        batch[0].1.bytes.chunks_exact(pixels).map(|image| image[0]).zip(labels).collect()
    }

    #[test]
    fn batches_are_the_same_whatever_the_threads_do() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let run = |workers: usize, first: u64| {
            let data = ImageData::new(folder.clone(), 8, 4, workers);
            (first..12).map(|step| data.training(9, step * 4)).collect::<Result<Vec<_>>>()
        };
        let whole = run(1, 0)?;
        assert_eq!(run(3, 0)?, whole);
        assert_eq!(run(2, 5)?, whole[5..]);
        // Labels belong to their images, and nothing unreadable is trained on.
        for (value, label) in whole.iter().flat_map(values) {
            assert_eq!(i32::from(value / 100), label);
        }
        Ok(())
    }

    #[test]
    fn held_out_images_come_once_and_unreadable_ones_are_left_out_with_one_warning_each() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let data = ImageData::new(folder(dir.path()), 8, 3, 2);
        let batches = data.validation_batches();
        for _ in 0..2 {
            let all = (0..batches).map(|i| data.validation(i, batches)).collect::<Result<Vec<_>>>()?;
            let mut rows: Vec<_> = all.iter().flat_map(values).filter(|(_, label)| *label >= 0).collect();
            let readable = rows.len();
            rows.dedup();
            assert_eq!(rows.len(), readable);
            let broken = |files: &[ImageFile]| files.iter().filter(|f| f.path.ends_with("broken.png")).count();
            assert_eq!(readable, data.folder().validation.len() - broken(&data.folder().validation));
            // Two epochs meet every file.
            (0..12).try_for_each(|step| data.training(1, step * 3).map(|_| ()))?;
        }
        let warnings = data.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[1].contains("2 so far") && warnings[1].contains("broken.png"), "{warnings:?}");
        assert!(data.warnings().is_empty());
        Ok(())
    }

    #[test]
    fn a_folder_without_one_readable_image_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = folder(dir.path());
        folder.training.retain(|file| file.path.ends_with("broken.png"));
        folder.training.push(ImageFile { path: dir.path().join("gone.png"), class: 0 });
        let message = ImageData::new(folder, 8, 4, 2).training(0, 0).unwrap_err().to_string();
        assert!(message.contains("none of the"), "{message}");
    }
}
