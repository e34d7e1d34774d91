//! Running a command.

use super::template::Place;
use super::{Context, Job, Operation};
use crate::error::Result;
use crate::event::{Facts, Outcome, Stream};
use crate::host::Host;
use crate::spool::{Input, Spool};
use crate::transport::{Ended, ExecRequest, Pty, Session};

/// Runs a command by the login shell, sent byte for byte unless [`Exec::within`] adds to it.
///
/// What it writes goes to the sinks as it arrives; [`Exec::capture`] also keeps it in the result.
#[derive(Clone, Debug)]
pub struct Exec {
    request: ExecRequest,
    context: Context,
    capture: bool,
    is_idempotent: bool,
}

impl Exec {
    /// Makes the operation; its output is captured.
    pub fn new(command: impl Into<Vec<u8>>) -> Self {
        Self { request: ExecRequest::new(command), context: Context::new(), capture: true, is_idempotent: false }
    }

    /// Sets what the command finds on its host: variables, a directory, the host's name. Default: nothing of fleet's.
    #[must_use]
    pub fn within(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Returns the command as it goes to a host that has the place `index`, from 0, among `total`.
    ///
    /// # Errors
    /// `Usage` when the [`Context`] has a wrong name or cannot be filled for the host.
    pub fn command_for(&self, host: &Host, index: usize, total: usize) -> Result<Vec<u8>> {
        self.context.frame(&self.request.command, &Place { host, index, total })
    }

    /// Sets what the command gets on standard input. Default: nothing, it is at its end.
    #[must_use]
    pub fn stdin(mut self, input: Input) -> Self {
        self.request = self.request.fed(input);
        self
    }

    /// Runs the command on a pseudo-terminal. Default: no.
    #[must_use]
    pub fn pty(mut self, pty: Pty) -> Self {
        self.request.pty = Some(pty);
        self
    }

    /// Sets whether the result keeps the output. Default: yes. Memory is bounded by the run's spool.
    #[must_use]
    pub fn capture(mut self, capture: bool) -> Self {
        self.capture = capture;
        self
    }

    /// Says whether the command may be run again where the connection ended under it
    /// ([`PoolBuilder::retry_op`](crate::PoolBuilder::retry_op)). Default: no.
    #[must_use]
    pub fn idempotent(mut self, is_idempotent: bool) -> Self {
        self.is_idempotent = is_idempotent;
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
        let mut request = self.request.clone();
        request.command = self.command_for(job.host, job.index, job.total)?;
        run_captured(session, job, &request, self.capture)
    }

    fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
}

/// Runs a command with its output going to the sinks, and into the result if that is wanted.
pub(super) fn run_captured(
    session: &mut dyn Session,
    job: &Job<'_>,
    request: &ExecRequest,
    capture: bool,
) -> Result<ExecOutput> {
    let mut stdout = job.spools.spool();
    let mut stderr = job.spools.spool();
    let mut limits = *job.limits;
    if !capture && limits.only_captured {
        // What passes through is kept nowhere: it may be of any size unless somebody said otherwise.
        limits.max_output_bytes = None;
    }
    if let Some(input) = &request.input {
        input.keep_in(job.spools);
    }
    let ended = session.exec(request, &limits, job.budget, &mut |stream, bytes| {
        if capture {
            match stream {
                Stream::Stdout => stdout.append(&bytes)?,
                Stream::Stderr => stderr.append(&bytes)?,
            }
        }
        job.output(stream, bytes)
    })?;
    job.note_guard(&ended);
    Ok(ExecOutput { ended, stdout: stdout.finish(), stderr: stderr.finish() })
}
