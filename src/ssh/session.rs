//! A logged-in session: processes side by side, files, and an end that never waits.

use std::sync::Arc;
use std::time::Duration;

use libssh2_sys::{LIBSSH2_ERROR_CHANNEL_PACKET_EXCEEDED, LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED};

use super::error::Fault;
use super::guard::{Guard, Since};
use super::raw::{ChannelId, Exit, Link};
use super::wait::Driver;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::{Note, Stream};
use crate::host::Host;
use crate::transport::{
    Ended, ExecRequest, ExitStatus, FileId, GuardState, MAX_COMMAND_BYTES, ProcId, RemoteFiles, Session, SessionEvent,
    Signal, Turn,
};

/// The longest chunk of output, in bytes.
const CHUNK: usize = 32 * 1024;

/// How much may wait to be written before standard input is not taken any more, in bytes.
const BACKLOG: usize = 256 * 1024;

/// After how many looks at commands that have something to say the guard is looked at all the same.
const GUARD_EVERY: u32 = 16;

/// How long the answer to a command's start is still waited for when the time for it is over, or the run is stopped.
const LATE_ANSWER: Duration = Duration::from_secs(2);

/// The modes of a terminal that nobody sits at (RFC 4254 section 8): `ECHO` and `ONLCR` are off.
const TERMINAL_MODES: [u8; 11] = [53, 0, 0, 0, 0, 72, 0, 0, 0, 0, 0];

/// The character that ends the input of a terminal: `VEOF`, as every system sets it.
const END_KEY: &[u8] = b"\x04";

/// One login.
pub(super) struct SshSession {
    driver: Driver,
    host: Arc<Host>,
    /// The place among the logins under way: sshd frees it a moment after it has said that the login succeeded, and has done
    /// so when it answers the first request. Given up earlier, the next connection might be one too many for `MaxStartups`.
    turn: Option<Turn>,
    processes: Vec<Process>,
    started: u32,
    guard: Guard,
    /// How many looks ago the guard was looked at.
    unguarded_looks: u32,
    has_sftp: bool,
    /// Files of which a request may be on its way in part.
    half_written: Vec<FileId>,
    /// How many bytes the server may have sent by now; not known while commands write to the same connection.
    expected_bytes: Option<u64>,
    buffer: Vec<u8>,
    next: usize,
    notes: Vec<Note>,
}

struct Process {
    id: ProcId,
    channel: ChannelId,
    stdout_bytes: u64,
    stderr_bytes: u64,
    stdin: Stdin,
    /// Whether it runs on a terminal. The end of its input is a key there; some servers (tinysshd) take the end of the channel's for
    /// that of the terminal, and hang up.
    has_terminal: bool,
    /// Whether a terminal has to be told of the end of its input.
    owes_end_key: bool,
    is_guarded: bool,
    is_by_sudo: bool,
    /// Which stream is read first: the other one than last time, so that neither starves.
    first: Stream,
}

#[derive(PartialEq, Eq)]
enum Stdin {
    Open,
    /// The window was full; whoever writes is told when it is not.
    Full,
    Closing,
    Closed,
}

impl SshSession {
    pub(super) fn new(driver: Driver, host: Arc<Host>, turn: Turn) -> Self {
        Self {
            driver,
            host,
            turn: Some(turn),
            processes: Vec::new(),
            started: 0,
            guard: Guard::new(),
            unguarded_looks: 0,
            has_sftp: false,
            half_written: Vec::new(),
            expected_bytes: None,
            buffer: Vec::new(),
            next: 0,
            notes: Vec::new(),
        }
    }

    /// Asks for the host's environment; what the server refuses is told once a session, and no error, as with ssh.
    fn set_env(&mut self, channel: ChannelId, budget: &Budget) -> Result<()> {
        let host = Arc::clone(&self.host);
        let mut refused = Vec::new();
        for (name, value) in &host.env {
            match self.driver.drive(budget, |link| link.set_env(channel, name, value)) {
                Ok(()) => {}
                Err(Fault::Refused(failure)) if failure.code == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED => {
                    refused.push(name.as_str());
                }
                Err(fault) => return Err(fault.into_error(Phase::Channel, "cannot set the environment")),
            }
        }
        if !refused.is_empty() && self.started == 0 {
            self.notes.push(Note::Detail(format!("the server does not set {}", refused.join(", "))));
        }
        Ok(())
    }

