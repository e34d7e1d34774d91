//! Bastions: hosts behind one share its connection.
//!
//! [`Bastions`] has one [`Bastion`] for each that hosts are behind. Whoever needs a tunnel puts a [`Request`] into the
//! bastion's queue and gets one end of a socket pair; a pump thread (`pump`) for each connection to the bastion moves the
//! bytes between the other ends and the connection's channels. One connection serves all; more are made when opening a
//! channel is slow or stuck, because libssh2 opens one at a time (LIBSSH2.md section 4).

mod pump;
mod request;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;

use super::Reach;
use super::io::Reached;
use super::wait::Driver;
use crate::budget::{Budget, CancelToken, Stop};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Note;
use crate::host::Host;
use crate::transport::{RETRY_DELAY, Turn, Watch, is_drop_before_login, spread};
use pump::Pump;
use request::Request;

/// After how long an unanswered open counts as stuck: so many times as long as the fastest one took, and at least so long.
/// Nothing else can be opened on its connection.
const STUCK_FACTOR: u32 = 8;
const STUCK: Duration = Duration::from_millis(500);

/// How many connections are made to one bastion at once: with what else logs in there, below what sshd's `MaxStartups
/// 10:30:100` begins to drop.
const CONNECTING: usize = 4;

/// How long the queue may take at the pace of the fastest open before another connection is made.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many opens say something about the pace; the first ones are slow.
const OPENS: u32 = 16;

/// How many connections are made to one bastion because of its pace, and how many because opens are stuck.
const MAX_FOR_PACE: usize = 8;
const MAX_FOR_STUCK: usize = 32;

/// How long a bastion that could not be reached is not tried again.
const FAILURE_KEPT: Duration = Duration::from_secs(30);

/// The stack of a pump thread, in bytes.
const STACK: usize = 1024 * 1024;

/// The bastions of a run.
#[derive(Default)]
pub(super) struct Bastions {
    all: Mutex<Vec<Arc<Bastion>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    cancel: CancelToken,
}

impl Bastions {
    /// Opens a way to `host` through its bastion, which resolves the address.
    ///
    /// Waiting for the bastion's login and behind other hosts is not charged; the bastion's answer is.
    ///
    /// # Errors
    /// `Connect` when the bastion cannot be used or cannot connect; what ended the budget.
    pub(super) fn tunnel(
        &self,
        reach: &Arc<Reach>,
        bastion: &Arc<Host>,
        host: &Host,
        watch: &dyn Watch,
        budget: &Budget,
    ) -> Result<Reached> {
        let bastion = self.bastion(bastion);
        let request = Arc::new(Request::new(&host.address, host.port));
        bastion.push(reach, &request)?;
        let answer = request.wait(budget);
        bastion.tell(watch);
        answer
    }

    /// Ends every connection and waits for its thread.
    pub(super) fn stop(&self) {
        self.cancel.stop(Stop::Abort);
        loop {
            let thread = lock(&self.threads).pop();
            let Some(thread) = thread else { return };
            // A pump that panicked has dropped its tunnels, which is what is wanted.
            let _ = thread.join();
        }
    }

    fn bastion(&self, host: &Arc<Host>) -> Arc<Bastion> {
        let mut all = lock(&self.all);
        let is_it = |other: &&Arc<Bastion>| Arc::ptr_eq(&other.host, host) || *other.host == **host;
        if let Some(bastion) = all.iter().find(is_it) {
            return Arc::clone(bastion);
        }
        let bastion = Arc::new(Bastion { host: Arc::clone(host), state: Mutex::default() });
        all.push(Arc::clone(&bastion));
        bastion
    }

    /// Starts the thread of another connection. The caller has counted it as connecting.
    fn spawn(&self, reach: &Arc<Reach>, bastion: &Arc<Bastion>) -> Result<()> {
        let (reach, bastion, cancel) = (Arc::clone(reach), Arc::clone(bastion), self.cancel.clone());
        let thread = Builder::new().name("fleet-bastion".to_owned()).stack_size(STACK);
        let thread = thread.spawn(move || serve(&reach, &bastion, &cancel)).map_err(|cause| {
            Error::new(ErrorKind::LocalLimit, "cannot start a thread").caused_by(cause).in_phase(Phase::Connect)
        })?;
        let mut threads = lock(&self.threads);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }
}

impl fmt::Debug for Bastions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bastions").finish_non_exhaustive()
    }
}

