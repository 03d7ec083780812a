//! Batches of the embedded handwritten digits.
//!
//! Knows nothing about models or configurations; see `digits.rs` for the task.

use super::classify::{IMAGES, LABELS};
use super::data::{Batch, DataSource};
use super::order::EpochOrder;
use crate::error::Result;
use crate::io::HostTensor;
use crate::io::digits::{Digit, SIDE, TRAINING, digits};

/// The 1,437 digits to train on, shuffled anew each epoch, and the 360 test digits in their order.
#[derive(Debug)]
pub struct DigitData {
    digits: Vec<Digit>,
    batch: usize,
    order: EpochOrder,
}

impl DigitData {
    /// Batches of so many images `[batch, 1, 8, 8]` u8 with their labels.
    pub fn new(batch: usize) -> DigitData {
        DigitData { digits: digits(), batch, order: EpochOrder::new(TRAINING) }
    }

    /// Digits to test on.
    pub fn test(&self) -> &[Digit] {
        &self.digits[TRAINING..]
    }

    /// Batches that hold all test digits, the last one filled up.
    pub fn test_batches(&self) -> usize {
        self.test().len().div_ceil(self.batch.max(1))
    }

    /// Rows without a digit are blank and have the label -1.
    fn tensors<'a>(&'a self, digit: impl Fn(usize) -> Option<&'a Digit>) -> Result<Batch> {
        let (mut pixels, mut labels) = (Vec::with_capacity(self.batch * SIDE * SIDE), Vec::with_capacity(self.batch));
        for row in 0..self.batch {
            let digit = digit(row);
            pixels.extend(digit.map_or([0; SIDE * SIDE], |digit| digit.pixels));
            labels.push(digit.map_or(-1, |digit| i32::from(digit.label)));
        }
        let images = HostTensor::u8([self.batch, 1, SIDE, SIDE], &pixels)?;
        Ok(vec![(IMAGES, images), (LABELS, HostTensor::i32([self.batch], &labels)?)])
    }
}

impl DataSource for DigitData {
    fn training(&self, seed: u64, first_sample: u64) -> Result<Batch> {
        self.tensors(|row| self.digits.get(self.order.sample(seed, first_sample.wrapping_add(row as u64), 0)))
    }

    fn validation(&self, index: usize, _batches: usize) -> Result<Batch> {
        self.tensors(|row| self.test().get(index * self.batch + row))
    }

    fn tokens_per_batch(&self) -> usize {
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(batch: &Batch) -> Vec<i32> {
        bytemuck::pod_collect_to_vec(&batch[1].1.bytes)
    }

    #[test]
    fn a_batch_depends_on_its_first_sample_alone() -> Result<()> {
        let data = DigitData::new(8);
        let (first, second) = (data.training(3, 0)?, data.training(3, 8)?);
        assert_eq!(DigitData::new(8).training(3, 8)?, second);
        assert_ne!(first, second);
        let whole = DigitData::new(16).training(3, 0)?;
        assert_eq!(labels(&whole), [labels(&first), labels(&second)].concat());
        Ok(())
    }

    #[test]
    fn every_test_digit_is_in_one_batch() -> Result<()> {
        let data = DigitData::new(50);
        assert_eq!(data.test_batches(), 8);
        let all: Vec<i32> =
            (0..8).map(|i| data.validation(i, 8).map(|b| labels(&b))).collect::<Result<Vec<_>>>()?.concat();
        let want: Vec<i32> = data.test().iter().map(|digit| i32::from(digit.label)).chain([-1; 40]).collect();
        assert_eq!(all, want);
        Ok(())
    }
}
