//! A batch cut along its samples.
//!
//! Knows names and shapes only. For whom: `trainer.rs` cuts the batch of a step into micro-batches, `run.rs` held-out
//! batches.

use super::data::Batch;
use crate::error::{Error, Result};
use crate::io::HostTensor;
use crate::shape::Shape;
use std::borrow::Borrow;

/// The parts of a batch whose tensors have several times the rows that a program takes; `wanted` gives the shape of an
/// input. A tensor that fits as it is goes into every part. No parts: nothing is to be cut.
pub(super) fn split<'s, T: Borrow<HostTensor>>(
    batch: &[(&str, T)],
    wanted: impl Fn(&str) -> Option<&'s Shape>,
) -> Result<Vec<Vec<(String, HostTensor)>>> {
    let mut found: Option<(&str, usize)> = None;
    for (name, tensor) in batch {
        let Some(parts) = parts(name, &tensor.borrow().shape, wanted(name))? else { continue };
        match found {
            Some((other, count)) if count != parts => {
                return Err(Error::feed(format!(
                    "the input `{name}` has the samples of {parts} micro-batches, but `{other}` those of {count}"
                )));
            }
            _ => found = Some((name, parts)),
        }
    }
    let count = found.map_or(0, |(_, parts)| parts);
    let part = |index: usize| {
        let tensor = |(name, tensor): &(&str, T)| {
            let tensor = tensor.borrow();
            let rows = tensor.shape.first().map_or(0, |rows| rows / count);
            let cut = match wanted(name) {
                Some(shape) if *shape != tensor.shape => tensor.rows(index * rows..(index + 1) * rows),
                _ => None,
            };
            (name.to_string(), cut.unwrap_or_else(|| tensor.clone()))
        };
        batch.iter().map(tensor).collect()
    };
    Ok((0..count).map(part).collect())
}

/// Into how many parts an input has to be cut; `None` where its shape differs in more than the number of rows.
fn parts(name: &str, given: &Shape, wanted: Option<&Shape>) -> Result<Option<usize>> {
    let Some(wanted) = wanted.filter(|wanted| *wanted != given) else { return Ok(None) };
    let (Some(&rows), Some(&own)) = (given.first(), wanted.first()) else { return Ok(None) };
    if given[1..] != wanted[1..] || own == 0 || rows < own {
        return Ok(None);
    }
    if !rows.is_multiple_of(own) {
        return Err(Error::feed(format!(
            "the {rows} samples of the input `{name}` are no whole number of micro-batches of {own}; fill them up with \
             samples that the loss leaves out"
        )));
    }
    Ok(Some(rows / own))
}

/// A batch in `count` parts of as many samples each.
pub fn equal_parts(batch: &Batch, count: usize) -> Result<Vec<Batch>> {
    let uneven = |name: &str, tensor: &HostTensor| {
        Error::feed(format!("the input `{name}` {} cannot be cut into {count} parts", tensor.shape))
    };
    let part = |index: usize| -> Result<Batch> {
        let tensor = |(name, tensor): &(&'static str, HostTensor)| {
            let rows = tensor.shape.first().map_or(0, |rows| rows / count.max(1));
            let cut = tensor.rows(index * rows..(index + 1) * rows);
            Ok((*name, cut.ok_or_else(|| uneven(name, tensor))?))
        };
        batch.iter().map(tensor).collect()
    };
    (0..count).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_dealt_out_in_order_and_what_fits_is_shared() -> Result<()> {
        let (x, bytes) = (HostTensor::f32([4, 1], &[1.0, 2.0, 3.0, 4.0])?, HostTensor::u8([4, 3], &[7; 12])?);
        let mask = HostTensor::f32([2], &[5.0, 6.0])?;
        let shapes: [(&str, Shape); 3] = [("x", [2, 1].into()), ("bytes", [2, 3].into()), ("mask", [2].into())];
        let wanted = |name: &str| Some(&shapes.iter().find(|(own, _)| *own == name)?.1);
        let parts = split(&[("x", &x), ("bytes", &bytes), ("mask", &mask)], wanted)?;
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1][0], ("x".into(), HostTensor::f32([2, 1], &[3.0, 4.0])?));
        assert_eq!(parts[0][1].1, HostTensor::u8([2, 3], &[7; 6])?);
        assert_eq!(parts[1][2].1, mask);
        assert!(split(&[("mask", &mask)], wanted)?.is_empty());
        let refused = |batch: &[(&str, &HostTensor)]| split(batch, wanted).map(|_| ()).unwrap_err().to_string();
        assert!(refused(&[("x", &HostTensor::f32([3, 1], &[0.0; 3])?)]).contains("no whole number"));
        assert!(refused(&[("x", &x), ("bytes", &HostTensor::u8([6, 3], &[0; 18])?)]).contains("those of 2"));
        Ok(())
    }

    #[test]
    fn equal_parts_have_as_many_samples_each() -> Result<()> {
        let batch: Batch = vec![("x", HostTensor::i32([6], &[0, 1, 2, 3, 4, 5])?)];
        let parts = equal_parts(&batch, 3)?;
        assert_eq!(parts[2][0].1, HostTensor::i32([2], &[4, 5])?);
        assert!(equal_parts(&vec![("x", HostTensor::i32([], &[1])?)], 2).is_err());
        Ok(())
    }
}
