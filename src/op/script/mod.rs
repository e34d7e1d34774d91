//! Running a local script.

mod carry;
mod interpreter;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::exec::{BecomeUser, run_captured};
use super::template::Place;
use super::{Context, ExecOutput, Job, Operation};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::{Become, Host};
use crate::quote::quote;
use crate::spool::Input;
use crate::transport::{ExecRequest, MAX_COMMAND_BYTES, Pty, Session, Sudo};
use carry::Carried;

/// The longest script, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 16 * 1024 * 1024;

/// Runs a local script with the interpreter that its first line names, `sh` if it names none.
///
/// The text goes over on a channel of its own, which costs three more round trips and a second session on the connection (sshd's
/// `MaxSessions`); standard input is the script's alone. It lies in a file of mode 0600 until the interpreter is about to start,
/// which reads it by a descriptor: no file is left, however the command or the connection ends. The script's own name, `$0`, is
/// `/dev/fd/9`. Needs sh, mktemp and head on the host; without `/dev/fd` the file stays until the script has ended.
///
/// By sudo it goes over on the command's own channel, before standard input does, and lies in a file of the other user's: that needs
/// base64, sed and `/dev/fd` as well.
///
/// Arguments arrive byte for byte. What it writes goes to the sinks as it arrives; [`Script::capture`] also keeps it in the result.
///
/// # Examples
///
/// ```no_run
/// use fleet::op::Script;
///
/// let script = Script::open("deploy.py")?.args(["--stage", "it's live"]);
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Script {
    text: Arc<[u8]>,
    interpreter: Vec<Vec<u8>>,
    args: Vec<Vec<u8>>,
    become_user: BecomeUser,
    context: Context,
    input: Option<Input>,
    pty: Option<Pty>,
    capture: bool,
    is_idempotent: bool,
}

impl Script {
    /// Makes the operation of a script's text; its output is captured.
    ///
    /// # Errors
    /// `Usage` when it is longer than [`MAX_SCRIPT_BYTES`], or its first line ends as in DOS, which no system runs.
    pub fn new(text: impl Into<Vec<u8>>) -> Result<Self> {
        let text = text.into();
        if text.len() > MAX_SCRIPT_BYTES {
            let what = format!("the script has more than {} MiB", MAX_SCRIPT_BYTES / (1024 * 1024));
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let interpreter = interpreter::of(&text)?;
        Ok(Self {
            text: text.into(),
            interpreter,
            args: Vec::new(),
            become_user: BecomeUser::default(),
            context: Context::new(),
            input: None,
            pty: None,
            capture: true,
            is_idempotent: false,
        })
    }

    /// Reads a local file, once.
    ///
    /// # Errors
    /// `Usage` when it cannot be read, and as [`new`](Self::new).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let read = || Self::read(File::open(path)?);
        let text = read().map_err(|error| {
            Error::new(ErrorKind::Usage, format!("cannot read script {}", path.display())).caused_by(error)
        })?;
        Self::new(text)
    }

