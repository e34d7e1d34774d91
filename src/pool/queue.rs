//! What waits to be done, and how many workers may take from it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Items in the order they are taken, and the count of workers that take them.
///
/// A worker that finds nothing to take ends, under the same lock that whoever adds an item looks at: so as long as an item
/// waits and may be taken, either a worker lives that will take it or [`claim`](Self::claim) says yes.
#[derive(Debug)]
pub(super) struct Queue<I> {
    state: Mutex<State<I>>,
}

#[derive(Debug)]
struct State<I> {
    waiting: VecDeque<I>,
    /// Live workers, each with one item.
    workers: usize,
    /// How many workers may live at once.
    fanout: usize,
    /// How many more items may be taken.
    released: usize,
    /// No new items.
    is_closed: bool,
    /// Nor old ones: what waited was given up.
    is_flushed: bool,
}

impl<I> State<I> {
    fn next(&mut self, is_stopping: impl FnOnce() -> bool) -> Option<Taken<I>> {
        if self.released == 0 || is_stopping() {
            return None;
        }
        let item = self.waiting.pop_front()?;
        if self.released != usize::MAX {
            self.released -= 1;
        }
        Some(Taken { item, is_alone: self.fanout == 1 })
    }

    fn give_back(&mut self, item: I) {
        self.released = self.released.saturating_add(1);
        self.waiting.push_front(item);
    }
}

/// An item in a worker's hands.
#[derive(Debug)]
pub(super) struct Taken<I> {
    pub(super) item: I,
    /// Whether it was taken when only one worker was allowed: a local limit is then nobody else's doing.
    pub(super) is_alone: bool,
}

impl<I> Queue<I> {
    pub(super) fn new(items: impl IntoIterator<Item = I>, fanout: usize) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: items.into_iter().collect(),
                workers: 0,
                fanout: fanout.max(1),
                released: usize::MAX,
                is_closed: false,
                is_flushed: false,
            }),
        }
    }

    /// Lets only `count` items be taken until [`release`](Self::release).
    pub(super) fn hold_back_after(&self, count: usize) {
        self.lock().released = count;
    }

    /// Lets `count` more items be taken.
    pub(super) fn release(&self, count: usize) {
        let mut state = self.lock();
        state.released = state.released.saturating_add(count);
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    /// The item, when the queue is closed.
    pub(super) fn push(&self, item: I) -> Result<(), I> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(item);
        }
        state.waiting.push_back(item);
        Ok(())
    }

    /// Takes the next item for a worker that is to be started, and counts that worker as alive.
    pub(super) fn claim(&self, is_stopping: impl FnOnce() -> bool) -> Option<Taken<I>> {
        let mut state = self.lock();
        if state.workers >= state.fanout {
            return None;
        }
        let taken = state.next(is_stopping)?;
        state.workers += 1;
        Some(taken)
    }

    /// Takes back a [`claim`](Self::claim) whose thread could not be started: no more than those alive may live from now on.
    ///
    /// # Errors
    /// The item, when nobody is left to take it.
    pub(super) fn unclaim(&self, taken: Taken<I>) -> Result<(), I> {
        let mut state = self.lock();
        state.workers -= 1;
        state.fanout = state.workers.max(1);
        if state.workers == 0 || state.is_flushed {
            return Err(taken.item);
        }
        state.give_back(taken.item);
        Ok(())
    }

    /// Takes the next item, for a worker that has none. `None` ends the worker.
    pub(super) fn take(&self, is_stopping: impl FnOnce() -> bool) -> Option<Taken<I>> {
        let mut state = self.lock();
        let taken = if state.workers <= state.fanout { state.next(is_stopping) } else { None };
        if taken.is_none() {
            state.workers -= 1;
        }
        taken
    }

    /// Puts an item back that hit a limit of this machine, and allows one worker less than there are.
    ///
    /// # Errors
    /// The item, when the queue was flushed or the item was alone already: trying again cannot help.
    pub(super) fn put_back(&self, taken: Taken<I>) -> Result<(), I> {
        let mut state = self.lock();
        if state.is_flushed || taken.is_alone {
            return Err(taken.item);
        }
        state.fanout = state.fanout.min(state.workers.saturating_sub(1)).max(1);
        state.give_back(taken.item);
        Ok(())
    }

    /// Counts a worker that was lost with its item.
    pub(super) fn lose_worker(&self) {
        self.lock().workers -= 1;
    }

    /// Removes the first item that `is_wanted` picks.
    pub(super) fn remove(&self, is_wanted: impl FnMut(&I) -> bool) -> Option<I> {
        let mut state = self.lock();
        let place = state.waiting.iter().position(is_wanted)?;
        state.waiting.remove(place)
    }

    /// Refuses new items and old ones. Returns those that were never taken.
    pub(super) fn flush(&self) -> VecDeque<I> {
        let mut state = self.lock();
        (state.is_closed, state.is_flushed) = (true, true);
        std::mem::take(&mut state.waiting)
    }

    /// Refuses new items, and lets those that wait be taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Returns how many workers may live at once.
    pub(super) fn fanout(&self) -> usize {
        self.lock().fanout
    }

    /// Allows `fanout` workers again, if none is alive: what was short then may be there now.
    pub(super) fn recover(&self, fanout: usize) {
        let mut state = self.lock();
        if state.workers == 0 {
            state.fanout = fanout.max(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> bool {
        false
    }

    #[test]
    fn each_local_limit_allows_one_worker_less_and_the_last_is_final() {
        let queue = Queue::new(0..3, 3);
        let taken: Vec<_> = (0..3).map(|_| queue.claim(never).unwrap()).collect();
        assert!(queue.claim(never).is_none());
        for (taken, fanout) in taken.into_iter().zip([2, 1, 1]) {
            queue.put_back(taken).unwrap();
            assert_eq!(queue.fanout(), fanout);
            if fanout > 1 {
                assert!(queue.take(never).is_none());
            }
        }
        // Two workers are left where one is allowed: the first to ask ends.
        assert!(queue.take(never).is_none());
        let alone = queue.take(never).unwrap();
        assert!(alone.is_alone);
        assert_eq!(queue.put_back(alone).unwrap_err(), 2);
    }

    #[test]
    fn held_back_items_wait_for_their_release() {
        let queue = Queue::new(0..3, 3);
        queue.hold_back_after(1);
        assert_eq!(queue.claim(never).unwrap().item, 0);
        assert!(queue.claim(never).is_none());
        assert!(queue.take(never).is_none());
        queue.release(1);
        assert_eq!(queue.claim(never).unwrap().item, 1);
    }

    #[test]
    fn a_flushed_queue_takes_nothing_back() {
        let queue = Queue::new([7, 8], 4);
        let taken = queue.claim(never).unwrap();
        queue.close();
        assert_eq!(queue.push(9), Err(9));
        assert_eq!(queue.flush(), [8]);
        assert_eq!(queue.put_back(taken).unwrap_err(), 7);
        assert_eq!(queue.push(8), Err(8));
    }

    #[test]
    fn a_thread_that_cannot_start_leaves_the_work_to_those_that_run() {
        let queue = Queue::new(0..3, 3);
        let (first, second) = (queue.claim(never).unwrap(), queue.claim(never).unwrap());
        assert_eq!(queue.unclaim(second), Ok(()));
        assert_eq!(queue.fanout(), 1);
        assert_eq!(queue.unclaim(first), Err(0));
        assert_eq!(queue.claim(never).unwrap().item, 1);
    }
}
