//! What a command does on a fake host.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::Stream;
use crate::transport::ExitStatus;

/// What a command writes, how long it takes and how it ends. The default: nothing, at once, with status 0.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use fleet::fake::Reply;
///
/// let reply = Reply::new().stdout("one\n").pause(Duration::from_millis(5)).stderr("two\n").code(3);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Reply {
    pub(super) steps: VecDeque<Step>,
    pub(super) status: ExitStatus,
    pub(super) ignored_signals: IgnoredSignals,
    pub(super) is_refused: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Write(Stream, Vec<u8>),
    Pause(Duration),
    /// Until it is killed.
    Hang,
    /// The same bytes, until it is killed.
    Endless(Stream, Vec<u8>),
    /// Standard input comes back, until it is closed.
    Echo,
    /// The connection ends.
    Lose,
    Panic(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IgnoredSignals {
    None,
    ButKill,
    All,
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

impl Reply {
    /// Makes the reply of `true`.
    pub fn new() -> Self {
        Self {
            steps: VecDeque::new(),
            status: ExitStatus::Code(0),
            ignored_signals: IgnoredSignals::None,
            is_refused: false,
        }
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    /// Writes to standard output.
    pub fn stdout(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Write(Stream::Stdout, bytes.into()))
    }

    /// Writes to standard error.
    pub fn stderr(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Write(Stream::Stderr, bytes.into()))
    }

    /// Waits before what follows.
    pub fn pause(self, duration: Duration) -> Self {
        self.step(Step::Pause(duration))
    }

    /// Runs until it is killed.
    pub fn hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// Writes the same bytes again and again, until it is killed.
    pub fn endless(self, stream: Stream, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Endless(stream, bytes.into()))
    }

    /// Writes standard input back until it is closed, as `cat` does.
    pub fn echo(self) -> Self {
        self.step(Step::Echo)
    }

    /// Loses the connection.
    pub fn lose(self) -> Self {
        self.step(Step::Lose)
    }

    /// Panics inside the session, as a bug in a transport would.
    pub fn panic(self, message: &str) -> Self {
        self.step(Step::Panic(message.to_owned()))
    }

    /// Ends with this status. Default 0.
    pub fn code(mut self, code: i32) -> Self {
        self.status = ExitStatus::Code(code);
        self
    }

    /// Ends by a signal, named without `SIG`.
    pub fn signal(mut self, name: &str) -> Self {
        self.status = ExitStatus::Signal(name.to_owned());
        self
    }

    /// Ends without a status.
    pub fn no_status(mut self) -> Self {
        self.status = ExitStatus::NotSent;
        self
    }

    /// Ignores every signal but KILL.
    pub fn ignores_signals(mut self) -> Self {
        self.ignored_signals = IgnoredSignals::ButKill;
        self
    }

    /// Is not ended by any signal, as on a server that does not forward them.
    pub fn ignores_kill(mut self) -> Self {
        self.ignored_signals = IgnoredSignals::All;
        self
    }

    /// Is refused by the server: the command does not start.
    pub fn refused(mut self) -> Self {
        self.is_refused = true;
        self
    }
}
