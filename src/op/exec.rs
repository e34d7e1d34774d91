//! Running a command.

use super::template::Place;
use super::{Context, Job, Operation};
use crate::breaker::Breakers;
use crate::error::Result;
use crate::event::{Facts, Outcome, Stream};
use crate::host::{Become, Host};
use crate::spool::{Input, Spool};
use crate::transport::{Ended, ExecRequest, Pty, Session, Sudo};

/// Runs a command by the login shell, sent byte for byte unless [`Exec::within`] adds to it.
///
/// What it writes goes to the sinks as it arrives; [`Exec::capture`] also keeps it in the result.
///
/// On a host that [becomes another user](Host::become_user), or where the operation [says so](Exec::become_user), sudo runs it: by
/// `sh`, in the directory of the login. Clones of an operation share what is known of a password for sudo.
#[derive(Clone, Debug)]
pub struct Exec {
    request: ExecRequest,
    become_user: BecomeUser,
    context: Context,
    capture: bool,
    is_idempotent: bool,
}

impl Exec {
    /// Makes the operation; its output is captured.
    pub fn new(command: impl Into<Vec<u8>>) -> Self {
        Self {
            request: ExecRequest::new(command),
            become_user: BecomeUser::default(),
            context: Context::new(),
            capture: true,
            is_idempotent: false,
        }
    }

    /// Runs the command as another user. Default: as each host [says](Host::become_user).
    ///
    /// # Examples
    ///
    /// ```
    /// use fleet::{Become, Exec};
    ///
    /// let exec = Exec::new("psql -c 'select 1'").become_user(Become::sudo().user("postgres"));
    /// ```
    #[must_use]
    pub fn become_user(mut self, become_user: Become) -> Self {
        self.become_user.wanted = Some(become_user);
        self
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

    /// Returns how many bytes go over to a host to have it run that: more by sudo.
    ///
    /// # Errors
    /// As [`command_for`](Self::command_for).
    pub fn command_len(&self, host: &Host, index: usize, total: usize) -> Result<usize> {
        let command = self.command_for(host, index, total)?;
        Ok(self.become_user.on(host).map_or(command.len(), |sudo| sudo.command_len(&command)))
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
        request.sudo = self.become_user.on(job.host);
        run_captured(session, job, &request, self.capture)
    }

    fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
}

/// As whom an operation runs, and what is known of passwords on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct BecomeUser {
    /// What the operation says itself.
    pub(super) wanted: Option<Become>,
    breakers: Breakers,
}

impl BecomeUser {
    /// Returns what runs the command of a host, if it does not run as the login's user.
    pub(super) fn on(&self, host: &Host) -> Option<Sudo> {
        let wanted = self.wanted.as_ref().or(host.become_user.as_ref())?;
        Some(Sudo::on(host, wanted, &self.breakers))
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
