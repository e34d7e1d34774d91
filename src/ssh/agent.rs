//! SSH agents: what keys they have, asked once a run, and their signatures, a few at a time
//! (draft-miller-ssh-agent).
//!
//! Nothing here blocks past the budget: sockets are non-blocking, and an agent that hangs ends in the login's deadline.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::keys::public;
use super::wait::poll_for;
use super::wire::{number, put_string, string};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase};
use crate::known_hosts;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// `SSH_AGENT_RSA_SHA2_256` and `SSH_AGENT_RSA_SHA2_512`.
const SHA2_256: u32 = 2;
const SHA2_512: u32 = 4;

/// The longest answer taken, in bytes: what OpenSSH takes.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// How many signatures are in flight at once, per agent: agents sign one after the other.
const SIGNATURES: usize = 4;

/// How long one wait lasts at most before the budget is looked at.
const SLICE: Duration = Duration::from_millis(100);

/// An agent that was silent for so long is not asked again in the run.
const PATIENCE: Duration = Duration::from_secs(1);

/// What cannot be had from an agent.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The agent's: another way to log in may still do.
    Agent(Error),
    /// The budget's: everything is over.
    Over(Error),
}

/// A key that an agent has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentKey {
    /// The public key or the certificate, as SSH sends it.
    pub(super) blob: Vec<u8>,
    plain: Vec<u8>,
}

impl AgentKey {
    fn new(blob: &[u8]) -> Self {
        Self { blob: blob.to_vec(), plain: public::plain(blob) }
    }

    /// Returns the public key, also of a certificate.
    pub(super) fn plain(&self) -> &Vec<u8> {
        &self.plain
    }

    pub(super) fn is_certificate(&self) -> bool {
        public::is_certificate(&self.blob)
    }

    /// Returns the fingerprint as OpenSSH shows it, `SHA256:…`.
    pub(super) fn fingerprint(&self) -> String {
        known_hosts::fingerprint(&self.blob)
    }
}

/// The agents of a run, by their sockets.
#[derive(Debug, Default)]
pub(super) struct Agents(Mutex<HashMap<PathBuf, Arc<Agent>>>);

impl Agents {
    /// Returns the agent at a socket, which nobody may have asked anything yet.
    pub(super) fn at(&self, socket: &Path) -> Arc<Agent> {
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(agents.entry(socket.to_owned()).or_insert_with(|| Arc::new(Agent::new(socket))))
    }
}

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    socket: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    keys: Keys,
    idle: Vec<UnixStream>,
    busy: usize,
}

#[derive(Debug, Default)]
enum Keys {
    #[default]
    Unknown,
    Asked,
    Known(Result<Arc<[AgentKey]>, Error>),
}

impl Agent {
    fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Returns the keys, asked for at the first call; a failure is remembered as well.
    ///
    /// # Blocking
    /// Until the agent answers, within the budget.
    pub(super) fn keys(&self, budget: &Budget) -> Result<Arc<[AgentKey]>, Trouble> {
        let mut state = self.lock();
        loop {
            match &state.keys {
                Keys::Known(known) => return known.clone().map_err(Trouble::Agent),
                Keys::Asked => state = self.wait(state, budget)?,
                Keys::Unknown => break,
            }
        }
        state.keys = Keys::Asked;
        drop(state);
        let start = Instant::now();
        let listed = self.list(budget);
        let known = match &listed {
            Ok(keys) => Keys::Known(Ok(Arc::clone(keys))),
            Err(Trouble::Agent(error)) => Keys::Known(Err(error.clone())),
            Err(Trouble::Over(error)) if error.kind() == ErrorKind::Timeout && start.elapsed() >= PATIENCE => {
                Keys::Known(Err(self.error("does not answer")))
            }
            Err(Trouble::Over(_)) => Keys::Unknown,
        };
        self.lock().keys = known;
        self.changed.notify_all();
        listed
    }

