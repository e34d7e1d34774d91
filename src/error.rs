//! The one error that crosses a module border: what went wrong, in which phase, and why.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where in the life of a host's job something happened, in the order of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for a worker, or for a turn to connect; never charged to the host.
    Queued,
    /// Looking the address up.
    Resolve,
    /// Opening the TCP connection.
    Connect,
    /// Waiting for the server's `SSH-` line (RFC 4253 section 4.2).
    Banner,
    /// Agreeing on keys (RFC 4253 sections 7 and 8).
    KeyExchange,
    /// Comparing the server's key with known_hosts.
    HostKey,
    /// Logging in (RFC 4252).
    Login,
    /// Opening a channel and starting the command or subsystem (RFC 4254 sections 5 and 6).
    Channel,
    /// The command runs.
    Running,
    /// Files are on their way.
    Transfer,
    /// Ending the session.
    Close,
}

impl Phase {
    /// Returns the phase's name as people and the JSON form read it, such as `key exchange`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Banner => "banner",
            Self::KeyExchange => "key exchange",
            Self::HostKey => "host key",
            Self::Login => "login",
            Self::Channel => "channel",
            Self::Running => "running",
            Self::Transfer => "transfer",
            Self::Close => "close",
        }
    }

    /// Tells whether the phase comes before the end of the login: failing here makes a host `unreachable`.
    pub fn is_before_session(self) -> bool {
        self <= Self::Login
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a caller would branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An inventory, selection, flag or argument is wrong; nothing was contacted.
    Usage,
    /// A name could not be resolved.
    Resolve,
    /// No connection could be made: refused, no route.
    Connect,
    /// The server does not speak SSH, or broke the protocol.
    Protocol,
    /// The connection ended or was reset.
    Disconnected,
    /// The server's key is unknown under `strict`, changed, or revoked.
    HostKey,
    /// The server refused every way to log in.
    Login,
    /// The secret was refused on other hosts and accepted on none: it was not tried here.
    Breaker,
    /// The server refused a channel, a command or a subsystem.
    Refused,
    /// The command was to run as another user, and that was refused: it did not begin.
    Become,
    /// The server refused a file operation (SFTP status).
    RemoteFile,
    /// A local file could not be read or written.
    LocalFile,
    /// A time limit of this host passed; the phase says which.
    Timeout,
    /// The deadline of the whole run passed.
    Deadline,
    /// The run, or this job, was stopped.
    Cancelled,
    /// This machine ran out of descriptors, threads, ports or memory: never the host's fault.
    LocalLimit,
    /// The operation, or fleet itself, panicked.
    Panic,
    /// The operation of a library user said no: made by [`Error::failed`].
    Operation,
    /// A state that fleet did not foresee.
    Internal,
}

/// What went wrong, in which phase, on what, and because of what.
///
/// The message is a lower-case fragment that names its object and reads well after `fleet: `; the cause is
/// attached as [`source`](StdError::source) and never repeated in the message. [`Error::chain`] prints both.
///
/// Cheap to clone: one result may go to a sink, a callback and a handle.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    phase: Option<Phase>,
    what: String,
    source: Option<Source>,
}

type Source = Arc<dyn StdError + Send + Sync + 'static>;

impl Error {
    /// Makes an error without a phase or a cause.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self(Arc::new(Inner { kind, phase: None, what: what.into(), source: None }))
    }

    /// Makes the error of a library user's own operation: the host counts as `failed`, in the phase `running`.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = fleet::Error::failed("disk is 97% full");
    /// assert_eq!(error.kind(), fleet::ErrorKind::Operation);
    /// assert_eq!(error.to_string(), "disk is 97% full");
    /// ```
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Operation, what).in_phase(Phase::Running)
    }

    /// Sets the phase, unless one is known already: the innermost phase is the true one.
    #[must_use]
    pub fn in_phase(self, phase: Phase) -> Self {
        if self.0.phase.is_some() {
            return self;
        }
        Self(Arc::new(Inner {
            kind: self.0.kind,
            phase: Some(phase),
            what: self.0.what.clone(),
            source: self.0.source.clone(),
        }))
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(self, source: impl StdError + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            kind: self.0.kind,
            phase: self.0.phase,
            what: self.0.what.clone(),
            source: Some(Arc::new(source)),
        }))
    }

    /// Returns what a caller would branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns where it happened, if it happened on the way to or on a host.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// Returns the message with every cause, joined by `: `, each said once.
    pub fn chain(&self) -> String {
        let mut text = self.0.what.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !message.is_empty() && !text.ends_with(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("phase", &self.0.phase)
            .field("what", &self.chain())
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_phase_stays() {
        let error = Error::new(ErrorKind::Timeout, "x").in_phase(Phase::Banner).in_phase(Phase::Login);
        assert_eq!(error.phase(), Some(Phase::Banner));
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let cause = std::io::Error::other("disk full");
        let error = Error::new(ErrorKind::LocalFile, "cannot write out/a").caused_by(cause);
        assert_eq!(error.chain(), "cannot write out/a: disk full");
        assert_eq!(error.to_string(), "cannot write out/a");
    }

    #[test]
    fn phases_are_in_the_order_of_a_run() {
        assert!(Phase::Login.is_before_session());
        assert!(!Phase::Channel.is_before_session());
    }
}
