//! Handwritten digits: 1,797 images of 8 x 8 pixels, embedded in the library.
//!
//! From the UCI Machine Learning Repository (E. Alpaydin, C. Kaynak, 1998; CC BY 4.0) by way of scikit-learn:
//! `data/README.md` has source, licence, layout and split; `scripts/fetch_digits.py` writes the file. Knows
//! nothing about batches or models.

/// Pixels along a side.
pub const SIDE: usize = 8;
/// The value of full ink; paper is 0.
pub const INK: u8 = 16;
/// The digits 0 to 9.
pub const CLASSES: usize = 10;
/// Images to train on: the first ones.
pub const TRAINING: usize = 1437;
/// Images to test on: the rest.
pub const TEST: usize = 360;

const PACKED: &[u8] = include_bytes!("../../data/digits.bin");
const PIXELS: usize = SIDE * SIDE;
/// Label, then pixels of five bits.
const RECORD: usize = 1 + PIXELS * 5 / 8;
const _: () = assert!(PACKED.len() == (TRAINING + TEST) * RECORD);

/// One image and what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// Rows from the top, each value from 0 (paper) to 16 (ink).
    pub pixels: [u8; PIXELS],
    /// The digit that was written.
    pub label: u8,
}

/// All digits: those to train on, then those to test on.
pub fn digits() -> Vec<Digit> {
    PACKED.chunks_exact(RECORD).map(unpack).collect()
}

fn unpack(record: &[u8]) -> Digit {
    let mut pixels = [0; PIXELS];
    let (label, packed) = record.split_first().unwrap_or((&0, &[]));
    // Eight pixels lie in five bytes.
    for (pixels, bytes) in pixels.chunks_exact_mut(8).zip(packed.chunks_exact(5)) {
        let word = bytes.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        for (pixel, place) in pixels.iter_mut().zip((0u32..).step_by(5)) {
            *pixel = (word >> place & 31) as u8;
        }
    }
    Digit { pixels, label: *label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_those_of_scikit_learn() {
        let digits = digits();
        assert_eq!(digits.len(), 1797);
        assert!(digits.iter().all(|digit| digit.label < 10 && digit.pixels.iter().all(|&pixel| pixel <= INK)));
        // The first image of `sklearn.datasets.load_digits()`, a zero.
        let zero = [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0], [0, 3, 15, 2, 0, 11, 8, 0]].concat();
        assert!(digits.iter().any(|digit| digit.label == 0 && digit.pixels[..24] == zero[..]));
        // Its sums: of all pixels, and of the images of each class.
        let sum: u32 = digits.iter().flat_map(|digit| digit.pixels).map(u32::from).sum();
        assert_eq!(sum, 561_718);
        let count = |part: &[Digit]| (0..10).map(|k| part.iter().filter(|d| d.label == k).count()).collect::<Vec<_>>();
        assert_eq!(count(&digits), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert!(count(&digits[TRAINING..]).iter().all(|&images| images >= 20), "{:?}", count(&digits[TRAINING..]));
    }

    #[test]
    fn no_test_image_is_also_trained_on() {
        let digits = digits();
        let (training, test) = digits.split_at(TRAINING);
        assert_eq!(test.len(), TEST);
        assert!(test.iter().all(|digit| training.iter().all(|other| other.pixels != digit.pixels)));
    }
}