    /// Returns a key's signature of what a login request says (RFC 4252 section 7), without the name of its algorithm.
    ///
    /// # Blocking
    /// Until it is this caller's turn and the agent has answered, within the budget.
    pub(super) fn sign(&self, key: &AgentKey, data: &[u8], budget: &Budget) -> Result<Vec<u8>, Trouble> {
        let algorithm = wanted_algorithm(data).ok_or_else(|| self.trouble("was asked for no signature"))?;
        let plain = algorithm.split("-cert-v0").next().unwrap_or_default();
        let flags = match plain {
            "rsa-sha2-256" => SHA2_256,
            "rsa-sha2-512" => SHA2_512,
            "ssh-rsa" => {
                let what = "is not asked for a SHA-1 signature, the only one of an RSA key that the server takes";
                return Err(self.trouble(what));
            }
            _ => 0,
        };
        let mut request = vec![SIGN_REQUEST];
        put_string(&mut request, &key.blob);
        put_string(&mut request, data);
        request.extend(flags.to_be_bytes());
        let turn = self.turn(budget)?;
        let answer = self.ask(&request, budget)?;
        drop(turn);
        let mut rest = match answer.split_first() {
            Some((&SIGN_RESPONSE, rest)) => rest,
            _ => return Err(self.trouble(&format!("refused to sign with key {}", key.fingerprint()))),
        };
        let made = string(&mut rest).and_then(|mut signature| Some((string(&mut signature)?, signature)));
        let (made, mut rest) = made.ok_or_else(|| self.garbled())?;
        if plain.starts_with("sk-") {
            // A hardware key's flags and counter follow the signature, and libssh2 takes all of it.
            return Ok(rest.to_vec());
        }
        if made != plain.as_bytes() {
            let made = String::from_utf8_lossy(made).escape_debug().to_string();
            return Err(self.trouble(&format!("signed by {made} instead of {plain}")));
        }
        string(&mut rest).map(<[u8]>::to_vec).ok_or_else(|| self.garbled())
    }

    fn list(&self, budget: &Budget) -> Result<Arc<[AgentKey]>, Trouble> {
        let answer = self.ask(&[REQUEST_IDENTITIES], budget)?;
        let mut rest = match answer.split_first() {
            Some((&IDENTITIES_ANSWER, rest)) => rest,
            _ => return Err(self.trouble("refused to list its keys")),
        };
        let count = number(&mut rest).ok_or_else(|| self.garbled())?;
        let mut keys = Vec::new();
        for _ in 0..count {
            let blob = string(&mut rest).ok_or_else(|| self.garbled())?;
            string(&mut rest).ok_or_else(|| self.garbled())?;
            if can_log_in(blob) {
                keys.push(AgentKey::new(blob));
            }
        }
        Ok(keys.into())
    }

    /// Sends a request and returns the answer's message.
    fn ask(&self, request: &[u8], budget: &Budget) -> Result<Vec<u8>, Trouble> {
        let idle = self.lock().idle.pop();
        if let Some(stream) = idle {
            match self.ask_on(stream, request, budget) {
                // One that was kept may have ended since, with an agent that was started anew.
                Err(Trouble::Agent(_)) => {}
                done => return done,
            }
        }
        self.ask_on(self.connect(budget)?, request, budget)
    }

    fn ask_on(&self, mut stream: UnixStream, request: &[u8], budget: &Budget) -> Result<Vec<u8>, Trouble> {
        let mut message = Vec::with_capacity(request.len() + 4);
        put_string(&mut message, request);
        let mut unsent = message.as_slice();
        while !unsent.is_empty() {
            let count = self.step(PollFlags::POLLOUT, &mut stream, budget, |stream| stream.write(unsent))?;
            unsent = unsent.get(count..).unwrap_or_default();
        }
        let mut head = [0; 4];
        self.read(&mut stream, &mut head, budget)?;
        let len = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        if len == 0 || len > MAX_ANSWER_BYTES {
            return Err(self.garbled());
        }
        let mut answer = vec![0; len];
        self.read(&mut stream, &mut answer, budget)?;
        self.lock().idle.push(stream);
        Ok(answer)
    }

