//! The seam between what fleet does and how it reaches a host: the traits that SSH and the fake transport implement.
//!
//! [`Transport`] opens a [`Session`]; a session starts processes and reaches [`RemoteFiles`]; a [`Watch`] hears how far
//! it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Budget, seconds};
use crate::error::{Phase, Result};
use crate::event::{Class, Facts, Note, Outcome, Stream};
use crate::host::Host;
use crate::known_hosts::Presented;
use crate::size::exact_size;
use crate::spool::Input;

mod exec;
mod feed;
mod files;
mod retry;
mod sudo;

pub use files::{DirEntry, FileAttrs, FileId, FileKind, OpenMode, RemoteFiles, SftpStatus};
pub(crate) use retry::{RETRY_DELAY, is_drop_before_login, spread};
pub(crate) use sudo::{NAME as MAX_GUARD_NAME, one_line};
pub use sudo::{PASSWORD_NEEDED, Sudo, TERMINAL_NEEDED};

/// How the message begins of a login for which a host has neither a key nor a password.
pub const NOTHING_TO_LOG_IN_WITH: &str = "nothing to log in with";

/// Opens sessions. Shared by every worker of a pool.
pub trait Transport: Send + Sync {
    /// Connects to `host` and logs in, once: retries are the pool's.
    ///
    /// # Errors
    /// What went wrong, with the phase it happened in; an error of a phase up to `login` makes the host `unreachable`.
    ///
    /// # Blocking
    /// Until logged in, for at most `budget`.
    fn connect(&self, host: &Arc<Host>, watch: &dyn Watch, budget: &Budget) -> Result<Box<dyn Session>>;
}

/// Hears how far a connection is.
pub trait Watch {
    /// The host entered `phase`.
    fn phase(&self, phase: Phase);

    /// Something worth knowing: a host key, a banner.
    fn note(&self, note: Note);

    /// Something worth knowing of another host that is on the way: a bastion.
    fn note_about(&self, bastion: &Arc<Host>, note: Note);

    /// Waits for a turn among the unauthenticated connections to one SSH server, uncharged.
    ///
    /// `endpoint` names the server: `10.0.0.5:22`, or `db1:22 via BASTION` where only a bastion knows the address. Called once
    /// that is known and before connecting. The turn is given back when the guard is dropped:
    /// when the server has answered the session's first request, at the latest with the session.
    ///
    /// # Errors
    /// `Cancelled` or `Deadline` while waiting.
    fn turn(&self, endpoint: &str, budget: &Budget) -> Result<Turn>;
}

/// A turn of [`Watch::turn`]; given back when dropped.
#[derive(Default)]
pub struct Turn(Option<Box<dyn FnOnce() + Send>>);

impl Turn {
    /// Makes a turn that calls `give_back` when it is dropped.
    pub fn new(give_back: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").finish_non_exhaustive()
    }
}

/// A remote process of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcId(pub u32);

/// A signal that SSH can send (RFC 4254 section 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// Hang up.
    Hup,
    /// Interrupt.
    Int,
    /// Terminate.
    Term,
    /// Kill.
    Kill,
}

impl Signal {
    /// Returns the name SSH uses, without `SIG`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// The longest command line that fits into one SSH packet, in bytes (libssh2 `transport.c`; a packet of 35,000 bytes is
/// what RFC 4253 section 6.1 makes every server take).
pub const MAX_COMMAND_BYTES: usize = 34_000;

/// A pseudo-terminal for a command (RFC 4254 section 6.2), so that programs believe in one.
///
/// Standard output and error are one stream, the former. What is written to it is not echoed, and lines end with a newline alone.
/// Where standard input is closed, the end-of-file character (^D) is sent once: whoever reads first finds the end, and who throws
/// away what was typed ahead, as programs that ask for a password do, waits. Bytes written to it are keys: not every one arrives
/// as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pty {
    /// What kind of terminal, as `TERM` names it; at most 200 bytes.
    pub term: String,
    /// The width in characters.
    pub columns: u16,
    /// The height in characters.
    pub rows: u16,
}

