//! The one place that turns how things ended into an exit code.

use std::process::ExitCode;

use fleet::event::StopReason;
use fleet::sink::escape;
use fleet::{Error, ErrorKind, Summary};

/// Every host did well.
pub(crate) const OK: u8 = 0;
/// The command line, the inventory or the selection is wrong; nothing was contacted.
pub(crate) const USAGE: u8 = 2;
/// A host could not be reached.
const UNREACHABLE: u8 = 3;
/// fleet itself failed.
const INTERNAL: u8 = 70;
/// Nobody reads standard output any more: 128 + SIGPIPE.
const CLOSED_STDOUT: u8 = 141;

/// Returns the exit code of a run (DESIGN section 8).
pub(crate) fn of_run(summary: &Summary, is_stdout_closed: bool) -> ExitCode {
    let is_by_signal =
        matches!(summary.stopped_by, Some(StopReason::Interrupt | StopReason::Terminate | StopReason::Hangup));
    if is_stdout_closed && !is_by_signal {
        return ExitCode::from(CLOSED_STDOUT);
    }
    ExitCode::from(summary.exit_code())
}

/// Returns the exit code of a look at host keys, of which `left` are not in known_hosts afterwards: those hosts are as
/// unreachable as under `--host-key strict`.
pub(crate) fn of_trust(summary: &Summary, left: usize, is_stdout_closed: bool) -> ExitCode {
    match summary.exit_code() {
        0 | 1 if left > 0 && !is_stdout_closed => ExitCode::from(UNREACHABLE),
        _ => of_run(summary, is_stdout_closed),
    }
}

/// Returns the exit code of a listing.
pub(crate) fn of_listing(is_stdout_closed: bool) -> ExitCode {
    ExitCode::from(if is_stdout_closed { CLOSED_STDOUT } else { OK })
}

/// A reply instead of a run: help, a version, or why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// What is written, with its newline.
    pub(crate) text: String,
    /// Whether it was asked for: it goes to standard output, else to standard error.
    pub(crate) is_answer: bool,
    pub(crate) code: u8,
}

/// Why nothing was done, and what may help.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: Error,
    hint: Option<String>,
}

impl Refusal {
    /// Refuses a command line, inventory or selection.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::from(Error::new(ErrorKind::Usage, what))
    }

    /// Adds what may help.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns what is told of it.
    pub(crate) fn reply(&self) -> Reply {
        let code = match self.error.kind() {
            ErrorKind::Internal | ErrorKind::Panic | ErrorKind::LocalLimit => INTERNAL,
            ErrorKind::Cancelled => 130,
            _ => USAGE,
        };
        let mut text = String::new();
        for line in self.error.chain().lines() {
            text.push_str(&format!("fleet: {}\n", escape(line)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        Reply { text, is_answer: false, code }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, hint: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_output_is_141_unless_a_signal_came() {
        let mut summary = Summary::default();
        summary.stopped_by = Some(StopReason::Output);
        assert_eq!(of_run(&summary, true), ExitCode::from(141));
        assert_eq!(of_run(&summary, false), ExitCode::from(70));
        summary.stopped_by = Some(StopReason::Interrupt);
        assert_eq!(of_run(&summary, true), ExitCode::from(130));
    }

    #[test]
    fn a_refusal_says_each_line_of_its_error_and_the_hint() {
        let reply = Refusal::usage("cannot read hosts.toml\n  | x").hint("name another with -i").reply();
        assert_eq!(reply.text, "fleet: cannot read hosts.toml\nfleet:   | x\nhint: name another with -i\n");
        assert_eq!((reply.is_answer, reply.code), (false, 2));
    }
}
