//! One connection to a bastion: opens channels one after the other, and moves bytes between them and socket pairs.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{SockRef, Socket};

use super::request::{Opening, Request};
use super::{Bastion, FAILURE_KEPT};
use crate::budget::{Budget, CancelToken};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::ssh::Reach;
use crate::ssh::error::Fault;
use crate::ssh::io::{Reached, Way};
use crate::ssh::raw::ChannelId;
use crate::ssh::wait::{Driver, poll_for};

/// How long a connection without tunnels is kept.
const IDLE: Duration = Duration::from_secs(10);

/// How often a pump with an open under way looks whether another connection is wanted.
const LOOK: Duration = Duration::from_millis(100);

/// How long an answer that nobody waits for is waited for on a connection that serves nobody else.
const PATIENCE_WITH_NOBODY: Duration = Duration::from_secs(3);

/// How much is moved at once, in bytes.
const CHUNK: usize = 32 * 1024;

/// How much may wait to be written to the bastion before no more is read from the hosts' sides, in bytes.
const BACKLOG: usize = 256 * 1024;

/// The windows of all tunnels together, and the least and the most of one, in bytes: what may pile up here while hosts'
/// workers do not read.
const WINDOWS: u32 = 64 * 1024 * 1024;
const SMALLEST_WINDOW: u32 = 256 * 1024;
const LARGEST_WINDOW: u32 = 2 * 1024 * 1024;

/// How many rounds are made before the budget is looked at.
const ROUNDS: usize = 16;

const WAKER: Token = Token(usize::MAX);

pub(super) struct Pump {
    pub(super) id: u64,
    reach: Arc<Reach>,
    bastion: Arc<Bastion>,
    driver: Driver,
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    tunnels: Vec<Option<Tunnel>>,
    opening: Option<Opening>,
    buffer: Box<[u8]>,
    idle_since: Instant,
    has_opened: bool,
}

/// One host's channel and its end of the socket pair.
struct Tunnel {
    channel: ChannelId,
    /// `None` once the host's side is gone and the channel is only to be closed.
    local: Option<UnixStream>,
    is_readable: bool,
    is_writable: bool,
    /// What the host's side has not taken yet.
    to_local: Backlog,
    /// What the channel's window has not taken yet.
    to_remote: Backlog,
    has_remote_ended: bool,
    words: Arc<Words>,
}

#[derive(Default)]
struct Backlog {
    bytes: Vec<u8>,
    at: usize,
}

impl Backlog {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.at = 0;
    }

    fn advance(&mut self, count: usize) {
        self.at += count;
        if self.is_empty() {
            self.bytes.clear();
            self.at = 0;
        }
    }
}

/// Whose tunnel it is, and why it ended, when it was the bastion.
struct Words {
    bastion: String,
    last: OnceLock<String>,
}

impl Way for Arc<Words> {
    fn last_words(&self) -> Option<(ErrorKind, String)> {
        self.last.get().map(|words| (ErrorKind::Disconnected, words.clone()))
    }

    fn name(&self) -> String {
        format!("the bastion {}", self.bastion)
    }
}

impl Pump {
    pub(super) fn new(reach: &Arc<Reach>, bastion: &Arc<Bastion>, driver: Driver) -> Result<Self> {
        let limit = |cause: io::Error| {
            Error::new(ErrorKind::LocalLimit, "cannot wait on sockets").caused_by(cause).in_phase(Phase::Connect)
        };
        let poll = Poll::new().map_err(limit)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(limit)?);
        Ok(Self {
            id: 0,
            reach: Arc::clone(reach),
            bastion: Arc::clone(bastion),
            driver,
            poll,
            events: Events::with_capacity(256),
            waker,
            tunnels: Vec::new(),
            opening: None,
            buffer: vec![0; CHUNK].into_boxed_slice(),
            idle_since: Instant::now(),
            has_opened: false,
        })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Serves until nobody needs the connection or it ends.
    pub(super) fn run(mut self, cancel: &CancelToken) {
        let budget = Budget::new(cancel.clone());
        loop {
            match self.turn(&budget) {
                Ok(true) => {}
                Ok(false) => {
                    self.driver.link().close(true);
                    return;
                }
                Err(error) => return self.lost(&error),
            }
        }
    }

    /// Moves what there is to move, then waits. `false`: the connection is not needed any more.
    fn turn(&mut self, budget: &Budget) -> Result<bool> {
        for _ in 0..ROUNDS {
            let before = self.driver.link().io(|io| io.received());
            self.open()?;
            self.drain()?;
            for index in 0..self.tunnels.len() {
                self.serve(index)?;
            }
            if self.driver.link().io(|io| io.received()) == before {
                return self.wait(budget);
            }
        }
        budget.check(Phase::Running)?;
        Ok(true)
    }