/// One bastion, its connections and who waits for it.
struct Bastion {
    host: Arc<Host>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Request>>,
    pumps: Vec<Entry>,
    made: u64,
    connecting: usize,
    /// Why the bastion could not be used, and until when nobody tries again.
    failure: Option<(Error, Option<Instant>)>,
    /// How many opens that was measured over.
    opens: u32,
    /// Until when no further connection is tried, after one could not be made.
    enough_until: Option<Instant>,
    /// What happened on the way to the bastion, for the next host to tell.
    notes: Vec<(Arc<Host>, Note)>,
    /// How long the fastest open took: the round trip, whatever else this machine was doing.
    pace: Duration,
}

/// One connection.
struct Entry {
    id: u64,
    waker: Arc<Waker>,
    /// Since when it has an open under way.
    opening: Option<Instant>,
}

impl State {
    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.pumps.iter_mut().find(|entry| entry.id == id)
    }

    /// Tells whether another connection is wanted.
    ///
    /// Each open that is stuck takes a connection away, and where some targets never answer more will: as many are kept
    /// ready as are stuck, so that their number doubles while the targets that answer are served.
    fn wants_more(&self) -> bool {
        if self.queue.is_empty() || self.connecting >= CONNECTING {
            return false;
        }
        let count = self.pumps.len() + self.connecting;
        if count == 0 {
            return true;
        }
        if self.enough_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let limit = STUCK.max(self.pace.saturating_mul(STUCK_FACTOR));
        let is_stuck = |entry: &&Entry| entry.opening.is_some_and(|since| since.elapsed() > limit);
        let stuck = self.pumps.iter().filter(is_stuck).count();
        if stuck > 0 && count - stuck < stuck {
            return count < MAX_FOR_STUCK;
        }
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        let left = self.pace.saturating_mul(waiting) / u32::try_from(count).unwrap_or(u32::MAX).max(1);
        count < MAX_FOR_PACE && left > PATIENCE && self.opens >= OPENS
    }

    fn fail_all(&mut self, error: &Error) {
        for request in self.queue.drain(..) {
            request.answer(Err(error.clone()));
        }
    }
}

impl Bastion {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Queues a request and sees to it that somebody serves it.
    fn push(self: &Arc<Self>, reach: &Arc<Reach>, request: &Arc<Request>) -> Result<()> {
        {
            let mut state = self.lock();
            match &state.failure {
                Some((error, until)) if until.is_none_or(|until| Instant::now() < until) => return Err(error.clone()),
                _ => state.failure = None,
            }
            state.queue.push_back(Arc::clone(request));
            if let Some(idle) = state.pumps.iter().find(|entry| entry.opening.is_none()) {
                // A pump that cannot be woken looks at the queue within a second.
                let _ = idle.waker.wake();
                return Ok(());
            }
        }
        self.grow(reach);
        Ok(())
    }

    /// Makes another connection if one is wanted.
    fn grow(self: &Arc<Self>, reach: &Arc<Reach>) {
        loop {
            let mut state = self.lock();
            if !state.wants_more() {
                return;
            }
            state.connecting += 1;
            drop(state);
            if let Err(error) = reach.bastions.spawn(reach, self) {
                let mut state = self.lock();
                state.connecting -= 1;
                state.enough_until = Some(Instant::now() + FAILURE_KEPT);
                if state.pumps.is_empty() && state.connecting == 0 {
                    state.fail_all(&error);
                }
                return;
            }
        }
    }

    /// Tells what happened on the way to the bastion, once.
    fn tell(&self, watch: &dyn Watch) {
        let notes = std::mem::take(&mut self.lock().notes);
        for (host, note) in notes {
            watch.note_about(&host, note);
        }
    }

    /// Takes the next request for a connection to open.
    fn next(&self, id: u64) -> Option<Arc<Request>> {
        let mut state = self.lock();
        loop {
            let request = state.queue.pop_front()?;
            if request.begin() {
                if let Some(entry) = state.entry(id) {
                    entry.opening = Some(Instant::now());
                }
                return Some(request);
            }
        }
    }

    /// Notes that an open was answered.
    fn opened(&self, id: u64) {
        let mut state = self.lock();
        if let Some(since) = state.entry(id).and_then(|entry| entry.opening.take()) {
            let took = since.elapsed();
            state.opens = state.opens.saturating_add(1);
            state.pace = if state.pace.is_zero() { took } else { state.pace.min(took) };
        }
    }

