//! The JSON lines form: one result a line, with what the host wrote inside.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use super::buffer::Buffer;
use super::captured::{Captured, Captures, each_text};
use super::escape::escape_json;
use super::result::{RecordFields, ResultFields, is_transfer, timestamp};
use crate::event::{Event, EventKind, HostReport, Sink};
use crate::record::Record;
use crate::spool::{SpoolSet, SpoolWriter};

/// The version of the form, in each of its lines. It changes when a reader of the last one would misread the next.
const VERSION: u32 = 1;

/// How [`JsonLines`] writes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct JsonLinesOptions {
    /// A terminal reads it: control characters that JSON leaves as they are are escaped too. Default: no.
    pub terminal: bool,
    /// The run makes records: each line has those of its host. Default: no.
    pub records: bool,
    /// Where outputs are until their host is done. Default: 32 MiB in memory, then a file.
    pub spools: SpoolSet,
}

/// Writes one JSON object a line for each host that is done, with all that it wrote: `stdout` and `stderr`, or `stdout_base64`
/// and `stderr_base64` where that is not UTF-8.
///
/// Outputs wait in [`JsonLinesOptions::spools`] and are never in memory as a whole: a line may have any length.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use fleet::fake::FakeTransport;
/// use fleet::sink::{JsonLines, JsonLinesOptions};
/// use fleet::{Exec, Host, Pool, RunControl, fake::Reply};
///
/// let fake = FakeTransport::new();
/// fake.host("web1").on("uptime", Reply::new().stdout("up 3 days\n"));
/// let mut out = Vec::new();
/// let mut lines = JsonLines::new(&mut out, JsonLinesOptions::default());
/// let hosts = [Arc::new(Host::new("web1", "10.0.0.1"))];
/// Pool::builder(fake).build().run(&hosts, Exec::new("uptime").capture(false), &RunControl::new(), &mut [&mut lines]);
/// drop(lines);
/// let line = String::from_utf8(out).unwrap();
/// assert!(line.contains(r#""host":"web1","status":"ok","exit_code":0"#));
/// assert!(line.ends_with("\"stdout\":\"up 3 days\\n\",\"stderr\":\"\"}\n"));
/// ```
pub struct JsonLines<W> {
    buffer: Buffer<W>,
    options: JsonLinesOptions,
    op: String,
    captures: Captures,
    /// The records of the hosts in flight, as they are written.
    records: HashMap<String, SpoolWriter>,
}

impl<W: Write + Send> JsonLines<W> {
    /// Writes to `writer`, which needs no buffer.
    pub fn new(writer: W, options: JsonLinesOptions) -> Self {
        let captures = Captures::new(options.spools.clone());
        Self { buffer: Buffer::new(writer), options, op: String::new(), captures, records: HashMap::new() }
    }

    fn finished(&mut self, event: &Event, report: &HostReport) -> io::Result<()> {
        let [stdout, stderr] = self.captures.take(&report.host.name);
        let line = Line {
            version: VERSION,
            time: &timestamp(event.time),
            run: event.run.as_str(),
            op: &self.op,
            result: ResultFields::of(report, is_transfer(&self.op)),
        };
        let start = self.buffer.gathered.len();
        serde_json::to_writer(&mut self.buffer.gathered, &line)?;
        // The brace comes after the outputs.
        self.buffer.gathered.pop();
        self.written(start)?;
        if self.options.records {
            self.buffer.gathered.extend_from_slice(b",\"records\":[");
            if let Some(records) = self.records.remove(&report.host.name) {
                each_text(&records.finish(), &mut |text| {
                    let start = self.buffer.gathered.len();
                    self.buffer.gathered.extend_from_slice(text.as_bytes());
                    self.written(start)
                })?;
            }
            self.buffer.gathered.push(b']');
        }
        self.output("stdout", &stdout)?;
        self.output("stderr", &stderr)?;
        self.buffer.gathered.extend_from_slice(b"}\n");
        self.buffer.end_line()
    }

    fn record(&mut self, host: &str, record: &Record) -> io::Result<()> {
        if !self.options.records {
            return Ok(());
        }
        let records = self.records.entry(host.to_owned()).or_insert_with(|| self.options.spools.spool());
        let mut json = if records.is_empty() { Vec::new() } else { b",".to_vec() };
        serde_json::to_writer(&mut json, &RecordFields(record))?;
        records.append(&json).map_err(|error| io::Error::other(error.chain()))
    }

    fn output(&mut self, name: &str, captured: &Captured) -> io::Result<()> {
        if captured.is_text {
            self.buffer.gathered.extend_from_slice(format!(",\"{name}\":\"").as_bytes());
            captured.each_text(&mut |text| {
                let quoted = serde_json::to_vec(text)?;
                let start = self.buffer.gathered.len();
                let inner = quoted.strip_prefix(b"\"").and_then(|quoted| quoted.strip_suffix(b"\""));
                self.buffer.gathered.extend_from_slice(inner.unwrap_or_default());
                self.written(start)
            })?;
        } else {
            self.buffer.gathered.extend_from_slice(format!(",\"{name}_base64\":\"").as_bytes());
            captured.each_bytes(&mut |bytes| {
                self.buffer.gathered.extend_from_slice(BASE64.encode(bytes).as_bytes());
                self.buffer.end_line()
            })?;
        }
        self.buffer.gathered.push(b'"');
        Ok(())
    }

    /// Sees to what was gathered from `start` on: makes it fit for a terminal, and writes it where it is much by now.
    fn written(&mut self, start: usize) -> io::Result<()> {
        if self.options.terminal {
            escape_json(&mut self.buffer.gathered, start);
        }
        self.buffer.end_line()
    }
}

