//! Running a command by sudo: the command line, and the talk before the command.
//!
//! sudo is given a prompt that nothing else writes, and the command begins after a word that its own shell says: so the
//! password goes to nobody but sudo, what is for the command goes to nobody but the command, and neither word is shown.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::{Ended, ExecLimits, ExecRequest, ExitStatus, ProcId, Session, SessionEvent};
use crate::breaker::{Breakers, Visit};
use crate::budget::{Budget, CancelToken};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Stream;
use crate::host::{Become, Host, Secret};
use crate::quote::quote;

const ASK: &str = include_str!("ask.sh");
const BEGIN: &str = include_str!("begin.sh");
const WATCH: &str = include_str!("watch.sh");

/// How much may come before the command begins, in bytes: a login's shell may write something of its own.
const HELD: usize = 64 * 1024;

/// The longest line of a file that goes over, in characters: a terminal takes lines of 4,095 and no longer ones.
const LINE: usize = 76;

/// How sudo's lecture begins, which comes before the first prompt that an account sees on a host.
const LECTURE: &[u8] = b"We trust you have received the usual lecture";

/// What the error says where sudo wants a password and has none.
pub const PASSWORD_NEEDED: &str = "sudo wants a password, and none was given";

/// What the error says where sudo runs nothing without a terminal (`requiretty`).
pub const TERMINAL_NEEDED: &str = "sudo wants a terminal there (requiretty)";

/// That a command runs by sudo: as whom, and what sudo is told when it asks.
///
/// Clones share what is known of the password: until sudo accepted it somewhere it is tried on few hosts at once, and on none
/// once it was refused three times, or once if it was [typed](Secret::typed).
#[derive(Clone)]
pub struct Sudo {
    user: String,
    account: String,
    password: Option<Secret>,
    breakers: Breakers,
    /// What the command reads as descriptor 9.
    file: Option<Arc<[u8]>>,
}

impl Sudo {
    /// Makes it for a command that the login user `account` wants run as somebody else.
    pub fn new(account: impl Into<String>, become_user: &Become) -> Self {
        let (account, user) = (account.into(), become_user.user.clone());
        Self { user, account, password: None, breakers: Breakers::default(), file: None }
    }

    /// Makes it for a host, with the host's password.
    pub(crate) fn on(host: &Host, become_user: &Become, breakers: &Breakers) -> Self {
        let password = host.become_password.clone();
        Self { password, breakers: breakers.clone(), ..Self::new(host.user.clone(), become_user) }
    }

    /// Sets the password that sudo may ask for: the login user's own.
    #[must_use]
    pub fn password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    pub(crate) fn reading(mut self, file: Arc<[u8]>) -> Self {
        self.file = Some(file);
        self
    }

    /// Writes the command that makes sudo run a command, for any login shell.
    fn line(&self, command: &[u8], mark: &str, guard: Option<(&str, Duration)>) -> Vec<u8> {
        let len = self.file.as_ref().map(|file| file.len().to_string()).unwrap_or_default();
        let tenths = guard.map_or(0, |(_, after)| after.as_millis().div_ceil(100)).to_string();
        let name = guard.map_or("", |(name, _)| name);
        let watch = if guard.is_some() { one_line(WATCH) } else { String::new() };
        let [ask, begin] = [one_line(ASK), one_line(BEGIN)];
        let words: [&[u8]; 9] = [
            ask.as_bytes(),
            b"fleet-sudo",
            mark.as_bytes(),
            self.user.as_bytes(),
            begin.as_bytes(),
            command,
            len.as_bytes(),
            name.as_bytes(),
            tenths.as_bytes(),
        ];
        let quoted: Vec<Vec<u8>> = words.into_iter().chain([watch.as_bytes()]).map(quote).collect();
        [b"exec sh -c ".to_vec(), quoted.join(&b' ')].concat()
    }

