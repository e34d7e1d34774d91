//! The CSV form: one row a result.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::buffer::Buffer;
use super::captured::{Captured, Captures};
use super::escape::append_visible;
use super::result::{ResultFields, is_transfer, timestamp};
use crate::event::{Event, EventKind, HostReport, Sink};
use crate::record::Record;
use crate::spool::SpoolSet;

/// The columns of results, in order.
pub(super) const COLUMNS: [&str; 21] = [
    "host",
    "status",
    "exit_code",
    "signal",
    "phase",
    "error",
    "killed",
    "attempts",
    "queued_s",
    "duration_s",
    "time",
    "run",
    "op",
    "stdout_bytes",
    "stderr_bytes",
    "files",
    "bytes",
    "stdout",
    "stdout_encoding",
    "stderr",
    "stderr_encoding",
];

/// How [`Csv`] writes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CsvOptions {
    /// A terminal reads it: control characters are written out. Default: no, and every byte is kept.
    pub terminal: bool,
    /// The run makes records with these fields: each is a row, with a column for the host and for each field. Default: none,
    /// each result is a row.
    pub fields: Option<Vec<String>>,
    /// Where outputs are until their host is done. Default: 32 MiB in memory, then a file.
    pub spools: SpoolSet,
}

/// Writes comma-separated values (RFC 4180): a header, then a row for each host that is done, with all that it wrote.
///
/// The columns are the same for every operation; what does not apply is empty. `stdout_encoding` and `stderr_encoding` are
/// `utf-8`, or `base64` where an output is not UTF-8 or holds a NUL, which few readers of CSV bear. Rows end in CR LF.
///
/// Where the run makes records, a row is a record instead: the host, and a column for each field, where bytes that are not
/// UTF-8 are written as `\xNN`.
///
/// Outputs wait in [`CsvOptions::spools`] and are never in memory as a whole.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use fleet::fake::{FakeTransport, Reply};
/// use fleet::sink::{Csv, CsvOptions};
/// use fleet::{Exec, Host, Pool, RunControl};
///
/// let fake = FakeTransport::new();
/// fake.host("web1").on("uptime", Reply::new().stdout("up 3 days, 2 users"));
/// let mut out = Vec::new();
/// let mut csv = Csv::new(&mut out, CsvOptions::default());
/// let hosts = [Arc::new(Host::new("web1", "10.0.0.1"))];
/// Pool::builder(fake).build().run(&hosts, Exec::new("uptime").capture(false), &RunControl::new(), &mut [&mut csv]);
/// drop(csv);
/// let text = String::from_utf8(out).unwrap();
/// let rows: Vec<&str> = text.lines().collect();
/// assert!(rows[0].starts_with("host,status,exit_code,"));
/// assert!(rows[1].starts_with("web1,ok,0,") && rows[1].ends_with(",\"up 3 days, 2 users\",utf-8,,utf-8"));
/// ```
pub struct Csv<W> {
    rows: Rows<W>,
    fields: Option<Vec<String>>,
    op: String,
    captures: Captures,
}

impl<W: Write + Send> Csv<W> {
    /// Writes to `writer`, which needs no buffer.
    pub fn new(writer: W, options: CsvOptions) -> Self {
        let rows = Rows { buffer: Buffer::new(writer), terminal: options.terminal, is_begun: false };
        Self { rows, fields: options.fields, op: String::new(), captures: Captures::new(options.spools) }
    }

    fn record(&mut self, host: &str, record: &Record) -> io::Result<()> {
        self.rows.text(host);
        for (_, value) in record.iter() {
            self.rows.text(&visible_bytes(value.unwrap_or_default()));
        }
        self.rows.end()
    }

    fn finished(&mut self, event: &Event, report: &HostReport) -> io::Result<()> {
        let [stdout, stderr] = self.captures.take(&report.host.name);
        let result = ResultFields::of(report, is_transfer(&self.op));
        let rows = &mut self.rows;
        rows.text(result.host);
        rows.text(result.status);
        rows.optional(result.exit_code);
        rows.optional(result.signal);
        rows.optional(result.phase);
        rows.optional(result.error);
        rows.optional(result.killed);
        rows.optional(Some(result.attempts));
        rows.optional(Some(result.queued_s));
        rows.optional(Some(result.duration_s));
        rows.text(&timestamp(event.time));
        rows.text(event.run.as_str());
        rows.text(&self.op);
        rows.optional(Some(result.stdout_bytes));
        rows.optional(Some(result.stderr_bytes));
        rows.optional(result.files);
        rows.optional(result.bytes);
        rows.output(&stdout)?;
        rows.output(&stderr)?;
        rows.end()
    }
}

