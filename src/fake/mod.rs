//! A transport without a network, for testing automation that is built on fleet.
//!
//! Hosts answer commands as told, keep files in memory, and fail on demand. Everything waits as a real host would: a
//! timeout, a deadline and a cancellation end it.
//!
//! ```
//! use std::sync::Arc;
//! use fleet::fake::{FakeTransport, Reply};
//! use fleet::{Class, ErrorKind, Exec, Host, Phase, Pool};
//!
//! let fake = FakeTransport::new();
//! fake.host("web01").on("uname -r", Reply::new().stdout("6.1.0\n"));
//! fake.host("web02").on("uname -r", Reply::new().stderr("no such command\n").code(127));
//! fake.host("db01").fails(ErrorKind::Connect, Phase::Connect);
//!
//! let pool = Pool::builder(fake.clone()).build();
//! let hosts = ["web01", "web02", "db01"].map(|name| Arc::new(Host::new(name, name)));
//! let results = pool.map(&hosts, Exec::new("uname -r"));
//!
//! assert_eq!(results[0].value().unwrap().stdout.text()?, "6.1.0\n");
//! assert_eq!(results[1].class(), Class::Failed);
//! assert_eq!(results[2].class(), Class::Unreachable);
//! assert_eq!(fake.calls().len(), 2);
//! # Ok::<(), fleet::Error>(())
//! ```

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::Host;
use crate::transport::{Session, Transport, Watch};

mod files;
mod reply;
mod session;

pub use files::FakeFiles;
pub use reply::Reply;

use files::FileService;
use session::FakeSession;

/// A transport whose hosts live in memory. Clones share them.
///
/// A host that nothing was said about accepts every login and answers every command with status 0.
#[derive(Clone, Default)]
pub struct FakeTransport(Arc<Mutex<State>>);

impl fmt::Debug for FakeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeTransport").field("hosts", &self.lock().hosts.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    hosts: HashMap<String, Script>,
    answer: Option<Answer>,
    calls: Vec<Call>,
    session_limit: Option<usize>,
    sessions: Count,
    logins: HashMap<SocketAddr, Count>,
    all_logins: Count,
}

/// How many there are now, and how many there were at most.
#[derive(Clone, Copy, Default)]
struct Count {
    now: usize,
    peak: usize,
}

impl Count {
    fn add(&mut self) {
        self.now += 1;
        self.peak = self.peak.max(self.now);
    }
}

type Answer = Arc<dyn Fn(&str, &str) -> Option<Reply> + Send + Sync>;

/// What a host does.
#[derive(Default)]
struct Script {
    delay: Duration,
    /// What the next attempts come to, one each.
    outcomes: VecDeque<Login>,
    /// What every other attempt comes to.
    always: Option<Login>,
    replies: Vec<(Vec<u8>, Reply)>,
    reply: Reply,
    attempts: u32,
    has_no_files: bool,
    files: FakeFiles,
}

#[derive(Clone)]
enum Login {
    Error(Error),
    Panic(String),
}

/// A command that was started on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The host's name.
    pub host: String,
    /// The command; bytes that are not UTF-8 became `U+FFFD`.
    pub command: String,
    /// What was written to its standard input.
    pub stdin: Vec<u8>,
}

impl FakeTransport {
    /// Makes a transport whose hosts all succeed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a handle to tell the named host what to do.
    pub fn host(&self, name: &str) -> FakeHost {
        self.lock().hosts.entry(name.to_owned()).or_default();
        FakeHost { fake: self.clone(), name: name.to_owned() }
    }

    /// Answers commands by a function of the host's name and the command; `None` falls back to what the host was told.
    pub fn answer(&self, answer: impl Fn(&str, &str) -> Option<Reply> + Send + Sync + 'static) {
        self.lock().answer = Some(Arc::new(answer));
    }

