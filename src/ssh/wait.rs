//! Driving libssh2: call, and when it has nothing yet, wait for bytes, the budget, a stop, or a sign of life.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::{Fault, disconnected, sort};
use super::io::{Ending, Io};
use super::raw::{Link, Step};
use crate::budget::{Budget, seconds};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::Timeouts;

/// How long a wait may last when the stop cannot wake it (no descriptor was left for its pipe).
const BLIND_WAIT: Duration = Duration::from_millis(100);

/// How long any wait may last: libssh2 sometimes says "again" without a direction (LIBSSH2.md section 2).
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How many bytes a server may send before the login, which takes some 10 KiB. libssh2 keeps what it was not waiting for, so
/// a flood would fill the memory of this machine.
const BEFORE_LOGIN: u64 = 4 * 1024 * 1024;

/// The shortest interval between two keepalives: libssh2 sends none sooner (`keepalive.c`).
const SHORTEST_INTERVAL: Duration = Duration::from_secs(2);

/// How much longer a host is waited for than the bastion before it.
const LENIENCE: Duration = Duration::from_secs(5);

/// A gap between two waits that is longer was spent on something else than this host.
const ABSENCE: Duration = Duration::from_millis(500);

/// A [`Link`] with what it takes to wait on it.
pub(super) struct Driver {
    link: Link,
    phase: Phase,
    liveness: Option<Liveness>,
}

/// Watches a logged-in connection for signs of life.
struct Liveness {
    interval: Duration,
    count: u32,
    lenience: Duration,
    silent_since: Instant,
    asked: u32,
    last_wait: Instant,
}

impl Driver {
    pub(super) fn new(link: Link) -> Self {
        Self { link, phase: Phase::Banner, liveness: None }
    }

    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Watches for signs of life from now on. A host behind bastions is given up after them: they are to blame.
    pub(super) fn keep_alive(&mut self, timeouts: &Timeouts, bastions: u32) {
        if timeouts.alive_interval.is_zero() || timeouts.alive_count == 0 {
            return;
        }
        let now = Instant::now();
        self.liveness = Some(Liveness {
            interval: timeouts.alive_interval.max(SHORTEST_INTERVAL),
            count: timeouts.alive_count,
            lenience: LENIENCE.saturating_mul(bastions),
            silent_since: now,
            asked: 0,
            last_wait: now,
        });
    }

    /// Repeats a step until it is done.
    pub(super) fn drive<T>(&mut self, budget: &Budget, mut step: impl FnMut(&mut Link) -> Step<T>) -> Result<T, Fault> {
        loop {
            if let Some(value) = self.try_step(&mut step)? {
                return Ok(value);
            }
            self.wait(budget)?;
        }
    }

    /// Takes a step once; `None` means that it has to be waited for.
    pub(super) fn try_step<T>(&mut self, mut step: impl FnMut(&mut Link) -> Step<T>) -> Result<Option<T>, Fault> {
        step(&mut self.link).map_err(|failure| match self.connection_error() {
            // libssh2's words for the end of a connection are poorer than ours.
            Some(error) => Fault::Error(error),
            None => sort(failure, self.phase),
        })
    }

    /// Returns the error of a connection that ended, if it did.
    pub(super) fn connection_error(&self) -> Option<Error> {
        self.link.io(|io| {
            if self.phase == Phase::Banner && io.preamble().is_flood() {
                let what = "the server sent 64 KiB without an SSH banner";
                return Some(Error::new(ErrorKind::Protocol, what).in_phase(Phase::Banner));
            }
            match io.broken() {
                Some(ending) => Some(disconnected(io, ending, self.phase)),
                // The server has said goodbye; the end of the connection only follows.
                None if io.disconnect_message().is_some() => Some(disconnected(io, &Ending::Closed, self.phase)),
                None => None,
            }
        })
    }

    /// Waits until another step may get further.
    ///
    /// # Errors
    /// When the budget is used up or the connection ended.
    pub(super) fn wait(&mut self, budget: &Budget) -> Result<()> {
        self.wait_for(budget, None, None)
    }