    fn read(&self, stream: &mut UnixStream, buffer: &mut [u8], budget: &Budget) -> Result<(), Trouble> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.step(PollFlags::POLLIN, stream, budget, |stream| stream.read(rest))? {
                0 => return Err(self.trouble("ended the connection")),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Repeats a read or a write until it does something.
    fn step(
        &self,
        flags: PollFlags,
        stream: &mut UnixStream,
        budget: &Budget,
        mut work: impl FnMut(&mut UnixStream) -> io::Result<usize>,
    ) -> Result<usize, Trouble> {
        loop {
            match work(stream) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.check(budget)?;
                    let timeout = budget.remaining().unwrap_or(SLICE).min(SLICE);
                    poll_for(stream.as_fd(), flags, budget, timeout).map_err(Trouble::Over)?;
                }
                Err(error) => return Err(Trouble::Agent(self.error("ended the connection").caused_by(error))),
            }
        }
    }

    fn connect(&self, budget: &Budget) -> Result<UnixStream, Trouble> {
        let fail = |error| Trouble::Agent(self.error("cannot be reached").caused_by(error));
        let address = SockAddr::unix(&self.socket).map_err(fail)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        loop {
            match socket.connect(&address) {
                Ok(()) => return Ok(socket.into()),
                // Its backlog is full, of which no poll tells (unix(7)).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.check(budget)?;
                    budget.pause(Some(SLICE / 5));
                }
                Err(error) => return Err(fail(error)),
            }
        }
    }

    /// Waits for one of the few places.
    fn turn(&self, budget: &Budget) -> Result<Turn<'_>, Trouble> {
        let mut state = self.lock();
        while state.busy >= SIGNATURES {
            state = self.wait(state, budget)?;
        }
        state.busy += 1;
        Ok(Turn(self))
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, budget: &Budget) -> Result<MutexGuard<'a, State>, Trouble> {
        self.check(budget)?;
        let slice = budget.remaining().unwrap_or(SLICE).min(SLICE);
        Ok(self.changed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0)
    }

    fn check(&self, budget: &Budget) -> Result<(), Trouble> {
        budget.check(Phase::Login).map_err(|error| {
            Trouble::Over(match error.kind() {
                ErrorKind::Timeout => error.caused_by(self.error("does not answer")),
                _ => error,
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, what: &str) -> Error {
        Error::new(ErrorKind::Login, format!("the SSH agent {} {what}", self.socket.display())).in_phase(Phase::Login)
    }

    fn trouble(&self, what: &str) -> Trouble {
        Trouble::Agent(self.error(what))
    }

    fn garbled(&self) -> Trouble {
        self.trouble("answered with what is no agent's answer")
    }
}

/// A place among the signatures in flight.
#[derive(Debug)]
struct Turn<'a>(&'a Agent);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.changed.notify_one();
    }
}

/// Tells whether libssh2 can log in with a key of this type.
fn can_log_in(blob: &[u8]) -> bool {
    known_hosts::key_type(blob).is_some_and(|kind| {
        let plain = kind.split("-cert-v0").next().unwrap_or_default();
        ["ssh-ed25519", "ssh-rsa", "sk-ssh-ed25519", "sk-ecdsa-sha2-nistp256"]
            .contains(&plain.trim_end_matches("@openssh.com"))
            || plain.starts_with("ecdsa-sha2-nistp")
    })
}

/// Returns the algorithm that a login request names: the signed data is the session identifier and the request.
fn wanted_algorithm(data: &[u8]) -> Option<&str> {
    let mut rest = data;
    string(&mut rest)?;
    rest = rest.get(1..)?;
    for _ in ["user", "service", "method"] {
        string(&mut rest)?;
    }
    rest = rest.get(1..)?;
    str::from_utf8(string(&mut rest)?).ok()
}
