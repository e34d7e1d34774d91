//! What a worker does with one host: connect, run the operation, make the result.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::builder::Options;
use super::clock::Clock;
use super::control::RunControl;
use super::gate::{Door, Gate};
use super::report::{Task, never_started, panicked};
use crate::budget::{Budget, CancelToken, Exceeded, Stop};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::{Class, EventKind, Facts, HostResult, Note, Outcome, StopReason};
use crate::host::Host;
use crate::op::{Connect, Emit, Job, Operation};
use crate::spool::SpoolSet;
use crate::transport::{Session, Transport, Turn, Watch, is_drop_before_login, spread};

/// What every worker of a pool shares.
pub(super) struct Core {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) options: Options,
    pub(super) gate: Arc<Gate>,
    pub(super) token: CancelToken,
}

/// What the hosts of one run, or one job, share.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) core: &'a Core,
    pub(super) token: &'a CancelToken,
    /// Hears where each host is.
    pub(super) control: Option<&'a RunControl>,
    pub(super) deadline: Option<Instant>,
    pub(super) spools: &'a SpoolSet,
    /// Where events go, if anybody wants them.
    pub(super) events: Option<&'a (dyn Emit + Sync)>,
}

/// A result, and whether it is to be thrown away and the host tried again because this machine is at a limit.
pub(super) struct Done<T> {
    pub(super) result: HostResult<T>,
    pub(super) is_limited: bool,
}

/// Does everything for one host. Never panics.
pub(super) fn run_host<T: Outcome + Send + 'static>(
    context: &Context<'_>,
    op: &dyn Operation<Output = T>,
    task: &Task<'_>,
) -> Done<T> {
    let link = Link {
        context,
        task,
        clock: Clock::start(task.submitted),
        attempts: Cell::new(0),
        has_begun: Cell::new(false),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| link.run(op)))
        .unwrap_or_else(|payload| Err(panicked(payload, link.clock.phase())))
        .map_err(|error| error.in_phase(link.clock.phase()));
    let is_limited = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::LocalLimit)
        && (!link.has_begun.get() || op.is_idempotent());
    let Link { clock, attempts, .. } = link;
    Done { result: task.end(outcome, attempts.get(), clock.stop(task.submitted)), is_limited }
}

/// One host's way through a worker.
struct Link<'a> {
    context: &'a Context<'a>,
    task: &'a Task<'a>,
    clock: Clock,
    attempts: Cell<u32>,
    has_begun: Cell<bool>,
}

impl Link<'_> {
    fn run<T: Outcome + Send + 'static>(&self, op: &dyn Operation<Output = T>) -> Result<(T, Facts)> {
        let Context { core, token, deadline, spools, events, .. } = *self.context;
        let budget = Budget::new(token.clone()).with_run_deadline(deadline);
        self.splay()?;
        let mut again = 0;
        loop {
            let mut session = self.connect(self.task.host, &budget)?;
            self.enter(Phase::Running)?;
            let limited = core.options.timeout.map(|timeout| budget.limited(timeout));
            let job = Job {
                host: self.task.host,
                index: self.task.index,
                total: self.task.total,
                budget: limited.as_ref().unwrap_or(&budget),
                limits: &core.options.limits,
                spools,
                is_watched: events.is_some() && core.options.output_events,
                events: self,
                sessions: self,
            };
            self.has_begun.set(true);
            let done = op.run(&mut *session, &job);
            for note in session.take_notes() {
                self.note(self.task.host, note, &budget);
            }
            let error = match done {
                Ok(value) => {
                    let facts = value.facts();
                    session.close();
                    return Ok((value, facts));
                }
                Err(error) => error.in_phase(self.clock.phase()),
            };
            drop(session);
            if again >= core.options.retry_op || Class::of_error(&error) != Class::Lost || !op.is_idempotent() {
                return Err(error);
            }
            let attempt = self.attempts.get();
            self.back_off(error, attempt, again, &budget)?;
            again += 1;
        }
    }

    /// Waits a random part of the splay; a stop and the deadline end it before anything began.
    fn splay(&self) -> Result<()> {
        let Context { core, token, deadline, .. } = *self.context;
        if core.options.splay.is_zero() {
            return Ok(());
        }
        let wanted = Instant::now().checked_add(core.options.splay.mul_f64(fastrand::f64()));
        let until = [wanted, deadline].into_iter().flatten().min();
        if self.clock.queued(|| token.wait(Stop::Drain, until)).is_some() {
            return Err(never_started(StopReason::Interrupt));
        }
        match deadline {
            Some(at) if Instant::now() >= at => Err(never_started(StopReason::Deadline)),
            _ => Ok(()),
        }
    }

    /// Tells of an error that another attempt is made after, and waits for it.
    ///
    /// # Errors
    /// `error`, when the run drains or `budget` is shorter than the wait; that of a cancellation.
    fn back_off(&self, error: Error, attempt: u32, doublings: u32, budget: &Budget) -> Result<()> {
        let delay = spread(self.context.core.options.retry_delay, doublings);
        let token = self.context.token;
        if token.stopped().is_some() || budget.remaining().is_some_and(|left| left <= delay) {
            return Err(error);
        }
        self.note(self.task.host, Note::Retrying { attempt, error: error.clone(), delay }, budget);
        match token.wait(Stop::Drain, Instant::now().checked_add(delay)) {
            None => Ok(()),
            Some(Stop::Drain) => Err(error),
            Some(Stop::Abort) => Err(Exceeded::Cancelled.in_phase(self.clock.phase())),
        }
    }

    /// Connects, again after a drop before the login (DESIGN section 7, `--retries`).
    fn connect(&self, host: &Arc<Host>, budget: &Budget) -> Result<Box<dyn Session>> {
        let watch = ConnectWatch {
            link: self,
            budget: budget.limited(host.timeouts.connect),
            held: Arc::new(AtomicUsize::new(0)),
        };
        let mut failed = 0;
        loop {
            self.attempts.set(self.attempts.get() + 1);
            let error = match self.context.core.transport.connect(host, &watch, &watch.budget) {
                Ok(session) => return Ok(session),
                Err(error) => error.in_phase(self.clock.phase()),
            };
            let attempt = self.attempts.get();
            if failed >= host.retries || !is_drop_before_login(&error) {
                return Err(error);
            }
            self.back_off(error, attempt, failed, &watch.budget)?;
            failed += 1;
        }
    }

    fn note(&self, host: &Arc<Host>, note: Note, budget: &Budget) {
        if let Some(events) = self.context.events {
            let host = Arc::clone(host);
            // A run that nobody collects any more is aborted: the budget tells.
            let _ = budget.uncharged(|| events.emit(EventKind::Note { host, note }));
        }
    }

    /// Shows the host in a phase to who looks at the run.
    fn show(&self, phase: Phase) {
        if let Some(control) = self.context.control {
            control.enter(self.task.index, phase);
        }
    }

    fn enter(&self, phase: Phase) -> Result<()> {
        self.clock.enter(phase);
        self.show(phase);
        match self.context.events {
            Some(events) if self.context.core.options.phase_events => {
                events.emit(EventKind::Phase { host: Arc::clone(self.task.host), phase })
            }
            _ => Ok(()),
        }
    }
}

