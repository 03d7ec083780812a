//! Launches of one text over neighbouring ranges become one: the optimizer updates a whole flat
//! buffer of parameters in a single dispatch.

use super::emit::{Launch, Linear};
use crate::program::Binding;

/// Joins each run of launches that do the same to ranges that follow each other in every buffer.
///
/// Gaps between tensors of a flat buffer are computed along. They hold zeros and must go on doing so: only
/// launches that make zeros of zeros come here as `linear`.
pub fn join(launches: Vec<Launch>) -> Vec<Launch> {
    let mut joined: Vec<Launch> = Vec::new();
    for launch in launches {
        match joined.last_mut().and_then(|last| united(last, &launch)) {
            Some(union) => {
                if let Some(last) = joined.last_mut() {
                    *last = union;
                }
            }
            None => joined.push(launch),
        }
    }
    joined
}

/// One launch for both, if `next` goes on where `last` ends.
fn united(last: &Launch, next: &Launch) -> Option<Launch> {
    let (a, b) = (last.linear?, next.linear?);
    let same =
        last.wgsl == next.wgsl && last.params[2..] == next.params[2..] && last.bindings.len() == next.bindings.len();
    if !same || a.width != b.width {
        return None;
    }
    let mut shift = None;
    let mut bindings = Vec::new();
    for ((first, write), (second, other)) in last.bindings.iter().zip(&next.bindings) {
        if write != other || first.buffer != second.buffer {
            return None;
        }
        if first == second {
            // The same scalar or shared range for both.
            bindings.push((*first, *write));
            continue;
        }
        let step = second.offset.checked_sub(first.offset)?;
        let gap_is_small = step >= first.bytes && step < first.bytes.next_multiple_of(256) + 1;
        if !gap_is_small || *shift.get_or_insert(step) != step || !step.is_multiple_of(4 * u64::from(a.width)) {
            return None;
        }
        bindings.push((Binding { bytes: step + second.bytes, ..*first }, *write));
    }
    let len = shift? / 4 + b.len;
    let per_group = u64::from(last.workgroup * a.width);
    let groups = len.div_ceil(per_group);
    let mut params = last.params.clone();
    params[0] = len as u32;
    params[1] = groups as u32;
    Some(Launch {
        bindings,
        params,
        groups,
        flops: last.flops + next.flops,
        linear: Some(Linear { len, width: a.width }),
        ..last.clone()
    })
}
