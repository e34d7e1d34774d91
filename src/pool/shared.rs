//! What the workers of one run share, and the worker's loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::Sender;

use super::control::RunControl;
use super::queue::{Queue, Taken};
use super::report::{Task, lost_worker, never_started};
use super::worker::{Context, Core, run_host};
use crate::budget::Stop;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::{Event, EventKind, HostResult, Outcome, RunId, StopReason};
use crate::host::Host;
use crate::op::{Emit, Operation};
use crate::spool::SpoolSet;

/// What workers tell the collector.
pub(super) enum Message<T> {
    Event(Event),
    Done(HostResult<T>),
    /// Look at the run's control.
    Wake,
}

/// One run: its hosts, its operation, and how far it is.
pub(super) struct Shared<'op, T> {
    pub(super) core: Arc<Core>,
    pub(super) control: RunControl,
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) queue: Queue<usize>,
    pub(super) run: RunId,
    pub(super) submitted: Instant,
    pub(super) deadline: Option<Instant>,
    op: Box<dyn Operation<Output = T> + 'op>,
    failures: AtomicUsize,
    spools: SpoolSet,
    are_events_wanted: bool,
    has_warned: AtomicBool,
}

impl<'op, T: Outcome + Send + 'static> Shared<'op, T> {
    pub(super) fn new(
        core: &Arc<Core>,
        hosts: &[Arc<Host>],
        op: Box<dyn Operation<Output = T> + 'op>,
        control: &RunControl,
        are_events_wanted: bool,
    ) -> Self {
        let submitted = Instant::now();
        control.queue(hosts.len());
        Self {
            core: Arc::clone(core),
            control: control.clone(),
            hosts: hosts.to_vec(),
            queue: Queue::new(0..hosts.len(), core.options.fanout.get().min(hosts.len())),
            run: super::run_id::next(),
            submitted,
            deadline: core.options.deadline.and_then(|deadline| submitted.checked_add(deadline)),
            op,
            failures: AtomicUsize::new(0),
            spools: SpoolSet::default(),
            are_events_wanted,
            has_warned: AtomicBool::new(false),
        }
    }

    pub(super) fn op_name(&self) -> &str {
        self.op.name()
    }

    pub(super) fn task(&self, index: usize) -> Option<Task<'_>> {
        let host = self.hosts.get(index)?;
        Some(Task { host, index, total: self.hosts.len(), submitted: self.submitted })
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| Instant::now() >= at)
    }

    /// Tells whether no more host may be started.
    pub(super) fn is_stopping(&self) -> bool {
        self.control.cancel_token().stopped().is_some()
            || self.is_over_threshold(self.failures.load(Ordering::SeqCst))
            || self.is_late()
    }

    fn is_over_threshold(&self, failures: usize) -> bool {
        self.core.options.max_fail.is_some_and(|threshold| threshold.is_crossed(failures, self.hosts.len()))
    }

    pub(super) fn event(&self, kind: EventKind) -> Event {
        Event::now(self.run.clone(), kind)
    }

    /// Returns the warning that the fanout went down; the first time only.
    pub(super) fn fanout_warning(&self, cause: &Error) -> Option<Event> {
        if !self.are_events_wanted || self.has_warned.swap(true, Ordering::SeqCst) {
            return None;
        }
        let fanout = self.queue.fanout();
        let hosts = if fanout == 1 { "host" } else { "hosts" };
        let message = format!("{}: going on with {fanout} {hosts} at once", cause.chain());
        Some(self.event(EventKind::Warning(message)))
    }

    /// Counts a result before it is sent, and tells whether it crossed the threshold.
    ///
    /// From here on no worker starts another host. What the run's deadline ended does not count: it is a stop by itself.
    pub(super) fn count(&self, result: &HostResult<T>) -> bool {
        if !result.class().is_failure() || self.is_late() {
            return false;
        }
        let before = self.failures.fetch_add(1, Ordering::SeqCst);
        self.is_over_threshold(before + 1) && !self.is_over_threshold(before)
    }
}

/// One worker: its channel and the host in its hands. Dropped with a host in them, it went down with it.
struct Worker<'a, 'op, T: Outcome + Send + 'static> {
    shared: &'a Shared<'op, T>,
    sender: Sender<Message<T>>,
    taken: Option<usize>,
}

/// Takes hosts until there are no more for this worker, beginning with `first`.
pub(super) fn work<T: Outcome + Send + 'static>(
    shared: &Shared<'_, T>,
    sender: Sender<Message<T>>,
    first: Taken<usize>,
) {
    let mut worker = Worker { shared, sender, taken: None };
    let worked = catch_unwind(AssertUnwindSafe(move || {
        let mut next = Some(first);
        while let Some(taken) = next {
            worker.taken = Some(taken.item);
            worker.one(taken);
            worker.taken = None;
            next = shared.queue.take(|| shared.is_stopping());
        }
    }));
    if let Err(payload) = worked {
        std::mem::forget(payload);
    }
}

impl<T: Outcome + Send + 'static> Worker<'_, '_, T> {
    fn one(&self, taken: Taken<usize>) {
        let shared = self.shared;
        let Some(task) = shared.task(taken.item) else { return };
        shared.control.start_one(task.index, task.host);
        let context = Context {
            core: &shared.core,
            token: shared.control.cancel_token(),
            control: Some(&shared.control),
            deadline: shared.deadline,
            spools: &shared.spools,
            events: shared.are_events_wanted.then_some(self),
        };
        let mut done = run_host(&context, &*shared.op, &task);
        if done.is_limited {
            let is_alone = taken.is_alone;
            shared.control.requeue_one(task.index);
            if shared.queue.put_back(taken).is_ok() {
                if let Some(warning) = done.result.error().and_then(|error| shared.fanout_warning(error)) {
                    let _ = self.sender.send(Message::Event(warning));
                }
                return;
            }
            shared.control.start_one(task.index, task.host);
            if let (false, Some((_, reason))) = (is_alone, shared.control.stopped()) {
                done.result = task.without_worker(never_started(reason));
            }
        }
        self.finish(task.index, done.result);
    }

    fn finish(&self, index: usize, result: HostResult<T>) {
        self.shared.control.finish_one(index);
        let is_over = self.shared.count(&result);
        let _ = self.sender.send(Message::Done(result));
        if is_over {
            self.shared.control.stop(Stop::Drain, StopReason::Threshold);
        }
    }
}

impl<T: Outcome + Send + 'static> Emit for Worker<'_, '_, T> {
    fn emit(&self, kind: EventKind) -> Result<()> {
        self.sender
            .send(Message::Event(self.shared.event(kind)))
            .map_err(|_| Error::new(ErrorKind::Cancelled, "nobody collects the run any more").in_phase(Phase::Running))
    }
}

impl<T: Outcome + Send + 'static> Drop for Worker<'_, '_, T> {
    fn drop(&mut self) {
        if let Some(task) = self.taken.take().and_then(|index| self.shared.task(index)) {
            self.shared.queue.lose_worker();
            self.finish(task.index, task.without_worker(lost_worker()));
        }
    }
}