impl Pty {
    /// Makes a terminal of 80 by 24 characters.
    pub fn new(term: impl Into<String>) -> Self {
        Self { term: term.into(), columns: 80, rows: 24 }
    }

    /// Sets its size in characters.
    #[must_use]
    pub fn size(mut self, columns: u16, rows: u16) -> Self {
        (self.columns, self.rows) = (columns, rows);
        self
    }
}

/// A command to start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecRequest {
    /// The command line, for the login shell; sent byte for byte.
    pub command: Vec<u8>,
    /// Leaves standard input open for [`Session::write`]; otherwise it is closed at once.
    pub stdin: bool,
    /// What [`Session::exec`] writes to standard input, which is left open for it.
    pub input: Option<Input>,
    /// Runs it on a pseudo-terminal.
    pub pty: Option<Pty>,
    /// Has [`Session::exec`] run it by sudo: `sh` on the other side reads the command, byte for byte, as another user.
    pub sudo: Option<Sudo>,
}

impl ExecRequest {
    /// Requests a command with closed standard input.
    pub fn new(command: impl Into<Vec<u8>>) -> Self {
        Self { command: command.into(), stdin: false, input: None, pty: None, sudo: None }
    }

    /// Requests it with an input instead, from its start to its end.
    #[must_use]
    pub fn fed(mut self, input: Input) -> Self {
        self.stdin = true;
        self.input = Some(input);
        self
    }
}

/// How a remote process ended, as the server told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this status (RFC 4254 section 6.10, `exit-status`).
    Code(i32),
    /// By this signal, named without `SIG` (`exit-signal`).
    Signal(String),
    /// The server closed the channel without saying.
    NotSent,
}

/// Why fleet ended a remote process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KillReason {
    /// The command's timeout passed.
    Timeout(Duration),
    /// The command wrote nothing for so long.
    Idle(Duration),
    /// The run's deadline passed.
    Deadline,
    /// The run or the job was stopped.
    Cancelled,
    /// The command wrote more than it may, in bytes.
    MaxOutput(u64),
}

/// What is known of a process that fleet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KillResult {
    /// The server said that it ended after the signal, and no guard found anything of it left.
    Killed,
    /// It had ended by itself when the signal was about to be sent.
    AlreadyGone,
    /// Nothing came back within the grace period, or a guard could not end all of it: something may still run.
    NotConfirmed,
}

impl KillResult {
    /// Returns the words of the JSON form's `killed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::AlreadyGone => "already gone",
            Self::NotConfirmed => "not confirmed",
        }
    }
}

/// That fleet ended a remote process, why, and with what result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Killed {
    /// Why.
    pub reason: KillReason,
    /// What is known of it.
    pub result: KillResult,
}

/// How a command that began came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// What the server said.
    pub status: ExitStatus,
    /// Set when fleet ended it.
    pub killed: Option<Killed>,
    /// Why no guard watched over it, where one was wanted and it ran long enough to get one ([`ExecLimits::guard`]).
    pub unguarded: Option<String>,
    /// Bytes of standard output received.
    pub stdout_bytes: u64,
    /// Bytes of standard error received.
    pub stderr_bytes: u64,
}

impl Ended {
    /// Makes the end of a process that nobody killed.
    pub fn new(status: ExitStatus, stdout_bytes: u64, stderr_bytes: u64) -> Self {
        Self { status, killed: None, unguarded: None, stdout_bytes, stderr_bytes }
    }

    /// Tells whether the command ended by itself with status 0.
    pub fn is_ok(&self) -> bool {
        self.killed.is_none() && self.status == ExitStatus::Code(0)
    }

    /// Returns the status, where one was sent.
    pub fn code(&self) -> Option<i32> {
        match self.status {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) | ExitStatus::NotSent => None,
        }
    }
}

