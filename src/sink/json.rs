//! The JSON form: one object a line, as it happens.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::buffer::Buffer;
use super::escape::escape_json;
use super::lines::Lines;
use super::result::{RecordFields, ResultFields, is_transfer, seconds, timestamp};
use crate::budget::Stop;
use crate::error::Phase;
use crate::event::{Class, Event, EventKind, HostReport, Note, Sink, StopReason, Stream, Summary};
use crate::host::Host;

/// The version of the form, in its first line. It changes when a reader of the last one would misread the next.
const VERSION: u32 = 1;

/// How [`Json`] writes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct JsonOptions {
    /// Writes a line for each phase a host enters. Default: no.
    pub phases: bool,
    /// A terminal reads it: control characters that JSON leaves as they are are escaped too. Default: no.
    pub terminal: bool,
}

/// Writes one JSON object a line for each event (DESIGN section 7); every line has `event`, `time` (RFC 3339, UTC) and `run`.
///
/// Output is one object a line of it, `text` or, where that is not UTF-8, `base64`. The values joined, with a newline
/// after each whose `eol` is true, are a stream's bytes exactly. A line past 64 KiB comes in pieces.
///
/// # Examples
///
/// ```
/// use fleet::event::{Event, EventKind, RunId};
/// use fleet::sink::{Json, JsonOptions};
/// use fleet::Sink;
///
/// let mut out = Vec::new();
/// let mut json = Json::new(&mut out, JsonOptions::default());
/// let started = EventKind::Started { op: "ping".into(), hosts: 2, fanout: 2 };
/// json.handle(&Event::now(RunId::new("r"), started))?;
/// json.flush()?;
/// assert!(out.starts_with(br#"{"event":"started","time":""#));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Json<W> {
    buffer: Buffer<W>,
    options: JsonOptions,
    is_transfer: bool,
    running: HashMap<String, [Lines; 2]>,
}

impl<W: Write + Send> Json<W> {
    /// Writes to `writer`, which needs no buffer.
    pub fn new(writer: W, options: JsonOptions) -> Self {
        Self { buffer: Buffer::new(writer), options, is_transfer: false, running: HashMap::new() }
    }

    fn note(&mut self, event: &Event, host: &Arc<Host>, note: &Note) -> io::Result<()> {
        let host = host.name.as_str();
        match note {
            Note::HostKey { action, key_type, fingerprint } => {
                self.line(event, "host_key", &HostKey { host, action: action.as_str(), key_type, fingerprint })
            }
            Note::Banner(text) => self.line(event, "banner", &Banner { host, text }),
            Note::Retrying { attempt, error, delay } => {
                let phase = error.phase().map(Phase::as_str);
                let error = error.chain();
                self.line(
                    event,
                    "retrying",
                    &Retrying { host, attempt: *attempt, phase, error, delay_s: seconds(*delay) },
                )
            }
            Note::NoRecord => {
                self.unfinished(event, host)?;
                self.line(event, "no_record", &OfHost { host })
            }
            Note::Unguarded(reason) => self.line(event, "unguarded", &Unguarded { host, reason }),
            Note::Warning(message) => self.line(event, "warning", &Warning { host: Some(host), message }),
            Note::Detail(message) => self.line(event, "detail", &Warning { host: Some(host), message }),
        }
    }

    fn output(&mut self, event: &Event, name: &str, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        // Taken out while its lines are written, and put back.
        let (name, mut streams) =
            self.running.remove_entry(name).unwrap_or_else(|| (name.to_owned(), Default::default()));
        let [stdout, stderr] = &mut streams;
        let lines = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        let header = Header::new(event, "output");
        let pushed = lines.push(bytes, &mut |line, eol| self.output_line(&header, &name, stream, line, eol));
        self.running.insert(name, streams);
        pushed
    }

    fn output_line(&mut self, header: &Header, host: &str, stream: Stream, line: &[u8], eol: bool) -> io::Result<()> {
        let (text, base64) = match std::str::from_utf8(line) {
            Ok(text) => (Some(text), None),
            Err(_) => (None, Some(BASE64.encode(line))),
        };
        self.line_with(header, &Output { host, stream: stream.as_str(), text, base64, eol })
    }

    /// Writes the last lines of a host, which have no newline.
    fn unfinished(&mut self, event: &Event, name: &str) -> io::Result<()> {
        let Some([mut stdout, mut stderr]) = self.running.remove(name) else { return Ok(()) };
        let header = Header::new(event, "output");
        stdout.finish(&mut |line, eol| self.output_line(&header, name, Stream::Stdout, line, eol))?;
        stderr.finish(&mut |line, eol| self.output_line(&header, name, Stream::Stderr, line, eol))
    }

