//! Which phase a host is in, and how long each took.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::error::Phase;

/// The stopwatch of one host's job. It outlives a panic, so that the panic's phase is known.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    queued: Cell<Duration>,
    current: Cell<Option<Phase>>,
    since: Cell<Instant>,
    phases: RefCell<Vec<(Phase, Duration)>>,
}

impl Clock {
    /// Starts the clock of a host that waited since `submitted` for its worker.
    pub(super) fn start(submitted: Instant) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            queued: Cell::new(now.saturating_duration_since(submitted)),
            current: Cell::new(None),
            since: Cell::new(now),
            phases: RefCell::new(Vec::with_capacity(8)),
        }
    }

    /// Enters a phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.settle();
        self.current.set(Some(phase));
    }

    /// Returns the phase the host is in; before the first, `connect`.
    pub(super) fn phase(&self) -> Phase {
        self.current.get().unwrap_or(Phase::Connect)
    }

    /// Counts `work` as waiting in a queue, not as part of a phase.
    pub(super) fn queued<T>(&self, work: impl FnOnce() -> T) -> T {
        self.settle();
        let value = work();
        let now = Instant::now();
        self.queued.set(self.queued.get() + now.saturating_duration_since(self.since.get()));
        self.since.set(now);
        value
    }

    /// Stops the clock.
    pub(super) fn stop(self, submitted: Instant) -> Times {
        self.settle();
        let queued = self.queued.get();
        let in_turns = queued.saturating_sub(self.started.saturating_duration_since(submitted));
        Times {
            queued,
            duration: self.since.get().saturating_duration_since(self.started).saturating_sub(in_turns),
            phases: self.phases.into_inner(),
        }
    }

    /// Books the time since the last change. A phase that is entered again (an attempt after a drop) is added to.
    fn settle(&self) {
        let now = Instant::now();
        let spent = now.saturating_duration_since(self.since.replace(now));
        if let Some(phase) = self.current.get() {
            let mut phases = self.phases.borrow_mut();
            match phases.iter_mut().find(|(known, _)| *known == phase) {
                Some((_, total)) => *total += spent,
                None => phases.push((phase, spent)),
            }
        }
    }
}

/// What a [`Clock`] measured.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) queued: Duration,
    pub(super) duration: Duration,
    pub(super) phases: Vec<(Phase, Duration)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_entered_again_is_added_to_and_queues_are_left_out() {
        let submitted = Instant::now();
        let clock = Clock::start(submitted);
        clock.enter(Phase::Connect);
        clock.queued(|| std::thread::sleep(Duration::from_millis(20)));
        clock.enter(Phase::Banner);
        clock.enter(Phase::Connect);
        assert_eq!(clock.phase(), Phase::Connect);
        let times = clock.stop(submitted);
        assert_eq!(times.phases.iter().map(|(phase, _)| *phase).collect::<Vec<_>>(), [Phase::Connect, Phase::Banner]);
        assert!(times.queued >= Duration::from_millis(20));
        assert!(times.duration < Duration::from_millis(20));
    }
}
