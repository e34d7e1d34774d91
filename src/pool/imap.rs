//! Results as they come, for a consumer that sets the pace.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::collector::Collector;
use super::control::RunControl;
use super::queue::Taken;
use super::run::STACK_BYTES;
use super::shared::{Message, Shared, work};
use super::worker::Core;
use crate::budget::Stop;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{HostResult, Outcome, StopReason};
use crate::host::Host;
use crate::op::Operation;

/// The results of [`Pool::imap_unordered`](super::Pool::imap_unordered), as hosts end.
///
/// Whoever takes results slowly slows the run down: at most about twice the fanout of hosts are done and not taken.
/// Dropping the iterator aborts what runs and waits for its end.
pub struct Unordered<T: Outcome + Send + 'static> {
    shared: Arc<Shared<'static, T>>,
    collector: Option<Collector<T>>,
    batch: Vec<Message<T>>,
    ready: VecDeque<HostResult<T>>,
    threads: Vec<JoinHandle<()>>,
    left: usize,
}

impl<T: Outcome + Send + 'static> fmt::Debug for Unordered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unordered").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<T: Outcome + Send + 'static> Unordered<T> {
    pub(super) fn start<O>(core: &Arc<Core>, hosts: &[Arc<Host>], op: O) -> Self
    where
        O: Operation<Output = T> + 'static,
    {
        let mut iterator = Self::prepare(core, hosts, op);
        iterator.start_workers();
        iterator
    }

    fn prepare<O>(core: &Arc<Core>, hosts: &[Arc<Host>], op: O) -> Self
    where
        O: Operation<Output = T> + 'static,
    {
        let shared = Arc::new(Shared::new(core, hosts, Box::new(op), &RunControl::new(), false));
        let collector = Collector::new(&shared, shared.queue.fanout(), 1);
        Self {
            shared,
            collector: Some(collector),
            batch: Vec::new(),
            ready: VecDeque::new(),
            threads: Vec::new(),
            left: hosts.len(),
        }
    }

    /// Returns the control of this run: stop it, ask how far it is.
    pub fn control(&self) -> &RunControl {
        &self.shared.control
    }

    /// Returns the next result, as `next` does, but waits for at most `timeout`.
    ///
    /// # Errors
    /// `Timeout` when none came in time; the iterator goes on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<HostResult<T>>> {
        let next = self.advance(Instant::now().checked_add(timeout));
        if next.is_none() && self.left > 0 {
            return Err(no_result(timeout));
        }
        Ok(next)
    }

    fn advance(&mut self, until: Option<Instant>) -> Option<HostResult<T>> {
        while self.ready.is_empty() && self.collector.as_ref().is_some_and(|collector| !collector.is_done()) {
            self.collect(|collector, shared, threads, batch| {
                collector.next_batch(shared, &mut |taken, sender| start(shared, threads, taken, sender), until, batch);
            });
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        let next = self.ready.pop_front();
        self.left -= usize::from(next.is_some());
        next
    }

    fn start_workers(&mut self) {
        self.collect(|collector, shared, threads, batch| {
            collector.start_workers(shared, &mut |taken, sender| start(shared, threads, taken, sender), batch);
        });
    }

    fn collect(
        &mut self,
        step: impl FnOnce(&mut Collector<T>, &Arc<Shared<'static, T>>, &mut Vec<JoinHandle<()>>, &mut Vec<Message<T>>),
    ) {
        let Some(collector) = &mut self.collector else { return };
        step(collector, &self.shared, &mut self.threads, &mut self.batch);
        for message in self.batch.drain(..) {
            if let Message::Done(result) = message {
                self.ready.push_back(result);
            }
        }
    }
}

fn no_result(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no host ended within {}", crate::budget::seconds(timeout)))
}

fn start<T: Outcome + Send + 'static>(
    shared: &Arc<Shared<'static, T>>,
    threads: &mut Vec<JoinHandle<()>>,
    taken: Taken<usize>,
    sender: Sender<Message<T>>,
) -> io::Result<()> {
    super::spawn_hook()?;
    threads.retain(|thread| !thread.is_finished());
    let name = super::thread_name(shared.hosts.get(taken.item));
    let shared = Arc::clone(shared);
    threads.push(Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || work(&shared, sender, taken))?);
    Ok(())
}

impl<T: Outcome + Send + 'static> Iterator for Unordered<T> {
    type Item = HostResult<T>;

    fn next(&mut self) -> Option<HostResult<T>> {
        self.advance(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Outcome + Send + 'static> ExactSizeIterator for Unordered<T> {}
impl<T: Outcome + Send + 'static> FusedIterator for Unordered<T> {}

impl<T: Outcome + Send + 'static> Drop for Unordered<T> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.shared.control.stop(Stop::Abort, StopReason::Interrupt);
        }
        // Without its receiver no worker waits for room in the channel.
        self.collector = None;
        for thread in self.threads.drain(..) {
            // A worker catches every panic.
            let _ = thread.join();
        }
    }
}

/// The results of [`Pool::imap`](super::Pool::imap), in the order of the hosts.
///
/// A host that takes long holds those after it back: at most twice the fanout of hosts are begun ahead of the one that is
/// waited for. Dropping the iterator aborts what runs and waits for its end.
pub struct Ordered<T: Outcome + Send + 'static> {
    results: Unordered<T>,
    early: BTreeMap<usize, HostResult<T>>,
    next: usize,
}

impl<T: Outcome + Send + 'static> fmt::Debug for Ordered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<T: Outcome + Send + 'static> Ordered<T> {
    pub(super) fn start<O>(core: &Arc<Core>, hosts: &[Arc<Host>], op: O) -> Self
    where
        O: Operation<Output = T> + 'static,
    {
        let mut results = Unordered::prepare(core, hosts, op);
        let queue = &results.shared.queue;
        queue.hold_back_after(queue.fanout().saturating_mul(2));
        results.start_workers();
        Self { results, early: BTreeMap::new(), next: 0 }
    }

    /// Returns the control of this run: stop it, ask how far it is.
    pub fn control(&self) -> &RunControl {
        self.results.control()
    }

    /// Returns the next result, as `next` does, but waits for at most `timeout`.
    ///
    /// # Errors
    /// `Timeout` when the next host did not end in time; the iterator goes on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<HostResult<T>>> {
        let next = self.advance(Instant::now().checked_add(timeout));
        if next.is_none() && self.len() > 0 {
            return Err(no_result(timeout));
        }
        Ok(next)
    }

    fn advance(&mut self, until: Option<Instant>) -> Option<HostResult<T>> {
        loop {
            if let Some(result) = self.early.remove(&self.next) {
                self.next += 1;
                self.results.shared.queue.release(1);
                self.results.start_workers();
                return Some(result);
            }
            let result = self.results.advance(until)?;
            self.early.insert(result.report.index, result);
        }
    }
}

impl<T: Outcome + Send + 'static> Iterator for Ordered<T> {
    type Item = HostResult<T>;

    fn next(&mut self) -> Option<HostResult<T>> {
        self.advance(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.results.left + self.early.len();
        (left, Some(left))
    }
}

impl<T: Outcome + Send + 'static> ExactSizeIterator for Ordered<T> {}
impl<T: Outcome + Send + 'static> FusedIterator for Ordered<T> {}