    fn finished(&mut self, event: &Event, report: &HostReport) -> io::Result<()> {
        self.unfinished(event, &report.host.name)?;
        self.line(event, "finished", &ResultFields::of(report, self.is_transfer))
    }

    fn stopping(&mut self, event: &Event, stop: Stop, reason: StopReason, running: &[Arc<Host>]) -> io::Result<()> {
        let stop = match stop {
            Stop::Drain => "drain",
            Stop::Abort => "abort",
        };
        let running = running.iter().map(|host| host.name.as_str()).collect();
        self.line(event, "stopping", &Stopping { stop, reason: reason.as_str(), running })
    }

    fn line(&mut self, event: &Event, name: &str, body: &impl Serialize) -> io::Result<()> {
        self.line_with(&Header::new(event, name), body)
    }

    /// Writes the header and the body's fields as one object.
    fn line_with(&mut self, header: &Header, body: &impl Serialize) -> io::Result<()> {
        let start = self.buffer.gathered.len();
        let out = &mut self.buffer.gathered;
        header.join(out, body)?;
        if self.options.terminal {
            escape_json(out, start);
        }
        out.push(b'\n');
        self.buffer.end_line()
    }
}

impl<W: Write + Send> Sink for Json<W> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Started { op, hosts, fanout } => {
                self.is_transfer = is_transfer(op);
                self.line(event, "started", &Started { version: VERSION, op, hosts: *hosts, fanout: *fanout })
            }
            EventKind::Phase { host, phase } if self.options.phases => {
                self.line(event, "phase", &PhaseEntered { host: &host.name, phase: phase.as_str() })
            }
            EventKind::Phase { .. } => Ok(()),
            EventKind::Note { host, note } => self.note(event, host, note),
            EventKind::Warning(message) => self.line(event, "warning", &Warning { host: None, message }),
            EventKind::Output { host, stream, bytes } => self.output(event, &host.name, *stream, bytes),
            EventKind::Record { host, record } => {
                self.unfinished(event, &host.name)?;
                self.line(event, "record", &RecordLine { host: &host.name, fields: RecordFields(record) })
            }
            EventKind::Transfer { host, path, done, total } => {
                self.line(event, "transfer", &Transfer { host: &host.name, path, done: *done, total: *total })
            }
            EventKind::Wave { number, begins, reaches } => {
                self.line(event, "wave", &WaveLine { number: *number, begins: *begins, reaches: *reaches })
            }
            EventKind::Finished(report) => self.finished(event, report),
            EventKind::Stopping { stop, reason, running } => self.stopping(event, *stop, *reason, running),
            EventKind::RunFinished(summary) => {
                self.line(event, "summary", &SummaryLine(summary))?;
                self.flush()
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.write()
    }
}

impl<W> fmt::Debug for Json<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Json").field("options", &self.options).finish_non_exhaustive()
    }
}

/// The fields that every line begins with, without the closing brace.
pub(super) struct Header(Vec<u8>);

impl Header {
    pub(super) fn new(event: &Event, name: &str) -> Self {
        let time = timestamp(event.time);
        let fields = HeaderFields { event: name, time: &time, run: event.run.as_str() };
        let mut bytes = serde_json::to_vec(&fields).unwrap_or_default();
        bytes.pop();
        Self(bytes)
    }

    /// Appends the header and the body's fields as one object.
    pub(super) fn join(&self, out: &mut Vec<u8>, body: &impl Serialize) -> io::Result<()> {
        out.extend_from_slice(&self.0);
        let joint = out.len();
        serde_json::to_writer(&mut *out, body)?;
        if let Some(brace) = out.get_mut(joint) {
            *brace = b',';
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct HeaderFields<'a> {
    event: &'a str,
    time: &'a str,
    run: &'a str,
}

#[derive(Serialize)]
struct Started<'a> {
    version: u32,
    op: &'a str,
    hosts: usize,
    fanout: usize,
}

#[derive(Serialize)]
struct PhaseEntered<'a> {
    host: &'a str,
    phase: &'a str,
}

#[derive(Serialize)]
struct HostKey<'a> {
    host: &'a str,
    action: &'a str,
    key_type: &'a str,
    fingerprint: &'a str,
}

#[derive(Serialize)]
struct Banner<'a> {
    host: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct OfHost<'a> {
    host: &'a str,
}

