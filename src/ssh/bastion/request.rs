//! One host's wish for a way through a bastion.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::budget::{Budget, Exceeded};
use crate::error::{Phase, Result};
use crate::ssh::io::Reached;

/// How long one wait may last, where nothing else ends it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A wish for a connection from the bastion to an address.
pub(super) struct Request {
    pub(super) address: String,
    pub(super) port: u16,
    step: Mutex<Step>,
    changed: Condvar,
}

enum Step {
    /// In the queue: not charged to the host.
    Waiting,
    /// The bastion was asked.
    Opening,
    Answered(Result<Reached>),
    /// Nobody waits any more.
    Abandoned,
}

impl Request {
    pub(super) fn new(address: &str, port: u16) -> Self {
        Self { address: address.to_owned(), port, step: Mutex::new(Step::Waiting), changed: Condvar::new() }
    }

    /// Notes that the bastion is being asked. `false`: nobody waits any more.
    pub(super) fn begin(&self) -> bool {
        let mut step = self.lock();
        let is_wanted = matches!(*step, Step::Waiting | Step::Opening);
        if is_wanted {
            *step = Step::Opening;
            self.changed.notify_all();
        }
        is_wanted
    }

    /// Notes that the bastion has to be asked anew.
    pub(super) fn again(&self) {
        let mut step = self.lock();
        if matches!(*step, Step::Opening) {
            *step = Step::Waiting;
        }
    }

    /// Tells whether somebody still waits.
    pub(super) fn is_wanted(&self) -> bool {
        !matches!(*self.lock(), Step::Abandoned)
    }

    /// Hands the answer over; it is dropped when nobody waits for it.
    pub(super) fn answer(&self, answer: Result<Reached>) {
        let mut step = self.lock();
        if !matches!(*step, Step::Abandoned) {
            *step = Step::Answered(answer);
            self.changed.notify_all();
        }
    }

    /// Waits for the answer; time in the queue is not charged.
    pub(super) fn wait(self: &Arc<Self>, budget: &Budget) -> Result<Reached> {
        let request = Arc::clone(self);
        let _subscription = budget.cancel_token().subscribe(move |_| {
            // Under the lock: whoever looked before this stop is already waiting.
            let _step = request.lock();
            request.changed.notify_all();
        });
        let mut step = self.lock();
        loop {
            if matches!(*step, Step::Answered(_)) {
                return match std::mem::replace(&mut *step, Step::Abandoned) {
                    Step::Answered(answer) => answer,
                    _ => unreachable!("looked at above, under the same lock"),
                };
            }
            let is_charged = matches!(*step, Step::Opening);
            let ended = budget.exceeded().filter(|exceeded| is_charged || !matches!(exceeded, Exceeded::Timeout(_)));
            if let Some(exceeded) = ended {
                *step = Step::Abandoned;
                return Err(exceeded.in_phase(Phase::Connect));
            }
            let limit = budget.remaining().filter(|left| !left.is_zero()).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
            let wait = |step| self.changed.wait_timeout(step, limit).unwrap_or_else(PoisonError::into_inner).0;
            step = if is_charged { wait(step) } else { budget.uncharged(|| wait(step)) };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when an open is under way, and for whom.
pub(super) struct Opening {
    pub(super) request: Arc<Request>,
    pub(super) since: Instant,
}