    /// Returns how many bytes a command has that makes sudo run another of so many.
    pub fn command_len(&self, command: &[u8]) -> usize {
        let guard = (&*"-".repeat(NAME), Duration::MAX);
        self.line(command, &new_mark(), Some(guard)).len()
    }
}

/// Who else is asked makes no difference.
impl PartialEq for Sudo {
    fn eq(&self, other: &Self) -> bool {
        let Self { user, account, password, breakers: _, file } = self;
        (user, account, password, file) == (&other.user, &other.account, &other.password, &other.file)
    }
}

impl Eq for Sudo {}

impl fmt::Debug for Sudo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sudo").field("user", &self.user).field("account", &self.account).finish_non_exhaustive()
    }
}

/// The longest name of a guard, in bytes: Linux takes 15 for a process, two of which say what it does.
pub(crate) const NAME: usize = 13;

/// Writes a script of one statement a line, and comments on lines of their own, as one line.
pub(crate) fn one_line(script: &str) -> String {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.collect::<Vec<_>>().join(" ")
}

/// Makes what nothing else on the host writes.
fn new_mark() -> String {
    format!("fleet-{:016x}-", fastrand::u64(..))
}

/// The words that follow the mark.
#[derive(Clone, Copy)]
enum Word {
    /// sudo asks for the password.
    Ask,
    /// There is no sudo.
    None,
    /// The file may come.
    Text,
    /// The command begins.
    Run,
}

const WORDS: [(&[u8], Word); 4] =
    [(b"ask", Word::Ask), (b"none", Word::None), (b"text", Word::Text), (b"run", Word::Run)];

/// What is said before a command runs by sudo.
pub(super) struct Talk<'a> {
    sudo: &'a Sudo,
    mark: String,
    /// Where sudo speaks: a terminal has one stream.
    stream: Stream,
    visit: Option<Visit>,
    stage: Stage,
    /// What came before the command began.
    held: Vec<u8>,
    /// Where the prompt was.
    prompt_at: Option<usize>,
    to_say: Zeroizing<Vec<u8>>,
    said: usize,
}

enum Stage {
    /// sudo has not asked.
    Listening,
    /// It asked, and the answer waits; the token is stopped when it is worth trying again.
    Asked(Option<CancelToken>),
    Answered,
    Over,
}