    /// Lets logins fail as a limit of this machine ([`ErrorKind::LocalLimit`]) while `limit` sessions are open.
    pub fn limit_sessions(&self, limit: usize) {
        self.lock().session_limit = Some(limit);
    }

    /// Returns the files of the named host.
    pub fn files(&self, name: &str) -> FakeFiles {
        self.lock().hosts.entry(name.to_owned()).or_default().files.clone()
    }

    /// Returns every command that was started, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Returns how often a connection to the named host was tried.
    pub fn attempts(&self, name: &str) -> u32 {
        self.lock().hosts.get(name).map_or(0, |script| script.attempts)
    }

    /// Returns how many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.lock().sessions.now
    }

    /// Returns how many sessions were open at once at most.
    pub fn peak_sessions(&self) -> usize {
        self.lock().sessions.peak
    }

    /// Returns how many logins were on their way at once at most, to one address and in all.
    pub fn peak_logins(&self) -> (usize, usize) {
        let state = self.lock();
        (state.logins.values().map(|count| count.peak).max().unwrap_or(0), state.all_logins.peak)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script<T>(&self, name: &str, change: impl FnOnce(&mut Script) -> T) -> T {
        change(self.lock().hosts.entry(name.to_owned()).or_default())
    }

    fn reply_to(&self, host: &str, command: &[u8]) -> (Reply, usize) {
        let text = String::from_utf8_lossy(command).into_owned();
        let answer = self.lock().answer.clone();
        let answered = answer.and_then(|answer| answer(host, &text));
        let mut state = self.lock();
        state.calls.push(Call { host: host.to_owned(), command: text, stdin: Vec::new() });
        let call = state.calls.len() - 1;
        let told = || {
            let script = state.hosts.get(host)?;
            let known = script.replies.iter().rev().find(|(known, _)| known == command);
            Some(known.map_or(&script.reply, |(_, reply)| reply).clone())
        };
        (answered.or_else(told).unwrap_or_default(), call)
    }

    fn record_stdin(&self, call: usize, bytes: &[u8]) {
        if let Some(call) = self.lock().calls.get_mut(call) {
            call.stdin.extend_from_slice(bytes);
        }
    }

    /// Opens a session, unless this machine "has no more descriptors".
    fn open(&self) -> Result<Open> {
        let mut state = self.lock();
        if state.session_limit.is_some_and(|limit| state.sessions.now >= limit) {
            return Err(Error::new(ErrorKind::LocalLimit, "no more sessions can be opened").in_phase(Phase::Connect));
        }
        state.sessions.add();
        Ok(Open(self.clone()))
    }
}

/// An open session; counted until it is dropped.
struct Open(FakeTransport);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().sessions.now -= 1;
    }
}

/// A login on its way; counted until it is dropped.
struct LoggingIn<'a>(&'a FakeTransport, SocketAddr);

impl<'a> LoggingIn<'a> {
    fn new(fake: &'a FakeTransport, address: SocketAddr) -> Self {
        let mut state = fake.lock();
        state.logins.entry(address).or_default().add();
        state.all_logins.add();
        Self(fake, address)
    }
}

impl Drop for LoggingIn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.all_logins.now -= 1;
        if let Some(count) = state.logins.get_mut(&self.1) {
            count.now -= 1;
        }
    }
}

/// The phases of a login after the address is known.
const LOGIN: [Phase; 5] = [Phase::Connect, Phase::Banner, Phase::KeyExchange, Phase::HostKey, Phase::Login];