    /// Waits as [`wait`](Self::wait), at most until a moment when something else is due.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(super) fn wait_until(&mut self, budget: &Budget, due: Option<Instant>) -> Result<()> {
        let longest = due.map(|due| due.saturating_duration_since(Instant::now()));
        self.wait_for(budget, None, longest)
    }

    /// Waits as [`wait`](Self::wait), also for another descriptor, and no longer than `longest`.
    pub(super) fn wait_beside(&mut self, budget: &Budget, fd: BorrowedFd<'_>, longest: Option<Duration>) -> Result<()> {
        self.wait_for(budget, Some(fd), longest)
    }

    fn wait_for(&mut self, budget: &Budget, beside: Option<BorrowedFd<'_>>, longest: Option<Duration>) -> Result<()> {
        budget.check(self.phase)?;
        if self.phase.is_before_session() && self.link.io(|io| io.received()) > BEFORE_LOGIN {
            let what = "the server sent 4 MiB before the login";
            return Err(Error::new(ErrorKind::Protocol, what).in_phase(self.phase));
        }
        if self.link.io(|io| io.is_turn_over()) {
            return Ok(());
        }
        if let Some(error) = self.connection_error() {
            return Err(error);
        }
        self.link.io(Io::flush);
        let timeout = self.timeout(budget)?.min(longest.unwrap_or(Duration::MAX));
        let mut flags = PollFlags::POLLIN;
        // libssh2 itself never waits to write: `Io` takes everything.
        if self.link.io(|io| io.unsent()) > 0 {
            flags |= PollFlags::POLLOUT;
        }
        self.link.io(|io| poll_for_any(io.as_fd(), flags, beside, budget, timeout))?;
        self.link.io(|io| {
            if io.unsent() > 0 {
                io.flush();
            }
        });
        if let Some(liveness) = &mut self.liveness {
            liveness.last_wait = Instant::now();
        }
        budget.check(self.phase)
    }

    /// Returns how long to wait at most, after asking for a sign of life where one is due.
    fn timeout(&mut self, budget: &Budget) -> Result<Duration> {
        let mut timeout = budget.remaining().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        let Some(liveness) = &mut self.liveness else { return Ok(timeout) };
        let now = Instant::now();
        // Time in which nobody read from the host says nothing about the host.
        if now.duration_since(liveness.last_wait) > ABSENCE {
            liveness.silent_since = now;
        }
        let received = self.link.io(|io| io.last_received());
        if received > liveness.silent_since {
            liveness.silent_since = received;
            liveness.asked = 0;
        }
        let silence = now.duration_since(liveness.silent_since);
        let limit = liveness.interval.saturating_mul(liveness.count);
        if silence >= limit + liveness.lenience {
            let through = self.link.io(|io| io.through().map_or_else(String::new, |way| format!(", behind {way}")));
            let what = format!("no sign of life for {}{through}", seconds(limit + liveness.lenience));
            return Err(Error::new(ErrorKind::Disconnected, what).in_phase(self.phase));
        }
        if silence >= liveness.interval.saturating_mul(liveness.asked + 1) {
            liveness.asked += 1;
            self.link.send_keepalive();
        }
        let next = liveness.interval.saturating_mul(liveness.asked + 1).saturating_sub(silence);
        timeout = timeout.min(next);
        Ok(timeout)
    }
}

/// Polls one descriptor together with those of a stop.
pub(super) fn poll_for(fd: BorrowedFd<'_>, flags: PollFlags, budget: &Budget, timeout: Duration) -> Result<bool> {
    poll_for_any(fd, flags, None, budget, timeout)
}

/// Polls a descriptor, another one for reading, and those of a stop; tells whether the first is ready.
fn poll_for_any(
    fd: BorrowedFd<'_>,
    flags: PollFlags,
    beside: Option<BorrowedFd<'_>>,
    budget: &Budget,
    timeout: Duration,
) -> Result<bool> {
    let wake = budget.cancel_token().wake_fds();
    let timeout = if wake.is_complete() { timeout } else { timeout.min(BLIND_WAIT) };
    let mut fds = Vec::with_capacity(2 + wake.as_slice().len());
    fds.push(PollFd::new(fd, flags));
    fds.extend(beside.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    fds.extend(wake.as_slice().iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)));
    match poll(&mut fds, poll_timeout(timeout)) {
        Ok(_) => Ok(fds.first().and_then(PollFd::any).unwrap_or(false)),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(Error::new(ErrorKind::LocalLimit, "cannot wait on a socket").caused_by(errno)),
    }
}

/// Rounds up: a wait that ends a fraction early would spin.
pub(super) fn poll_timeout(timeout: Duration) -> PollTimeout {
    let millis = timeout.as_micros().div_ceil(1000);
    PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}
