//! What happens in a run, as facts: events, results, the summary, and the traits of those who consume them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::budget::Stop;
use crate::error::{Error, ErrorKind, Phase};
use crate::host::Host;
use crate::record::Record;

mod summary;

pub use summary::Summary;

/// The identity of a run: sortable by start time, unique on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunId(Arc<str>);

impl RunId {
    /// Takes an identity over, such as one read back from a journal.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that happened, when, and in which run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When it happened.
    pub time: SystemTime,
    /// The run it belongs to.
    pub run: RunId,
    /// What happened.
    pub kind: EventKind,
}

impl Event {
    /// Makes an event of now.
    pub fn now(run: RunId, kind: EventKind) -> Self {
        Self { time: SystemTime::now(), run, kind }
    }
}

/// The stream of a remote process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error (RFC 4254 section 5.2, data type 1).
    Stderr,
}

impl Stream {
    /// Returns `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What became of a server's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostKeyAction {
    /// It was unknown and is in known_hosts now.
    Recorded,
    /// It was unknown and accepted without recording (policy `off`, or an unwritable file).
    Accepted,
    /// It took the place of another that the host had before, as was asked for.
    Replaced,
    /// It is not the one that known_hosts has, and the host was not logged in to.
    Changed,
    /// It was looked at, and known_hosts has it.
    Known,
    /// It was looked at, and known_hosts does not have it.
    Unknown,
}

impl HostKeyAction {
    /// Returns the word of the JSON form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::Accepted => "accepted",
            Self::Replaced => "replaced",
            Self::Changed => "changed",
            Self::Known => "known",
            Self::Unknown => "unknown",
        }
    }
}

/// Something worth knowing on the way to a host that is neither progress nor a result.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Note {
    /// A host key that known_hosts did not have, or one that was only looked at.
    HostKey {
        /// What became of it.
        action: HostKeyAction,
        /// The key's type, such as `ssh-ed25519`.
        key_type: String,
        /// `SHA256:…`.
        fingerprint: String,
    },
    /// The text a server shows before the login (RFC 4252 section 5.4).
    Banner(String),
    /// An attempt failed and is made again.
    Retrying {
        /// The attempt that failed, counted from 1.
        attempt: u32,
        /// Why.
        error: Error,
        /// How long until the next.
        delay: Duration,
    },
    /// Nothing in the host's output matched the pattern of the run's records ([`Outputs::records`](crate::Outputs::records)).
    NoRecord,
    /// No guard watched over the host's command, and why ([`ExecLimits::guard`](crate::transport::ExecLimits::guard)).
    Unguarded(String),
    /// Something to be told once that does not change the result.
    Warning(String),
    /// Something for who looks closely (`-v`), such as a variable that the server does not set.
    Detail(String),
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// The run began; always the first event.
    Started {
        /// The operation's name.
        op: String,
        /// How many hosts were submitted.
        hosts: usize,
        /// How many may be in flight at once.
        fanout: usize,
    },
    /// A host entered a phase.
    Phase {
        /// Which host.
        host: Arc<Host>,
        /// Which phase.
        phase: Phase,
    },
    /// A note about one host.
    Note {
        /// Which host.
        host: Arc<Host>,
        /// What is worth knowing.
        note: Note,
    },
    /// A warning about the run as a whole.
    Warning(String),
    /// Bytes that a remote process wrote, at most 32 KiB at a time.
    Output {
        /// Which host.
        host: Arc<Host>,
        /// Where it wrote them.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// What one match of the run's pattern found in a host's standard output; told before the host's end.
    Record {
        /// Which host.
        host: Arc<Host>,
        /// The fields and their values.
        record: Record,
    },
    /// How far a transfer is; at most ten a second for one host.
    Transfer {
        /// Which host.
        host: Arc<Host>,
        /// The file on its way.
        path: String,
        /// Bytes of all files that arrived.
        done: u64,
        /// Bytes of all files, as far as known.
        total: u64,
    },
    /// A wave of a rollout begins.
    Wave {
        /// Which, from 1.
        number: usize,
        /// How many hosts it has.
        begins: usize,
        /// How many hosts it and those before have.
        reaches: usize,
    },
    /// A host is done; exactly one per host submitted.
    Finished(Arc<HostReport>),
    /// The run was asked to stop.
    Stopping {
        /// How.
        stop: Stop,
        /// Why.
        reason: StopReason,
        /// Hosts in flight at that moment.
        running: Vec<Arc<Host>>,
    },
    /// The run is over; always the last event.
    RunFinished(Summary),
}

