//! Those who hear of a run: the recorder and the sinks.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::records::Records;
use super::report::panic_message;
use super::waves::WaveEnd;
use crate::event::{Event, EventKind, Recorder, Sink};
use crate::record::Pattern;

/// The most events that are told at a time where records are among them.
const MAX_TOLD: usize = 256;

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
    records: Option<Records>,
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

    /// Makes records of what hosts write: each match of `pattern` in a host's standard output is an
    /// [`EventKind::Record`](crate::EventKind::Record), told to all before the host's end; a host that ran and has none has a
    /// [`Note::NoRecord`](crate::event::Note::NoRecord).
    ///
    /// Of each host the first 64 MiB are searched, and what is longer is told in a warning. Default: no records.
    ///
    /// # Examples
    ///
    /// Each host's records are appended to a file, as hosts end:
    ///
    /// ```
    /// use std::io::Write;
    /// use std::sync::Arc;
    /// use fleet::fake::{FakeTransport, Reply};
    /// use fleet::{Event, EventKind, Exec, Host, Outputs, Pattern, Pool, RunControl};
    ///
    /// let fake = FakeTransport::new();
    /// fake.host("web1").on("df", Reply::new().stdout("/dev/sda1 63%\n/dev/sdb1 99%\n"));
    /// let hosts = [Arc::new(Host::new("web1", "10.0.0.1"))];
    ///
    /// let mut file = Vec::new();
    /// let mut append = |event: &Event| {
    ///     if let EventKind::Record { host, record } = &event.kind {
    ///         writeln!(file, "{} {} {}", host.name, record.text("fs"), record.text("use"))?;
    ///     }
    ///     Ok(())
    /// };
    /// let outputs = Outputs::new().records(Pattern::new(r"^(?<fs>\S+) (?<use>\d+)%")?).sink(&mut append);
    /// let exec = Exec::new("df").capture(false);
    /// Pool::builder(fake).build().run_with(&hosts, exec, &RunControl::new(), outputs, |_| {});
    /// assert_eq!(file, b"web1 /dev/sda1 63\nweb1 /dev/sdb1 99\n");
    /// # Ok::<(), fleet::Error>(())
    /// ```
    #[must_use]
    pub fn records(mut self, pattern: Pattern) -> Self {
        self.records = Some(Records::new(pattern));
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
        match self.records.take() {
            Some(records) => self.tell_with(records, batch),
            None => self.tell(batch),
        }
        self.each(|sink| sink.flush());
    }

    /// Tells everybody a batch, with the records of the hosts that end in it.
    fn tell_with(&mut self, mut records: Records, batch: &[Event]) {
        let mut told = Vec::with_capacity(batch.len());
        for event in batch {
            let heard = records.hear(event, &mut |record| {
                told.push(record);
                if told.len() >= MAX_TOLD {
                    self.tell(&told);
                    told.clear();
                }
            });
            if let Err(error) = heard {
                self.failure.get_or_insert(error.chain());
                self.tell(&told);
                let rest = batch.iter().skip_while(|other| !std::ptr::eq(*other, event));
                self.tell(&rest.cloned().collect::<Vec<_>>());
                return;
            }
            told.push(event.clone());
        }
        self.tell(&told);
        self.records = Some(records);
    }

    fn tell(&mut self, batch: &[Event]) {
        if let Some(recorder) = &mut self.recorder
            && let Err(why) = guard(|| recorder.record(batch))
        {
            self.recorder = None;
            self.failure.get_or_insert(why);
        }
        for event in batch {
            let EventKind::RunFinished(summary) = &event.kind else {
                self.each(|sink| sink.handle(event));
                continue;
            };
            // One that writes all at the end may fail only now: those after it hear of that.
            let mut event = event.clone();
            let mut summary = summary.clone();
            for slot in &mut self.sinks {
                if summary.failed_sink.is_none() && self.failure.is_some() {
                    summary.failed_sink.clone_from(&self.failure);
                    event.kind = EventKind::RunFinished(summary.clone());
                }
                call(slot, &mut self.failure, |sink| sink.handle(&event));
            }
        }
    }

    fn each(&mut self, mut what: impl FnMut(&mut dyn Sink) -> io::Result<()>) {
        for slot in &mut self.sinks {
            call(slot, &mut self.failure, &mut what);
        }
    }
}

/// Calls a sink, and closes it when it fails.
fn call(
    slot: &mut Option<&mut dyn Sink>,
    failure: &mut Option<String>,
    what: impl FnOnce(&mut dyn Sink) -> io::Result<()>,
) {
    if let Some(sink) = slot
        && let Err(why) = guard(|| what(*sink))
    {
        *slot = None;
        failure.get_or_insert(why);
    }
}

fn guard(call: impl FnOnce() -> io::Result<()>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(payload) => Err(format!("an output panicked: {}", panic_message(payload))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RunId, Summary};

    #[test]
    fn those_after_a_sink_that_fails_at_the_end_hear_of_it() {
        let mut heard = Vec::new();
        let mut full = |_: &Event| Err(io::ErrorKind::StorageFull.into());
        let mut after = |event: &Event| {
            if let EventKind::RunFinished(summary) = &event.kind {
                heard.push((summary.failed_sink.clone(), summary.exit_code()));
            }
            Ok(())
        };
        let mut outputs = Outputs::new().sink(&mut full).sink(&mut after);
        outputs.deliver(&[Event::now(RunId::new("r"), EventKind::RunFinished(Summary::default()))]);
        assert_eq!(outputs.failure(), Some("no storage space"));
        assert_eq!(heard, [(Some("no storage space".to_owned()), 70)]);
    }
}
