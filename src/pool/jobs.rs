//! Asynchronous jobs: their queue, their workers, and the one thread that collects them.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::handle::{Handle, Slot};
use super::queue::{Queue, Taken};
use super::report::{Task, lost_worker, never_started, no_thread, panic_message};
use super::run::STACK_BYTES;
use super::worker::{Context, Core, run_host};
use crate::budget::{CancelToken, Stop, Subscription};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{HostResult, StopReason};
use crate::host::Host;
use crate::op::Operation;
use crate::spool::SpoolSet;

thread_local! {
    /// The pool that this thread collects for, and the one it works for; 0 is none.
    static COLLECTS: Cell<u64> = const { Cell::new(0) };
    static WORKS: Cell<u64> = const { Cell::new(0) };
}

/// Tells whether this is the thread that runs the callbacks of a pool.
pub(super) fn collects_for(pool_id: u64) -> bool {
    COLLECTS.get() == pool_id
}

/// The asynchronous half of a pool. Ends with it, whatever still runs.
pub(super) struct Jobs(Arc<Inner>);

/// What handles, workers and the pool share. The collector has only the receiving end, and ends at the latest with this.
pub(super) struct Inner {
    core: Arc<Core>,
    id: u64,
    next_job: AtomicU64,
    queue: Queue<Box<dyn Job>>,
    /// `None` ends the collector. Unbounded: what waits here was submitted, and has a handle to go to, one by one.
    done: Sender<Option<Box<dyn Job>>>,
    spools: SpoolSet,
    threads: Mutex<Threads>,
    outstanding: Arc<Outstanding>,
}

#[derive(Default)]
struct Threads {
    receiver: Option<Receiver<Option<Box<dyn Job>>>>,
    collector: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    subscription: Option<Subscription>,
}

/// How many jobs have no result yet.
#[derive(Default)]
struct Outstanding {
    count: Mutex<usize>,
    none: Condvar,
}

/// One job's part of [`Outstanding`], until it is dropped.
struct Ticket(Arc<Outstanding>);

impl Ticket {
    fn new(outstanding: &Arc<Outstanding>) -> Self {
        *outstanding.lock() += 1;
        Self(Arc::clone(outstanding))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        *count -= 1;
        if *count == 0 {
            self.0.none.notify_all();
        }
    }
}

impl Outstanding {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let mut count = self.lock();
        while *count > 0 {
            count = self.none.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A job, whatever its operation returns.
trait Job: Send {
    fn id(&self) -> u64;

    fn host(&self) -> &Arc<Host>;

    /// Does it, and tells whether it is to be tried again because this machine is at a limit.
    fn run(&mut self, core: &Core, spools: &SpoolSet) -> bool;

    /// Ends it without a worker.
    fn refuse(&mut self, error: Error);

    /// Calls the callback, then resolves the handle.
    fn deliver(self: Box<Self>);
}

/// Where a job waits for the thread that is started for it.
type Place = Arc<Mutex<Option<Taken<Box<dyn Job>>>>>;

type Callback<T> = Box<dyn FnOnce(&HostResult<T>) + Send>;

struct TypedJob<O: Operation> {
    id: u64,
    host: Arc<Host>,
    op: O,
    token: CancelToken,
    submitted: Instant,
    callback: Option<Callback<O::Output>>,
    result: Option<HostResult<O::Output>>,
    /// Taken when the handle is resolved.
    slot: Option<Arc<Slot<O::Output>>>,
    _ticket: Ticket,
}

impl<O: Operation> TypedJob<O> {
    fn task(&self) -> Task<'_> {
        Task { host: &self.host, index: 0, total: 1, submitted: self.submitted }
    }
}

impl<O: Operation> Job for TypedJob<O> {
    fn id(&self) -> u64 {
        self.id
    }

    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    fn run(&mut self, core: &Core, spools: &SpoolSet) -> bool {
        let task = self.task();
        if self.token.stopped().is_some() {
            self.result = Some(task.without_worker(never_started(StopReason::Interrupt)));
            return false;
        }
        let context = Context { core, token: &self.token, control: None, deadline: None, spools, events: None };
        let done = run_host(&context, &self.op, &task);
        self.result = Some(done.result);
        done.is_limited
    }