impl Emit for Link<'_> {
    fn emit(&self, kind: EventKind) -> Result<()> {
        match (kind, self.context.events) {
            (EventKind::Phase { phase, .. }, _) => self.enter(phase),
            (kind, Some(events)) => events.emit(kind),
            (_, None) => Ok(()),
        }
    }
}

impl Connect for Link<'_> {
    fn connect(&self, host: &Arc<Host>, budget: &Budget) -> Result<Box<dyn Session>> {
        // The host's report counts its own attempts.
        let attempts = self.attempts.replace(0);
        let session = Link::connect(self, host, budget);
        self.attempts.set(attempts);
        self.enter(Phase::Running)?;
        session
    }
}

/// Hears of one host's attempts to connect. `held` counts the turns it has now.
struct ConnectWatch<'a> {
    link: &'a Link<'a>,
    budget: Budget,
    held: Arc<AtomicUsize>,
}

impl Watch for ConnectWatch<'_> {
    fn phase(&self, phase: Phase) {
        let _ = self.budget.uncharged(|| self.link.enter(phase));
    }

    fn note(&self, note: Note) {
        self.link.note(self.link.task.host, note, &self.budget);
    }

    fn note_about(&self, bastion: &Arc<Host>, note: Note) {
        self.link.note(bastion, note, &self.budget);
    }

    /// A host that has a turn already (it races a second address) gets the next at once, above the limit if need be: two
    /// hosts must not wait for each other's.
    fn turn(&self, endpoint: &str, budget: &Budget) -> Result<Turn> {
        let gate = Arc::clone(&self.link.context.core.gate);
        let door = Door::Server(endpoint.into());
        if self.held.load(Ordering::SeqCst) > 0 {
            gate.enter_at_once(&door);
        } else {
            let wait = || self.link.clock.queued(|| self.wait_for_turn(&gate, &door));
            // The transport may wait under a narrower budget than the one that covers all attempts.
            let waited = if std::ptr::eq(budget, &self.budget) {
                budget.uncharged(wait)
            } else {
                self.budget.uncharged(|| budget.uncharged(wait))
            };
            waited.map_err(|exceeded| exceeded.in_phase(Phase::Connect))?;
        }
        self.held.fetch_add(1, Ordering::SeqCst);
        let held = Arc::clone(&self.held);
        Ok(Turn::new(move || {
            gate.leave(&door);
            if held.fetch_sub(1, Ordering::SeqCst) == 1 {
                gate.leave(&Door::All);
            }
        }))
    }
}

impl ConnectWatch<'_> {
    fn wait_for_turn(&self, gate: &Gate, door: &Door) -> Result<(), Exceeded> {
        let Context { token, deadline, .. } = *self.link.context;
        self.link.show(Phase::Queued);
        gate.enter(door, token, deadline)?;
        gate.enter(&Door::All, token, deadline).inspect_err(|_| gate.leave(door))?;
        self.link.show(self.link.clock.phase());
        Ok(())
    }
}
