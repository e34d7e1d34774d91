//! Those who hear of a run: the recorder and the sinks.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::report::panic_message;
use super::waves::WaveEnd;
use crate::event::{Event, Recorder, Sink};

/// Decides whether the next wave begins.
type Decide<'a> = &'a mut dyn FnMut(&WaveEnd) -> bool;

/// Where the events of one run go: to the recorder first, then to each sink in order.
///
/// One that fails or panics is closed and hears nothing more; the others go on.
#[derive(Default)]
pub struct Outputs<'a> {
    recorder: Option<&'a mut dyn Recorder>,
    sinks: Vec<Option<&'a mut dyn Sink>>,
    failure: Option<String>,
    between_waves: Option<Decide<'a>>,
}

impl fmt::Debug for Outputs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs")
            .field("recorder", &self.recorder.is_some())
            .field("sinks", &self.sinks.len())
            .field("failure", &self.failure)
            .finish()
    }
}

impl<'a> Outputs<'a> {
    /// Makes outputs that nobody listens to: no event is even made.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who makes events durable before any sink shows them.
    #[must_use]
    pub fn recorder(mut self, recorder: &'a mut dyn Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Adds a sink.
    #[must_use]
    pub fn sink(mut self, sink: &'a mut dyn Sink) -> Self {
        self.sinks.push(Some(sink));
        self
    }

    /// Sets who decides, after each wave of a rollout but the last, whether the next begins: `false` ends the run there, and
    /// what never began is `not_started`. No host is in flight meanwhile. Default: it begins.
    #[must_use]
    pub fn between_waves(mut self, decide: &'a mut dyn FnMut(&WaveEnd) -> bool) -> Self {
        self.between_waves = Some(decide);
        self
    }

    /// Asks whether the next wave may begin.
    pub(super) fn may_go_on(&mut self, end: &WaveEnd) -> bool {
        self.between_waves.as_mut().is_none_or(|decide| decide(end))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.recorder.is_none() && self.sinks.is_empty()
    }

    /// Returns why the first output that failed did so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Tells everybody a batch, and shows it.
    pub(super) fn deliver(&mut self, batch: &[Event]) {
        if batch.is_empty() {
            return;
        }
        if let Some(recorder) = &mut self.recorder
            && let Err(why) = guard(|| recorder.record(batch))
        {
            self.recorder = None;
            self.failure.get_or_insert(why);
        }
        for event in batch {
            self.each(|sink| sink.handle(event));
        }
        self.each(|sink| sink.flush());
    }

    fn each(&mut self, mut call: impl FnMut(&mut dyn Sink) -> io::Result<()>) {
        for slot in &mut self.sinks {
            if let Some(sink) = slot
                && let Err(why) = guard(|| call(*sink))
            {
                *slot = None;
                self.failure.get_or_insert(why);
            }
        }
    }
}

fn guard(call: impl FnOnce() -> io::Result<()>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(payload) => Err(format!("an output panicked: {}", panic_message(payload))),
    }
}