impl Outcome for Ended {
    fn facts(&self) -> Facts {
        let class = match self.killed.map(|killed| killed.reason) {
            None if self.is_ok() => Class::Ok,
            None | Some(KillReason::MaxOutput(_)) => Class::Failed,
            Some(KillReason::Timeout(_) | KillReason::Idle(_) | KillReason::Deadline) => Class::TimedOut,
            Some(KillReason::Cancelled) => Class::Cancelled,
        };
        let mut facts = Facts::new(class);
        facts.exit_code = self.code();
        facts.signal = match &self.status {
            ExitStatus::Signal(name) => Some(name.clone()),
            _ => None,
        };
        facts.killed = self.killed.map(|killed| killed.result.as_str());
        facts.stdout_bytes = self.stdout_bytes;
        facts.stderr_bytes = self.stderr_bytes;
        if let Some(killed) = self.killed {
            facts.phase = Some(Phase::Running);
            let why = match killed.reason {
                KillReason::Timeout(limit) => format!("command timed out after {}", seconds(limit)),
                KillReason::Idle(limit) => format!("no output for {}", seconds(limit)),
                KillReason::Deadline => "the run's deadline passed".to_owned(),
                KillReason::Cancelled => "stopped".to_owned(),
                KillReason::MaxOutput(limit) => format!("wrote more than {}", exact_size(limit)),
            };
            facts.reason = Some(format!("{why}, remote process {}", killed.result.as_str()));
        } else if self.status == ExitStatus::NotSent {
            facts.reason = Some("the server sent no exit status".to_owned());
        }
        facts
    }
}

/// What became of a guard ([`Session::guard`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardState {
    /// It is there: when the connection ends, so does the command.
    Watching,
    /// There is none, and why.
    Absent(String),
    /// It was asked to end the command, and nothing of it is left.
    Gone,
    /// It was asked to end the command, and something of it is left.
    Left,
}

/// What [`Session::pump`] saw.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionEvent {
    /// A process wrote something; never empty, at most 32 KiB.
    Output {
        /// Which process.
        id: ProcId,
        /// Where.
        stream: Stream,
        /// What.
        bytes: Vec<u8>,
    },
    /// A process takes standard input again.
    Window {
        /// Which process.
        id: ProcId,
    },
    /// A process ended, and all it wrote was delivered.
    Ended {
        /// Which process.
        id: ProcId,
        /// How.
        ended: Ended,
    },
    /// Something became of the session's guard.
    Guard(GuardState),
}

/// One login on one host: starts processes, reaches files. Reusable, by one owner at a time.
///
/// Dropping a session closes it as [`close`](Self::close) does.
pub trait Session: Send {
    /// Starts a command.
    ///
    /// # Errors
    /// `Refused` when the server does not allow it, else why the session failed; the phase is `channel`.
    fn start(&mut self, request: &ExecRequest, budget: &Budget) -> Result<ProcId>;

    /// Gives bytes to a process's standard input and returns how many were taken, 0 when the window is full.
    ///
    /// # Errors
    /// When the process closed its input, or the session failed.
    fn write(&mut self, id: ProcId, bytes: &[u8]) -> Result<usize>;

    /// Closes a process's standard input, once what was written has been sent.
    ///
    /// # Errors
    /// When the session failed.
    fn close_stdin(&mut self, id: ProcId) -> Result<()>;

    /// Sends a signal to a process; servers may ignore it.
    ///
    /// # Errors
    /// When the session failed.
    fn signal(&mut self, id: ProcId, signal: Signal) -> Result<()>;

    /// Puts a guard over a process from when it has run for 300 ms, and tells whether this kind of session has guards.
    ///
    /// A guard is a small shell on the same host, on a channel of its own. It lives until the last guarded process of the
    /// session ended by itself, and ends what the session started if the connection ends before: TERM, after `kill_after`
    /// KILL. [`SessionEvent::Guard`] tells what becomes of it. Default: there is none.
    fn guard(&mut self, id: ProcId, kill_after: Duration) -> bool {
        let _ = (id, kill_after);
        false
    }