impl EventKind {
    /// Returns the host the event is about, if it is about one.
    pub fn host(&self) -> Option<&Arc<Host>> {
        match self {
            Self::Phase { host, .. }
            | Self::Note { host, .. }
            | Self::Output { host, .. }
            | Self::Record { host, .. }
            | Self::Transfer { host, .. } => Some(host),
            Self::Finished(report) => Some(&report.host),
            Self::Started { .. }
            | Self::Wave { .. }
            | Self::Warning(_)
            | Self::Stopping { .. }
            | Self::RunFinished(_) => None,
        }
    }
}

/// Why a run was stopped before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// More hosts failed than allowed.
    Threshold,
    /// A wave of a rollout did not let the next begin.
    Rollout,
    /// Logins were refused too often to go on.
    Breaker,
    /// The run's deadline passed.
    Deadline,
    /// SIGINT (Ctrl-C) or the library's own stop.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    Hangup,
    /// Nobody reads the output any more, or an output failed.
    Output,
}

impl StopReason {
    /// Returns the word of the JSON form's `stopped_by`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Rollout => "rollout",
            Self::Breaker => "breaker",
            Self::Deadline => "deadline",
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminate",
            Self::Hangup => "hangup",
            Self::Output => "output",
        }
    }
}

/// How a host ended (DESIGN section 7, the table of statuses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Status 0, or the transfer is complete.
    Ok,
    /// A non-zero status, a signal, no exit status, or a transfer the server refused.
    Failed,
    /// Something before the login succeeded.
    Unreachable,
    /// Logged in, then the connection ended without a result.
    Lost,
    /// The command's or idle timeout passed, or the run's deadline found it in flight.
    TimedOut,
    /// fleet's own: a panic, a full disk, a local limit.
    Error,
    /// In flight when the run was stopped.
    Cancelled,
    /// Never given to a worker.
    NotStarted,
}