    fn wait(&mut self, budget: &Budget) -> Result<bool> {
        let is_idle = self.opening.is_none() && self.tunnels.iter().all(Option::is_none);
        if is_idle {
            // Nothing reads from the connection now: it is not looked at either.
            if self.idle_since.elapsed() >= IDLE {
                return Ok(!self.bastion.retire(self.id));
            }
            poll_for(fd_of(&self.poll), nix::poll::PollFlags::POLLIN, budget, IDLE)?;
            budget.check(Phase::Running)?;
        } else {
            self.idle_since = Instant::now();
            let longest = self.opening.as_ref().map(|_| LOOK);
            self.driver.wait_beside(budget, fd_of(&self.poll), longest)?;
        }
        let polled = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        if let Err(cause) = polled
            && cause.kind() != io::ErrorKind::Interrupted
        {
            return Err(Error::new(ErrorKind::LocalLimit, "cannot wait on sockets").caused_by(cause));
        }
        for event in &self.events {
            if let Some(Some(tunnel)) = self.tunnels.get_mut(event.token().0) {
                tunnel.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                tunnel.is_writable |= event.is_writable() || event.is_write_closed() || event.is_error();
            }
        }
        if let Some(opening) = &self.opening {
            let is_alone = self.tunnels.iter().all(Option::is_none);
            if is_alone && !opening.request.is_wanted() && opening.since.elapsed() > PATIENCE_WITH_NOBODY {
                // Nobody waits for the answer, and nothing else can be opened before it comes.
                self.opening = None;
                self.bastion.lock().pumps.retain(|entry| entry.id != self.id);
                self.bastion.grow(&self.reach);
                return Ok(false);
            }
            self.bastion.grow(&self.reach);
        }
        Ok(true)
    }

    /// Opens the next channel, or goes on opening.
    fn open(&mut self) -> Result<()> {
        loop {
            let opening = match &self.opening {
                Some(opening) => opening,
                None => match self.bastion.next(self.id) {
                    Some(request) => self.opening.insert(Opening { request, since: Instant::now() }),
                    None => return Ok(()),
                },
            };
            let tunnels = u32::try_from(self.tunnels.len()).unwrap_or(u32::MAX);
            let window = (WINDOWS / tunnels.saturating_add(1)).clamp(SMALLEST_WINDOW, LARGEST_WINDOW);
            let Request { address, port, .. } = &*opening.request;
            let opened = self.driver.try_step(|link| link.open_tunnel(address, *port, window));
            let answer = match opened {
                Ok(None) => return Ok(()),
                Ok(Some(channel)) => Ok(channel),
                Err(Fault::Refused(failure)) => {
                    // "Channel open failure (connect failed)": the reason is what RFC 4254 section 5.1 has codes for.
                    let why = failure.message.rsplit_once('(').and_then(|(_, why)| why.strip_suffix(')'));
                    let why = why.unwrap_or("it refused");
                    let what =
                        format!("the bastion {} cannot connect to {address}:{port}: {why}", self.bastion.host.name);
                    Err(Error::new(ErrorKind::Connect, what).in_phase(Phase::Connect))
                }
                Err(Fault::Error(error)) => return Err(error),
            };
            let Some(Opening { request, .. }) = self.opening.take() else { return Ok(()) };
            self.has_opened = true;
            self.bastion.opened(self.id);
            match answer {
                Ok(channel) => self.connect(channel, &request),
                Err(error) => request.answer(Err(error)),
            }
        }
    }

