//! Events for the tests of the output forms.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{Error, Phase};
use crate::event::{Class, Event, EventKind, Facts, HostReport, Note, RunId, Stream, Summary};
use crate::host::Host;

pub(super) fn event(kind: EventKind) -> Event {
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
    Event { time, run: RunId::new("r1"), kind }
}

pub(super) fn host(name: &str) -> Arc<Host> {
    Arc::new(Host::new(name, "192.0.2.1"))
}

pub(super) fn output(name: &str, stream: Stream, bytes: &[u8]) -> Event {
    event(EventKind::Output { host: host(name), stream, bytes: bytes.to_vec() })
}

pub(super) fn note(name: &str, note: Note) -> Event {
    event(EventKind::Note { host: host(name), note })
}

pub(super) fn finished(name: &str, class: Class) -> Event {
    finished_with(name, Facts::new(class), None)
}

pub(super) fn exited(name: &str, code: i32) -> Event {
    let mut facts = Facts::new(if code == 0 { Class::Ok } else { Class::Failed });
    facts.exit_code = Some(code);
    finished_with(name, facts, None)
}

pub(super) fn failed(name: &str, error: Error) -> Event {
    finished_with(name, Facts::new(Class::of_error(&error)), Some(error))
}

pub(super) fn finished_with(name: &str, facts: Facts, error: Option<Error>) -> Event {
    event(EventKind::Finished(Arc::new(HostReport {
        host: host(name),
        index: 0,
        facts,
        error,
        attempts: 1,
        queued: Duration::ZERO,
        duration: Duration::from_millis(210),
        phases: vec![
            (Phase::Connect, Duration::from_millis(10)),
            (Phase::KeyExchange, Duration::from_millis(50)),
            (Phase::Connect, Duration::from_micros(2500)),
        ],
    })))
}

pub(super) fn run_finished(classes: &[Class]) -> Event {
    let mut summary = Summary::default();
    summary.duration = Duration::from_millis(1900);
    for class in classes {
        summary.count(*class);
    }
    event(EventKind::RunFinished(summary))
}