    /// Gives up a connection that nobody needs. `false`: somebody does after all.
    fn retire(&self, id: u64) -> bool {
        let mut state = self.lock();
        if !state.queue.is_empty() {
            return false;
        }
        state.pumps.retain(|entry| entry.id != id);
        true
    }

    /// Makes the error of everybody behind a bastion that cannot be used.
    fn unusable(&self, error: &Error) -> Error {
        // What would be tried again is the bastion's connection, and it was.
        let kind = match error.kind() {
            kind @ (ErrorKind::Breaker | ErrorKind::LocalLimit | ErrorKind::Cancelled) => kind,
            _ => ErrorKind::Connect,
        };
        let what = format!("the bastion {} cannot be used: {}", self.host.name, error.chain());
        Error::new(kind, what).in_phase(if kind == ErrorKind::Breaker { Phase::Queued } else { Phase::Connect })
    }
}

/// Connects to a bastion and serves tunnels until nobody needs it.
fn serve(reach: &Arc<Reach>, bastion: &Arc<Bastion>, cancel: &CancelToken) {
    let mut place = Place { reach, bastion, id: None };
    let connected = connect(reach, bastion, cancel).and_then(|driver| Pump::new(reach, bastion, driver));
    let mut state = bastion.lock();
    let pump = match connected {
        Ok(mut pump) => {
            state.connecting -= 1;
            state.made += 1;
            pump.id = state.made;
            place.id = Some(pump.id);
            state.pumps.push(Entry { id: pump.id, waker: pump.waker(), opening: None });
            pump
        }
        Err(error) => {
            let is_final = matches!(error.kind(), ErrorKind::Login | ErrorKind::HostKey | ErrorKind::Breaker);
            let error = bastion.unusable(&error);
            state.enough_until = Some(Instant::now() + FAILURE_KEPT);
            // Others may serve still. Nobody is let try again what was refused.
            if state.pumps.is_empty() && state.connecting == 1 {
                state.fail_all(&error);
                state.failure = Some((error, (!is_final).then(|| Instant::now() + FAILURE_KEPT)));
            }
            return;
        }
    };
    drop(state);
    pump.run(cancel);
}

/// A connection's place among those of its bastion; cleared also when its thread panics.
struct Place<'a> {
    reach: &'a Arc<Reach>,
    bastion: &'a Arc<Bastion>,
    /// Set once it serves.
    id: Option<u64>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.bastion.lock();
        match self.id {
            Some(id) => state.pumps.retain(|entry| entry.id != id),
            None => state.connecting -= 1,
        }
        if std::thread::panicking() && state.pumps.is_empty() && state.connecting == 0 {
            let what = format!("the connection to the bastion {} panicked", self.bastion.host.name);
            state.fail_all(&Error::new(ErrorKind::Panic, what).in_phase(Phase::Connect));
        }
        drop(state);
        self.bastion.grow(self.reach);
    }
}

/// Logs in to a bastion, again after a drop before the login, as hosts are.
fn connect(reach: &Arc<Reach>, bastion: &Bastion, cancel: &CancelToken) -> Result<Driver> {
    let host = &bastion.host;
    let budget = Budget::new(cancel.clone()).limited(host.timeouts.connect);
    let mut attempt = 1;
    loop {
        let error = match reach.login(host, &BastionWatch { bastion }, &budget) {
            Ok((driver, _)) => return Ok(driver),
            Err(error) => error,
        };
        let delay = spread(RETRY_DELAY, attempt - 1);
        let is_over = budget.remaining().is_some_and(|left| left <= delay);
        if attempt > host.retries || is_over || !is_drop_before_login(&error) {
            return Err(error);
        }
        bastion.lock().notes.push((Arc::clone(host), Note::Retrying { attempt, error, delay }));
        if let Some(exceeded) = budget.pause(Some(delay)) {
            return Err(exceeded.in_phase(Phase::Connect));
        }
        attempt += 1;
    }
}

/// Keeps what is to be told until a host tells it. A bastion needs no turn: one connection is made at a time.
struct BastionWatch<'a> {
    bastion: &'a Bastion,
}

impl Watch for BastionWatch<'_> {
    fn phase(&self, _: Phase) {}

    fn note(&self, note: Note) {
        self.note_about(&self.bastion.host, note);
    }

    fn note_about(&self, bastion: &Arc<Host>, note: Note) {
        self.bastion.lock().notes.push((Arc::clone(bastion), note));
    }

    fn turn(&self, _: &str, _: &Budget) -> Result<Turn> {
        Ok(Turn::default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
