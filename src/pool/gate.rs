//! Turns: how many unauthenticated connections one address, and the pool as a whole, may have at once.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::budget::{CancelToken, Exceeded};

/// What is entered: every login of the pool, or those to one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Door {
    All,
    Server(Arc<str>),
}

/// Hands out turns in the order they were asked for. A turn that is given back goes straight to whoever waits longest.
#[derive(Debug)]
pub(super) struct Gate {
    per_address: usize,
    all: usize,
    lanes: Mutex<HashMap<Door, Lane>>,
}

#[derive(Debug, Default)]
struct Lane {
    inside: usize,
    waiting: VecDeque<Arc<Ticket>>,
}

/// One who waits. `granted` changes only under the gate's lock.
#[derive(Debug, Default)]
struct Ticket {
    granted: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(super) fn new(per_address: NonZeroUsize, all: Option<NonZeroUsize>) -> Self {
        Self { per_address: per_address.get(), all: all.map_or(usize::MAX, NonZeroUsize::get), lanes: Mutex::default() }
    }

    fn limit(&self, door: &Door) -> usize {
        match door {
            Door::All => self.all,
            Door::Server(_) => self.per_address,
        }
    }

    /// Waits for a turn, until an abort of `token` or the `deadline`.
    pub(super) fn enter(&self, door: &Door, token: &CancelToken, deadline: Option<Instant>) -> Result<(), Exceeded> {
        if self.limit(door) == usize::MAX {
            return Ok(());
        }
        let ticket = {
            let mut lanes = self.lanes();
            let lane = lanes.entry(door.clone()).or_default();
            if lane.inside < self.limit(door) && lane.waiting.is_empty() {
                lane.inside += 1;
                return Ok(());
            }
            let ticket = Arc::new(Ticket::default());
            lane.waiting.push_back(Arc::clone(&ticket));
            ticket
        };
        let waited = ticket.wait(token, deadline);
        if waited.is_err() {
            self.give_up(door, &ticket);
        }
        waited
    }

    /// Takes a turn without waiting, above the limit if need be.
    pub(super) fn enter_at_once(&self, door: &Door) {
        if self.limit(door) != usize::MAX {
            self.lanes().entry(door.clone()).or_default().inside += 1;
        }
    }

    /// Gives a turn back.
    pub(super) fn leave(&self, door: &Door) {
        let limit = self.limit(door);
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get_mut(door) else { return };
        if lane.inside <= limit
            && let Some(next) = lane.waiting.pop_front()
        {
            next.grant();
            return;
        }
        lane.inside -= 1;
        if lane.inside == 0 {
            lanes.remove(door);
        }
    }

    fn give_up(&self, door: &Door, ticket: &Arc<Ticket>) {
        {
            let mut lanes = self.lanes();
            if let Some(lane) = lanes.get_mut(door)
                && let Some(place) = lane.waiting.iter().position(|other| Arc::ptr_eq(other, ticket))
            {
                lane.waiting.remove(place);
                return;
            }
        }
        // It was granted after all: the next one must have it.
        self.leave(door);
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Door, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    fn wait(self: &Arc<Self>, token: &CancelToken, deadline: Option<Instant>) -> Result<(), Exceeded> {
        let ticket = Arc::clone(self);
        let _subscription = token.subscribe(move |_| {
            // Under the lock: whoever looked before this stop is already waiting.
            let _granted = ticket.lock();
            ticket.changed.notify_all();
        });
        let mut granted = self.lock();
        loop {
            if *granted {
                return Ok(());
            }
            if token.is_aborted() {
                return Err(Exceeded::Cancelled);
            }
            granted = match deadline {
                None => self.changed.wait(granted).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Exceeded::Deadline);
                    }
                    self.changed.wait_timeout(granted, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Stop;
    use std::sync::mpsc;
    use std::time::Duration;

    fn gate(per_address: usize) -> Gate {
        Gate::new(NonZeroUsize::new(per_address).unwrap(), NonZeroUsize::new(2))
    }

    fn door() -> Door {
        Door::Server("10.0.0.1:22".into())
    }

    fn wait_for_waiting(gate: &Gate, count: usize) {
        while gate.lanes().get(&door()).map_or(0, |lane| lane.waiting.len()) != count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn turns_are_handed_on_in_the_order_they_were_asked_for() {
        let (gate, token) = (gate(1), CancelToken::new());
        gate.enter(&door(), &token, None).unwrap();
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for number in 0..5 {
                let sender = sender.clone();
                let (gate, token) = (&gate, &token);
                scope.spawn(move || {
                    gate.enter(&door(), token, None).unwrap();
                    sender.send(number).unwrap();
                    gate.leave(&door());
                });
                wait_for_waiting(gate, number + 1);
            }
            gate.leave(&door());
            drop(sender);
            assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        });
        assert!(gate.lanes().is_empty());
    }

    #[test]
    fn an_abort_and_a_deadline_end_the_wait_and_leave_no_trace() {
        let (gate, token) = (gate(1), CancelToken::new());
        gate.enter(&door(), &token, None).unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(gate.enter(&door(), &token, Some(soon)), Err(Exceeded::Deadline));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gate.enter(&door(), &token, None));
            wait_for_waiting(&gate, 1);
            token.stop(Stop::Drain);
            wait_for_waiting(&gate, 1);
            token.stop(Stop::Abort);
            assert_eq!(waiting.join().unwrap(), Err(Exceeded::Cancelled));
        });
        gate.leave(&door());
        assert!(gate.lanes().is_empty());
    }

    #[test]
    fn a_turn_above_the_limit_is_not_handed_on() {
        let (gate, token) = (gate(1), CancelToken::new());
        gate.enter(&door(), &token, None).unwrap();
        gate.enter_at_once(&door());
        let soon = Instant::now();
        assert!(gate.enter(&door(), &token, Some(soon)).is_err());
        gate.leave(&door());
        assert!(gate.enter(&door(), &token, Some(soon)).is_err());
        gate.leave(&door());
        assert!(gate.enter(&door(), &token, Some(soon)).is_ok());
    }
}
