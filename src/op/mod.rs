//! Operations: what is done on each host of a run. One file per operation; closures are operations too.

use std::fmt;
use std::sync::Arc;

use crate::budget::Budget;
use crate::error::{Phase, Result};
use crate::event::{EventKind, Note, Outcome, Stream};
use crate::host::Host;
use crate::spool::SpoolSet;
use crate::transport::{Ended, ExecLimits, ExecRequest, Session};

mod context;
mod copy_id;
mod exec;
mod get;
mod ping;
mod put;
mod scan;
mod script;
mod template;
mod transfer;

pub use context::Context;
pub use copy_id::{CopiedId, CopyId, Proof};
pub use exec::{Exec, ExecOutput};
pub use get::Get;
pub use ping::Ping;
pub use put::Put;
pub use scan::Scan;
pub use script::{MAX_SCRIPT_BYTES, Script};
pub use transfer::Transferred;

/// What is done on each host: a command, a transfer, or a closure of a library user.
///
/// Written in plain blocking Rust: every wait takes [`Job::budget`].
pub trait Operation: Send + Sync {
    /// What it returns per host.
    type Output: Outcome + Send + 'static;

    /// Returns the name that events and the summary show, such as `exec`.
    fn name(&self) -> &str;

    /// Does it on one host.
    ///
    /// # Errors
    /// When fleet could not do it. A remote failure that is a result (a status of 1) is a value, not an error.
    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<Self::Output>;

    /// Tells whether the pool may run it again on a host where it had begun. Default: no.
    fn is_idempotent(&self) -> bool {
        false
    }
}

impl<O: Operation + ?Sized> Operation for Arc<O> {
    type Output = O::Output;

    fn name(&self) -> &str {
        (**self).name()
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<Self::Output> {
        (**self).run(session, job)
    }

    fn is_idempotent(&self) -> bool {
        (**self).is_idempotent()
    }
}

impl<O: Operation + ?Sized> Operation for &O {
    type Output = O::Output;

    fn name(&self) -> &str {
        (**self).name()
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<Self::Output> {
        (**self).run(session, job)
    }

    fn is_idempotent(&self) -> bool {
        (**self).is_idempotent()
    }
}

/// A closure as an operation; made by [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F> {
    name: &'static str,
    body: F,
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Makes an operation of a closure.
///
/// # Examples
///
/// ```
/// use fleet::op;
///
/// let kernel = op::from_fn("kernel", |session, job| {
///     let mut text = Vec::new();
///     job.exec(session, "uname -r", &mut |_stream, bytes| {
///         text.extend_from_slice(&bytes);
///         Ok(())
///     })?;
///     Ok(String::from_utf8_lossy(&text).trim().to_owned())
/// });
/// assert_eq!(op::Operation::name(&kernel), "kernel");
/// ```
pub fn from_fn<T, F>(name: &'static str, body: F) -> FromFn<F>
where
    T: Outcome + Send + 'static,
    F: Fn(&mut dyn Session, &Job<'_>) -> Result<T> + Send + Sync,
{
    FromFn { name, body }
}

impl<T, F> Operation for FromFn<F>
where
    T: Outcome + Send + 'static,
    F: Fn(&mut dyn Session, &Job<'_>) -> Result<T> + Send + Sync,
{
    type Output = T;

    fn name(&self) -> &str {
        self.name
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<T> {
        (self.body)(session, job)
    }
}

/// Takes the events of one job on their way to the collector.
pub trait Emit {
    /// Sends an event. A full channel is waited for; the pool does not charge that to the host.
    ///
    /// # Errors
    /// When nobody collects any more.
    fn emit(&self, kind: EventKind) -> Result<()>;
}

/// Opens more sessions for a job, through the transport of its pool and in turn with the pool's other logins.
pub trait Connect {
    /// Connects and logs in; a drop before the login is tried again as [`Host::retries`] says.
    ///
    /// # Errors
    /// As [`Transport::connect`](crate::Transport::connect).
    ///
    /// # Blocking
    /// Until logged in, for at most `budget` and the host's connect timeout; waiting for a turn is not charged.
    fn connect(&self, host: &Arc<Host>, budget: &Budget) -> Result<Box<dyn Session>>;
}

/// What an operation has besides its session: the host, its budget, and the way to report.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The host.
    pub host: &'a Arc<Host>,
    /// The host's place in the submission, from 0.
    pub index: usize,
    /// How many hosts were submitted.
    pub total: usize,
    /// How long it may take, and who may stop it.
    pub budget: &'a Budget,
    /// What else ends a command.
    pub limits: &'a ExecLimits,
    /// Where captured output goes when memory is short.
    pub spools: &'a SpoolSet,
    /// Whether any sink listens to output; if not, sending it would be work for nobody.
    pub is_watched: bool,
    /// Where events go.
    pub events: &'a dyn Emit,
    /// Where more sessions come from.
    pub sessions: &'a dyn Connect,
}

impl fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("host", &self.host.name).field("index", &self.index).finish_non_exhaustive()
    }
}

impl Job<'_> {
    /// Runs a command under the job's budget and limits, and hands out what it writes.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub fn exec(
        &self,
        session: &mut dyn Session,
        command: impl Into<Vec<u8>>,
        on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
    ) -> Result<Ended> {
        let ended = session.exec(&ExecRequest::new(command), self.limits, self.budget, on_output)?;
        self.note_guard(&ended);
        Ok(ended)
    }

    /// Opens another session, such as the same host's by another login.
    ///
    /// # Errors
    /// As [`Connect::connect`].
    pub fn connect(&self, host: &Arc<Host>) -> Result<Box<dyn Session>> {
        self.sessions.connect(host, self.budget)
    }

    /// Reports that the job entered a phase.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    pub fn phase(&self, phase: Phase) -> Result<()> {
        self.emit(EventKind::Phase { host: Arc::clone(self.host), phase })
    }

    /// Sends output to the sinks, if one listens.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    pub fn output(&self, stream: Stream, bytes: Vec<u8>) -> Result<()> {
        if !self.is_watched {
            return Ok(());
        }
        self.emit(EventKind::Output { host: Arc::clone(self.host), stream, bytes })
    }

    /// Reports how far a transfer is; the caller keeps it to ten a second.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    pub fn transfer(&self, path: &str, done: u64, total: u64) -> Result<()> {
        self.emit(EventKind::Transfer { host: Arc::clone(self.host), path: path.to_owned(), done, total })
    }

    /// Reports that no guard watched over a command, where that is so.
    fn note_guard(&self, ended: &Ended) {
        if let Some(why) = &ended.unguarded {
            let note = Note::Unguarded(why.clone());
            // How the command ended is the result even where nobody collects any more.
            let _ = self.emit(EventKind::Note { host: Arc::clone(self.host), note });
        }
    }

    /// Reports something about the host that does not change the result.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    pub fn warn(&self, message: impl Into<String>) -> Result<()> {
        self.emit(EventKind::Note { host: Arc::clone(self.host), note: Note::Warning(message.into()) })
    }

    /// Sends an event; time spent waiting for the collector is not charged to the host.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    pub fn emit(&self, kind: EventKind) -> Result<()> {
        self.budget.uncharged(|| self.events.emit(kind))
    }
}