    fn refuse(&mut self, error: Error) {
        self.result = Some(self.task().without_worker(error));
    }

    fn deliver(mut self: Box<Self>) {
        let Some(slot) = self.slot.take() else { return };
        let mut result = self.result.take().unwrap_or_else(|| self.task().without_worker(lost_worker()));
        if let Some(callback) = self.callback.take()
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(&result)))
        {
            let what = format!("the callback panicked: {}", panic_message(payload));
            result = self.task().without_worker(Error::new(ErrorKind::Panic, what));
        }
        slot.resolve(result);
    }
}

impl<O: Operation> Drop for TypedJob<O> {
    /// A job that goes down with its thread resolves its handle all the same.
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.resolve(self.task().without_worker(lost_worker()));
        }
    }
}

impl Jobs {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (done, receiver) = unbounded();
        Self(Arc::new(Inner {
            core: Arc::clone(core),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            next_job: AtomicU64::new(0),
            queue: Queue::new([], core.options.fanout.get()),
            done,
            spools: SpoolSet::default(),
            threads: Mutex::new(Threads { receiver: Some(receiver), ..Threads::default() }),
            outstanding: Arc::default(),
        }))
    }

    pub(super) fn submit<O>(
        &self,
        host: &Arc<Host>,
        op: O,
        callback: Option<Callback<O::Output>>,
    ) -> Result<Handle<O::Output>>
    where
        O: Operation + 'static,
    {
        self.0.start_collector()?;
        let handle = Handle {
            slot: Arc::new(Slot::new()),
            host: Arc::clone(host),
            pool: Arc::downgrade(&self.0),
            pool_id: self.0.id,
            job: self.0.next_job.fetch_add(1, Ordering::Relaxed),
            token: self.0.core.token.child(),
            submitted: Instant::now(),
        };
        let job = TypedJob {
            id: handle.job,
            host: Arc::clone(host),
            op,
            token: handle.token.clone(),
            submitted: handle.submitted,
            callback,
            result: None,
            slot: Some(Arc::clone(&handle.slot)),
            _ticket: Ticket::new(&self.0.outstanding),
        };
        if self.0.queue.push(Box::new(job)).is_err() {
            return Err(Error::new(ErrorKind::Usage, "the pool is closed"));
        }
        self.0.queue.recover(self.0.core.options.fanout.get());
        self.0.start_workers();
        Ok(handle)
    }

    pub(super) fn close(&self) {
        self.0.queue.close();
    }

    /// Ends everything, and returns at once.
    pub(super) fn terminate(&self) {
        self.0.core.token.stop(Stop::Abort);
        self.0.flush();
    }

    /// Waits until every job has its result.
    pub(super) fn join(&self) -> Result<()> {
        if self.is_own_thread() {
            let what = "cannot wait for a pool inside one of its callbacks or operations";
            return Err(Error::new(ErrorKind::Usage, what));
        }
        self.close();
        self.0.outstanding.wait();
        for worker in std::mem::take(&mut self.0.threads().workers) {
            let _ = worker.join();
        }
        Ok(())
    }

    fn is_own_thread(&self) -> bool {
        collects_for(self.0.id) || WORKS.get() == self.0.id
    }
}

impl Drop for Jobs {
    /// Waits for the threads, unless it is one of them that lets go of the pool last.
    fn drop(&mut self) {
        self.terminate();
        if self.join().is_err() {
            return;
        }
        let collector = self.0.threads().collector.take();
        if let Some(collector) = collector {
            let _ = self.0.done.send(None);
            let _ = collector.join();
        }
    }
}