impl Transport for FakeTransport {
    fn connect(&self, host: &Arc<Host>, watch: &dyn Watch, budget: &Budget) -> Result<Box<dyn Session>> {
        let (delay, login, files) = self.script(&host.name, |script| {
            script.attempts += 1;
            let login = script.outcomes.pop_front().or_else(|| script.always.clone());
            (script.delay, login, FileService::new(script.files.clone(), script.has_no_files))
        });
        watch.phase(Phase::Resolve);
        fail_in(Phase::Resolve, login.as_ref())?;
        let address = address_of(host);
        let turn = watch.turn(&address.to_string(), budget)?;
        let logging_in = LoggingIn::new(self, address);
        let open = self.open()?;
        for phase in LOGIN {
            watch.phase(phase);
            budget.check(phase)?;
            if phase == Phase::Connect
                && !delay.is_zero()
                && let Some(exceeded) = budget.pause(Some(delay))
            {
                return Err(exceeded.in_phase(phase));
            }
            fail_in(phase, login.as_ref())?;
        }
        drop(logging_in);
        drop(turn);
        Ok(Box::new(FakeSession::new(self.clone(), open, host.name.clone(), files)))
    }
}

/// Fails as told, if it is to happen in this phase; a failure without a phase happens at the login.
fn fail_in(phase: Phase, login: Option<&Login>) -> Result<()> {
    match login {
        Some(Login::Error(error)) if error.phase().unwrap_or(Phase::Login).min(Phase::Login) == phase => {
            Err(error.clone())
        }
        Some(Login::Panic(message)) if phase == Phase::Banner => resume_unwind(Box::new(message.clone())),
        _ => Ok(()),
    }
}

/// Returns the host's address; a name stands for one made of its bytes.
fn address_of(host: &Host) -> SocketAddr {
    let ip = host.address.parse().unwrap_or_else(|_| {
        let sum = host.address.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        IpAddr::V4(Ipv4Addr::from_bits(0x7f00_0000 | (sum & 0x00ff_ffff)))
    });
    SocketAddr::new(ip, host.port)
}

/// Tells one host of a [`FakeTransport`] what to do. Every method changes the host at once.
#[derive(Clone, Debug)]
pub struct FakeHost {
    fake: FakeTransport,
    name: String,
}

impl FakeHost {
    fn tell(self, change: impl FnOnce(&mut Script)) -> Self {
        self.fake.script(&self.name, change);
        self
    }

    /// Lets each connection take so long.
    pub fn connect_delay(self, delay: Duration) -> Self {
        self.tell(|script| script.delay = delay)
    }

    /// Lets every login fail in `phase`.
    pub fn fails(self, kind: ErrorKind, phase: Phase) -> Self {
        let error = Error::new(kind, format!("scripted {kind:?}")).in_phase(phase);
        self.fails_with(error)
    }

    /// Lets every login fail with `error`, in its phase.
    pub fn fails_with(self, error: Error) -> Self {
        self.tell(|script| script.always = Some(Login::Error(error)))
    }

    /// Lets the next `count` logins fail in `phase`; those after them go on as told otherwise.
    pub fn fails_first(self, count: usize, kind: ErrorKind, phase: Phase) -> Self {
        let error = Error::new(kind, format!("scripted {kind:?}")).in_phase(phase);
        self.tell(|script| script.outcomes.extend(std::iter::repeat_n(Login::Error(error), count)))
    }

    /// Lets the next `count` connections be reset before the server's banner, as a busy sshd does.
    pub fn drops(self, count: usize) -> Self {
        self.fails_first(count, ErrorKind::Disconnected, Phase::Banner)
    }

    /// Lets every login panic.
    pub fn panics(self, message: &str) -> Self {
        self.tell(|script| script.always = Some(Login::Panic(message.to_owned())))
    }

    /// Sets the reply to one command; the last said holds.
    pub fn on(self, command: impl Into<Vec<u8>>, reply: Reply) -> Self {
        self.tell(|script| script.replies.push((command.into(), reply)))
    }

    /// Sets the reply to every other command. Default: status 0 and no output.
    pub fn otherwise(self, reply: Reply) -> Self {
        self.tell(|script| script.reply = reply)
    }

    /// Lets the host refuse the file service.
    pub fn without_files(self) -> Self {
        self.tell(|script| script.has_no_files = true)
    }
}
