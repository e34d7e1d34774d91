//! What a pool promises, on the fake transport.
#![expect(clippy::print_stderr, reason = "a failing schedule tells its seed")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet::event::{HostReport, Note};
use fleet::fake::FakeTransport;
use fleet::{Event, EventKind, Host, Sink};

mod handle;
mod imap;
mod rollouts;
mod run;
mod schedules;
mod stop;
mod waves;

fn n(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Hosts `h0`, `h1`, … at addresses of their own.
fn hosts(count: usize) -> Vec<Arc<Host>> {
    (0..count).map(|number| Arc::new(Host::new(format!("h{number}"), format!("10.1.0.{number}")))).collect()
}

/// Panics without the message that the panic hook would print.
fn boom() -> ! {
    std::panic::resume_unwind(Box::new("boom"))
}

/// A sink that keeps everything.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Event>>>);

impl Sink for Log {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

impl Log {
    fn kinds(&self) -> Vec<EventKind> {
        self.0.lock().unwrap().iter().map(|event| event.kind.clone()).collect()
    }

    fn finished(&self) -> Vec<Arc<HostReport>> {
        let finished = |kind| if let EventKind::Finished(report) = kind { Some(report) } else { None };
        self.kinds().into_iter().filter_map(finished).collect()
    }

    fn notes(&self) -> Vec<Note> {
        let note = |kind| if let EventKind::Note { note, .. } = kind { Some(note) } else { None };
        self.kinds().into_iter().filter_map(note).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let warning = |kind| if let EventKind::Warning(text) = kind { Some(text) } else { None };
        self.kinds().into_iter().filter_map(warning).collect()
    }
}

/// Waits for what another thread is about to do.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

fn assert_nothing_left(fake: &FakeTransport) {
    assert_eq!(fake.open_sessions(), 0);
}