impl Inner {
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the collector with the first job.
    fn start_collector(self: &Arc<Self>) -> Result<()> {
        let mut threads = self.threads();
        let Some(receiver) = threads.receiver.take() else { return Ok(()) };
        let id = self.id;
        let collect = receiver.clone();
        let started = Builder::new().name("fleet-collector".to_owned()).spawn(move || {
            COLLECTS.set(id);
            while let Ok(Some(job)) = collect.recv() {
                // What a value throws when it is dropped must not end the thread that all wait for.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| job.deliver())) {
                    std::mem::forget(payload);
                }
            }
        });
        match started {
            Ok(collector) => threads.collector = Some(collector),
            Err(cause) => {
                threads.receiver = Some(receiver);
                return Err(no_thread(cause));
            }
        }
        let pool = Arc::downgrade(self);
        threads.subscription = Some(self.core.token.subscribe(move |_| {
            if let Some(pool) = pool.upgrade() {
                pool.flush();
            }
        }));
        drop(threads);
        if self.core.token.stopped().is_some() {
            self.flush();
        }
        Ok(())
    }

    /// Starts workers while jobs wait for one.
    fn start_workers(self: &Arc<Self>) {
        while let Some(taken) = self.queue.claim(|| self.is_stopping()) {
            let is_alone = taken.is_alone;
            let name = super::thread_name(Some(taken.item.host()));
            // A thread that does not start drops what it was given: the job stays out of its hands until it runs.
            let place: Place = Arc::new(Mutex::new(Some(taken)));
            let Err(cause) = self.start_worker(name, Arc::clone(&place)) else { continue };
            let Some(taken) = place.lock().unwrap_or_else(PoisonError::into_inner).take() else { continue };
            if let Err(mut job) = self.queue.unclaim(Taken { item: taken.item, is_alone }) {
                job.refuse(no_thread(cause));
                self.send(job);
            }
        }
    }

    fn start_worker(self: &Arc<Self>, name: String, first: Place) -> io::Result<()> {
        super::spawn_hook()?;
        let inner = Arc::clone(self);
        let thread = Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            WORKS.set(inner.id);
            let taken = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(taken) = taken {
                inner.work(taken);
            }
        })?;
        let mut threads = self.threads();
        threads.workers.retain(|worker| !worker.is_finished());
        threads.workers.push(thread);
        Ok(())
    }

    fn work(self: &Arc<Self>, first: Taken<Box<dyn Job>>) {
        let lost = Lost(self);
        let mut next = Some(first);
        while let Some(mut taken) = next {
            let is_alone = taken.is_alone;
            let is_limited = taken.item.run(&self.core, &self.spools);
            if !is_limited {
                self.send(taken.item);
            } else if let Err(mut job) = self.queue.put_back(taken) {
                if !is_alone {
                    job.refuse(never_started(StopReason::Interrupt));
                }
                self.send(job);
            }
            next = self.queue.take(|| self.is_stopping());
        }
        std::mem::forget(lost);
    }

    fn is_stopping(&self) -> bool {
        self.core.token.stopped().is_some()
    }

    /// Ends a job that waits.
    pub(super) fn give_up(&self, job: u64) {
        if let Some(mut job) = self.queue.remove(|waiting| waiting.id() == job) {
            job.refuse(never_started(StopReason::Interrupt));
            self.send(job);
        }
    }

    /// Refuses new jobs and ends those that wait.
    fn flush(&self) {
        for mut job in self.queue.flush() {
            job.refuse(never_started(StopReason::Interrupt));
            self.send(job);
        }
    }

    fn send(&self, job: Box<dyn Job>) {
        // Without a collector the job is dropped, which resolves its handle.
        let _ = self.done.send(Some(job));
    }
}

/// Dropped when a worker goes down: another one takes its place.
struct Lost<'a>(&'a Arc<Inner>);

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.0.queue.lose_worker();
        self.0.start_workers();
    }
}
