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
use crate::event::{HostResult, Sink, Summary};
use crate::host::Host;
use crate::op::Operation;
use crate::transport::Transport;

mod builder;
mod clock;
mod collector;
mod control;
mod gate;
mod outputs;
mod queue;
mod report;
mod run;
mod run_id;
mod shared;
mod worker;

pub use builder::{PoolBuilder, Threshold};
pub use control::RunControl;
pub use outputs::Outputs;

use builder::Options;
use gate::Gate;
use run::Forget;
use worker::Core;

/// Runs operations on many hosts at once.
///
/// Cheap to make: threads start with the work and end with it. May be used from several threads; the turns to log in are
/// counted across all of its runs.
pub struct Pool {
    core: Arc<Core>,
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
        Self { core: Arc::new(Core { transport, options, gate, token: CancelToken::new() }) }
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
    use std::cell::Cell;

    thread_local! {
        static THREADS_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    pub(super) fn spawn_hook() -> std::io::Result<()> {
        let left = THREADS_LEFT.get();
        THREADS_LEFT.set(left.saturating_sub(1));
        if left == 0 { Err(std::io::Error::from(std::io::ErrorKind::WouldBlock)) } else { Ok(()) }
    }
}