    /// Has a command run. From the moment it is asked for it may be running: who stops waiting then has to know it, to end it.
    fn run_command(&mut self, channel: ChannelId, command: &[u8], budget: &Budget) -> Result<(), Fault> {
        let run = |link: &mut Link| link.exec(channel, command);
        match self.driver.drive(budget, run) {
            Err(Fault::Error(error)) if self.is_alive() => {
                // It ends at once, then: whoever waits for it looks at the budget first.
                self.driver.drive(&Budget::grace(LATE_ANSWER), run).map_err(|_| error.into())
            }
            done => done,
        }
    }

    pub(super) fn driver(&mut self) -> &mut Driver {
        &mut self.driver
    }

    /// Takes note of bytes that the server sends because it was asked to.
    pub(super) fn expect_bytes(&mut self, count: u64) {
        self.expected_bytes = self.expected_bytes.map(|expected| expected.saturating_add(count));
    }

    /// Returns how many bytes the server has sent beyond what is expected of it.
    pub(super) fn unexpected_bytes(&mut self) -> u64 {
        if !self.processes.is_empty() {
            return 0;
        }
        let received = self.driver.link().io(|io| io.received());
        received.saturating_sub(*self.expected_bytes.get_or_insert(received))
    }

    fn process(&mut self, id: ProcId) -> Result<&mut Process> {
        self.processes
            .iter_mut()
            .find(|process| process.id == id)
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the process has ended already").in_phase(Phase::Running))
    }

    /// Makes the error of an SFTP service that could not be opened.
    fn no_sftp(&self, fault: Fault) -> Error {
        match fault {
            // libssh2 calls the end of the channel one of the connection.
            Fault::Error(error)
                if error.kind() == ErrorKind::Disconnected && self.driver.connection_error().is_none() =>
            {
                let what = "the SFTP server ended at once, or something else spoke in its place";
                Error::new(ErrorKind::Refused, what).in_phase(Phase::Channel)
            }
            // What it takes for the length of the first answer is text.
            Fault::Refused(failure) if failure.code == LIBSSH2_ERROR_CHANNEL_PACKET_EXCEEDED => {
                let what = "something else than the SFTP server answered: a forced command, or a login shell that prints on \
                            its own (see .bashrc and its like)";
                Error::new(ErrorKind::Refused, what).in_phase(Phase::Channel)
            }
            fault => refused(fault, "the server refused to open SFTP"),
        }
    }

    /// Takes note of whether a file is half written, and returns whether it was.
    pub(super) fn half_written(&mut self, file: FileId, is_now: bool) -> bool {
        let before = self.half_written.len();
        self.half_written.retain(|other| *other != file);
        let was = self.half_written.len() < before;
        if is_now {
            self.half_written.push(file);
        }
        was
    }

    /// Takes note of the end of the SFTP service.
    pub(super) fn forget_sftp(&mut self) {
        self.has_sftp = false;
        self.half_written.clear();
    }

    /// Looks once at the guard and at each process, and returns what happened to one.
    fn look(&mut self) -> Result<Option<SessionEvent>> {
        let is_guards_turn = self.unguarded_looks >= GUARD_EVERY;
        if !is_guards_turn {
            self.unguarded_looks += 1;
            if let Some(event) = self.look_at_processes()? {
                return Ok(Some(event));
            }
        }
        self.unguarded_looks = 0;
        // While the commands write without end, reading for them reads for the guard too.
        self.driver.link().io(|io| io.hold(is_guards_turn));
        let state = self.look_at_guard();
        self.driver.link().io(|io| io.hold(false));
        if let Some(state) = state? {
            return Ok(Some(SessionEvent::Guard(state)));
        }
        if is_guards_turn { self.look_at_processes() } else { Ok(None) }
    }