    /// Returns what the guard of the next process calls itself, as `ps` shows processes by name (at most 13 bytes), so that others
    /// on the host see what becomes of it: with `-k` behind it while it ends things. Default: there is none.
    fn guard_name(&self) -> Option<String> {
        None
    }

    /// Asks the guard, opening it if need be, to end a process with all that it started, and tells whether it was asked: not
    /// while other processes of the session live, which it cannot tell from this one's. [`SessionEvent::Guard`] has the answer.
    ///
    /// # Errors
    /// When the session failed.
    fn end_by_guard(&mut self, id: ProcId) -> Result<bool> {
        let _ = id;
        Ok(false)
    }

    /// Moves bytes until something happens to any process of the session.
    ///
    /// # Errors
    /// `Disconnected` when the connection ended, `Timeout`, `Deadline` or `Cancelled` when the budget did: the session is
    /// still good after those three, and `pump` may be called again with another budget.
    ///
    /// # Blocking
    /// For at most `budget`.
    fn pump(&mut self, budget: &Budget) -> Result<SessionEvent>;

    /// Opens the file service (SFTP), once per session.
    ///
    /// # Errors
    /// `Refused` when the server has none.
    fn files(&mut self, budget: &Budget) -> Result<&mut dyn RemoteFiles>;

    /// Takes what the session noticed that changes no result, such as a variable that the server does not set.
    ///
    /// Default: nothing.
    fn take_notes(&mut self) -> Vec<Note> {
        Vec::new()
    }

    /// Tells whether the connection was good when last used.
    fn is_alive(&self) -> bool;

    /// Ends the session without waiting for the server; for a guard that was dismissed and not gone yet, at most 2 s.
    fn close(self: Box<Self>);

    /// Returns the server's key, from a transport that only looks at keys ([`KeyScan`](crate::ssh::KeyScan)).
    fn presented(&self) -> Option<&Presented> {
        None
    }

    /// Runs a command to its end and hands out what it writes, as it arrives.
    ///
    /// The request's [`input`](ExecRequest::input) is written as fast as the process takes it, and its end is told. A process
    /// that closes its standard input, or ends before, just gets no more.
    ///
    /// When `budget` or `limits` end it, the process is sent TERM, after `limits.kill_after` KILL, and the result says so. A
    /// guard watches over it, unless `limits` say otherwise.
    ///
    /// By [sudo](ExecRequest::sudo), what sudo says before the command begins is left out of the output, and the time that others
    /// need to prove the password right is not charged.
    ///
    /// # Errors
    /// `Become` when sudo did not let the command begin, `Breaker` when its password was refused elsewhere. When the command could not be started, when the connection ended before the command did, when the input cannot be
    /// read (`LocalFile`; the command is ended), or what `on_output` returned.
    fn exec(
        &mut self,
        request: &ExecRequest,
        limits: &ExecLimits,
        budget: &Budget,
        on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
    ) -> Result<Ended> {
        exec::run(self, request, limits, budget, on_output)
    }
}

/// What ends a command besides its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecLimits {
    /// How long it may write nothing and take nothing of its input. Default: forever.
    pub idle: Option<Duration>,
    /// How many bytes it may write in all; what is past them is not handed out. Default: no limit.
    pub max_output_bytes: Option<u64>,
    /// Whether that holds only where an operation keeps the output in its result. Default: no, always.
    pub only_captured: bool,
    /// How long after TERM the process is sent KILL, and how long after KILL its end is awaited. Default 5 s.
    pub kill_after: Duration,
    /// Whether a guard on the host ends the command when it is stopped or the connection ends ([`Session::guard`]). Default
    /// yes.
    pub guard: bool,
}

impl Default for ExecLimits {
    fn default() -> Self {
        Self {
            idle: None,
            max_output_bytes: None,
            only_captured: false,
            kill_after: Duration::from_secs(5),
            guard: true,
        }
    }
}