impl<'a> Talk<'a> {
    pub(super) fn new(sudo: &'a Sudo, has_terminal: bool) -> Self {
        let visit = sudo.password.as_ref().map(|password| sudo.breakers.visit(&sudo.account, password));
        Self {
            sudo,
            mark: new_mark(),
            stream: if has_terminal { Stream::Stdout } else { Stream::Stderr },
            visit,
            stage: Stage::Listening,
            held: Vec::new(),
            prompt_at: None,
            to_say: Zeroizing::default(),
            said: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Waits until one more may be asked for the password; the wait is not charged to the host.
    ///
    /// # Errors
    /// `Breaker` when the password was refused too often; as [`Session::pump`].
    pub(super) fn wait_to_begin<S: Session + ?Sized>(&mut self, session: &mut S, budget: &Budget) -> Result<()> {
        let Some(visit) = &mut self.visit else { return Ok(()) };
        loop {
            let woken = budget.cancel_token().child();
            if visit.begin(&woken)? {
                return Ok(());
            }
            wait(session, &woken, budget)?;
        }
    }

    /// Returns the request that makes sudo run the one that is wanted.
    pub(super) fn request<S: Session + ?Sized>(
        &self,
        wanted: &ExecRequest,
        session: &S,
        limits: &ExecLimits,
    ) -> ExecRequest {
        let name = session.guard_name().filter(|_| limits.guard);
        let guard = name.as_deref().map(|name| (name, limits.kill_after));
        let command = self.sudo.line(&wanted.command, &self.mark, guard);
        ExecRequest { command, stdin: true, ..wanted.clone() }
    }

    /// Says what there is to say, as far as it is taken.
    ///
    /// # Errors
    /// `Breaker` when the password was refused elsewhere in the meantime.
    pub(super) fn speak<S: Session + ?Sized>(&mut self, session: &mut S, id: ProcId, budget: &Budget) -> Result<()> {
        if let (Stage::Asked(woken), Some(visit), Some(password)) =
            (&mut self.stage, &mut self.visit, &self.sudo.password)
            && woken.as_ref().is_none_or(CancelToken::is_aborted)
        {
            let again = budget.cancel_token().child();
            if visit.try_secret(&again)? {
                self.to_say.extend_from_slice(password.expose().as_bytes());
                self.to_say.push(b'\n');
                self.stage = Stage::Answered;
            } else {
                *woken = Some(again);
            }
        }
        while let Some(rest) = self.to_say.get(self.said..).filter(|rest| !rest.is_empty()) {
            match session.write(id, rest) {
                Ok(0) => break,
                Ok(taken) => self.said += taken,
                // It listens no more: its end says why.
                Err(_) => self.said = self.to_say.len(),
            }
        }
        if self.said == self.to_say.len() {
            self.to_say = Zeroizing::default();
            self.said = 0;
        }
        Ok(())
    }

    /// Waits for the session; `None` when the answer may be worth another try, a wait that is not charged to the host.
    pub(super) fn pump<S: Session + ?Sized>(&self, session: &mut S, budget: &Budget) -> Result<Option<SessionEvent>> {
        match &self.stage {
            Stage::Asked(Some(woken)) => wait(session, woken, budget),
            _ => session.pump(budget).map(Some),
        }
    }

    /// Tells whether it waits for others.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Asked(Some(_)))
    }

    /// Takes in what came, and returns what of it, and of what was held back, is not of the talk.
    ///
    /// # Errors
    /// `Become` when sudo refuses.
    pub(super) fn hear(&mut self, stream: Stream, bytes: Vec<u8>) -> Result<Option<Vec<u8>>> {
        if self.is_over() || stream != self.stream {
            return Ok(Some(bytes));
        }
        self.held.extend_from_slice(&bytes);
        while let Some((at, len, word)) = self.next_word() {
            let rest = self.held.split_off(at + len);
            self.held.truncate(at);
            match word {
                Word::Ask => {
                    self.asked()?;
                    self.forget_lecture();
                    self.prompt_at = Some(self.held.len());
                    self.held.extend_from_slice(&rest);
                }
                Word::None => return Err(refused("sudo is not installed")),
                Word::Text => {
                    self.let_in();
                    self.to_say.extend_from_slice(&in_lines(self.sudo.file.as_deref().unwrap_or_default()));
                    self.held.extend_from_slice(&rest);
                }
                Word::Run => {
                    self.let_in();
                    self.stage = Stage::Over;
                    self.forget_answer();
                    self.held.extend_from_slice(&rest);
                    return Ok(Some(std::mem::take(&mut self.held)).filter(|held| !held.is_empty()));
                }
            }
        }
        if self.held.len() > HELD {
            return Err(refused("the login wrote something else in sudo's place"));
        }
        Ok(None)
    }

    /// Finds the next word that has come whole: where its mark begins, and how long both are.
    fn next_word(&self) -> Option<(usize, usize, Word)> {
        let mark = self.mark.as_bytes();
        let mut marks = self.held.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark);
        marks.find_map(|(at, _)| {
            let after = self.held.get(at + mark.len()..)?;
            let (text, word) = WORDS.into_iter().find(|(text, _)| after.starts_with(text))?;
            Some((at, mark.len() + text.len(), word))
        })
    }

    fn asked(&mut self) -> Result<()> {
        match self.stage {
            Stage::Listening if self.sudo.password.is_none() => Err(refused(PASSWORD_NEEDED)),
            Stage::Listening => {
                self.stage = Stage::Asked(None);
                Ok(())
            }
            _ => {
                self.turned_away();
                Err(refused("the sudo password was refused"))
            }
        }
    }