    fn look_at_guard(&mut self) -> Result<Option<GuardState>> {
        let since = match self.started {
            1 => Since::First,
            _ if self.processes.iter().any(|process| process.is_by_sudo) => Since::Sudo,
            _ => Since::Later,
        };
        let state = self.guard.step(&mut self.driver, since)?;
        if state.is_some() {
            // What was to be said to it last may fail with the connection, which shows at the next look.
            let _ = self.release_guard();
        }
        Ok(state)
    }

    fn settle_guard(&mut self, budget: &Budget) -> Result<()> {
        let settled = self.guard.settle(&mut self.driver, budget);
        settled.map_err(|fault| fault.into_error(Phase::Channel, "the session failed"))
    }

    /// Lets the guard go once it has nothing to guard.
    fn release_guard(&mut self) -> Result<(), Fault> {
        if self.guard.is_at_work() || self.processes.iter().any(|process| process.is_guarded) {
            return Ok(());
        }
        self.guard.dismiss(&mut self.driver)
    }

    fn look_at_processes(&mut self) -> Result<Option<SessionEvent>> {
        for _ in 0..self.processes.len() {
            self.next = if self.next + 1 < self.processes.len() { self.next + 1 } else { 0 };
            let Some(process) = self.processes.get_mut(self.next) else { break };
            if self.buffer.is_empty() {
                self.buffer.resize(CHUNK, 0);
            }
            match look_at(&mut self.driver, process, &mut self.buffer) {
                Ok(Some(Seen::Event(event))) => return Ok(Some(event)),
                Ok(Some(Seen::Ended(ended))) => {
                    let id = process.id;
                    self.processes.remove(self.next);
                    // Of a connection that is gone, this was the last.
                    let _ = self.release_guard();
                    return Ok(Some(SessionEvent::Ended { id, ended }));
                }
                Ok(None) => {}
                Err(fault) => return Err(fault.into_error(Phase::Running, "the session failed")),
            }
        }
        Ok(None)
    }
}

enum Seen {
    Event(SessionEvent),
    Ended(Ended),
}

fn look_at(driver: &mut Driver, process: &mut Process, buffer: &mut [u8]) -> Result<Option<Seen>, Fault> {
    let channel = process.channel;
    if process.stdin == Stdin::Closing {
        if process.owes_end_key && driver.try_step(|link| link.write(channel, END_KEY))?.is_some_and(|sent| sent > 0) {
            process.owes_end_key = false;
        }
        let is_told = !process.owes_end_key;
        if is_told && (process.has_terminal || driver.try_step(|link| link.send_eof(channel))?.is_some()) {
            process.stdin = Stdin::Closed;
        }
    }
    let streams = match process.first {
        Stream::Stdout => [Stream::Stdout, Stream::Stderr],
        Stream::Stderr => [Stream::Stderr, Stream::Stdout],
    };
    // Each read first takes all that the connection has, up to a window (2 MiB), and 50 hosts would make 100 MiB of it: what is
    // there goes before more is taken.
    let queued = driver.try_step(|link| link.queued(channel).map(Some))?.unwrap_or(0);
    let looks = [true, false].into_iter().filter(|is_held| queued > 0 || !is_held);
    for (stream, is_held) in looks.flat_map(|is_held| streams.map(|stream| (stream, is_held))) {
        let number = match stream {
            Stream::Stdout => 0,
            // `SSH_EXTENDED_DATA_STDERR` (RFC 4254 section 5.2).
            Stream::Stderr => 1,
        };
        driver.link().io(|io| io.hold(is_held));
        let read = driver.try_step(|link| link.read(channel, number, buffer));
        driver.link().io(|io| io.hold(false));
        let Some(count) = read?.filter(|count| *count > 0) else { continue };
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        match stream {
            Stream::Stdout => {
                process.stdout_bytes += count as u64;
                process.first = Stream::Stderr;
            }
            Stream::Stderr => {
                process.stderr_bytes += count as u64;
                process.first = Stream::Stdout;
            }
        }
        return Ok(Some(Seen::Event(SessionEvent::Output { id: process.id, stream, bytes })));
    }
    if driver.try_step(|link| link.is_eof(channel).map(Some))? == Some(true) {
        return ended(driver, process).map(|ended| ended.map(Seen::Ended));
    }
    // Both were looked at when it was full; what the server sent since has just been read.
    let is_full = |link: &Link| Ok(Some(link.io(|io| io.unsent()) >= BACKLOG || link.write_window(channel)? == 0));
    if process.stdin == Stdin::Full && driver.try_step(|link| is_full(link))? == Some(false) {
        process.stdin = Stdin::Open;
        return Ok(Some(Seen::Event(SessionEvent::Window { id: process.id })));
    }
    Ok(None)
}

