//! Keeps a wrong password from locking an account on every host of a fleet.
//!
//! Until one try of a secret was accepted, the tries in flight with it never exceed its allowance minus the refusals so far.
//! The first acceptance opens the gate for good; once the allowance is used up, nobody tries any more.
//!
//! A login tries at once. sudo may not ask at all: so whoever runs it [visits](Visit), begins as if it were to ask, and each that
//! was not asked lets one more begin. Few then sit at a prompt that nobody will answer if the secret is wrong.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::budget::{Budget, CancelToken, Exceeded, Stop};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::Secret;

/// How many refusals a secret is allowed: one that was typed may be a slip of the hand, and nobody checked it before.
const ALLOWANCE: usize = 3;
const ALLOWANCE_OF_TYPED: usize = 1;

/// How long one wait lasts at most before the budget is looked at.
const SLICE: Duration = Duration::from_millis(100);

/// The breakers of a run, one for each user and secret. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakers(Arc<Mutex<BySecret>>);

/// One for each user and secret.
type BySecret = HashMap<(String, Secret), Arc<Breaker>>;

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
    /// How many have begun and do not try yet.
    begun: usize,
    in_flight: usize,
    refused: usize,
    /// How many were never asked for the secret.
    unasked: usize,
    /// Stopped at the next change.
    waiting: Vec<CancelToken>,
}

/// Leave to try a secret once. Dropped without a word, it is handed on: something else was in the way.
#[derive(Debug)]
pub(crate) struct Leave {
    breaker: Arc<Breaker>,
    /// Whether it counts: none does any more once the gate is open.
    is_counted: bool,
}

/// The way of one who may be asked for a secret, or may not. Dropped, it is out of everybody's way.
#[derive(Debug)]
pub(crate) struct Visit {
    breaker: Arc<Breaker>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Outside,
    /// Begun, and whether that counts.
    Begun(bool),
    Trying(Leave),
    Over,
}