    fn let_in(&mut self) {
        if let Some(visit) = &mut self.visit {
            visit.accepted();
        }
    }

    fn turned_away(&mut self) {
        if let Some(visit) = &mut self.visit {
            visit.refused();
        }
    }

    /// Takes the lecture out of what came before the prompt.
    fn forget_lecture(&mut self) {
        let found = self.held.windows(LECTURE.len()).position(|window| window == LECTURE);
        if let Some(at) = found {
            self.held.truncate(at);
            self.held.truncate(self.held.trim_ascii_end().len());
            if !self.held.is_empty() {
                self.held.push(b'\n');
            }
        }
    }

    /// Takes out what a terminal shows of an answer: the end of its line, and should it show all of it, that too.
    fn forget_answer(&mut self) {
        let (Some(at), Some(password)) = (self.prompt_at, &self.sudo.password) else { return };
        if self.stream == Stream::Stderr {
            return;
        }
        let mut rest = self.held.split_off(at.min(self.held.len()));
        for echoed in [password.expose().as_bytes(), b"\r", b"\n"] {
            if rest.starts_with(echoed) {
                rest.drain(..echoed.len());
            }
        }
        self.held.extend_from_slice(&rest);
    }

    /// Makes the error of a command that did not begin.
    pub(super) fn ended(&mut self, ended: &Ended) -> Error {
        let Sudo { account, user, .. } = self.sudo;
        let said = String::from_utf8_lossy(&self.held);
        let says = |words: &str| said.contains(words);
        let is_about_rights =
            says("is not in the sudoers file") || says("is not allowed to") || says("may not run sudo");
        let what = if says("is not in the sudoers file") {
            format!("{account} is not in the sudoers file")
        } else if is_about_rights {
            format!("sudo does not let {account} run this as {user}")
        } else if says("must have a tty") {
            TERMINAL_NEEDED.to_owned()
        } else if says("incorrect password") || says("incorrect authentication") {
            "the sudo password was refused".to_owned()
        } else {
            let lines = said.lines().map(|line| line.trim().trim_start_matches("sudo: "));
            // It goes on all the same, and tells the reason first: what follows from that comes after.
            let mut reasons = lines.filter(|line| !line.is_empty() && !line.starts_with("unable to resolve host"));
            match (reasons.next(), &ended.status) {
                (Some(reason), _) => format!("sudo did not start the command: {reason}"),
                (None, ExitStatus::Code(code)) => format!("sudo ended with status {code} before the command"),
                (None, _) => "sudo ended before the command".to_owned(),
            }
        };
        // Whose rights are looked at has proved who they are; after anything else the password is in doubt.
        if is_about_rights {
            self.let_in();
        } else {
            self.turned_away();
        }
        refused(&what)
    }
}

/// Waits for something of the session, or for the token; `None` is the latter. Not charged to the host.
fn wait<S: Session + ?Sized>(session: &mut S, woken: &CancelToken, budget: &Budget) -> Result<Option<SessionEvent>> {
    match budget.uncharged(|| session.pump(&budget.with_token(woken.clone()))) {
        Ok(event) => Ok(Some(event)),
        // What ended the wait was the token, or a limit that the wait itself has moved.
        Err(error)
            if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Timeout) && budget.exceeded().is_none() =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn in_lines(file: &[u8]) -> Vec<u8> {
    let text = BASE64.encode(file);
    let mut lines = Vec::with_capacity(text.len() + text.len() / LINE + 3);
    for line in text.as_bytes().chunks(LINE) {
        lines.extend_from_slice(line);
        lines.push(b'\n');
    }
    lines.extend_from_slice(b".\n");
    lines
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::Become, what).in_phase(Phase::Channel)
}

#[cfg(test)]
mod tests;
