//! The handle by which a run is stopped from outside: by a signal handler, a sink, another thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::budget::{CancelToken, Stop};
use crate::error::Phase;
use crate::event::StopReason;
use crate::host::Host;

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
    /// By the host's place in the run.
    in_flight: Mutex<BTreeMap<usize, InFlight>>,
}

/// A host that a worker has at this moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InFlight {
    /// Which host.
    pub host: Arc<Host>,
    /// The phase it is in; queued while it waits for a turn to log in, or out of the splay.
    pub phase: Phase,
    /// When its worker took it.
    pub since: Instant,
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
        self.lock_in_flight().len()
    }

    /// Returns the hosts in flight and where each is, in the order of their submission.
    pub fn in_flight(&self) -> Vec<InFlight> {
        self.lock_in_flight().values().cloned().collect()
    }

    pub(super) fn queue(&self, hosts: usize) {
        self.0.queued.store(hosts, Ordering::SeqCst);
    }

    pub(super) fn unqueue(&self, hosts: usize) {
        self.0.queued.fetch_sub(hosts, Ordering::SeqCst);
    }

    pub(super) fn start_one(&self, index: usize, host: &Arc<Host>) {
        let flight = InFlight { host: Arc::clone(host), phase: Phase::Queued, since: Instant::now() };
        self.lock_in_flight().insert(index, flight);
        self.unqueue(1);
    }

    pub(super) fn enter(&self, index: usize, phase: Phase) {
        if let Some(flight) = self.lock_in_flight().get_mut(&index) {
            flight.phase = phase;
        }
    }

    pub(super) fn finish_one(&self, index: usize) {
        self.lock_in_flight().remove(&index);
    }

    pub(super) fn requeue_one(&self, index: usize) {
        self.0.queued.fetch_add(1, Ordering::SeqCst);
        self.finish_one(index);
    }

    fn lock_in_flight(&self) -> MutexGuard<'_, BTreeMap<usize, InFlight>> {
        self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
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