impl<W: Write + Send> Sink for JsonLines<W> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Started { op, .. } => {
                self.op.clone_from(op);
                Ok(())
            }
            EventKind::Record { host, record } => self.record(&host.name, record),
            EventKind::Finished(report) => self.finished(event, report),
            EventKind::RunFinished(_) => self.flush(),
            kind => self.captures.hear(kind),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.write()
    }
}

impl<W> fmt::Debug for JsonLines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").field("options", &self.options).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    time: &'a str,
    run: &'a str,
    op: &'a str,
    #[serde(flatten)]
    result: ResultFields<'a>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::event::{Class, Stream};
    use crate::sink::fixtures::{event, finished, output, run_finished};

    fn written(terminal: bool, events: &[Event]) -> String {
        let mut out = Vec::new();
        let mut lines = JsonLines::new(
            &mut out,
            JsonLinesOptions { terminal, spools: SpoolSet::with_memory(1000), ..JsonLinesOptions::default() },
        );
        lines.handle(&event(EventKind::Started { op: "exec".into(), hosts: 1, fanout: 1 })).unwrap();
        for event in events {
            lines.handle(event).unwrap();
        }
        lines.handle(&run_finished(&[])).unwrap();
        assert!(lines.captures.is_empty());
        String::from_utf8(out).unwrap()
    }

    /// Puts a stream together again, as the documentation of the form says.
    fn restored(line: &Value, stream: &str) -> Vec<u8> {
        match (line.get(stream), line.get(format!("{stream}_base64"))) {
            (Some(text), None) => text.as_str().unwrap().as_bytes().to_vec(),
            (None, Some(bytes)) => BASE64.decode(bytes.as_str().unwrap()).unwrap(),
            _ => panic!("neither text nor base64, or both: {line}"),
        }
    }

    #[test]
    fn a_result_is_a_line_with_all_that_was_written() {
        let events = [
            output("a", Stream::Stdout, b"one\ntw"),
            output("b", Stream::Stdout, b"\xff\xfe"),
            output("a", Stream::Stdout, "o \u{1}€".as_bytes()),
            finished("a", Class::Ok),
            finished("b", Class::Failed),
        ];
        let text = written(false, &events);
        let [first, second] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(
            first,
            concat!(
                r#"{"version":1,"time":"2023-11-14T22:13:20.123456Z","run":"r1","op":"exec","host":"a","status":"ok","#,
                r#""exit_code":null,"signal":null,"phase":null,"error":null,"killed":null,"attempts":1,"queued_s":0.0,"#,
                r#""duration_s":0.21,"phases":{"connect":0.0125,"key exchange":0.05},"stdout_bytes":0,"stderr_bytes":0,"#,
                r#""stdout":"one\ntwo \u0001€","stderr":""}"#
            )
        );
        assert!(second.ends_with(r#""stdout_base64":"//4=","stderr":""}"#), "{second}");
    }

    #[test]
    fn a_line_of_5_mb_is_never_in_memory_as_a_whole() {
        struct Largest(usize);
        impl Write for &mut Largest {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.max(bytes.len());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for chunk in ["\u{1}".repeat(32 * 1024).into_bytes(), vec![0xff; 32 * 1024]] {
            let mut largest = Largest(0);
            let options = JsonLinesOptions { spools: SpoolSet::with_memory(1000), ..JsonLinesOptions::default() };
            let mut lines = JsonLines::new(&mut largest, options);
            for _ in 0..160 {
                lines.handle(&output("a", Stream::Stdout, &chunk)).unwrap();
            }
            lines.handle(&finished("a", Class::Ok)).unwrap();
            lines.flush().unwrap();
            drop(lines);
            // Six bytes for a control character, and what was gathered before.
            assert!(largest.0 > 0 && largest.0 < 400 * 1024, "{} at once", largest.0);
        }
    }

    #[test]
    fn a_full_spool_fails_the_form_and_says_where() {
        let spools = SpoolSet::with_memory_in(0, "/nonexistent/dir");
        let mut lines = JsonLines::new(Vec::new(), JsonLinesOptions { spools, ..JsonLinesOptions::default() });
        let error = lines.handle(&output("a", Stream::Stdout, b"x")).unwrap_err();
        assert!(error.to_string().starts_with("cannot write the spill file in /nonexistent/dir: "), "{error}");
    }

    #[test]
    fn a_terminal_sees_no_control_character() {
        let events = [output("a", Stream::Stdout, "\u{9b}2J\x7f\n".as_bytes()), finished("a", Class::Ok)];
        let text = written(true, &events);
        assert!(text.contains(r#""stdout":"\u009b2J\u007f\n""#), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_restored_exactly(
            bytes in proptest::collection::vec(
                prop_oneof![
                    "\\PC{0,3}".prop_map(String::into_bytes),
                    proptest::collection::vec(any::<u8>(), 0..4),
                    // A lone surrogate in WTF-8, quotes and escapes, half a character, a newline.
                    prop_oneof![
                        Just(b"\xed\xa0\x80".to_vec()),
                        Just(b"\"\\u0000\\".to_vec()),
                        Just(b"\xf0\x9f\x98".to_vec()),
                        Just(b"\n\0\x1b\x7f".to_vec()),
                    ],
                ],
                0..8,
            ),
            size in 1_usize..8,
            terminal: bool,
        ) {
            let bytes = bytes.concat();
            let mut events: Vec<Event> = bytes.chunks(size).map(|part| output("a", Stream::Stderr, part)).collect();
            events.push(finished("a", Class::Ok));
            let text = written(terminal, &events);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let line: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(restored(&line, "stderr"), bytes);
            prop_assert_eq!(restored(&line, "stdout"), b"");
        }
    }
}
