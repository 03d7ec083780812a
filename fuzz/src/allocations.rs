//! An allocator that counts what a thread holds, so that a parser's appetite can be measured.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread allocated and did not free, and the most that it was. Signed: a thread may free
    /// what another allocated.
    static HELD: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// The system's allocator with a count for each thread.
pub struct Counted;

fn count(bytes: i64) {
    // A thread that ends frees after its count is gone.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: every call is handed to the system's allocator as it is; counting does not allocate.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(block, layout, size) }
    }
}

/// The result of some work, and the most bytes that it held at once beyond what was there before. Zero where
/// [`Counted`] is not the program's allocator.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let (before, most_before) = HELD.get();
    HELD.set((before, before));
    let result = work();
    let (now, most) = HELD.get();
    HELD.set((now, most.max(most_before)));
    (result, (most - before).max(0) as u64)
}
