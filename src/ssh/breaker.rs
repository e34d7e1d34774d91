//! Keeps a wrong password from locking an account on every host of a fleet.
//!
//! Until one login with a secret was accepted, the logins in flight with it never exceed its allowance minus the refusals
//! so far. The first acceptance opens the gate for good; once the allowance is used up, nobody tries any more.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::budget::{Budget, Exceeded};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::Secret;

/// How many refusals a secret is allowed: one that was typed may be a slip of the hand, and nobody checked it before.
const ALLOWANCE: usize = 3;
const ALLOWANCE_OF_TYPED: usize = 1;

/// How long one wait lasts at most before the budget is looked at.
const SLICE: Duration = Duration::from_millis(100);

/// The breakers of a run, one for each user and secret.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<(String, Secret), Arc<Breaker>>>);

#[derive(Debug)]
struct Breaker {
    user: String,
    allowance: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    in_flight: usize,
    refused: usize,
}

/// Leave to try a secret once. Dropped without a word, it is handed on: something else was in the way.
#[derive(Debug)]
pub(super) struct Leave {
    breaker: Arc<Breaker>,
    /// Whether it counts: none does any more once the gate is open.
    is_counted: bool,
}

impl Breakers {
    /// Waits for leave to try a secret; the wait is not charged to the host.
    ///
    /// # Errors
    /// `Breaker` when the allowance is used up; `Cancelled` or `Deadline` when the run ends first.
    pub(super) fn enter(&self, user: &str, secret: &Secret, budget: &Budget) -> Result<Leave> {
        let breaker = {
            let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Breaker::new(user, secret));
            Arc::clone(breakers.entry((user.to_owned(), secret.clone())).or_insert_with(new))
        };
        let mut state = breaker.lock();
        loop {
            if state.is_open {
                drop(state);
                return Ok(Leave { breaker, is_counted: false });
            }
            if state.refused >= breaker.allowance {
                return Err(breaker.used_up(state.refused));
            }
            if state.in_flight + state.refused < breaker.allowance {
                state.in_flight += 1;
                drop(state);
                return Ok(Leave { breaker, is_counted: true });
            }
            if let Some(exceeded @ (Exceeded::Cancelled | Exceeded::Deadline)) = budget.exceeded() {
                return Err(exceeded.in_phase(Phase::Login));
            }
            state = budget.uncharged(|| {
                let waited = breaker.changed.wait_timeout(state, SLICE);
                waited.unwrap_or_else(PoisonError::into_inner).0
            });
        }
    }
}

impl Breaker {
    fn new(user: &str, secret: &Secret) -> Self {
        let allowance = if secret.is_typed() { ALLOWANCE_OF_TYPED } else { ALLOWANCE };
        Self { user: user.to_owned(), allowance, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used_up(&self, refused: usize) -> Error {
        let times = if refused == 1 { "once".to_owned() } else { format!("{refused} times") };
        let what = format!("not tried: the password of {} was refused {times}, and nowhere accepted", self.user);
        Error::new(ErrorKind::Breaker, what).in_phase(Phase::Queued)
    }
}

impl Leave {
    /// Tells that the secret was accepted: everybody may go on.
    pub(super) fn accepted(self) {
        self.breaker.lock().is_open = true;
    }

    /// Tells that the secret was refused.
    pub(super) fn refused(self) {
        self.breaker.lock().refused += 1;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        if self.is_counted {
            self.breaker.lock().in_flight -= 1;
        }
        self.breaker.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{CancelToken, Stop};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn budget() -> Budget {
        Budget::new(CancelToken::new()).limited(Duration::from_millis(10))
    }

    #[test]
    fn no_more_than_the_allowance_ever_tries_a_wrong_secret() {
        for (secret, allowance) in [(Secret::from("x"), 3), (Secret::typed("x"), 1)] {
            let breakers = Breakers::default();
            let tried = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..50 {
                    scope.spawn(|| match breakers.enter("ops", &secret, &budget()) {
                        Ok(leave) => {
                            tried.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            leave.refused();
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Breaker),
                    });
                }
            });
            assert_eq!(tried.into_inner(), allowance);
        }
    }

    #[test]
    fn a_place_is_handed_on_and_an_acceptance_opens_the_gate() {
        let breakers = Breakers::default();
        let secret = Secret::typed("x");
        drop(breakers.enter("ops", &secret, &budget()).unwrap());
        let first = breakers.enter("ops", &secret, &budget()).unwrap();
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                (0..20).map(|_| scope.spawn(|| breakers.enter("ops", &secret, &budget()).is_ok())).collect();
            first.accepted();
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
        // A refusal after that is one host's affair.
        breakers.enter("ops", &secret, &budget()).unwrap().refused();
        assert!(breakers.enter("ops", &secret, &budget()).is_ok());
    }

    #[test]
    fn another_user_or_secret_is_another_matter_and_a_stop_ends_the_wait() {
        let breakers = Breakers::default();
        let _held = breakers.enter("ops", &Secret::typed("x"), &budget()).unwrap();
        assert!(breakers.enter("root", &Secret::typed("x"), &budget()).is_ok());
        assert!(breakers.enter("ops", &Secret::typed("y"), &budget()).is_ok());
        let cancel = CancelToken::new();
        cancel.stop(Stop::Abort);
        let error = breakers.enter("ops", &Secret::typed("x"), &Budget::new(cancel)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
