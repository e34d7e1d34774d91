//! What a caller of an asynchronous job holds.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::jobs::{Inner, collects_for};
use super::report::Task;
use crate::budget::{CancelToken, Stop};
use crate::error::{Error, ErrorKind};
use crate::event::HostResult;
use crate::host::Host;

/// Where a job's result waits for its handle.
pub(super) struct Slot<T> {
    result: Mutex<Option<HostResult<T>>>,
    resolved: Condvar,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self { result: Mutex::new(None), resolved: Condvar::new() }
    }

    pub(super) fn resolve(&self, result: HostResult<T>) {
        *self.lock() = Some(result);
        self.resolved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Option<HostResult<T>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the result, and leaves it in its place.
    fn wait(&self, until: Option<Instant>) -> MutexGuard<'_, Option<HostResult<T>>> {
        let mut result = self.lock();
        while result.is_none() {
            result = match until {
                None => self.resolved.wait(result).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.resolved.wait_timeout(result, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        result
    }
}

/// One asynchronous job: wait for its result, or cancel it. Dropping the handle leaves the job alone.
///
/// Every job's handle is resolved exactly once: by its result, or as cancelled when it or its pool was stopped.
pub struct Handle<T> {
    pub(super) slot: Arc<Slot<T>>,
    pub(super) host: Arc<Host>,
    pub(super) pool: Weak<Inner>,
    pub(super) pool_id: u64,
    pub(super) job: u64,
    pub(super) token: CancelToken,
    pub(super) submitted: Instant,
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("host", &self.host.name).field("is_ready", &self.ready()).finish_non_exhaustive()
    }
}

impl<T> Handle<T> {
    /// Returns the host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Waits for the result.
    ///
    /// Inside a callback of the same pool, a job that is not done yet gives an error of kind
    /// [`Usage`](ErrorKind::Usage): its result could only come after the callback.
    ///
    /// # Blocking
    /// Until the job's callback returned.
    pub fn get(self) -> HostResult<T> {
        if !self.ready() && collects_for(self.pool_id) {
            let task = Task { host: &self.host, index: 0, total: 1, submitted: self.submitted };
            let what = "cannot wait for a job inside a callback of its pool";
            return task.without_worker(Error::new(ErrorKind::Usage, what));
        }
        loop {
            if let Some(result) = self.slot.wait(None).take() {
                return result;
            }
        }
    }

    /// Waits for the result for at most `timeout`.
    ///
    /// # Errors
    /// The handle, when the job is not done by then.
    pub fn get_timeout(self, timeout: Duration) -> Result<HostResult<T>, Self> {
        if !self.wait(timeout) {
            return Err(self);
        }
        let result = self.slot.lock().take();
        result.ok_or(self)
    }

    /// Waits until the job is done, for at most `timeout` (`None`: as long as it takes), and tells whether it is.
    ///
    /// Inside a callback of the same pool it does not wait.
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> bool {
        if collects_for(self.pool_id) {
            return self.ready();
        }
        // A time that no clock can tell is as good as none.
        let until = timeout.into().and_then(|timeout| Instant::now().checked_add(timeout));
        self.slot.wait(until).is_some()
    }

    /// Tells whether the job is done.
    pub fn ready(&self) -> bool {
        self.slot.lock().is_some()
    }

    /// Tells whether the job ended well; `None` while it is not done.
    pub fn successful(&self) -> Option<bool> {
        self.slot.lock().as_ref().map(HostResult::is_ok)
    }

    /// Cancels the job and tells whether it was not done yet. May be called again.
    ///
    /// A job that waits is never started; what a running one does is aborted, its remote process included. The result comes
    /// through the handle and the callback as any other: `not_started` or `cancelled`, or what it was if the job ended
    /// before it heard.
    pub fn cancel(&self) -> bool {
        let is_late = self.ready();
        self.token.stop(Stop::Abort);
        if let Some(pool) = self.pool.upgrade() {
            pool.give_up(self.job);
        }
        !is_late
    }
}