    /// Makes the socket pair of an open channel and hands one end over.
    fn connect(&mut self, channel: ChannelId, request: &Request) {
        let free = self.tunnels.iter().position(Option::is_none);
        let index = free.unwrap_or(self.tunnels.len());
        let words = Arc::new(Words { bastion: self.bastion.host.name.clone(), last: OnceLock::new() });
        let made = UnixStream::pair().and_then(|(mut local, remote)| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut local, Token(index), interest)?;
            Ok((local, Socket::from(OwnedFd::from(std::os::unix::net::UnixStream::from(OwnedFd::from(remote))))))
        });
        let local = match made {
            Ok((local, remote)) => {
                request.answer(Ok(Reached::through(remote, Box::new(Arc::clone(&words)))));
                Some(local)
            }
            Err(cause) => {
                let error = Error::new(ErrorKind::LocalLimit, "cannot make a socket pair").caused_by(cause);
                request.answer(Err(error.in_phase(Phase::Connect)));
                None
            }
        };
        let tunnel = Tunnel {
            channel,
            local,
            is_readable: true,
            is_writable: true,
            to_local: Backlog::default(),
            to_remote: Backlog::default(),
            has_remote_ended: false,
            words,
        };
        match self.tunnels.get_mut(index) {
            Some(slot) => *slot = Some(tunnel),
            None => self.tunnels.push(Some(tunnel)),
        }
    }

    /// Reads what the bastion sent into libssh2's queue.
    fn drain(&mut self) -> Result<()> {
        let Some(tunnel) = self.tunnels.iter().flatten().next() else { return Ok(()) };
        let channel = tunnel.channel;
        step(&mut self.driver, |link| link.read(channel, 0, &mut []))?;
        Ok(())
    }

    fn serve(&mut self, index: usize) -> Result<()> {
        let Some(Some(tunnel)) = self.tunnels.get_mut(index) else { return Ok(()) };
        tunnel.pull(&mut self.driver, &mut self.buffer)?;
        tunnel.push(&mut self.driver, &mut self.buffer)?;
        if tunnel.local.is_none()
            && tunnel.free(&mut self.driver)?
            && let Some(slot) = self.tunnels.get_mut(index)
        {
            *slot = None;
        }
        Ok(())
    }

    /// The connection ended: everybody behind it is told why.
    fn lost(mut self, error: &Error) {
        let host = &self.bastion.host;
        let words = format!("the connection to the bastion {} ended: {}", host.name, error.chain());
        for tunnel in self.tunnels.iter().flatten() {
            let _ = tunnel.words.last.set(words.clone());
        }
        self.tunnels.clear();
        let mut state = self.bastion.lock();
        state.pumps.retain(|entry| entry.id != self.id);
        if let Some(Opening { request, .. }) = self.opening.take() {
            if self.has_opened {
                request.again();
                state.queue.push_front(request);
            } else {
                request.answer(Err(Error::new(ErrorKind::Connect, words).in_phase(Phase::Connect)));
            }
        }
        // Whoever has nothing under way serves what is left.
        for entry in state.pumps.iter().filter(|entry| entry.opening.is_none()) {
            let _ = entry.waker.wake();
        }
        if !self.has_opened && state.pumps.is_empty() {
            let error = self.bastion.unusable(error);
            state.fail_all(&error);
            state.failure = Some((error, Some(Instant::now() + FAILURE_KEPT)));
        }
        drop(state);
        self.bastion.grow(&self.reach);
    }
}

impl Tunnel {
    /// Moves what the bastion sent to the host's side.
    fn pull(&mut self, driver: &mut Driver, buffer: &mut [u8]) -> Result<()> {
        let Some(local) = &self.local else { return Ok(()) };
        let channel = self.channel;
        loop {
            if !self.to_local.is_empty() {
                if !self.is_writable {
                    return Ok(());
                }
                match SockRef::from(local).send_with_flags(self.to_local.rest(), libc::MSG_NOSIGNAL) {
                    Ok(count) => self.to_local.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.is_writable = false;
                        return Ok(());
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The host's side has hung up.
                    Err(_) => {
                        self.local = None;
                        return Ok(());
                    }
                }
                continue;
            }
            if self.has_remote_ended {
                let _ = SockRef::from(local).shutdown(Shutdown::Both);
                self.local = None;
                return Ok(());
            }
            if step(driver, |link| link.has_data(channel).map(Some))? == Some(true) {
                let count = step(driver, |link| link.read(channel, 0, buffer))?.unwrap_or(0);
                self.to_local.fill(buffer.get(..count).unwrap_or_default());
                if count > 0 {
                    continue;
                }
            }
            self.has_remote_ended = step(driver, |link| link.is_eof(channel).map(Some))? == Some(true);
            if !self.has_remote_ended {
                return Ok(());
            }
        }
    }

    /// Moves what the host's side sent to the bastion.
    fn push(&mut self, driver: &mut Driver, buffer: &mut [u8]) -> Result<()> {
        let channel = self.channel;
        loop {
            while !self.to_remote.is_empty() {
                let rest = self.to_remote.rest();
                match step(driver, |link| link.write(channel, rest))?.unwrap_or(0) {
                    0 => return Ok(()),
                    count => self.to_remote.advance(count),
                }
            }
            let Some(local) = &self.local else { return Ok(()) };
            if !self.is_readable || driver.link().io(|io| io.unsent()) >= BACKLOG {
                return Ok(());
            }
            match io::Read::read(&mut &*local, buffer) {
                // A client of SSH never closes one direction alone.
                Ok(0) => self.local = None,
                Ok(count) => self.to_remote.fill(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.local = None,
            }
        }
    }

    /// Closes the channel. `true`: it is gone.
    fn free(&mut self, driver: &mut Driver) -> Result<bool> {
        let channel = self.channel;
        match driver.try_step(|link| link.free_channel(channel)) {
            Ok(done) => Ok(done.is_some()),
            Err(Fault::Error(error)) => Err(error),
            // It is forgotten all the same.
            Err(Fault::Refused(_)) => Ok(true),
        }
    }
}

fn fd_of(poll: &Poll) -> BorrowedFd<'_> {
    poll.registry().as_fd()
}

/// Takes a step of which only the end of the connection is an error: what happens to one channel is not.
fn step<T>(
    driver: &mut Driver,
    work: impl FnMut(&mut crate::ssh::raw::Link) -> crate::ssh::raw::Step<T>,
) -> Result<Option<T>> {
    match driver.try_step(work) {
        Ok(value) => Ok(value),
        Err(Fault::Error(error)) => Err(error),
        Err(Fault::Refused(_)) => Ok(None),
    }
}
