//! The handle by which a run is stopped from outside: by a signal handler, a sink, another thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::budget::{CancelToken, Stop};
use crate::event::StopReason;

/// Stops one run, says why, and tells how far it is. Clones control the same run.
///
/// Make one per run: a stop is never taken back, so a run that is given a stopped control starts no host.
///
/// # Examples
///
/// ```
/// use fleet::pool::RunControl;
/// use fleet::{Stop, event::StopReason};
///
/// let control = RunControl::new();
/// control.stop(Stop::Drain, StopReason::Interrupt);
/// assert_eq!(control.cancel_token().stopped(), Some(Stop::Drain));
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunControl(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancel: CancelToken,
    reason: Mutex<Option<StopReason>>,
    queued: AtomicUsize,
    running: AtomicUsize,
}

impl RunControl {
    /// Makes a control that nothing has stopped.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run for a reason. Returns at once; waits for nothing.
    ///
    /// The first reason stays, but for a signal's (interrupt, terminate, hangup), which overrides the others.
    pub fn stop(&self, stop: Stop, reason: StopReason) {
        {
            let mut current = self.lock_reason();
            if current.is_none_or(|current| is_signal(reason) && !is_signal(current)) {
                *current = Some(reason);
            }
        }
        self.0.cancel.stop(stop);
    }

    /// Returns the token that every wait of the run obeys. A stop by the token alone counts as an interrupt.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.0.cancel
    }

    /// Returns how the run was stopped, and why.
    pub fn stopped(&self) -> Option<(Stop, StopReason)> {
        let stop = self.0.cancel.stopped()?;
        Some((stop, self.lock_reason().unwrap_or(StopReason::Interrupt)))
    }

    /// Returns how many hosts wait for a worker: with none, draining would change nothing.
    pub fn queued(&self) -> usize {
        self.0.queued.load(Ordering::SeqCst)
    }

    /// Returns how many hosts are in flight.
    pub fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    pub(super) fn queue(&self, hosts: usize) {
        self.0.queued.store(hosts, Ordering::SeqCst);
    }

    pub(super) fn unqueue(&self, hosts: usize) {
        self.0.queued.fetch_sub(hosts, Ordering::SeqCst);
    }

    pub(super) fn start_one(&self) {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        self.unqueue(1);
    }

    pub(super) fn finish_one(&self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn requeue_one(&self) {
        self.0.queued.fetch_add(1, Ordering::SeqCst);
        self.finish_one();
    }

    fn lock_reason(&self) -> MutexGuard<'_, Option<StopReason>> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_signal(reason: StopReason) -> bool {
    matches!(reason, StopReason::Interrupt | StopReason::Terminate | StopReason::Hangup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_unless_a_signal_comes() {
        let control = RunControl::new();
        assert_eq!(control.stopped(), None);
        control.stop(Stop::Drain, StopReason::Threshold);
        control.stop(Stop::Drain, StopReason::Output);
        assert_eq!(control.stopped(), Some((Stop::Drain, StopReason::Threshold)));
        control.stop(Stop::Abort, StopReason::Terminate);
        control.stop(Stop::Abort, StopReason::Interrupt);
        assert_eq!(control.stopped(), Some((Stop::Abort, StopReason::Terminate)));
    }
}
