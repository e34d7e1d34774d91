//! How long something may take and who may stop it: deadlines, cancellation, and time that is not charged.

use std::cell::Cell;
use std::fmt;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Phase};

/// How a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stop {
    /// No new host is started; what runs goes on to its end.
    Drain,
    /// What runs is ended too, its remote processes included.
    Abort,
}

/// Stops a run, or one job of it, from any thread.
///
/// Clones are the same token. A child made by [`CancelToken::child`] is stopped with its parent, never the other
/// way round. A stop is never taken back; [`Stop::Abort`] overrides [`Stop::Drain`].
#[derive(Clone)]
pub struct CancelToken(Arc<Token>);

struct Token {
    state: AtomicU8,
    parent: Option<CancelToken>,
    wake: OnceLock<Option<Wake>>,
    watchers: Mutex<Watchers>,
}

struct Wake {
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

type Watcher = Arc<dyn Fn(Stop) + Send + Sync>;

#[derive(Default)]
struct Watchers {
    next: u64,
    list: Vec<(u64, Watcher)>,
}

const RUNNING: u8 = 0;
const DRAINING: u8 = 1;
const ABORTING: u8 = 2;

fn stop_of(state: u8) -> Option<Stop> {
    match state {
        RUNNING => None,
        DRAINING => Some(Stop::Drain),
        _ => Some(Stop::Abort),
    }
}

impl CancelToken {
    /// Makes a token that nothing has stopped.
    pub fn new() -> Self {
        Self::with_parent(None)
    }

    /// Makes a token that is stopped by its own [`stop`](Self::stop) and by this one's.
    #[must_use]
    pub fn child(&self) -> Self {
        Self::with_parent(Some(self.clone()))
    }

    fn with_parent(parent: Option<Self>) -> Self {
        Self(Arc::new(Token {
            state: AtomicU8::new(RUNNING),
            parent,
            wake: OnceLock::new(),
            watchers: Mutex::default(),
        }))
    }

    /// Stops the run. Returns at once; waits for nothing.
    pub fn stop(&self, stop: Stop) {
        let state = match stop {
            Stop::Drain => DRAINING,
            Stop::Abort => ABORTING,
        };
        let before = self.0.state.fetch_max(state, Ordering::SeqCst);
        if before >= state {
            return;
        }
        if stop == Stop::Abort
            && let Some(Some(wake)) = self.0.wake.get()
        {
            wake.close();
        }
        let watchers: Vec<_> = self.watchers().list.iter().map(|(_, watcher)| Arc::clone(watcher)).collect();
        for watcher in watchers {
            watcher(stop);
        }
    }

    /// Returns how the token, or a parent of it, was stopped; the stronger of both.
    pub fn stopped(&self) -> Option<Stop> {
        let own = stop_of(self.0.state.load(Ordering::SeqCst));
        let inherited = self.0.parent.as_ref().and_then(Self::stopped);
        own.max(inherited)
    }

    /// Tells whether what runs has to end.
    pub fn is_aborted(&self) -> bool {
        self.stopped() == Some(Stop::Abort)
    }

    /// Calls `watcher` at each stop of this token or a parent, on the thread that stops, until the guard is dropped.
    ///
    /// A stop that came before is not reported: ask [`stopped`](Self::stopped) after subscribing.
    #[must_use]
    pub fn subscribe(&self, watcher: impl Fn(Stop) + Send + Sync + 'static) -> Subscription {
        let watcher: Watcher = Arc::new(watcher);
        let mut entries = Vec::new();
        let mut token = Some(self.clone());
        while let Some(current) = token {
            let id = {
                let mut watchers = current.watchers();
                watchers.next += 1;
                let id = watchers.next;
                watchers.list.push((id, Arc::clone(&watcher)));
                id
            };
            token = current.0.parent.clone();
            entries.push((current, id));
        }
        Subscription { entries }
    }

