//! The engine: one operation on many hosts at once, exactly one result for each.
//!
//! ```
//! use std::sync::Arc;
//! use fleet::{Class, Host, Ping, Pool, fake::FakeTransport};
//!
//! let pool = Pool::builder(FakeTransport::new()).build();
//! let hosts = [Arc::new(Host::new("web01", "10.0.0.1")), Arc::new(Host::new("web02", "10.0.0.2"))];
//! let results = pool.map(&hosts, Ping);
//! assert!(results.iter().all(|result| result.class() == Class::Ok));
//! ```
//!
//! One plain thread serves one host at a time and takes the next when it is done. What happens goes through one bounded
//! channel to the collector: to the [`Recorder`](crate::event::Recorder) first, then to each [`Sink`], then to callbacks,
//! then to handles; never two at once. For [`Pool::run`] and [`Pool::map`] the collector is the caller's thread, for
//! [`Pool::imap_unordered`] whoever calls `next`, for [`Pool::apply_async`] one thread of the pool.

use std::fmt;
use std::sync::Arc;

use crate::budget::CancelToken;
use crate::error::Result;
use crate::event::{HostResult, Sink, Summary};
use crate::host::Host;
use crate::op::Operation;
use crate::transport::Transport;

mod builder;
mod clock;
mod collector;
mod control;
mod gate;
mod handle;
mod imap;
mod jobs;
mod outputs;
mod queue;
mod records;
mod report;
mod run;
mod run_id;
mod shared;
mod waves;
mod worker;

pub use builder::{DEFAULT_MAX_OUTPUT, PoolBuilder, Threshold, Wave};
pub use control::{InFlight, RunControl};
pub use handle::Handle;
pub use imap::{Ordered, Unordered};
pub use outputs::Outputs;
pub use waves::WaveEnd;

use builder::Options;
use gate::Gate;
use jobs::Jobs;
use run::Forget;
use worker::Core;

/// Runs operations on many hosts at once.
///
/// Cheap to make: threads start with the work and end with it. May be used from several threads; the turns to log in are
/// counted across all of its runs.
///
/// Dropping a pool is [`terminate`](Self::terminate) and [`join`](Self::join).
pub struct Pool {
    core: Arc<Core>,
    jobs: Jobs,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("options", &self.core.options).finish_non_exhaustive()
    }
}

impl Pool {
    /// Begins a pool whose hosts are reached by `transport`.
    pub fn builder(transport: impl Transport + 'static) -> PoolBuilder {
        PoolBuilder::new(Arc::new(transport))
    }

    /// Begins a pool on a transport that others use, too.
    pub fn shared_builder(transport: Arc<dyn Transport>) -> PoolBuilder {
        PoolBuilder::new(transport)
    }

    fn new(transport: Arc<dyn Transport>, options: Options) -> Self {
        let gate = Arc::new(Gate::new(options.starts_per_address, options.handshakes));
        let core = Arc::new(Core { transport, options, gate, token: CancelToken::new() });
        Self { jobs: Jobs::new(&core), core }
    }