impl<W: Write + Send> Sink for Csv<W> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Started { op, .. } => {
                self.op.clone_from(op);
                match &self.fields {
                    None => COLUMNS.iter().for_each(|name| self.rows.text(name)),
                    Some(fields) => {
                        self.rows.text("host");
                        fields.iter().for_each(|name| self.rows.text(name));
                    }
                }
                self.rows.end()
            }
            EventKind::Record { host, record } if self.fields.is_some() => self.record(&host.name, record),
            EventKind::RunFinished(_) => self.flush(),
            _ if self.fields.is_some() => Ok(()),
            EventKind::Finished(report) => self.finished(event, report),
            kind => self.captures.hear(kind),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.rows.buffer.write()
    }
}

impl<W> fmt::Debug for Csv<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csv").field("op", &self.op).finish_non_exhaustive()
    }
}

/// Returns a text, with bytes that are not UTF-8 as `\xNN`.
fn visible_bytes(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    Cow::Owned(text)
}

/// Writes fields as one row of CSV, with its end.
///
/// # Examples
///
/// ```
/// assert_eq!(fleet::sink::csv_row(["web1", "say \"hi\"", "a,b", ""]), "web1,\"say \"\"hi\"\"\",\"a,b\",\r\n");
/// ```
pub fn csv_row(fields: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut row = String::new();
    for (number, field) in fields.into_iter().enumerate() {
        let field = field.as_ref();
        let separator = if number == 0 { "" } else { "," };
        let quote = if is_plain(field) { "" } else { "\"" };
        row.push_str(&format!("{separator}{quote}{}{quote}", field.replace('"', "\"\"")));
    }
    row + "\r\n"
}

fn is_plain(field: &str) -> bool {
    !field.contains(['"', ',', '\r', '\n'])
}

/// Writes rows, a field at a time.
struct Rows<W> {
    buffer: Buffer<W>,
    terminal: bool,
    /// Whether the row has a field.
    is_begun: bool,
}

impl<W: Write> Rows<W> {
    fn text(&mut self, text: &str) {
        self.separate();
        let quote: &[u8] = if is_plain(text) { b"" } else { b"\"" };
        self.buffer.gathered.extend_from_slice(quote);
        self.append(text);
        self.buffer.gathered.extend_from_slice(quote);
    }

    fn optional(&mut self, value: Option<impl Display>) {
        self.text(&value.map(|value| value.to_string()).unwrap_or_default());
    }

