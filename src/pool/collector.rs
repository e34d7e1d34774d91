//! Takes what the workers send, and sees to it that every host gets its one result.

use std::io;
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::queue::Taken;
use super::report::{never_started, no_thread};
use super::shared::{Message, Shared};
use crate::budget::{Stop, Subscription};
use crate::event::{Class, EventKind, Outcome, StopReason};

/// The collecting end of one run.
pub(super) struct Collector<T> {
    receiver: Receiver<Message<T>>,
    pub(super) sender: Sender<Message<T>>,
    /// Hosts without a result.
    remaining: usize,
    /// The most messages of one batch.
    batch: usize,
    announced: Option<Stop>,
    is_late: bool,
    _subscriptions: [Subscription; 2],
}

impl<T: Outcome + Send + 'static> Collector<T> {
    /// Opens a channel for `capacity` messages, read in batches of at most `batch`.
    pub(super) fn new(shared: &Shared<'_, T>, capacity: usize, batch: usize) -> Self {
        let (sender, receiver) = bounded(capacity.max(1));
        // A stop may come from a sink, that is from the collector itself: waking it must not wait for it. A full channel
        // wakes it anyway.
        let wake = sender.clone();
        let own = shared.control.cancel_token().subscribe(move |_| {
            let _ = wake.try_send(Message::Wake);
        });
        let control = shared.control.clone();
        let pool = shared.core.token.subscribe(move |stop| control.stop(stop, StopReason::Interrupt));
        if let Some(stop) = shared.core.token.stopped() {
            shared.control.stop(stop, StopReason::Interrupt);
        }
        Self {
            receiver,
            sender,
            remaining: shared.hosts.len(),
            batch,
            announced: None,
            is_late: false,
            _subscriptions: [own, pool],
        }
    }

    /// Tells whether every host has its result.
    pub(super) fn is_done(&self) -> bool {
        self.remaining == 0
    }

    /// Waits for the next messages and adds them to `batch`; adds nothing when all is done or `until` came first.
    ///
    /// Starts workers with `start` while hosts wait for one.
    pub(super) fn next_batch(
        &mut self,
        shared: &Shared<'_, T>,
        start: &mut dyn FnMut(Taken<usize>, Sender<Message<T>>) -> io::Result<()>,
        until: Option<Instant>,
        batch: &mut Vec<Message<T>>,
    ) {
        while self.remaining > 0 && batch.is_empty() {
            self.look_for_a_stop(shared, batch);
            self.start_workers(shared, start, batch);
            if batch.is_empty() && !self.receive(shared, until, batch) {
                return;
            }
            while batch.len() < self.batch
                && let Ok(message) = self.receiver.try_recv()
            {
                self.accept(message, batch);
            }
        }
        if self.remaining == 0 && batch.iter().any(is_timed_out) {
            // The deadline may have ended the last hosts before it was looked at.
            self.look_for_a_stop(shared, batch);
        }
    }

    /// Waits for one message. Returns whether to go on waiting for messages.
    fn receive(&mut self, shared: &Shared<'_, T>, until: Option<Instant>, batch: &mut Vec<Message<T>>) -> bool {
        let deadline = shared.deadline.filter(|_| !self.is_late);
        let wake_at = match (deadline, until) {
            (Some(deadline), Some(until)) => Some(deadline.min(until)),
            (deadline, until) => deadline.or(until),
        };
        let received = match wake_at {
            Some(at) => self.receiver.recv_deadline(at),
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(message) => {
                self.accept(message, batch);
                true
            }
            Err(_) => until.is_none_or(|until| Instant::now() < until),
        }
    }

    fn accept(&mut self, message: Message<T>, batch: &mut Vec<Message<T>>) {
        match message {
            Message::Wake => return,
            Message::Done(_) => self.remaining -= 1,
            Message::Event(_) => {}
        }
        batch.push(message);
    }

    /// Starts as many workers as are wanted, unless so much arrives meanwhile that it has to be taken first.
    pub(super) fn start_workers(
        &mut self,
        shared: &Shared<'_, T>,
        start: &mut dyn FnMut(Taken<usize>, Sender<Message<T>>) -> io::Result<()>,
        batch: &mut Vec<Message<T>>,
    ) {
        let plenty = self.receiver.capacity().map_or(usize::MAX, |capacity| capacity.div_ceil(2));
        while let Some(taken) = shared.queue.claim(|| shared.is_stopping()) {
            let index = taken.item;
            let claimed = Taken { item: index, is_alone: taken.is_alone };
            if let Err(cause) = start(taken, self.sender.clone()) {
                let error = no_thread(cause);
                let unclaimed = shared.queue.unclaim(claimed);
                batch.extend(shared.fanout_warning(&error).map(Message::Event));
                if unclaimed.is_err()
                    && let Some(task) = shared.task(index)
                {
                    shared.control.unqueue(1);
                    let result = task.without_worker(error);
                    shared.count(&result);
                    self.accept(Message::Done(result), batch);
                }
            }
            if self.receiver.len() >= plenty {
                return;
            }
        }
    }

    /// Adds what has been sent by now.
    fn catch_up(&mut self, batch: &mut Vec<Message<T>>) {
        for _ in 0..self.receiver.len() {
            if let Ok(message) = self.receiver.try_recv() {
                self.accept(message, batch);
            }
        }
    }

    /// Announces a stop, once for each level, and gives the hosts that will not be started their results.
    fn look_for_a_stop(&mut self, shared: &Shared<'_, T>, batch: &mut Vec<Message<T>>) {
        let late_now = !self.is_late && shared.is_late();
        if late_now {
            self.is_late = true;
            shared.control.stop(Stop::Drain, StopReason::Deadline);
        }
        let Some((stop, reason)) = shared.control.stopped() else { return };
        // What is in flight at the deadline is ended by its budget: for those who watch, that is an abort.
        let (stop, reason) = if late_now { (Stop::Abort, StopReason::Deadline) } else { (stop, reason) };
        if self.announced.is_none_or(|announced| announced < stop) {
            self.announced = Some(stop);
            // The failure that crossed the threshold is told before the stop that it caused.
            self.catch_up(batch);
            let running = shared.control.in_flight().into_iter().map(|flight| flight.host).collect();
            batch.push(Message::Event(shared.event(EventKind::Stopping { stop, reason, running })));
        }
        let reason = if self.is_late { StopReason::Deadline } else { reason };
        let left = shared.queue.flush();
        if left.is_empty() {
            return;
        }
        shared.control.unqueue(left.len());
        // A host that was put back may have events on their way: they come before its result.
        self.catch_up(batch);
        for task in left.into_iter().filter_map(|index| shared.task(index)) {
            self.accept(Message::Done(task.without_worker(never_started(reason))), batch);
        }
    }
}

fn is_timed_out<T>(message: &Message<T>) -> bool {
    matches!(message, Message::Done(result) if result.class() == Class::TimedOut)
}
