//! A session on a fake host.

use std::panic::resume_unwind;
use std::time::Instant;

use super::files::FileService;
use super::reply::{IgnoredSignals, Reply, Step};
use super::{FakeTransport, Open};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Stream;
use crate::transport::{Ended, ExecRequest, ExitStatus, ProcId, RemoteFiles, Session, SessionEvent, Signal};

/// The most bytes of one output event, as a real session hands them out.
const CHUNK_BYTES: usize = 32 * 1024;

pub(super) struct FakeSession {
    fake: FakeTransport,
    _open: Open,
    host: String,
    files: FileService,
    processes: Vec<Process>,
    next_id: u32,
    is_lost: bool,
}

struct Process {
    id: ProcId,
    reply: Reply,
    /// When the pause that it is in ends.
    wakes_at: Option<Instant>,
    stdin: Vec<u8>,
    is_stdin_open: bool,
    call: usize,
    stdout_bytes: u64,
    stderr_bytes: u64,
}

/// What a process does next.
enum Next {
    Event(SessionEvent),
    At(Instant),
    Never,
    Lost,
}

impl FakeSession {
    pub(super) fn new(fake: FakeTransport, open: Open, host: String, files: FileService) -> Self {
        Self { fake, _open: open, host, files, processes: Vec::new(), next_id: 0, is_lost: false }
    }

    fn check(&self) -> Result<()> {
        if self.is_lost { Err(lost()) } else { Ok(()) }
    }

    fn process(&mut self, id: ProcId) -> Result<&mut Process> {
        self.check()?;
        self.processes.iter_mut().find(|process| process.id == id).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "there is no such process in this session").in_phase(Phase::Running)
        })
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Disconnected, "the connection ended").in_phase(Phase::Running)
}

impl Session for FakeSession {
    fn start(&mut self, request: &ExecRequest, budget: &Budget) -> Result<ProcId> {
        self.check()?;
        budget.check(Phase::Channel)?;
        let (reply, call) = self.fake.reply_to(&self.host, &request.command);
        if reply.is_refused {
            return Err(Error::new(ErrorKind::Refused, "the server refused the command").in_phase(Phase::Channel));
        }
        let id = ProcId(self.next_id);
        self.next_id += 1;
        self.processes.push(Process {
            id,
            reply,
            wakes_at: None,
            stdin: Vec::new(),
            is_stdin_open: request.stdin,
            call,
            stdout_bytes: 0,
            stderr_bytes: 0,
        });
        Ok(id)
    }

    fn write(&mut self, id: ProcId, bytes: &[u8]) -> Result<usize> {
        let process = self.process(id)?;
        if !process.is_stdin_open {
            return Err(Error::new(ErrorKind::Refused, "standard input is closed").in_phase(Phase::Running));
        }
        process.stdin.extend_from_slice(bytes);
        let call = process.call;
        self.fake.record_stdin(call, bytes);
        Ok(bytes.len())
    }

    fn close_stdin(&mut self, id: ProcId) -> Result<()> {
        self.process(id)?.is_stdin_open = false;
        Ok(())
    }

    fn signal(&mut self, id: ProcId, signal: Signal) -> Result<()> {
        let process = self.process(id)?;
        let is_ignored = match process.reply.ignored_signals {
            IgnoredSignals::None => false,
            IgnoredSignals::ButKill => signal != Signal::Kill,
            IgnoredSignals::All => true,
        };
        if !is_ignored {
            process.reply.steps.clear();
            process.wakes_at = None;
            process.reply.status = ExitStatus::Signal(signal.as_str().to_owned());
        }
        Ok(())
    }

    fn pump(&mut self, budget: &Budget) -> Result<SessionEvent> {
        loop {
            self.check()?;
            budget.check(Phase::Running)?;
            let mut next_at: Option<Instant> = None;
            for index in 0..self.processes.len() {
                let Some(process) = self.processes.get_mut(index) else { break };
                match process.next() {
                    Next::Event(event) => {
                        if matches!(event, SessionEvent::Ended { .. }) {
                            self.processes.remove(index);
                        }
                        return Ok(event);
                    }
                    Next::At(at) => next_at = Some(next_at.map_or(at, |earliest| earliest.min(at))),
                    Next::Never => {}
                    Next::Lost => self.is_lost = true,
                }
            }
            if !self.is_lost {
                budget.pause(next_at.map(|at| at.saturating_duration_since(Instant::now())));
            }
        }
    }

    fn files(&mut self, budget: &Budget) -> Result<&mut dyn RemoteFiles> {
        self.check()?;
        budget.check(Phase::Channel)?;
        self.files.open()
    }

    fn is_alive(&self) -> bool {
        !self.is_lost
    }

    fn close(self: Box<Self>) {}
}

impl Process {
    fn next(&mut self) -> Next {
        loop {
            let Some(step) = self.reply.steps.front_mut() else { return Next::Event(self.end()) };
            match step {
                Step::Write(stream, bytes) => {
                    let stream = *stream;
                    let rest = if bytes.len() > CHUNK_BYTES { bytes.split_off(CHUNK_BYTES) } else { Vec::new() };
                    let chunk = std::mem::replace(bytes, rest);
                    if bytes.is_empty() {
                        self.reply.steps.pop_front();
                    }
                    if !chunk.is_empty() {
                        return Next::Event(self.output(stream, chunk));
                    }
                }
                Step::Endless(stream, bytes) => {
                    let (stream, chunk) = (*stream, bytes.clone());
                    return Next::Event(self.output(stream, chunk));
                }
                Step::Pause(duration) => {
                    let now = Instant::now();
                    let duration = *duration;
                    let at = *self.wakes_at.get_or_insert_with(|| now.checked_add(duration).unwrap_or(now));
                    if at > now {
                        return Next::At(at);
                    }
                    self.wakes_at = None;
                    self.reply.steps.pop_front();
                }
                Step::Echo if !self.stdin.is_empty() => {
                    let chunk = self.stdin.drain(..self.stdin.len().min(CHUNK_BYTES)).collect();
                    return Next::Event(self.output(Stream::Stdout, chunk));
                }
                Step::Echo if !self.is_stdin_open => {
                    self.reply.steps.pop_front();
                }
                Step::Echo => return Next::Never,
                Step::Hang => return Next::Never,
                Step::Lose => return Next::Lost,
                Step::Panic(message) => resume_unwind(Box::new(message.clone())),
            }
        }
    }

    fn output(&mut self, stream: Stream, bytes: Vec<u8>) -> SessionEvent {
        match stream {
            Stream::Stdout => self.stdout_bytes += bytes.len() as u64,
            Stream::Stderr => self.stderr_bytes += bytes.len() as u64,
        }
        SessionEvent::Output { id: self.id, stream, bytes }
    }

    fn end(&mut self) -> SessionEvent {
        let ended = Ended::new(self.reply.status.clone(), self.stdout_bytes, self.stderr_bytes);
        SessionEvent::Ended { id: self.id, ended }
    }
}