impl Class {
    /// Every class, in the order of the summary.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failed,
        Self::Unreachable,
        Self::Lost,
        Self::TimedOut,
        Self::Error,
        Self::Cancelled,
        Self::NotStarted,
    ];

    /// Returns the word of the JSON form's `status`, such as `timed_out`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::TimedOut => "timed_out",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::NotStarted => "not_started",
        }
    }

    /// Tells whether a host that ended so counts against `--max-fail`: failed, unreachable, lost and timed out.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Unreachable | Self::Lost | Self::TimedOut)
    }

    /// Judges an error: the table of DESIGN section 7 as one function.
    pub fn of_error(error: &Error) -> Self {
        let before_session = error.phase().is_some_and(Phase::is_before_session);
        match error.kind() {
            ErrorKind::Panic | ErrorKind::Internal | ErrorKind::LocalLimit | ErrorKind::LocalFile => Self::Error,
            ErrorKind::Cancelled if error.phase() == Some(Phase::Queued) => Self::NotStarted,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Breaker => Self::NotStarted,
            ErrorKind::Deadline if error.phase() == Some(Phase::Queued) => Self::NotStarted,
            ErrorKind::Deadline => Self::TimedOut,
            ErrorKind::Usage if !before_session => Self::Error,
            _ if before_session => Self::Unreachable,
            ErrorKind::Timeout => Self::TimedOut,
            ErrorKind::Refused | ErrorKind::Become | ErrorKind::RemoteFile | ErrorKind::Operation => Self::Failed,
            ErrorKind::Disconnected | ErrorKind::Protocol | ErrorKind::Connect => Self::Lost,
            ErrorKind::Usage | ErrorKind::Resolve | ErrorKind::HostKey | ErrorKind::Login => Self::Unreachable,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an operation's value says of itself, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// How the host ended.
    pub class: Class,
    /// The remote status, where one was sent.
    pub exit_code: Option<i32>,
    /// The remote signal's name without `SIG`, where one ended the process.
    pub signal: Option<String>,
    /// What became of the remote process when fleet ended it: `killed`, `already gone`, `not confirmed`.
    pub killed: Option<&'static str>,
    /// Why the host did not end well, in words; `None` when the class and the code say it all.
    pub reason: Option<String>,
    /// The phase to blame when the class is neither `ok` nor `failed`.
    pub phase: Option<Phase>,
    /// Bytes of standard output received.
    pub stdout_bytes: u64,
    /// Bytes of standard error received.
    pub stderr_bytes: u64,
    /// Files transferred, for `put` and `get`.
    pub files: u64,
    /// Bytes transferred, for `put` and `get`.
    pub transferred_bytes: u64,
}

impl Facts {
    /// Facts of an operation that ended as `class`, with nothing else to say.
    pub fn new(class: Class) -> Self {
        Self {
            class,
            exit_code: None,
            signal: None,
            killed: None,
            reason: None,
            phase: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            files: 0,
            transferred_bytes: 0,
        }
    }
}

/// A value that an operation may return: it knows whether it is a success.
///
/// The default says that having a value is success; most values need an empty `impl Outcome for T {}`.
pub trait Outcome {
    /// Returns what the report says of this value.
    fn facts(&self) -> Facts {
        Facts::new(Class::Ok)
    }
}

macro_rules! plain_outcomes {
    ($($type:ty),* $(,)?) => { $(impl Outcome for $type {})* };
}

plain_outcomes!(
    (),
    bool,
    char,
    String,
    &'static str,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    Duration
);

impl<T> Outcome for Vec<T> {}
impl<T> Outcome for Option<T> {}
impl<T> Outcome for Box<T> {}
impl<K, V, S> Outcome for std::collections::HashMap<K, V, S> {}
impl<K, V> Outcome for std::collections::BTreeMap<K, V> {}
impl<A, B> Outcome for (A, B) {}
impl<A, B, C> Outcome for (A, B, C) {}

/// What is told of a host that is done, whatever the operation's value was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostReport {
    /// Which host.
    pub host: Arc<Host>,
    /// The host's place in the submission, from 0.
    pub index: usize,
    /// How it ended, and what its operation said.
    pub facts: Facts,
    /// Why, if fleet could not do it.
    pub error: Option<Error>,
    /// How often a connection was tried; 0 when never.
    pub attempts: u32,
    /// How long it waited for a worker or a turn.
    pub queued: Duration,
    /// How long it took, the queue excluded.
    pub duration: Duration,
    /// How long each phase took, in order.
    pub phases: Vec<(Phase, Duration)>,
}

impl HostReport {
    /// Returns how the host ended.
    pub fn class(&self) -> Class {
        self.facts.class
    }

    /// Tells whether the host ended well.
    pub fn is_ok(&self) -> bool {
        self.facts.class == Class::Ok
    }

    /// Returns the phase to blame, where the host did not end by its own result.
    pub fn phase(&self) -> Option<Phase> {
        self.error.as_ref().and_then(Error::phase).or(self.facts.phase)
    }