    /// Reads the text to its end, and no more of what is too long than shows it.
    ///
    /// # Errors
    /// As [`Read::read`].
    pub fn read(source: impl Read) -> std::io::Result<Vec<u8>> {
        let mut text = Vec::new();
        source.take(MAX_SCRIPT_BYTES as u64 + 1).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Sets the script's arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Runs the script as another user. Default: as each host [says](Host::become_user).
    #[must_use]
    pub fn become_user(mut self, become_user: Become) -> Self {
        self.become_user.wanted = Some(become_user);
        self
    }

    /// Sets what the script finds on its host: variables, a directory, the host's name. Default: nothing of fleet's.
    ///
    /// A template fills the arguments, not the text.
    #[must_use]
    pub fn within(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Sets what the script gets on standard input. Default: nothing, it is at its end.
    #[must_use]
    pub fn stdin(mut self, input: Input) -> Self {
        self.input = Some(input);
        self
    }

    /// Runs the script on a pseudo-terminal. Default: no.
    #[must_use]
    pub fn pty(mut self, pty: Pty) -> Self {
        self.pty = Some(pty);
        self
    }

    /// Sets whether the result keeps the output. Default: yes. Memory is bounded by the run's spool.
    #[must_use]
    pub fn capture(mut self, capture: bool) -> Self {
        self.capture = capture;
        self
    }

    /// Says whether the script may be run again where the connection ended under it
    /// ([`PoolBuilder::retry_op`](crate::PoolBuilder::retry_op)). Default: no.
    #[must_use]
    pub fn idempotent(mut self, is_idempotent: bool) -> Self {
        self.is_idempotent = is_idempotent;
        self
    }

    /// Writes for people what runs on a host that has the place `index`, from 0, among `total`; `name` is the script's.
    ///
    /// # Errors
    /// `Usage` when the [`Context`] cannot be filled for the host, or the arguments are too long for SSH.
    pub fn command_for(&self, name: &str, host: &Host, index: usize, total: usize) -> Result<Vec<u8>> {
        let place = Place { host, index, total };
        self.check(&place)?;
        self.context.frame_filled(&self.words(name, &place)?.join(&b' '), &place)
    }

    /// Returns what runs, quoted: the interpreter, the script and the arguments.
    fn words(&self, name: &str, place: &Place<'_>) -> Result<Vec<Vec<u8>>> {
        let mut words: Vec<Vec<u8>> = self.interpreter.iter().map(quote).collect();
        words.push(quote(name));
        for arg in &self.args {
            words.push(quote(self.context.word(arg, place)?));
        }
        Ok(words)
    }

    fn request(&self, line: Vec<u8>) -> ExecRequest {
        let mut request = ExecRequest::new(line);
        request.pty.clone_from(&self.pty);
        match &self.input {
            Some(input) => request.fed(input.clone()),
            None => request,
        }
    }

    fn line(&self, carried: &Carried, place: &Place<'_>) -> Result<Vec<u8>> {
        self.context.frame_filled(&carried.command(&self.words(carry::OPENED, place)?), place)
    }

    /// Makes the request where sudo brings the script, as descriptor 9.
    fn by_sudo(&self, sudo: Sudo, place: &Place<'_>) -> Result<ExecRequest> {
        let words = self.words(carry::OPENED, place)?.join(&b' ');
        let mut request = self.request(self.context.frame_filled(&[b"exec ", &*words].concat(), place)?);
        request.sudo = Some(sudo.reading(Arc::clone(&self.text)));
        Ok(request)
    }

    /// Refuses arguments that are too long.
    fn check(&self, place: &Place<'_>) -> Result<()> {
        let len = match self.become_user.on(place.host) {
            Some(sudo) => sudo.command_len(&self.by_sudo(sudo.clone(), place)?.command),
            None => self.line(&Carried::longest(), place)?.len(),
        };
        if len > MAX_COMMAND_BYTES {
            let what =
                format!("the script's arguments take {len} bytes, more than the {MAX_COMMAND_BYTES} that SSH carries");
            return Err(Error::new(ErrorKind::Usage, what));
        }
        Ok(())
    }
}

/// Says of a server that had a channel for the script's text, and none for the script, that it takes both.
fn second_channel(error: Error) -> Error {
    if (error.kind(), error.phase()) != (ErrorKind::Refused, Some(Phase::Channel)) {
        return error;
    }
    Error::new(ErrorKind::Refused, "a script takes two channels at once").caused_by(error).in_phase(Phase::Channel)
}

impl Operation for Script {
    type Output = ExecOutput;

    fn name(&self) -> &str {
        "script"
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<ExecOutput> {
        let place = Place { host: job.host, index: job.index, total: job.total };
        self.check(&place)?;
        if let Some(sudo) = self.become_user.on(job.host) {
            return run_captured(session, job, &self.by_sudo(sudo, &place)?, self.capture);
        }
        let carried = carry::carry(session, &self.text, job.budget)?;
        let done =
            self.line(&carried, &place).and_then(|line| run_captured(session, job, &self.request(line), self.capture));
        if done.is_err() {
            // Whoever holds the file removes it then; a session that failed has told it so already.
            let _ = session.close_stdin(carried.holder);
        }
        done.map_err(second_channel)
    }

    fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
}