    /// Returns the token that stops everything this pool does, now and later.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.core.token
    }

    /// Runs `op` on every host and tells the sinks what happens; values are dropped.
    ///
    /// The first event is [`EventKind::Started`](crate::EventKind::Started), the last
    /// [`RunFinished`](crate::EventKind::RunFinished) with the summary that is returned. Each host, also one that is
    /// submitted twice, has one [`Finished`](crate::EventKind::Finished), and nothing after it.
    ///
    /// # Blocking
    /// Until every host has its result. [`RunControl::stop`] ends it early.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use fleet::{Event, Exec, Host, Pool, fake::FakeTransport, pool::RunControl};
    ///
    /// let pool = Pool::builder(FakeTransport::new()).build();
    /// let hosts = [Arc::new(Host::new("web01", "10.0.0.1"))];
    /// let mut count = 0;
    /// let mut sink = |_event: &Event| {
    ///     count += 1;
    ///     Ok(())
    /// };
    /// let summary = pool.run(&hosts, Exec::new("true").capture(false), &RunControl::new(), &mut [&mut sink]);
    /// assert_eq!(summary.exit_code(), 0);
    /// assert_eq!(count, 3);
    /// ```
    pub fn run<O: Operation>(
        &self,
        hosts: &[Arc<Host>],
        op: O,
        control: &RunControl,
        sinks: &mut [&mut dyn Sink],
    ) -> Summary {
        let outputs = sinks.iter_mut().fold(Outputs::new(), |outputs, sink| outputs.sink(&mut **sink));
        self.run_with(hosts, Forget(op), control, outputs, |_| {})
    }

    /// Runs `op` on every host as [`run`](Self::run) does, with a recorder, and hands each result to `on_result` once the
    /// outputs have it.
    ///
    /// # Panics
    /// When `on_result` does: the run is aborted first.
    ///
    /// # Blocking
    /// As [`run`](Self::run).
    pub fn run_with<O: Operation>(
        &self,
        hosts: &[Arc<Host>],
        op: O,
        control: &RunControl,
        mut outputs: Outputs<'_>,
        mut on_result: impl FnMut(HostResult<O::Output>),
    ) -> Summary {
        let shared = run::shared(&self.core, hosts, op, control, !outputs.is_empty());
        run::run(&shared, &mut outputs, &mut on_result)
    }

    /// Runs `op` on every host and returns the results in the order of the hosts.
    ///
    /// # Blocking
    /// Until every host has its result.
    pub fn map<O: Operation>(&self, hosts: &[Arc<Host>], op: O) -> Vec<HostResult<O::Output>> {
        let mut results: Vec<_> = hosts.iter().map(|_| None).collect();
        self.run_with(hosts, op, &RunControl::new(), Outputs::new(), |result| {
            if let Some(slot) = results.get_mut(result.report.index) {
                *slot = Some(result);
            }
        });
        results.into_iter().flatten().collect()
    }

    /// Runs `op` on every host and returns the results as hosts end, at the pace they are taken.
    ///
    /// Hosts are begun at once. Dropping the iterator, or the pool, aborts what still runs.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use fleet::{Host, Ping, Pool, fake::FakeTransport};
    ///
    /// let pool = Pool::builder(FakeTransport::new()).build();
    /// let hosts: Vec<_> = (0..9).map(|n| Arc::new(Host::new(format!("web{n}"), "10.0.0.1"))).collect();
    /// let first_bad = pool.imap_unordered(&hosts, Ping).find(|result| !result.is_ok());
    /// assert!(first_bad.is_none());
    /// ```
    pub fn imap_unordered<O: Operation + 'static>(&self, hosts: &[Arc<Host>], op: O) -> Unordered<O::Output> {
        Unordered::start(&self.core, hosts, op)
    }

    /// Runs `op` on every host and returns the results in the order of the hosts, each as soon as it can be.
    ///
    /// Otherwise as [`imap_unordered`](Self::imap_unordered).
    pub fn imap<O: Operation + 'static>(&self, hosts: &[Arc<Host>], op: O) -> Ordered<O::Output> {
        Ordered::start(&self.core, hosts, op)
    }

    /// Submits one job and returns its handle. Also known as `submit`.
    ///
    /// # Errors
    /// `Usage` when the pool is closed or stopped, `LocalLimit` when its collector's thread cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use fleet::{Host, Ping, Pool, fake::FakeTransport};
    ///
    /// let pool = Pool::builder(FakeTransport::new()).build();
    /// let handle = pool.submit(&Arc::new(Host::new("web01", "10.0.0.1")), Ping)?;
    /// assert!(handle.get().is_ok());
    /// # Ok::<(), fleet::Error>(())
    /// ```
    pub fn submit<O: Operation + 'static>(&self, host: &Arc<Host>, op: O) -> Result<Handle<O::Output>> {
        self.jobs.submit(host, op, None)
    }

    /// Submits one job, and has `callback` called with its result before the handle is resolved.
    ///
    /// Callbacks run one at a time on the pool's collector thread, also for jobs that were cancelled; a slow one delays the
    /// results of others. A callback that panics makes the job fail: its handle gets an error of kind
    /// [`Panic`](crate::ErrorKind::Panic). [`Handle::get`] inside a callback is an error where it would have to wait.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); the callback is not called then.
    pub fn apply_async<O: Operation + 'static>(
        &self,
        host: &Arc<Host>,
        op: O,
        callback: impl FnOnce(&HostResult<O::Output>) + Send + 'static,
    ) -> Result<Handle<O::Output>> {
        self.jobs.submit(host, op, Some(Box::new(callback)))
    }

    /// Takes no more jobs; those submitted go on. [`run`](Self::run) and the like are not jobs: they still work.
    pub fn close(&self) {
        self.jobs.close();
    }

    /// Stops everything the pool does: jobs, runs, iterators. Returns at once.
    ///
    /// Jobs that wait are resolved as `not_started`, running ones as `cancelled` once they heard.
    pub fn terminate(&self) {
        self.jobs.terminate();
    }

    /// Closes the pool and waits until every job has its result.
    ///
    /// # Errors
    /// `Usage` inside a callback or an operation of this pool's jobs: it would wait for itself.
    ///
    /// # Blocking
    /// Until the last callback returned.
    pub fn join(&self) -> Result<()> {
        self.jobs.join()
    }
}

