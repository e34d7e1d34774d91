//! Records that are made of what hosts write, as events of the run.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::event::{Event, EventKind, HostReport, Note, Stream};
use crate::host::Host;
use crate::record::Pattern;
use crate::spool::{SpoolSet, SpoolWriter};

/// How much of a host's output is searched: what one search holds in memory.
const MAX_SEARCHED_BYTES: u64 = 64 * 1024 * 1024;

/// Keeps the standard output of the hosts in flight, and searches it when they are done.
pub(super) struct Records {
    pattern: Pattern,
    spools: SpoolSet,
    max_bytes: u64,
    under_way: HashMap<*const Host, Searched>,
}

struct Searched {
    writer: SpoolWriter,
    is_cut: bool,
}

impl Records {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self { pattern, spools: SpoolSet::default(), max_bytes: MAX_SEARCHED_BYTES, under_way: HashMap::new() }
    }

    /// Hears of an event. The records of a host that is done are told before its end.
    ///
    /// # Errors
    /// `LocalFile` when the spill file cannot be written or read.
    pub(super) fn hear(&mut self, event: &Event, tell: &mut dyn FnMut(Event)) -> Result<()> {
        match &event.kind {
            EventKind::Output { host, stream: Stream::Stdout, bytes } => self.keep(host, bytes),
            EventKind::Note { host, note: Note::Retrying { .. } } => {
                // What an attempt wrote that is made again is no part of the result.
                self.under_way.remove(&Arc::as_ptr(host));
                Ok(())
            }
            EventKind::Finished(report) => {
                self.finished(report, &mut |kind| tell(Event { time: event.time, run: event.run.clone(), kind }))
            }
            _ => Ok(()),
        }
    }

    fn keep(&mut self, host: &Arc<Host>, bytes: &[u8]) -> Result<()> {
        let searched = self
            .under_way
            .entry(Arc::as_ptr(host))
            .or_insert_with(|| Searched { writer: self.spools.spool(), is_cut: false });
        let room = usize::try_from(self.max_bytes - searched.writer.len()).unwrap_or(usize::MAX);
        let kept = bytes.get(..room).unwrap_or(bytes);
        searched.is_cut |= kept.len() < bytes.len();
        searched.writer.append(kept)
    }

    fn finished(&mut self, report: &HostReport, tell: &mut dyn FnMut(EventKind)) -> Result<()> {
        let searched = self.under_way.remove(&Arc::as_ptr(&report.host));
        let host = || Arc::clone(&report.host);
        let mut count = 0_usize;
        if let Some(Searched { writer, is_cut }) = searched {
            let text = writer.finish().bytes()?;
            for record in self.pattern.records(&text) {
                count += 1;
                tell(EventKind::Record { host: host(), record });
            }
            if is_cut {
                let what = format!("its output is searched for records up to {} MiB only", self.max_bytes >> 20);
                tell(EventKind::Note { host: host(), note: Note::Warning(what) });
            }
        }
        // What never ran, or has no result, says so itself.
        if count == 0 && report.error.is_none() {
            tell(EventKind::Note { host: host(), note: Note::NoRecord });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Class, Facts, RunId};
    use std::time::Duration;

    fn host(name: &str) -> Arc<Host> {
        Arc::new(Host::new(name, "192.0.2.1"))
    }

    fn told(records: &mut Records, host: &Arc<Host>, chunks: &[&[u8]]) -> Vec<String> {
        let mut told = Vec::new();
        let mut kinds: Vec<EventKind> = chunks
            .iter()
            .map(|bytes| EventKind::Output { host: Arc::clone(host), stream: Stream::Stdout, bytes: bytes.to_vec() })
            .collect();
        kinds.push(EventKind::Finished(Arc::new(HostReport {
            host: Arc::clone(host),
            index: 0,
            facts: Facts::new(Class::Ok),
            error: None,
            attempts: 1,
            queued: Duration::ZERO,
            duration: Duration::ZERO,
            phases: Vec::new(),
        })));
        for kind in kinds {
            let event = Event::now(RunId::new("r"), kind);
            records
                .hear(&event, &mut |event| {
                    told.push(match event.kind {
                        EventKind::Record { record, .. } => format!("{record:?}"),
                        EventKind::Note { note, .. } => format!("{note:?}"),
                        other => format!("{other:?}"),
                    });
                })
                .unwrap();
        }
        assert!(records.under_way.is_empty());
        told
    }

    #[test]
    fn a_match_may_lie_across_pieces_and_lines() {
        let mut records = Records::new(Pattern::new(r"begin\n(?<body>.*)\nend").unwrap());
        let a = host("a");
        assert_eq!(
            told(&mut records, &a, &[b"beg", b"in\ntwo wo", b"rds\ne", b"nd\n"]),
            [r#"{"body": Some("two words")}"#]
        );
        assert_eq!(told(&mut records, &a, &[b"begin\n"]), ["NoRecord"]);
        assert_eq!(told(&mut records, &a, &[]), ["NoRecord"]);
    }

    #[test]
    fn what_is_too_long_is_searched_to_the_bound_and_said() {
        let mut records = Records::new(Pattern::new(r"(?<x>x)").unwrap());
        records.max_bytes = 5;
        assert_eq!(
            told(&mut records, &host("a"), &[b"x...", b"xx", b"x"]),
            [
                r#"{"x": Some("x")}"#,
                r#"{"x": Some("x")}"#,
                r#"Warning("its output is searched for records up to 0 MiB only")"#
            ]
        );
    }
}
