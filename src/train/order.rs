//! In what order the samples of a finite set are trained on: every sample once an epoch, shuffled anew for each.
//!
//! A function of the seed and a sample's number in the endless sequence of epochs, so a resumed run goes on with
//! the same samples. Knows nothing about what the samples are.

use crate::random::Stream;
use std::sync::{Arc, Mutex};

/// Streams of a seed below this are those of first values, by the number of a parameter.
const STREAMS: u32 = 1 << 31;

/// Shuffled samples `0..samples`, epoch after epoch.
#[derive(Debug)]
pub struct EpochOrder {
    samples: usize,
    /// The orders used last, by seed and epoch: a batch may reach into the next epoch.
    recent: Mutex<Vec<Recent>>,
}

type Recent = ((u64, u64), Arc<[u32]>);

impl EpochOrder {
    /// The orders of this many samples.
    pub fn new(samples: usize) -> EpochOrder {
        EpochOrder { samples, recent: Mutex::new(Vec::new()) }
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Which sample is number `index` of the endless sequence of a seed; `next` counts on within its epoch, for a
    /// sample that takes the place of one that cannot be used.
    pub fn sample(&self, seed: u64, index: u64, next: usize) -> usize {
        let samples = self.samples.max(1);
        let (epoch, place) = (index / samples as u64, (index % samples as u64) as usize);
        let order = self.epoch(seed, epoch);
        order.get((place + next) % samples).map_or(0, |&sample| sample as usize)
    }

    fn epoch(&self, seed: u64, epoch: u64) -> Arc<[u32]> {
        let mut recent = self.recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, order)) = recent.iter().find(|(known, _)| *known == (seed, epoch)) {
            return order.clone();
        }
        let order: Arc<[u32]> = shuffled(seed, epoch, self.samples).into();
        recent.push(((seed, epoch), order.clone()));
        if recent.len() > 2 {
            recent.remove(0);
        }
        order
    }
}

/// Fisher and Yates's shuffle.
fn shuffled(seed: u64, epoch: u64, samples: usize) -> Vec<u32> {
    let stream = Stream::new(seed ^ (epoch >> 31), STREAMS | epoch as u32);
    let mut order: Vec<u32> = (0..samples as u32).collect();
    for last in (1..samples).rev() {
        let [high, low] = stream.words(last as u64);
        let word = u64::from(high) << 32 | u64::from(low);
        // The high half of the product is uniform over 0..=last.
        let other = ((u128::from(word) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, other);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_comes_once_an_epoch_in_an_order_of_its_own() {
        let order = EpochOrder::new(50);
        let epoch =
            |seed: u64, number: u64| (0..50).map(|i| order.sample(seed, number * 50 + i, 0)).collect::<Vec<_>>();
        let (first, second) = (epoch(7, 0), epoch(7, 1));
        assert_ne!(first, second);
        for mut samples in [first.clone(), second, epoch(7, 1 << 40)] {
            samples.sort_unstable();
            assert_eq!(samples, (0..50).collect::<Vec<_>>());
        }
        assert_eq!(epoch(7, 0), first);
        assert_ne!(epoch(8, 0), first);
        assert_eq!(order.sample(7, 49, 1), first[0]);
    }

    #[test]
    fn every_place_is_as_likely() {
        let places = |sample: u32| (0..4000).map(move |e| shuffled(1, e, 5).iter().position(|&s| s == sample).unwrap());
        for sample in 0..5 {
            for place in 0..5 {
                // 800 expected, with a deviation of 25.
                let count = places(sample).filter(|&own| own == place).count();
                assert!((690..910).contains(&count), "{sample} {place} {count}");
            }
        }
        assert_eq!(shuffled(0, 0, 1), [0]);
    }
}