    /// Waits until this token or a parent is stopped at least as `stop`, and returns how; `None` once `until` came first.
    ///
    /// # Blocking
    /// Until then; forever when `until` is `None` and nobody stops it.
    pub fn wait(&self, stop: Stop, until: Option<Instant>) -> Option<Stop> {
        let bell = Arc::new((Mutex::new(()), Condvar::new()));
        let rung = Arc::clone(&bell);
        let _subscription = self.subscribe(move |_| {
            // Under the lock: whoever looked before this stop is already waiting.
            let _locked = rung.0.lock().unwrap_or_else(PoisonError::into_inner);
            rung.1.notify_all();
        });
        let mut locked = bell.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(stopped) = self.stopped().filter(|stopped| *stopped >= stop) {
                return Some(stopped);
            }
            locked = match until {
                None => bell.1.wait(locked).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    bell.1.wait_timeout(locked, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Returns the descriptors that become readable (hang up) at an abort, this token's and its parents', for `poll(2)`.
    ///
    /// A token whose pipe could not be made (no descriptors left) is missing: whoever polls then looks at
    /// [`is_aborted`](Self::is_aborted) at least every 100 ms, which [`WakeFds::is_complete`] tells.
    pub fn wake_fds(&self) -> WakeFds<'_> {
        let mut fds = WakeFds { fds: Vec::with_capacity(2), complete: true };
        let mut token = Some(self);
        while let Some(current) = token {
            match current.wake() {
                Some(wake) => fds.fds.push(wake.reader.as_fd()),
                None => fds.complete = false,
            }
            token = current.0.parent.as_ref();
        }
        fds
    }

    fn wake(&self) -> Option<&Wake> {
        let wake = self.0.wake.get_or_init(|| {
            let (reader, writer) = std::io::pipe().ok()?;
            Some(Wake { reader, writer: Mutex::new(Some(writer)) })
        });
        let wake = wake.as_ref()?;
        // A stop between the making of the pipe and its publication found nothing to close.
        if self.0.state.load(Ordering::SeqCst) == ABORTING {
            wake.close();
        }
        Some(wake)
    }

    fn watchers(&self) -> std::sync::MutexGuard<'_, Watchers> {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake {
    /// Closing the writing end hangs the reading end up: every poll on it returns, now and later.
    fn close(&self) {
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken").field("stopped", &self.stopped()).finish()
    }
}

/// Keeps a watcher of [`CancelToken::subscribe`] registered until it is dropped.
pub struct Subscription {
    entries: Vec<(CancelToken, u64)>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for (token, id) in &self.entries {
            token.watchers().list.retain(|(other, _)| other != id);
        }
    }
}

/// The descriptors of [`CancelToken::wake_fds`].
#[derive(Debug)]
pub struct WakeFds<'a> {
    fds: Vec<BorrowedFd<'a>>,
    complete: bool,
}

impl<'a> WakeFds<'a> {
    /// Returns the descriptors.
    pub fn as_slice(&self) -> &[BorrowedFd<'a>] {
        &self.fds
    }

    /// Tells whether every token has a descriptor; if not, poll for at most 100 ms at a time.
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

/// Which limit of a [`Budget`] ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The time limit of this step passed; the value is the limit.
    Timeout(Duration),
    /// The deadline of the whole run passed.
    Deadline,
    /// The run or the job was aborted.
    Cancelled,
}

impl Exceeded {
    /// Makes the error for a wait that ended in `phase`.
    pub fn in_phase(self, phase: Phase) -> Error {
        let error = match self {
            Self::Timeout(limit) => {
                Error::new(ErrorKind::Timeout, format!("{phase} timed out after {}", seconds(limit)))
            }
            Self::Deadline => Error::new(ErrorKind::Deadline, format!("the run's deadline passed in {phase}")),
            Self::Cancelled => Error::new(ErrorKind::Cancelled, format!("stopped in {phase}")),
        };
        error.in_phase(phase)
    }
}

/// Writes a limit as messages say it: `10s`, `1.5s`, `250ms`.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else if duration < Duration::from_secs(1) {
        format!("{}ms", duration.as_millis())
    } else {
        format!("{:.1}s", duration.as_secs_f64())
    }
}

