//! Preparing items ahead on another thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Receiver, bounded};

use crate::{Error, Result};

/// An iterator whose items are made on a thread, at most so many ahead.
///
/// The first error, or a panic turned into one, is the last item. Dropping it ends the thread.
pub(crate) struct Prefetch<T> {
    receiver: Option<Receiver<Result<T>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    pub(crate) fn spawn(
        ahead: usize,
        mut make: impl FnMut() -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let (sender, receiver) = bounded(ahead);
        let work = move || {
            loop {
                // After a panic `make` is not called again, so that nothing sees what it left
                // behind.
                let item = catch_unwind(AssertUnwindSafe(&mut make))
                    .unwrap_or_else(|panic| Err(Error::Panicked(message(&*panic))));
                let last = item.is_err();
                if sender.send(item).is_err() || last {
                    break;
                }
            }
        };
        let thread =
            Builder::new().name("batches".to_owned()).spawn(work).map_err(Error::Thread)?;
        Ok(Self { receiver: Some(receiver), thread: Some(thread) })
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.as_ref()?.recv().ok()
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // A thread that waits to send wakes when there is no receiver.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // its panics were caught
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    fn counter() -> (Arc<AtomicUsize>, impl FnMut() -> Result<usize> + Send) {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        (made, move || Ok(count.fetch_add(1, Ordering::SeqCst)))
    }

    #[test]
    fn items_come_in_order_and_no_further_ahead_than_asked() {
        let (made, make) = counter();
        let mut items = Prefetch::spawn(4, make).unwrap();
        for expected in 0..100 {
            assert_eq!(items.next().unwrap().unwrap(), expected);
        }
        // Four wait in the channel and one in the thread's hand.
        let deadline = Instant::now() + Duration::from_secs(10);
        while made.load(Ordering::SeqCst) < 105 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 105);
    }

    #[test]
    fn dropping_ends_the_thread() {
        for taken in 0..8 {
            let (made, make) = counter();
            let mut items = Prefetch::spawn(2, make).unwrap();
            items.by_ref().take(taken).for_each(drop);
            drop(items);
            // The closure, and with it the second handle, is gone with the thread.
            assert_eq!(Arc::strong_count(&made), 1);
        }
    }

    #[test]
    fn errors_and_panics_arrive_and_end_it() {
        for (panics, expected) in
            [(false, "rank = 7 is not here"), (true, "batches panicked: at 3")]
        {
            let mut n = 0;
            let mut items = Prefetch::spawn(4, move || {
                n += 1;
                match n {
                    1..3 => Ok(n),
                    _ if panics => panic!("at {n}"),
                    _ => Err(Error::Shape { name: "rank", value: 7, right: "here".to_owned() }),
                }
            })
            .unwrap();
            assert_eq!(items.next().unwrap().unwrap(), 1);
            assert_eq!(items.next().unwrap().unwrap(), 2);
            let error = items.next().unwrap().unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
            assert!(items.next().is_none() && items.next().is_none());
        }
    }
}
