//! A run that is collected on the caller's thread.

use std::sync::Arc;
use std::thread::{Builder, Scope};

use super::collector::Collector;
use super::control::RunControl;
use super::outputs::Outputs;
use super::shared::{Message, Shared, work};
use super::thread_name;
use super::waves::{Sameness, Waves};
use super::worker::Core;
use crate::budget::Stop;
use crate::error::{ErrorKind, Result};
use crate::event::{Event, EventKind, Facts, HostResult, Outcome, StopReason, Summary};
use crate::host::Host;
use crate::op::{Job, Operation};
use crate::transport::Session;

/// Messages on their way to the collector: what bounds the memory of a run whose output nobody takes fast enough.
const CAPACITY: usize = 256;
/// The most events recorded, and shown, at a time.
const BATCH: usize = 256;
/// A worker's stack. Pages that are never touched cost nothing.
pub(super) const STACK_BYTES: usize = 1 << 20;

/// Runs everything and returns when every host has its result and every worker has ended.
pub(super) fn run<T: Outcome + Send + 'static>(
    shared: &Shared<'_, T>,
    outputs: &mut Outputs<'_>,
    on_result: &mut dyn FnMut(HostResult<T>),
) -> Summary {
    let options = &shared.core.options;
    let same = (options.same_output.is_some() && !options.rollout.is_empty()).then(Sameness::default);
    let mut tell = Teller { shared, outputs, summary: Summary::default(), events: Vec::new(), is_broken: false, same };
    tell.start();
    std::thread::scope(|scope| {
        let _abort = AbortOnUnwind(&shared.control);
        let mut collector = Collector::new(shared, CAPACITY, BATCH);
        let mut batch = Vec::new();
        let mut waves = Waves::new(shared);
        while !collector.is_done() {
            tell.go_on(&mut waves);
            collector.next_batch(shared, &mut |taken, sender| start(scope, shared, taken, sender), None, &mut batch);
            tell.batch(&mut batch, on_result);
        }
    });
    tell.finish()
}

fn start<'scope, T: Outcome + Send + 'static>(
    scope: &'scope Scope<'scope, '_>,
    shared: &'scope Shared<'_, T>,
    taken: super::queue::Taken<usize>,
    sender: crossbeam_channel::Sender<Message<T>>,
) -> std::io::Result<()> {
    super::spawn_hook()?;
    let name = thread_name(shared.hosts.get(taken.item));
    Builder::new().name(name).stack_size(STACK_BYTES).spawn_scoped(scope, move || work(shared, sender, taken))?;
    Ok(())
}

/// Tells the outputs, counts the results, and hands them on.
struct Teller<'a, 'op, 'o, T> {
    shared: &'a Shared<'op, T>,
    outputs: &'a mut Outputs<'o>,
    summary: Summary,
    events: Vec<Event>,
    /// Whether hosts were left out because their secret was refused elsewhere.
    is_broken: bool,
    /// What the hosts of the wave wrote, where that decides.
    same: Option<Sameness>,
}

impl<T: Outcome + Send + 'static> Teller<'_, '_, '_, T> {
    fn start(&mut self) {
        let (op, hosts) = (self.shared.op_name().to_owned(), self.shared.hosts.len());
        self.tell(EventKind::Started { op, hosts, fanout: self.shared.queue.fanout() });
        self.deliver();
    }

    fn batch(&mut self, batch: &mut Vec<Message<T>>, on_result: &mut dyn FnMut(HostResult<T>)) {
        let mut results = Vec::new();
        for message in batch.drain(..) {
            match message {
                Message::Event(event) => {
                    if let Some(same) = &mut self.same {
                        same.hear(&event);
                    }
                    self.events.push(event);
                }
                Message::Done(result) => {
                    self.summary.count(result.class());
                    let is_broken = result.error().is_some_and(|error| error.kind() == ErrorKind::Breaker);
                    self.is_broken |= is_broken;
                    if let Some(same) = &mut self.same {
                        same.finished(&result.report);
                    }
                    self.tell(EventKind::Finished(Arc::clone(&result.report)));
                    results.push(result);
                }
                Message::Wake => {}
            }
        }
        self.deliver();
        results.into_iter().for_each(on_result);
    }

    /// Begins the next wave when the one before is over and lets it.
    fn go_on(&mut self, waves: &mut Waves<'_, '_, T>) {
        let Some(end) = waves.ended(self.summary.hosts, self.summary.failures()) else { return };
        if end.number > 0 && !(self.is_same_enough(end.number) && self.outputs.may_go_on(&end)) {
            self.shared.control.stop(Stop::Drain, StopReason::Rollout);
            return;
        }
        // A rollout of one wave is none.
        if end.next < end.hosts {
            self.tell(EventKind::Wave { number: end.number + 1, begins: end.next, reaches: end.done + end.next });
            self.deliver();
        }
        waves.begin(&end);
    }

    /// Tells whether enough hosts of a wave gave the same output.
    fn is_same_enough(&mut self, number: usize) -> bool {
        let (Some(same), Some(wanted)) = (&mut self.same, self.shared.core.options.same_output) else { return true };
        let (most, hosts) = same.take();
        if most * 100 >= usize::from(wanted) * hosts {
            return true;
        }
        let what = format!("wave {number}: {most} of {hosts} hosts gave the same output, less than {wanted}%");
        self.tell(EventKind::Warning(what));
        self.deliver();
        false
    }

    fn finish(mut self) -> Summary {
        self.summary.duration = self.shared.submitted.elapsed();
        let stopped = self.shared.control.stopped().map(|(_, reason)| reason);
        self.summary.stopped_by = stopped.or(self.is_broken.then_some(StopReason::Breaker));
        self.tell(EventKind::RunFinished(self.summary.clone()));
        self.deliver();
        self.summary
    }

    fn tell(&mut self, kind: EventKind) {
        if !self.outputs.is_empty() {
            self.events.push(self.shared.event(kind));
        }
    }

    /// Delivers what was told. The first output that fails drains the run.
    fn deliver(&mut self) {
        self.outputs.deliver(&self.events);
        self.events.clear();
        if self.summary.failed_sink.is_none()
            && let Some(why) = self.outputs.failure()
        {
            self.summary.failed_sink = Some(why.to_owned());
            self.shared.control.stop(Stop::Drain, StopReason::Output);
        }
    }
}

/// Ends what runs when the caller's own callback panics: its thread waits for the workers before the panic goes on.
struct AbortOnUnwind<'a>(&'a RunControl);

impl Drop for AbortOnUnwind<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(Stop::Abort, StopReason::Interrupt);
        }
    }
}

/// An operation whose values nobody wants: they are dropped where they were made.
pub(super) struct Forget<O>(pub(super) O);

/// What is left of such a value.
pub(super) struct Forgotten(Facts);

impl Outcome for Forgotten {
    fn facts(&self) -> Facts {
        self.0.clone()
    }
}

impl<O: Operation> Operation for Forget<O> {
    type Output = Forgotten;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<Forgotten> {
        self.0.run(session, job).map(|value| Forgotten(value.facts()))
    }

    fn is_idempotent(&self) -> bool {
        self.0.is_idempotent()
    }
}

/// Prepares a run of `op` on `hosts`.
pub(super) fn shared<'op, O: Operation + 'op>(
    core: &Arc<Core>,
    hosts: &[Arc<Host>],
    op: O,
    control: &RunControl,
    are_events_wanted: bool,
) -> Shared<'op, O::Output> {
    Shared::new(core, hosts, Box::new(op), control, are_events_wanted)
}