/// A time limit, the run's deadline and a [`CancelToken`], carried through every call that may wait.
///
/// Time spent inside [`uncharged`](Self::uncharged) (a slow consumer, a queue) moves the time limit, never the
/// run's deadline. One thread owns a budget at a time.
#[derive(Clone, Debug)]
pub struct Budget {
    cancel: CancelToken,
    limit: Option<Limit>,
    run_deadline: Option<Instant>,
    credit: Cell<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    at: Instant,
    total: Duration,
}

impl Budget {
    /// Makes a budget without a time limit, ended by `cancel` alone.
    pub fn new(cancel: CancelToken) -> Self {
        Self { cancel, limit: None, run_deadline: None, credit: Cell::new(Duration::ZERO) }
    }

    /// Makes a budget of `total` that nothing can cancel: for the last words to a host after a stop.
    pub fn grace(total: Duration) -> Self {
        Self::new(CancelToken::new()).limited(total)
    }

    /// Sets the deadline of the whole run; it stands beside every time limit and is never moved.
    #[must_use]
    pub fn with_run_deadline(mut self, deadline: Option<Instant>) -> Self {
        self.run_deadline = deadline;
        self
    }

    /// Returns a budget with a fresh time limit of `total` from now, and the same cancellation and run deadline.
    #[must_use]
    pub fn limited(&self, total: Duration) -> Self {
        let limit = Instant::now().checked_add(total).map(|at| Limit { at, total });
        Self { cancel: self.cancel.clone(), limit, run_deadline: self.run_deadline, credit: Cell::new(Duration::ZERO) }
    }

    /// Returns a budget whose limit is `total` from now or this one's, whichever comes first.
    #[must_use]
    pub fn narrowed(&self, total: Duration) -> Self {
        let narrow = self.limited(total);
        match (self.limit_at(), narrow.limit_at()) {
            (Some(own), Some(new)) if own <= new => self.clone(),
            (Some(_), None) => self.clone(),
            _ => narrow,
        }
    }

    /// Returns the same budget ended by another token, such as a child of its own.
    #[must_use]
    pub fn with_token(&self, cancel: CancelToken) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// Returns the token that ends every wait under this budget.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Returns when the next wait must end, unless cancelled before.
    pub fn ends_at(&self) -> Option<Instant> {
        match (self.limit_at(), self.run_deadline) {
            (Some(limit), Some(deadline)) => Some(limit.min(deadline)),
            (limit, deadline) => limit.or(deadline),
        }
    }

    /// Returns how long a wait may still take: `None` without a limit, zero once it passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.ends_at().map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Returns what ended the budget, if something did; cancellation first.
    pub fn exceeded(&self) -> Option<Exceeded> {
        if self.cancel.is_aborted() {
            return Some(Exceeded::Cancelled);
        }
        let now = Instant::now();
        if self.run_deadline.is_some_and(|at| now >= at) {
            return Some(Exceeded::Deadline);
        }
        match (self.limit, self.limit_at()) {
            (Some(limit), Some(at)) if now >= at => Some(Exceeded::Timeout(limit.total)),
            _ => None,
        }
    }

    /// Fails once the budget is used up.
    ///
    /// # Errors
    /// `Timeout`, `Deadline` or `Cancelled`, in `phase`.
    pub fn check(&self, phase: Phase) -> Result<(), Error> {
        match self.exceeded() {
            Some(exceeded) => Err(exceeded.in_phase(phase)),
            None => Ok(()),
        }
    }

    /// Waits for `duration` (`None`: until the budget ends) and returns what ended the wait before its time.
    ///
    /// # Blocking
    /// For at most the budget; a cancellation ends the wait at once.
    pub fn pause(&self, duration: Option<Duration>) -> Option<Exceeded> {
        let wanted = duration.and_then(|duration| Instant::now().checked_add(duration));
        let until = match (wanted, self.ends_at()) {
            (Some(wanted), Some(end)) => Some(wanted.min(end)),
            (wanted, end) => wanted.or(end),
        };
        self.cancel.wait(Stop::Abort, until);
        match wanted {
            Some(at) if Instant::now() >= at => None,
            _ => self.exceeded(),
        }
    }

