//! Sorting, in one function for all types.
//!
//! The standard library's is made anew for each type and rule, which is worth it for long lists. Those here are short,
//! and together its copies would be a tenth of what a browser downloads.

use std::cmp::Ordering;

/// Puts items into ascending order. Equal ones keep their order.
pub fn sort<T: Ord>(items: &mut [T]) {
    sort_by(items, T::cmp);
}

/// Puts items into the order of a key.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    sort_by(items, |a, b| key(a).cmp(&key(b)));
}

/// Puts items into the order of a rule, which must be total.
pub fn sort_by<T>(items: &mut [T], rule: impl Fn(&T, &T) -> Ordering) {
    let mut order = merged(items.len(), &|a, b| rule(&items[a], &items[b]) == Ordering::Greater);
    // Item `order[i]` belongs to place `i`: follow each circle of moves once.
    for start in 0..items.len() {
        let mut place = start;
        while order[place] != start && order[place] != place {
            let from = order[place];
            items.swap(place, from);
            order[place] = place;
            place = from;
        }
        order[place] = place;
    }
}

/// The places `0..count` in their order; `after` says whether the item at one place belongs behind that at another.
fn merged(count: usize, after: &dyn Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut next = Vec::with_capacity(count);
    let mut width = 1;
    while width < count {
        next.clear();
        for start in (0..count).step_by(2 * width) {
            let (middle, end) = ((start + width).min(count), (start + 2 * width).min(count));
            let (mut a, mut b) = (start, middle);
            while a < middle || b < end {
                // The first of equal items comes from the earlier half.
                let second = b < end && (a == middle || after(order[a], order[b]));
                let from = if second { &mut b } else { &mut a };
                next.push(order[*from]);
                *from += 1;
            }
        }
        std::mem::swap(&mut order, &mut next);
        width *= 2;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_as_the_standard_library_sorts_them() {
        for count in (0..40).chain([100, 1000]) {
            // Few keys, so that many are equal, and the place they came from.
            let items: Vec<(u32, u64)> = (0..count).map(|i| ((i * i * 31 + i * count) as u32 % 7, i)).collect();
            let (mut own, mut expected) = (items.clone(), items.clone());
            sort_by_key(&mut own, |item| item.0);
            expected.sort_by_key(|item| item.0);
            assert_eq!(own, expected);
            sort_by(&mut own, |a, b| b.1.cmp(&a.1));
            assert!(own.iter().rev().copied().eq(items));
            let mut numbers: Vec<u32> = own.iter().map(|item| item.0).collect();
            sort(&mut numbers);
            assert!(numbers.is_sorted());
        }
    }
}
