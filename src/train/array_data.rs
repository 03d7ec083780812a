//! Batches of arrays that lie in memory: rows of numbers and what is to be learned of each.
//!
//! Knows nothing about models; the names of the inputs are its caller's.

use super::data::{Batch, DataSource};
use super::order::EpochOrder;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io::HostTensor;
use crate::io::safetensors::element_bytes;
use crate::shape::Shape;

/// One input's rows.
#[derive(Debug, Clone)]
pub struct Column {
    /// The input that it feeds.
    pub name: &'static str,
    pub dtype: DType,
    /// Of one row.
    pub row: Shape,
    /// All rows one after the other, little-endian, without gaps.
    pub bytes: Vec<u8>,
    /// What fills up the last held-out batch, byte by byte: 255 makes an i32 -1.
    pub filler: u8,
}

impl Column {
    fn row_bytes(&self) -> usize {
        self.row.numel() * element_bytes(self.dtype) as usize
    }

    /// Rows in it, if it has whole ones.
    fn rows(&self) -> Result<usize> {
        let size = self.row_bytes();
        if size == 0 || !self.bytes.len().is_multiple_of(size) {
            return Err(Error::feed(format!(
                "`{}` has {} bytes, which is not a whole number of rows {}{} of {size} bytes",
                self.name,
                self.bytes.len(),
                self.dtype,
                self.row
            )));
        }
        Ok(self.bytes.len() / size)
    }

    /// The rows of these numbers; the filler where there is none.
    fn take(&self, rows: &[Option<usize>]) -> Result<HostTensor> {
        let size = self.row_bytes();
        let mut bytes = Vec::with_capacity((rows.len() * size).next_multiple_of(4));
        for row in rows {
            match row.and_then(|row| self.bytes.get(row * size..(row + 1) * size)) {
                Some(own) => bytes.extend_from_slice(own),
                None => bytes.resize(bytes.len() + size, self.filler),
            }
        }
        let shape: Shape = std::iter::once(rows.len()).chain(self.row.iter().copied()).collect();
        bytes.resize(self.dtype.bytes(&shape) as usize, 0);
        Ok(HostTensor { dtype: self.dtype, shape, bytes })
    }
}

/// Columns with as many rows each, shuffled anew each epoch to train on, and in their order to be looked at.
#[derive(Debug)]
pub struct ArrayData {
    columns: Vec<Column>,
    batch: usize,
    rows: usize,
    order: EpochOrder,
}

impl ArrayData {
    /// Batches of `batch` rows. Columns must have the same number of rows, at least one.
    pub fn new(columns: Vec<Column>, batch: usize) -> Result<ArrayData> {
        let rows = columns.iter().map(Column::rows).collect::<Result<Vec<_>>>()?;
        let first = rows.first().copied().unwrap_or(0);
        if let Some(other) = rows.iter().position(|&rows| rows != first) {
            return Err(Error::feed(format!(
                "`{}` has {first} rows, but `{}` has {}",
                columns[0].name, columns[other].name, rows[other]
            )));
        }
        if first == 0 || batch == 0 {
            return Err(Error::feed("there is nothing to make batches of: no rows, or a batch of none".into()));
        }
        Ok(ArrayData { columns, batch, rows: first, order: EpochOrder::new(first) })
    }

    /// Rows of each column.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Batches that hold every row once, the last one filled up.
    pub fn batches(&self) -> usize {
        self.rows.div_ceil(self.batch)
    }

    fn take(&self, row: impl Fn(usize) -> usize) -> Result<Batch> {
        let rows: Vec<Option<usize>> = (0..self.batch).map(|i| Some(row(i)).filter(|&row| row < self.rows)).collect();
        self.columns.iter().map(|column| Ok((column.name, column.take(&rows)?))).collect()
    }
}

impl DataSource for ArrayData {
    fn training(&self, seed: u64, first_sample: u64) -> Result<Batch> {
        self.take(|row| self.order.sample(seed, first_sample.wrapping_add(row as u64), 0))
    }

    fn validation(&self, index: usize, _batches: usize) -> Result<Batch> {
        self.take(|row| index * self.batch + row)
    }

    fn tokens_per_batch(&self) -> usize {
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::DigitData;
    use crate::train::classify::{IMAGES, LABELS};

    fn columns(digits: &[crate::io::digits::Digit]) -> Vec<Column> {
        let pixels = digits.iter().flat_map(|digit| digit.pixels).collect();
        let labels = digits.iter().flat_map(|digit| i32::from(digit.label).to_le_bytes()).collect();
        vec![
            Column { name: IMAGES, dtype: DType::U8, row: [1, 8, 8].into(), bytes: pixels, filler: 0 },
            Column { name: LABELS, dtype: DType::I32, row: Shape::scalar(), bytes: labels, filler: 255 },
        ]
    }

    #[test]
    fn arrays_give_the_batches_of_the_task_that_has_the_same_rows() -> Result<()> {
        let own = crate::io::digits::digits();
        let task = DigitData::new(50);
        let training = ArrayData::new(columns(&own[..crate::io::digits::TRAINING]), 50)?;
        assert_eq!(training.training(3, 1400)?, task.training(3, 1400)?);
        let test = ArrayData::new(columns(task.test()), 50)?;
        assert_eq!((test.rows(), test.batches()), (360, 8));
        assert_eq!(test.validation(7, 8)?, task.validation(7, 8)?);
        Ok(())
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        let own = crate::io::digits::digits();
        let message = |change: &dyn Fn(&mut Vec<Column>)| {
            let mut columns = columns(&own[..3]);
            change(&mut columns);
            ArrayData::new(columns, 2).unwrap_err().to_string()
        };
        assert!(message(&|c| c[0].bytes.truncate(100)).contains("not a whole number of rows u8[1, 8, 8] of 64 bytes"));
        assert!(message(&|c| c[1].bytes.truncate(8)).contains("`images` has 3 rows, but `labels` has 2"));
        assert!(message(&|c| c.iter_mut().for_each(|c| c.bytes.clear())).contains("no rows"));
    }
}