/// Tells how a process ended, once the server has closed its channel.
fn ended(driver: &mut Driver, process: &Process) -> Result<Option<Ended>, Fault> {
    let channel = process.channel;
    let is_closed = driver.try_step(|link| link.wait_closed(channel))?.is_some();
    let exit = driver.try_step(|link| link.exit(channel).map(Some))?.unwrap_or(Exit::NotSent);
    let status = match exit {
        Exit::Code(code) => ExitStatus::Code(code),
        Exit::Signal(name) => ExitStatus::Signal(name),
        Exit::NotSent => ExitStatus::NotSent,
    };
    if !is_closed {
        // The connection may end between the status and the close: the status is the result all the same.
        let has_result = status != ExitStatus::NotSent && driver.connection_error().is_some();
        if !has_result {
            return Ok(None);
        }
    }
    let ended = Ended::new(status, process.stdout_bytes, process.stderr_bytes);
    // Frees the memory now rather than with the session; the server has nothing more to say about this channel.
    let _ = driver.try_step(|link| link.free_channel(channel));
    Ok(Some(ended))
}

impl Session for SshSession {
    fn start(&mut self, request: &ExecRequest, budget: &Budget) -> Result<ProcId> {
        if request.command.len() > MAX_COMMAND_BYTES {
            let what = format!(
                "the command has {} bytes, more than the {MAX_COMMAND_BYTES} that SSH carries",
                request.command.len()
            );
            return Err(Error::new(ErrorKind::Usage, what).in_phase(Phase::Channel));
        }
        if self.guard.is_at_work() {
            let what = "an earlier command of the session is still being ended";
            return Err(Error::new(ErrorKind::Refused, what).in_phase(Phase::Channel));
        }
        self.driver.set_phase(Phase::Channel);
        let budget = budget.narrowed(self.host.timeouts.connect);
        self.settle_guard(&budget)?;
        let channel = self.driver.drive(&budget, |link| link.open_channel()).map_err(no_channel)?;
        self.turn = None;
        self.set_env(channel, &budget)?;
        if let Some(pty) = &request.pty {
            let asked = self.driver.drive(&budget, |link| link.request_pty(channel, pty, &TERMINAL_MODES));
            asked.map_err(|fault| refused(fault, "the server refused a terminal"))?;
        }
        budget.check(Phase::Channel)?;
        self.run_command(channel, &request.command, &budget)
            .map_err(|fault| refused(fault, "the server refused to run the command"))?;
        let stdin = if request.stdin { Stdin::Open } else { Stdin::Closing };
        let id = ProcId(self.started);
        self.started += 1;
        self.processes.push(Process {
            id,
            channel,
            stdout_bytes: 0,
            stderr_bytes: 0,
            stdin,
            has_terminal: request.pty.is_some(),
            owes_end_key: request.pty.is_some(),
            is_guarded: false,
            is_by_sudo: request.sudo.is_some(),
            first: Stream::Stdout,
        });
        self.expected_bytes = None;
        self.driver.set_phase(Phase::Running);
        Ok(id)
    }

