//! Work ahead on background threads: items number 0, 1, 2, … are made by several threads and handed out in order.
//!
//! Thread `k` of `n` makes the items `k`, `k + n`, … into a queue of its own that holds few, so the order does not
//! depend on which thread is faster, and nobody runs far ahead. Knows nothing about what is made.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Finished items that wait in each thread's queue, besides the one that the thread holds in its hands.
const WAITING: usize = 1;

/// Items under way.
pub struct Prefetch<T> {
    workers: Vec<Worker<T>>,
    /// Number of the next item.
    next: u64,
}

struct Worker<T> {
    /// `None` once dropping began: then sending fails, and the thread ends.
    items: Option<Receiver<Result<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Begins to make items on so many threads; `make` gives `None` for each item from some number on.
    pub fn start(
        threads: usize,
        make: impl Fn(u64) -> Result<Option<T>> + Send + Sync + 'static,
    ) -> Result<Prefetch<T>> {
        let (threads, make) = (threads.max(1), Arc::new(make));
        let mut prefetch = Prefetch { workers: Vec::with_capacity(threads), next: 0 };
        for worker in 0..threads {
            let (sender, items) = sync_channel(WAITING);
            let make = make.clone();
            let work = move || {
                let numbers = (worker as u64..).step_by(threads);
                for item in numbers.map_while(|number| make(number).transpose()) {
                    let failed = item.is_err();
                    if sender.send(item).is_err() || failed {
                        break;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("wgrad-load-{worker}")).spawn(work).map_err(|e| {
                Error::config(format!("a thread that reads ahead could not be started ({e}); try fewer data.workers"))
            })?;
            prefetch.workers.push(Worker { items: Some(items), thread: Some(thread) });
        }
        Ok(prefetch)
    }

    /// The next item; waits for it. `None` behind the last one.
    pub fn next(&mut self) -> Result<Option<T>> {
        let worker = (self.next % self.workers.len() as u64) as usize;
        let received = self.workers[worker].items.as_ref().map(Receiver::recv);
        match received {
            Some(Ok(item)) => {
                self.next += 1;
                item.map(Some)
            }
            _ => self.ended(worker),
        }
    }

    /// The thread closed its queue: because there is no more, or because it died.
    fn ended(&mut self, worker: usize) -> Result<Option<T>> {
        match self.workers[worker].thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::config("a thread that reads ahead died (please report this)".into())),
            Some(Ok(())) | None => Ok(None),
        }
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.items = None);
        for thread in self.workers.iter_mut().filter_map(|worker| worker.thread.take()) {
            // A panic there was shown already, and dropping cannot report it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[test]
    fn items_come_in_order_whatever_each_takes() {
        for threads in [1, 2, 5] {
            let mut items = Prefetch::start(threads, |number| {
                std::thread::sleep(Duration::from_micros(number * 7919 % 900));
                Ok((number < 40).then_some(number))
            })
            .unwrap();
            let got: Vec<u64> = std::iter::from_fn(|| items.next().unwrap()).collect();
            assert_eq!(got, (0..40).collect::<Vec<_>>());
            assert!(items.next().unwrap().is_none());
        }
    }

    #[test]
    fn nobody_runs_far_ahead_and_dropping_ends_the_threads() {
        let made = Arc::new(AtomicU64::new(0));
        let count = made.clone();
        let mut items = Prefetch::start(2, move |number| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(Some(number))
        })
        .unwrap();
        items.next().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        // One handed out, and for each thread those that wait and the one it holds.
        assert!(made.load(Ordering::SeqCst) <= 1 + 2 * (WAITING as u64 + 1));
        drop(items);
        assert_eq!(Arc::strong_count(&made), 1);
    }

    #[test]
    fn an_error_comes_in_its_place_and_a_panic_is_an_error() {
        let mut items = Prefetch::start(2, |number| match number {
            3 => Err(Error::config("three".into())),
            _ => Ok(Some(number)),
        })
        .unwrap();
        assert_eq!((0..3).map(|_| items.next().unwrap().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(items.next().unwrap_err().to_string(), "three");
        let mut items = Prefetch::<u64>::start(1, |_| panic!("on purpose")).unwrap();
        assert!(items.next().unwrap_err().to_string().contains("died"));
    }
}
