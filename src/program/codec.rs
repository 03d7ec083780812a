//! Numbers and texts as bytes, and back: one description of a value's parts for both ways.
//!
//! A value is walked with its parts as `&mut`; writing looks at them, reading replaces them. Knows nothing of what is
//! stored. What is read may be anything: it is found torn at the end, never before, and takes no more memory than its length and a
//! few mebibytes.

use crate::dtype::DType;
use crate::shape::Shape;

/// Bytes that are being written, or read.
pub struct Codec {
    bytes: Vec<u8>,
    /// Where reading goes on; nothing while writing.
    at: Option<usize>,
    /// Bytes that lists may still take.
    room: usize,
    torn: bool,
}

/// Items of short lists are larger in memory than in their bytes; beside as many bytes as were read, lists may take so many.
const ROOM: usize = 4 << 20;

const DTYPES: [DType; 7] = [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::Bool, DType::U8];

impl Codec {
    pub fn writing() -> Codec {
        Codec { bytes: Vec::new(), at: None, room: 0, torn: false }
    }

    pub fn reading(bytes: &[u8]) -> Codec {
        Codec { bytes: bytes.to_vec(), at: Some(0), room: ROOM + bytes.len(), torn: false }
    }

    /// Whether parts are being replaced by what is read.
    pub fn reads(&self) -> bool {
        self.at.is_some()
    }

    /// What was read is nothing that was written.
    pub fn tear(&mut self) {
        self.torn = true;
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether all bytes were read, and each was what it had to be.
    pub fn whole(&self) -> bool {
        !self.torn && self.at == Some(self.bytes.len())
    }

    fn byte(&mut self, byte: &mut u8) {
        match &mut self.at {
            None => self.bytes.push(*byte),
            Some(at) => match self.bytes.get(*at) {
                Some(&read) => (*byte, *at) = (read, *at + 1),
                None => (*byte, self.torn) = (0, true),
            },
        }
    }

    /// Seven bits a byte, the lowest first (LEB128).
    pub fn number(&mut self, number: &mut u64) {
        let (mut left, mut shift) = (*number, 0);
        let mut read = 0;
        loop {
            let mut byte = (left & 127) as u8 | if left > 127 { 128 } else { 0 };
            self.byte(&mut byte);
            read |= u64::from(byte & 127) << shift;
            (left, shift) = (left >> 7, shift + 7);
            if byte < 128 {
                break;
            }
            if shift > 63 {
                self.torn = true;
                break;
            }
        }
        *number = read;
    }

    pub fn size(&mut self, size: &mut usize) {
        let mut number = *size as u64;
        self.number(&mut number);
        *size = number as usize;
        self.torn |= *size as u64 != number;
    }

    pub fn word(&mut self, word: &mut u32) {
        let mut number = u64::from(*word);
        self.number(&mut number);
        *word = number as u32;
        self.torn |= u64::from(*word) != number;
    }

    pub fn flag(&mut self, flag: &mut bool) {
        self.one_of(flag, &[false, true]);
    }

    pub fn real(&mut self, real: &mut f64) {
        let mut bits = real.to_bits();
        self.number(&mut bits);
        *real = f64::from_bits(bits);
    }

    /// One of these values.
    pub fn one_of<T: Copy + PartialEq>(&mut self, value: &mut T, all: &[T]) {
        let mut index = all.iter().position(|one| one == value).unwrap_or(0);
        self.size(&mut index);
        match all.get(index) {
            Some(one) => *value = *one,
            None => self.torn = true,
        }
    }

    pub fn dtype(&mut self, dtype: &mut DType) {
        self.one_of(dtype, &DTYPES);
    }

    /// Each item by `each`, which replaces copies of `empty` when reading.
    pub fn list<T: Clone>(&mut self, items: &mut Vec<T>, empty: T, each: impl Fn(&mut Codec, &mut T)) {
        let mut count = items.len();
        self.size(&mut count);
        if let Some(at) = self.at {
            let taken = count.saturating_mul(size_of::<T>());
            // An item takes a byte at least.
            if count > self.bytes.len() - at || taken > self.room {
                (self.torn, count) = (true, 0);
            } else {
                self.room -= taken;
            }
            *items = vec![empty; count];
        }
        items.iter_mut().for_each(|item| each(self, item));
    }

    pub fn text(&mut self, text: &mut String) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.list(&mut bytes, 0, Codec::byte);
        *text = String::from_utf8(bytes).unwrap_or_else(|_| {
            self.torn = true;
            String::new()
        });
    }

    pub fn shape(&mut self, shape: &mut Shape) {
        let mut sizes = shape.to_vec();
        self.list(&mut sizes, 0, Codec::size);
        *shape = sizes.into();
        self.torn |= !shape.fits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (u64, usize, u32, bool, f64, DType, String, Shape);

    fn walk(codec: &mut Codec, parts: &mut Parts) {
        let (number, size, word, flag, real, dtype, text, shape) = parts;
        codec.number(number);
        codec.size(size);
        codec.word(word);
        codec.flag(flag);
        codec.real(real);
        codec.dtype(dtype);
        codec.text(text);
        codec.shape(shape);
    }

    fn nothing() -> Parts {
        (0, 0, 0, false, 0.0, DType::F32, String::new(), Shape::scalar())
    }

    #[test]
    fn what_is_written_is_read() {
        for number in [0, 127, 128, u64::from(u32::MAX), u64::MAX] {
            let mut parts = (number, 300, u32::MAX, true, -1.5e-300, DType::U8, "Größe".to_string(), [2, 0, 7].into());
            let mut writing = Codec::writing();
            walk(&mut writing, &mut parts);
            let (mut reading, mut read) = (Codec::reading(&writing.into_bytes()), nothing());
            walk(&mut reading, &mut read);
            assert!(reading.whole());
            assert_eq!(read, parts);
        }
    }

    #[test]
    fn torn_bytes_are_found_at_the_end() {
        let mut writing = Codec::writing();
        walk(&mut writing, &mut (1, 2, 3, true, 4.0, DType::I32, "text".into(), [5, 6].into()));
        let bytes = writing.into_bytes();
        for length in 0..bytes.len() {
            let mut reading = Codec::reading(&bytes[..length]);
            walk(&mut reading, &mut nothing());
            assert!(!reading.whole(), "{length} of {} bytes", bytes.len());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        let mut reading = Codec::reading(&longer);
        walk(&mut reading, &mut nothing());
        assert!(!reading.whole());
        let mut reading = Codec::reading(&[255; 64]);
        walk(&mut reading, &mut nothing());
        assert!(!reading.whole());
    }
}