    /// Runs `work` and moves the time limit by as long as it took.
    pub fn uncharged<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = work();
        self.credit.set(self.credit.get() + start.elapsed());
        value
    }

    fn limit_at(&self) -> Option<Instant> {
        self.limit.map(|limit| limit.at.checked_add(self.credit.get()).unwrap_or(limit.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn abort_overrides_drain_and_is_never_taken_back() {
        let token = CancelToken::new();
        token.stop(Stop::Drain);
        assert_eq!(token.stopped(), Some(Stop::Drain));
        token.stop(Stop::Abort);
        token.stop(Stop::Drain);
        assert_eq!(token.stopped(), Some(Stop::Abort));
    }

    #[test]
    fn a_child_is_stopped_with_its_parent_and_not_the_reverse() {
        let parent = CancelToken::new();
        let child = parent.child();
        child.stop(Stop::Abort);
        assert_eq!(parent.stopped(), None);
        let other = parent.child();
        parent.stop(Stop::Abort);
        assert!(other.is_aborted());
    }

    #[test]
    fn wake_fds_hang_up_at_an_abort_before_or_after() {
        use std::io::Read;
        let token = CancelToken::new();
        let child = token.child();
        assert_eq!(child.wake_fds().as_slice().len(), 2);
        token.stop(Stop::Abort);
        let Some(Some(wake)) = token.0.wake.get() else { panic!("no pipe") };
        assert_eq!((&wake.reader).read(&mut [0; 1]).unwrap(), 0);

        let late = CancelToken::new();
        late.stop(Stop::Abort);
        assert!(late.wake_fds().is_complete());
        let Some(Some(wake)) = late.0.wake.get() else { panic!("no pipe") };
        assert_eq!((&wake.reader).read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn watchers_hear_the_parents_stop_until_dropped() {
        let heard = Arc::new(AtomicUsize::new(0));
        let parent = CancelToken::new();
        let child = parent.child();
        let count = Arc::clone(&heard);
        let subscription = child.subscribe(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        parent.stop(Stop::Drain);
        assert_eq!(heard.load(Ordering::SeqCst), 1);
        drop(subscription);
        parent.stop(Stop::Abort);
        assert_eq!(heard.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_pause_is_ended_by_its_time_its_budget_or_an_abort() {
        let token = CancelToken::new();
        let budget = Budget::new(token.child());
        assert_eq!(budget.pause(Some(Duration::from_millis(1))), None);
        let limit = Duration::from_millis(1);
        assert_eq!(budget.limited(limit).pause(Some(Duration::from_secs(60))), Some(Exceeded::Timeout(limit)));
        assert_eq!(budget.limited(limit).pause(None), Some(Exceeded::Timeout(limit)));
        std::thread::scope(|scope| {
            scope.spawn(|| token.stop(Stop::Abort));
            assert_eq!(budget.pause(None), Some(Exceeded::Cancelled));
        });
        assert_eq!(token.wait(Stop::Drain, None), Some(Stop::Abort));
    }

    #[test]
    fn uncharged_time_moves_the_limit_but_not_the_deadline() {
        let now = Instant::now();
        let budget = Budget::new(CancelToken::new()).limited(Duration::from_secs(5));
        budget.credit.set(Duration::from_secs(60));
        assert!(budget.ends_at().unwrap() > now + Duration::from_secs(60));
        let budget = budget.with_run_deadline(Some(now + Duration::from_secs(1)));
        assert!(budget.ends_at().unwrap() <= now + Duration::from_secs(1));
    }

    #[test]
    fn a_timeout_names_its_phase_and_limit() {
        let error = Exceeded::Timeout(Duration::from_secs(10)).in_phase(Phase::KeyExchange);
        assert_eq!(error.to_string(), "key exchange timed out after 10s");
        assert_eq!(
            Exceeded::Timeout(Duration::from_millis(1500)).in_phase(Phase::Login).to_string(),
            "login timed out after 1.5s"
        );
    }

    #[test]
    fn narrowing_never_widens() {
        let budget = Budget::new(CancelToken::new()).limited(Duration::from_secs(1));
        let narrowed = budget.narrowed(Duration::from_secs(100));
        assert_eq!(narrowed.ends_at(), budget.ends_at());
        assert!(budget.narrowed(Duration::ZERO).exceeded().is_some());
    }
}