#[derive(Serialize)]
struct RecordLine<'a> {
    host: &'a str,
    fields: RecordFields<'a>,
}

#[derive(Serialize)]
struct Unguarded<'a> {
    host: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Retrying<'a> {
    host: &'a str,
    attempt: u32,
    phase: Option<&'a str>,
    error: String,
    delay_s: f64,
}

#[derive(Serialize)]
struct Warning<'a> {
    host: Option<&'a str>,
    message: &'a str,
}

#[derive(Serialize)]
struct Output<'a> {
    host: &'a str,
    stream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    eol: bool,
}

#[derive(Serialize)]
struct WaveLine {
    number: usize,
    begins: usize,
    reaches: usize,
}

#[derive(Serialize)]
struct Transfer<'a> {
    host: &'a str,
    path: &'a str,
    done: u64,
    total: u64,
}

#[derive(Serialize)]
struct Stopping<'a> {
    stop: &'a str,
    reason: &'a str,
    running: Vec<&'a str>,
}

/// The counts, one field for each of [`Class::ALL`].
struct SummaryLine<'a>(&'a Summary);

impl Serialize for SummaryLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let summary = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("hosts", &summary.hosts)?;
        for class in Class::ALL {
            map.serialize_entry(class.as_str(), &summary.of(class))?;
        }
        map.serialize_entry("stopped_by", &summary.stopped_by.map(|reason| reason.as_str()))?;
        map.serialize_entry("duration_s", &seconds(summary.duration))?;
        map.serialize_entry("exit_code", &summary.exit_code())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::event::HostKeyAction;
    use crate::sink::fixtures::{event, exited, failed, finished, host, note, output, run_finished};

    fn written(options: JsonOptions, events: &[Event]) -> String {
        let mut out = Vec::new();
        let mut json = Json::new(&mut out, options);
        for event in events {
            json.handle(event).unwrap();
        }
        json.flush().unwrap();
        assert!(json.running.is_empty());
        String::from_utf8(out).unwrap()
    }

    /// What one event writes, without the fields that every line has.
    fn body(event: &Event) -> String {
        let text = written(JsonOptions { phases: true, terminal: false }, std::slice::from_ref(event));
        text.replace(r#""time":"2023-11-14T22:13:20.123456Z","run":"r1","#, "").trim_end().to_owned()
    }

    #[test]
    fn every_line_has_the_time_and_the_run() {
        let text = written(JsonOptions::default(), &[event(EventKind::Warning("x".into()))]);
        assert_eq!(
            text,
            concat!(
                r#"{"event":"warning","time":"2023-11-14T22:13:20.123456Z","run":"r1","host":null,"message":"x"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn each_event_has_its_line() {
        let error = Error::new(ErrorKind::Protocol, "Exceeded MaxStartups").in_phase(Phase::Banner);
        let retrying = Note::Retrying { attempt: 1, error, delay: Duration::from_millis(400) };
        let key = Note::HostKey {
            action: HostKeyAction::Recorded,
            key_type: "ssh-ed25519".into(),
            fingerprint: "SHA256:x".into(),
        };
        let stopping = EventKind::Stopping {
            stop: Stop::Drain,
            reason: StopReason::Interrupt,
            running: vec![host("a"), host("b")],
        };
        let table = [
            (
                event(EventKind::Started { op: "exec".into(), hosts: 20, fanout: 10 }),
                r#"{"event":"started","version":1,"op":"exec","hosts":20,"fanout":10}"#,
            ),
            (
                event(EventKind::Phase { host: host("a"), phase: Phase::KeyExchange }),
                r#"{"event":"phase","host":"a","phase":"key exchange"}"#,
            ),
            (
                note("a", key),
                r#"{"event":"host_key","host":"a","action":"recorded","key_type":"ssh-ed25519","fingerprint":"SHA256:x"}"#,
            ),
            (note("a", Note::Detail("x".into())), r#"{"event":"detail","host":"a","message":"x"}"#),
            (note("a", Note::Banner("hi\n".into())), r#"{"event":"banner","host":"a","text":"hi\n"}"#),
            (note("a", Note::Unguarded("x".into())), r#"{"event":"unguarded","host":"a","reason":"x"}"#),
            (
                note("a", retrying),
                r#"{"event":"retrying","host":"a","attempt":1,"phase":"banner","error":"Exceeded MaxStartups","delay_s":0.4}"#,
            ),
            (
                event(EventKind::Transfer { host: host("a"), path: "x".into(), done: 1, total: 2 }),
                r#"{"event":"transfer","host":"a","path":"x","done":1,"total":2}"#,
            ),
            (event(stopping), r#"{"event":"stopping","stop":"drain","reason":"interrupt","running":["a","b"]}"#),
            (
                exited("a", 0),
                r#"{"event":"finished","host":"a","status":"ok","exit_code":0,"signal":null,"phase":null,"error":null,"killed":null,"attempts":1,"queued_s":0.0,"duration_s":0.21,"phases":{"connect":0.0125,"key exchange":0.05},"stdout_bytes":0,"stderr_bytes":0}"#,
            ),
            (
                run_finished(&[]),
                r#"{"event":"summary","hosts":0,"ok":0,"failed":0,"unreachable":0,"lost":0,"timed_out":0,"error":0,"cancelled":0,"not_started":0,"stopped_by":null,"duration_s":1.9,"exit_code":0}"#,
            ),
        ];
        for (event, line) in table {
            assert_eq!(body(&event), line);
        }
    }

    #[test]
    fn a_failure_names_its_phase_and_cause() {
        let error = Error::new(ErrorKind::Timeout, "login timed out after 10s").in_phase(Phase::Login);
        let line = body(&failed("a", error));
        assert!(line.contains(r#""status":"unreachable""#), "{line}");
        assert!(line.contains(r#""phase":"login","error":"login timed out after 10s""#), "{line}");
    }

    #[test]
    fn phases_are_written_only_when_asked_for() {
        let phase = event(EventKind::Phase { host: host("a"), phase: Phase::Login });
        assert_eq!(written(JsonOptions::default(), &[phase]), "");
    }

    #[test]
    fn transfers_say_how_much_was_moved() {
        let started = event(EventKind::Started { op: "put".into(), hosts: 1, fanout: 1 });
        let text = written(JsonOptions::default(), &[started, finished("a", Class::Ok)]);
        assert!(text.contains(r#""files":0,"bytes":0}"#), "{text}");
    }

    /// Puts a stream together again, as the documentation of the form says.
    fn restored(text: &str) -> Vec<u8> {
        let mut restored = Vec::new();
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            if value["event"] != "output" {
                continue;
            }
            assert_eq!(value["stream"], "stderr");
            match value.get("text") {
                Some(text) => restored.extend_from_slice(text.as_str().unwrap().as_bytes()),
                None => restored.extend(BASE64.decode(value["base64"].as_str().unwrap()).unwrap()),
            }
            if value["eol"] == true {
                restored.push(b'\n');
            }
        }
        restored
    }

    fn streamed(bytes: &[u8], size: usize, terminal: bool) -> String {
        let mut events: Vec<Event> = bytes.chunks(size).map(|chunk| output("a", Stream::Stderr, chunk)).collect();
        events.push(finished("a", Class::Ok));
        written(JsonOptions { phases: false, terminal }, &events)
    }

    #[test]
    fn the_bytes_of_a_stream_can_be_restored() {
        let bytes = [b"caf\xc3\xa9\n\n".as_slice(), b"\xff\xfe raw\n", &[b'x'; 70_000], "€".as_bytes()].concat();
        for size in [1, 3, 1000, 100_000] {
            assert!(restored(&streamed(&bytes, size, false)) == bytes, "chunks of {size}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_restored_exactly(
            parts in proptest::collection::vec(
                proptest::prop_oneof![
                    proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6),
                    // A lone surrogate in WTF-8, escapes, half a character, empty lines, NUL.
                    proptest::sample::select(vec![
                        b"\xed\xa0\x80".to_vec(),
                        b"\"\\u0000\\".to_vec(),
                        b"\xf0\x9f\x98".to_vec(),
                        b"\n\n\r\n\0".to_vec(),
                        "\u{9b}\u{7f}\u{2028}\u{feff}".as_bytes().to_vec(),
                    ]),
                ],
                0..8,
            ),
            size in 1_usize..9,
            terminal: bool,
        ) {
            let bytes = parts.concat();
            proptest::prop_assert_eq!(restored(&streamed(&bytes, size, terminal)), bytes);
        }
    }

    #[test]
    fn a_terminal_sees_no_control_character() {
        let events = [output("a", Stream::Stdout, "\u{9b}2J\n".as_bytes()), finished("a", Class::Ok)];
        let text = written(JsonOptions { phases: false, terminal: true }, &events);
        assert!(text.contains(r#""text":"\u009b2J""#), "{text}");
    }
}