    /// Returns one line that says why the host did not end well; `None` when it did.
    pub fn reason(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(error.chain());
        }
        if let Some(reason) = &self.facts.reason {
            return Some(reason.clone());
        }
        match (self.class(), self.facts.exit_code, &self.facts.signal) {
            (Class::Ok, ..) => None,
            (_, Some(code), _) => Some(format!("exit status {code}")),
            (_, None, Some(signal)) => Some(format!("ended by signal {signal}")),
            (class, None, None) => Some(class.as_str().replace('_', " ")),
        }
    }
}

/// A host's one result: the operation's value or the error, and the report of both.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HostResult<T> {
    /// What the operation returned, or why it could not be done.
    pub outcome: Result<T, Error>,
    /// What is told of it.
    pub report: Arc<HostReport>,
}

impl<T> HostResult<T> {
    /// Joins a value or an error with its report.
    pub fn new(outcome: Result<T, Error>, report: Arc<HostReport>) -> Self {
        Self { outcome, report }
    }

    /// Returns the host.
    pub fn host(&self) -> &Arc<Host> {
        &self.report.host
    }

    /// Returns how the host ended.
    pub fn class(&self) -> Class {
        self.report.class()
    }

    /// Tells whether the host ended well: a command that returned 1 has a value and is not ok.
    pub fn is_ok(&self) -> bool {
        self.report.is_ok()
    }

    /// Returns the value, whether or not it is a success.
    pub fn value(&self) -> Option<&T> {
        self.outcome.as_ref().ok()
    }

    /// Returns why there is no value.
    pub fn error(&self) -> Option<&Error> {
        self.outcome.as_ref().err()
    }
}

/// A consumer of events: an output form, a progress bar, a counter. A closure is one.
///
/// Called from one thread at a time, in the order things happened to each host, [`EventKind::Started`] first and
/// [`EventKind::RunFinished`] last.
pub trait Sink: Send {
    /// Takes one event.
    ///
    /// # Errors
    /// After an error the sink is closed: it gets no further events, the run drains, and the other sinks go on.
    fn handle(&mut self, event: &Event) -> io::Result<()>;

    /// Shows what is buffered: called after each batch of events, when no more wait. Default: nothing.
    ///
    /// # Errors
    /// As [`handle`](Self::handle).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(&Event) -> io::Result<()> + Send> Sink for F {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        self(event)
    }
}

/// A consumer that makes events durable before any sink shows them: the journal.
pub trait Recorder: Send {
    /// Takes a batch and returns when it is durable.
    ///
    /// # Errors
    /// As for [`Sink::handle`].
    fn record(&mut self, batch: &[Event]) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_judged_as_the_table_of_statuses_says() {
        let of = |kind, phase| Class::of_error(&Error::new(kind, "x").in_phase(phase));
        assert_eq!(of(ErrorKind::Timeout, Phase::KeyExchange), Class::Unreachable);
        assert_eq!(of(ErrorKind::Timeout, Phase::Running), Class::TimedOut);
        assert_eq!(of(ErrorKind::Disconnected, Phase::Login), Class::Unreachable);
        assert_eq!(of(ErrorKind::Disconnected, Phase::Running), Class::Lost);
        assert_eq!(of(ErrorKind::Login, Phase::Login), Class::Unreachable);
        assert_eq!(of(ErrorKind::Refused, Phase::Channel), Class::Failed);
        assert_eq!(of(ErrorKind::RemoteFile, Phase::Transfer), Class::Failed);
        assert_eq!(of(ErrorKind::LocalLimit, Phase::Connect), Class::Error);
        assert_eq!(of(ErrorKind::Panic, Phase::Running), Class::Error);
        assert_eq!(of(ErrorKind::Deadline, Phase::Connect), Class::TimedOut);
        assert_eq!(of(ErrorKind::Deadline, Phase::Queued), Class::NotStarted);
        assert_eq!(of(ErrorKind::Cancelled, Phase::Queued), Class::NotStarted);
        assert_eq!(of(ErrorKind::Breaker, Phase::Queued), Class::NotStarted);
        assert_eq!(of(ErrorKind::Cancelled, Phase::Connect), Class::Cancelled);
    }
}