    /// Writes an output and how it is encoded.
    fn output(&mut self, captured: &Captured) -> io::Result<()> {
        self.separate();
        let is_text = captured.is_text && !captured.has_nul;
        if captured.is_empty() {
        } else if is_text {
            // Whether it must be quoted would be known only at its end.
            self.buffer.gathered.push(b'"');
            captured.each_text(&mut |text| {
                self.append(text);
                self.buffer.end_line()
            })?;
            self.buffer.gathered.push(b'"');
        } else {
            captured.each_bytes(&mut |bytes| {
                self.buffer.gathered.extend_from_slice(BASE64.encode(bytes).as_bytes());
                self.buffer.end_line()
            })?;
        }
        self.text(if is_text { "utf-8" } else { "base64" });
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.is_begun = false;
        self.buffer.gathered.extend_from_slice(b"\r\n");
        self.buffer.end_line()
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            self.buffer.gathered.push(b',');
        }
    }

    /// Appends a field's text with its quotes doubled.
    fn append(&mut self, text: &str) {
        let out = &mut self.buffer.gathered;
        for (number, part) in text.split('"').enumerate() {
            if number > 0 {
                out.extend_from_slice(b"\"\"");
            }
            if !self.terminal {
                out.extend_from_slice(part.as_bytes());
                continue;
            }
            for (number, line) in part.split('\n').enumerate() {
                if number > 0 {
                    out.push(b'\n');
                }
                append_visible(out, line.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Error, ErrorKind, Phase};
    use crate::event::{Class, Stream};
    use crate::sink::fixtures::{event, failed, finished, output, run_finished};

    fn written(terminal: bool, events: &[Event]) -> String {
        let mut out = Vec::new();
        let mut csv = Csv::new(&mut out, CsvOptions { terminal, fields: None, spools: SpoolSet::with_memory(1000) });
        csv.handle(&event(EventKind::Started { op: "exec".into(), hosts: 1, fanout: 1 })).unwrap();
        for event in events {
            csv.handle(event).unwrap();
        }
        csv.handle(&run_finished(&[])).unwrap();
        assert!(csv.captures.is_empty());
        String::from_utf8(out).unwrap()
    }

    /// Reads the form back as other programs do: each row by its columns' names.
    fn read(text: &str) -> Vec<std::collections::HashMap<String, String>> {
        csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
    }

    #[test]
    fn a_result_is_a_row() {
        let error = Error::new(ErrorKind::Timeout, "login, \"slow\", timed out").in_phase(Phase::Login);
        let events = [
            output("a", Stream::Stdout, b"one\ntw"),
            output("b", Stream::Stdout, b"x"),
            output("a", Stream::Stdout, b"o \"2\",\r\n"),
            output("a", Stream::Stderr, b"\xff"),
            finished("a", Class::Ok),
            failed("b", error),
        ];
        assert_eq!(
            written(false, &events),
            concat!(
                "host,status,exit_code,signal,phase,error,killed,attempts,queued_s,duration_s,time,run,op,",
                "stdout_bytes,stderr_bytes,files,bytes,stdout,stdout_encoding,stderr,stderr_encoding\r\n",
                "a,ok,,,,,,1,0,0.21,2023-11-14T22:13:20.123456Z,r1,exec,",
                "0,0,,,\"one\ntwo \"\"2\"\",\r\n\",utf-8,/w==,base64\r\n",
                "b,unreachable,,,login,\"login, \"\"slow\"\", timed out\",,1,0,0.21,2023-11-14T22:13:20.123456Z,r1,exec,",
                "0,0,,,\"x\",utf-8,,utf-8\r\n",
            )
        );
    }

    #[test]
    fn an_attempt_that_is_made_again_leaves_nothing() {
        let note = crate::event::Note::Retrying {
            attempt: 1,
            error: Error::new(ErrorKind::Disconnected, "x"),
            delay: std::time::Duration::ZERO,
        };
        let events = [
            output("a", Stream::Stdout, b"half"),
            crate::sink::fixtures::note("a", note),
            output("a", Stream::Stdout, b"whole"),
            finished("a", Class::Ok),
        ];
        assert_eq!(read(&written(false, &events))[0]["stdout"], "whole");
    }

    #[test]
    fn a_terminal_sees_no_control_character() {
        let events = [output("a", Stream::Stdout, "\x1b[2J\u{9b}1\r\nb".as_bytes()), finished("a", Class::Ok)];
        let text = written(true, &events);
        assert!(text.contains("\"\\x1b[2J\\u{9b}1\\x0d\nb\",utf-8"), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_through_a_reader(
            bytes in proptest::collection::vec(
                prop_oneof![
                    "[\",\r\n a-c€\u{0}\u{feff}]{0,9}".prop_map(String::into_bytes),
                    proptest::collection::vec(any::<u8>(), 0..4),
                ],
                0..6,
            ),
            size in 1_usize..8,
        ) {
            let bytes = bytes.concat();
            let mut events: Vec<Event> = bytes.chunks(size).map(|part| output("a", Stream::Stdout, part)).collect();
            events.push(finished("a", Class::Ok));
            let rows = read(&written(false, &events));
            prop_assert_eq!(rows.len(), 1);
            let field = rows[0]["stdout"].as_bytes();
            let restored = match rows[0]["stdout_encoding"].as_str() {
                "utf-8" => field.to_vec(),
                _ => BASE64.decode(field).unwrap(),
            };
            prop_assert_eq!(restored, bytes);
        }
    }
}