impl Breakers {
    fn of(&self, user: &str, secret: &Secret) -> Arc<Breaker> {
        let mut breakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Breaker::new(user, secret));
        Arc::clone(breakers.entry((user.to_owned(), secret.clone())).or_insert_with(new))
    }

    /// Waits for leave to try a secret; the wait is not charged to the host.
    ///
    /// # Errors
    /// `Breaker` when the allowance is used up; `Cancelled` or `Deadline` when the run ends first.
    pub(crate) fn enter(&self, user: &str, secret: &Secret, budget: &Budget) -> Result<Leave> {
        let breaker = self.of(user, secret);
        let mut state = breaker.lock();
        loop {
            if let Some(is_counted) = breaker.may_try(&mut state)? {
                drop(state);
                return Ok(Leave { breaker, is_counted });
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

    /// Announces one who may be asked for a secret.
    pub(crate) fn visit(&self, user: &str, secret: &Secret) -> Visit {
        Visit { breaker: self.of(user, secret), stage: Stage::Outside }
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

    /// Counts a try if one more may be in flight, and tells whether it counts; `None` when it may not yet.
    fn may_try(&self, state: &mut State) -> Result<Option<bool>> {
        if state.is_open {
            return Ok(Some(false));
        }
        self.check(state)?;
        if state.in_flight + state.refused >= self.allowance {
            return Ok(None);
        }
        state.in_flight += 1;
        Ok(Some(true))
    }

    fn may_begin(&self, state: &mut State) -> Result<Option<bool>> {
        if state.is_open {
            return Ok(Some(false));
        }
        self.check(state)?;
        if state.begun + state.in_flight + state.refused >= self.allowance + state.unasked {
            return Ok(None);
        }
        state.begun += 1;
        Ok(Some(true))
    }

    fn check(&self, state: &State) -> Result<()> {
        if state.refused < self.allowance {
            return Ok(());
        }
        let times = if state.refused == 1 { "once".to_owned() } else { format!("{} times", state.refused) };
        let what = format!("not tried: the password of {} was refused {times}, and nowhere accepted", self.user);
        Err(Error::new(ErrorKind::Breaker, what).in_phase(Phase::Queued))
    }

    /// Changes the counts, and lets everybody who waits look at them again.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.lock();
            change(&mut state);
            std::mem::take(&mut state.waiting)
        };
        self.changed.notify_all();
        for woken in waiting {
            woken.stop(Stop::Abort);
        }
    }
}

impl Leave {
    /// Tells that the secret was accepted: everybody may go on.
    pub(crate) fn accepted(self) {
        self.breaker.change(|state| state.is_open = true);
    }

    /// Tells that the secret was refused.
    pub(crate) fn refused(self) {
        // Counted before the leave is given back: nobody gets in between.
        self.breaker.lock().refused += 1;
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let is_counted = self.is_counted;
        self.breaker.change(|state| state.in_flight -= usize::from(is_counted));
    }
}

impl Visit {
    /// Begins, if that may be now; else `woken` is stopped when it may be worth another look.
    ///
    /// # Errors
    /// `Breaker` when the allowance is used up.
    pub(crate) fn begin(&mut self, woken: &CancelToken) -> Result<bool> {
        let mut state = self.breaker.lock();
        let leave = self.breaker.may_begin(&mut state)?;
        match leave {
            Some(is_counted) => self.stage = Stage::Begun(is_counted),
            None => state.waiting.push(woken.clone()),
        }
        Ok(leave.is_some())
    }

    /// Begins to try the secret, as [`begin`](Self::begin) begins.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub(crate) fn try_secret(&mut self, woken: &CancelToken) -> Result<bool> {
        let mut state = self.breaker.lock();
        let Some(is_counted) = self.breaker.may_try(&mut state)? else {
            state.waiting.push(woken.clone());
            return Ok(false);
        };
        state.begun -= usize::from(matches!(self.stage, Stage::Begun(true)));
        self.stage = Stage::Trying(Leave { breaker: Arc::clone(&self.breaker), is_counted });
        Ok(true)
    }

    /// Tells that it was let in: by the secret, if it tried that.
    pub(crate) fn accepted(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Trying(leave) => leave.accepted(),
            Stage::Begun(is_counted) => self.breaker.change(|state| {
                state.begun -= usize::from(is_counted);
                state.unasked += 1;
            }),
            Stage::Outside | Stage::Over => {}
        }
    }

    /// Tells that it was turned away: for the secret, if it tried that.
    pub(crate) fn refused(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Trying(leave) => leave.refused(),
            stage => self.stage = stage,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Stage::Begun(true) = self.stage {
            self.breaker.change(|state| state.begun -= 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// Begins, and tells whether that may be now.
    fn begin(visit: &mut Visit) -> Result<bool> {
        visit.begin(&CancelToken::new())
    }

    #[test]
    fn few_begin_until_it_shows_that_nobody_is_asked() {
        let breakers = Breakers::default();
        let secret = Secret::typed("x");
        let mut visits: Vec<Visit> = (0..8).map(|_| breakers.visit("ops", &secret)).collect();
        assert!(begin(&mut visits[0]).unwrap());
        let woken = CancelToken::new();
        assert!(!visits[1].begin(&woken).unwrap() && !woken.is_aborted());
        visits[0].accepted();
        assert!(woken.is_aborted());
        let begun = visits[1..].iter_mut().map(begin).filter(|begun| *begun.as_ref().unwrap()).count();
        assert_eq!(begun, 2, "one that was not asked lets one more begin");
        visits[1].accepted();
        visits[2].accepted();
        assert_eq!(visits[3..].iter_mut().map(begin).filter(|begun| *begun.as_ref().unwrap()).count(), 4);
    }

    #[test]
    fn of_those_that_are_asked_only_the_allowance_answers() {
        let breakers = Breakers::default();
        let secret = Secret::typed("x");
        let mut unasked = breakers.visit("ops", &secret);
        assert!(begin(&mut unasked).unwrap());
        unasked.accepted();
        let [mut first, mut second, mut third] = [(); 3].map(|()| breakers.visit("ops", &secret));
        assert!(begin(&mut first).unwrap() && begin(&mut second).unwrap() && !begin(&mut third).unwrap());
        let woken = CancelToken::new();
        assert!(first.try_secret(&woken).unwrap() && !second.try_secret(&woken).unwrap());
        first.refused();
        assert!(woken.is_aborted());
        for visit in [&mut second, &mut third] {
            assert_eq!(visit.try_secret(&CancelToken::new()).unwrap_err().kind(), ErrorKind::Breaker);
        }
        assert_eq!(begin(&mut third).unwrap_err().kind(), ErrorKind::Breaker);
    }

    #[test]
    fn one_that_was_let_in_by_the_secret_lets_all_in_and_one_that_is_gone_the_next() {
        let breakers = Breakers::default();
        let secret = Secret::typed("x");
        let [mut first, mut second, mut third] = [(); 3].map(|()| breakers.visit("ops", &secret));
        assert!(begin(&mut first).unwrap());
        drop(first);
        assert!(begin(&mut second).unwrap() && !begin(&mut third).unwrap());
        assert!(second.try_secret(&CancelToken::new()).unwrap());
        second.accepted();
        assert!(begin(&mut third).unwrap() && third.try_secret(&CancelToken::new()).unwrap());
        third.refused();
        assert!(begin(&mut breakers.visit("ops", &secret)).unwrap(), "a refusal after that is one host's affair");
    }
}