    fn write(&mut self, id: ProcId, bytes: &[u8]) -> Result<usize> {
        let is_full = self.driver.link().io(|io| io.unsent()) >= BACKLOG;
        let process = self.process(id)?;
        let channel = process.channel;
        if matches!(process.stdin, Stdin::Closing | Stdin::Closed) {
            return Err(Error::new(ErrorKind::Internal, "standard input is closed").in_phase(Phase::Running));
        }
        let taken = if is_full {
            0
        } else {
            let step = self.driver.try_step(|link| link.write(channel, bytes));
            step.map_err(|fault| fault.into_error(Phase::Running, "cannot write to the command"))?.unwrap_or(0)
        };
        if taken == 0 {
            self.process(id)?.stdin = Stdin::Full;
        }
        Ok(taken)
    }

    fn close_stdin(&mut self, id: ProcId) -> Result<()> {
        let process = self.process(id)?;
        if process.stdin != Stdin::Closed {
            process.stdin = Stdin::Closing;
        }
        Ok(())
    }

    fn signal(&mut self, id: ProcId, signal: Signal) -> Result<()> {
        let channel = self.process(id)?.channel;
        // A signal is one packet that the socket callbacks take whole: "again" cannot happen.
        let sent = self.driver.try_step(|link| link.send_signal(channel, signal.as_str()));
        sent.map(|_| ()).map_err(|fault| fault.into_error(Phase::Running, "cannot send a signal"))
    }

    fn guard(&mut self, id: ProcId, kill_after: Duration) -> bool {
        if let Ok(process) = self.process(id) {
            process.is_guarded = true;
            self.guard.want(kill_after);
        }
        true
    }

    fn guard_name(&self) -> Option<String> {
        Some(self.guard.name())
    }

    fn end_by_guard(&mut self, id: ProcId) -> Result<bool> {
        if self.processes.iter().any(|process| process.id != id) {
            return Ok(false);
        }
        let asked = self.guard.ask(&mut self.driver);
        asked.map_err(|fault| fault.into_error(Phase::Running, "cannot write to the guard"))
    }

    fn pump(&mut self, budget: &Budget) -> Result<SessionEvent> {
        loop {
            budget.check(self.driver.phase())?;
            if let Some(event) = self.look()? {
                return Ok(event);
            }
            self.driver.wait_until(budget, self.guard.due())?;
        }
    }

    fn files(&mut self, budget: &Budget) -> Result<&mut dyn RemoteFiles> {
        if !self.has_sftp {
            self.driver.set_phase(Phase::Channel);
            let budget = budget.narrowed(self.host.timeouts.connect);
            self.settle_guard(&budget)?;
            self.driver.drive(&budget, |link| link.open_sftp()).map_err(|fault| self.no_sftp(fault))?;
            self.turn = None;
            self.has_sftp = true;
        }
        Ok(self)
    }

    fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    fn is_alive(&self) -> bool {
        self.driver.connection_error().is_none()
    }

    fn close(mut self: Box<Self>) {
        self.guard.farewell(&mut self.driver);
        self.driver.link().close(true);
    }
}

impl Drop for SshSession {
    fn drop(&mut self) {
        self.guard.farewell(&mut self.driver);
    }
}

/// Makes the error of a request that the server turned down.
fn no_channel(fault: Fault) -> Error {
    // sshd gives this reason (RFC 4254 section 5.1) to a session past its MaxSessions, and to no other.
    let is_one_too_many = matches!(&fault, Fault::Refused(failure) if failure.message.contains("(connect failed)"));
    let hint = if is_one_too_many { ", as sshd does past its MaxSessions" } else { "" };
    refused(fault, &format!("the server refused to open a channel{hint}"))
}

fn refused(fault: Fault, what: &str) -> Error {
    match fault {
        Fault::Error(error) => error,
        Fault::Refused(failure) => Error::new(ErrorKind::Refused, what).caused_by(failure).in_phase(Phase::Channel),
    }
}
