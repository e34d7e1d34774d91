//! Running a command.

use super::{Job, Operation};
use crate::error::Result;
use crate::event::{Facts, Outcome, Stream};
use crate::spool::Spool;
use crate::transport::{Ended, ExecRequest, Session};

/// Runs a command by the login shell, sent byte for byte; standard input is closed.
///
/// What it writes goes to the sinks as it arrives; [`Exec::capture`] also keeps it in the result.
#[derive(Clone, Debug)]
pub struct Exec {
    request: ExecRequest,
    capture: bool,
}

impl Exec {
    /// Makes the operation; its output is captured.
    pub fn new(command: impl Into<Vec<u8>>) -> Self {
        Self { request: ExecRequest::new(command), capture: true }
    }

    /// Sets whether the result keeps the output. Default: yes. Memory is bounded by the run's spool.
    #[must_use]
    pub fn capture(mut self, capture: bool) -> Self {
        self.capture = capture;
        self
    }
}

/// How a command ended, and what it wrote where that was captured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExecOutput {
    /// How it ended.
    pub ended: Ended,
    /// Captured standard output.
    pub stdout: Spool,
    /// Captured standard error.
    pub stderr: Spool,
}

impl ExecOutput {
    /// Returns the status, where one was sent.
    pub fn code(&self) -> Option<i32> {
        self.ended.code()
    }
}

impl Outcome for ExecOutput {
    fn facts(&self) -> Facts {
        self.ended.facts()
    }
}

impl Operation for Exec {
    type Output = ExecOutput;

    fn name(&self) -> &str {
        "exec"
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<ExecOutput> {
        let mut stdout = job.spools.spool();
        let mut stderr = job.spools.spool();
        let mut limits = *job.limits;
        if !self.capture {
            // What passes through is kept nowhere: it may be of any size.
            limits.max_output_bytes = None;
        }
        let ended = session.exec(&self.request, &limits, job.budget, &mut |stream, bytes| {
            if self.capture {
                match stream {
                    Stream::Stdout => stdout.append(&bytes)?,
                    Stream::Stderr => stderr.append(&bytes)?,
                }
            }
            job.output(stream, bytes)
        })?;
        Ok(ExecOutput { ended, stdout: stdout.finish(), stderr: stderr.finish() })
    }
}