/// Returns the name of a worker that begins with `host`; the system shows its first 15 bytes.
fn thread_name(host: Option<&Arc<Host>>) -> String {
    let host = host.map_or("", |host| host.name.as_str());
    format!("fleet-{}", host.replace('\0', ""))
}

/// Lets a test make the start of threads fail.
#[cfg(not(test))]
fn spawn_hook() -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
use tests::spawn_hook;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::event::{Class, Event, EventKind};
    use crate::fake::FakeTransport;
    use crate::op::{Job, Ping, from_fn};
    use crate::transport::Session;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};

    thread_local! {
        static THREADS_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    pub(super) fn spawn_hook() -> std::io::Result<()> {
        let left = THREADS_LEFT.get();
        if left != usize::MAX {
            THREADS_LEFT.set(left.saturating_sub(1));
        }
        if left == 0 { Err(std::io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn hosts(count: usize) -> Vec<Arc<Host>> {
        (0..count).map(|number| Arc::new(Host::new(format!("web{number}"), "10.0.0.1"))).collect()
    }

    #[test]
    fn threads_that_cannot_start_leave_their_hosts_to_those_that_run() {
        let fake = FakeTransport::new();
        let pool = Pool::builder(fake.clone()).build();
        let mut warnings = Vec::new();
        let is_warned = AtomicBool::new(false);
        let mut sink = |event: &Event| {
            if let EventKind::Warning(text) = &event.kind {
                warnings.push(text.clone());
                is_warned.store(true, Ordering::SeqCst);
            }
            Ok(())
        };
        // The only worker keeps its first host until the second could not be started.
        let op = from_fn("op", |_: &mut dyn Session, _: &Job<'_>| {
            while !is_warned.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            Ok(())
        });
        THREADS_LEFT.set(1);
        let summary = pool.run(&hosts(20), op, &RunControl::new(), &mut [&mut sink]);
        THREADS_LEFT.set(usize::MAX);
        assert_eq!(summary.of(Class::Ok), 20);
        assert_eq!(fake.peak_sessions(), 1);
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(warning.starts_with("cannot start a thread: "), "{warning}");
        assert!(warning.ends_with("going on with 1 host at once"), "{warning}");
    }

    #[test]
    fn without_any_thread_every_host_has_an_error() {
        let pool = Pool::builder(FakeTransport::new()).build();
        THREADS_LEFT.set(0);
        let results = pool.map(&hosts(5), Ping);
        let handle = pool.submit(&hosts(1)[0], Ping);
        THREADS_LEFT.set(usize::MAX);
        assert_eq!(results.len(), 5);
        for result in results.iter().chain([&handle.unwrap().get()]) {
            assert_eq!(result.error().map(crate::Error::kind), Some(ErrorKind::LocalLimit));
            assert_eq!(result.class(), Class::Error);
        }
    }
}
