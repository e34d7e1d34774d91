//! The table of records, for people.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};

use super::buffer::Buffer;
use super::escape::cell;
use super::text::{Text, TextOptions};
use crate::event::{Event, EventKind, Sink, Stream};
use crate::record::{Pattern, Record};
use crate::spool::{Spool, SpoolSet, SpoolWriter};

/// To how many columns a cell is padded at most.
const MAX_CELL_COLUMNS: usize = 60;

/// How [`Table`] writes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TableOptions {
    /// The fields of the records, which are the columns after the host's.
    pub fields: Vec<String>,
    /// How standard error is written, and how columns are measured.
    pub text: TextOptions,
    /// Where rows are until the run's end. Default: 32 MiB in memory, then a file.
    pub spools: SpoolSet,
}

impl TableOptions {
    /// Makes the columns of a pattern.
    pub fn of(pattern: &Pattern) -> Self {
        Self { fields: pattern.fields().to_vec(), text: TextOptions::default(), spools: SpoolSet::default() }
    }
}

/// Writes the records of a run as one aligned table when the run is over, in the order of the hosts; standard error as [`Text`] does.
///
/// What hosts write on standard output is not shown by itself. Control characters are written out wherever the table goes:
/// a record is a line.
pub struct Table<O, E> {
    buffer: Buffer<O>,
    options: TableOptions,
    stderr: Text<io::Sink, E>,
    widths: Vec<usize>,
    under_way: HashMap<String, SpoolWriter>,
    /// The place of each host that is done, and its rows: a line each, with tabs between the cells.
    done: Vec<(usize, Spool)>,
}

impl<O: Write + Send, E: Write + Send> Table<O, E> {
    /// Writes the table to `stdout` and what hosts write on standard error to `stderr`; neither needs a buffer.
    pub fn new(stdout: O, stderr: E, options: TableOptions) -> Self {
        let mut table = Self {
            buffer: Buffer::new(stdout),
            stderr: Text::new(io::sink(), stderr, options.text),
            widths: vec![0; options.fields.len() + 1],
            options,
            under_way: HashMap::new(),
            done: Vec::new(),
        };
        let header = table.header();
        table.measure(&header);
        table
    }

    fn header(&self) -> Vec<String> {
        std::iter::once("host").chain(self.options.fields.iter().map(String::as_str)).map(str::to_uppercase).collect()
    }

    fn measure(&mut self, cells: &[String]) {
        for (width, cell) in self.widths.iter_mut().zip(cells) {
            *width = (*width).max((self.options.text.columns)(cell)).min(MAX_CELL_COLUMNS);
        }
    }

    fn record(&mut self, host: &str, record: &Record) -> io::Result<()> {
        let values = record.iter().map(|(_, value)| cell(value.unwrap_or_default()));
        let cells: Vec<String> = std::iter::once(cell(host.as_bytes())).chain(values).collect();
        self.measure(&cells);
        let rows = self.under_way.entry(host.to_owned()).or_insert_with(|| self.options.spools.spool());
        rows.append((cells.join("\t") + "\n").as_bytes()).map_err(|error| io::Error::other(error.chain()))
    }

    fn finish(&mut self) -> io::Result<()> {
        let mut done = std::mem::take(&mut self.done);
        done.sort_by_key(|(index, _)| *index);
        if !done.is_empty() {
            let header = self.header();
            self.row(header.iter().map(String::as_str))?;
        }
        for (_, rows) in done {
            for row in BufReader::new(rows.reader()).lines() {
                self.row(row?.split('\t'))?;
            }
        }
        self.flush()
    }

    fn row<'a>(&mut self, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let out = &mut self.buffer.gathered;
        let mut padding = 0;
        for (cell, width) in cells.zip(&self.widths) {
            // Padding that nothing follows is left out.
            if !cell.is_empty() {
                out.resize(out.len() + padding, b' ');
                out.extend_from_slice(cell.as_bytes());
                padding = 0;
            }
            padding += width.saturating_sub((self.options.text.columns)(cell)) + 2;
        }
        out.push(b'\n');
        self.buffer.end_line()
    }
}

impl<O: Write + Send, E: Write + Send> Sink for Table<O, E> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Output { stream: Stream::Stdout, .. } => return Ok(()),
            EventKind::Record { host, record } => self.record(&host.name, record)?,
            EventKind::Finished(report) => {
                let rows = self.under_way.remove(&report.host.name);
                self.done.extend(rows.map(|rows| (report.index, rows.finish())));
            }
            EventKind::RunFinished(_) => self.finish()?,
            _ => {}
        }
        self.stderr.handle(event)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.write().and(self.stderr.flush())
    }
}

impl<O, E> fmt::Debug for Table<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Class, HostReport};
    use crate::sink::fixtures::{event, finished, host, output, run_finished};
    use std::sync::Arc;

    fn recorded(name: &str, pattern: &Pattern, text: &[u8]) -> Event {
        let record = pattern.records(text).next().unwrap();
        event(EventKind::Record { host: host(name), record })
    }

    fn ended(name: &str, index: usize) -> Event {
        let EventKind::Finished(report) = finished(name, Class::Ok).kind else { unreachable!("it is one") };
        event(EventKind::Finished(Arc::new(HostReport { index, ..(*report).clone() })))
    }

    fn written(pattern: &Pattern, events: &[Event]) -> (String, String) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut table = Table::new(&mut stdout, &mut stderr, TableOptions::of(pattern));
        for event in events {
            table.handle(event).unwrap();
        }
        drop(table);
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn rows_are_aligned_and_in_the_order_of_the_hosts() {
        let pattern = Pattern::new(r"(?s)(?<a>[^;]*);(?<mount>[^;]*);(?-u:(?<c>.*))").unwrap();
        let events = [
            output("web2", Stream::Stdout, b"not shown"),
            output("web2", Stream::Stderr, b"careful\n"),
            recorded("web2", &pattern, b"1;/srv;"),
            recorded("web2", &pattern, b"22222222;;\x1b[2J\n\xff"),
            ended("web2", 1),
            recorded("db", &pattern, b"3;/;x"),
            ended("db", 0),
            ended("mute", 2),
            run_finished(&[]),
        ];
        let (stdout, stderr) = written(&pattern, &events);
        assert_eq!(
            stdout,
            "HOST  A         MOUNT  C\n\
             db    3         /      x\n\
             web2  1         /srv\n\
             web2  22222222         \\x1b[2J\\n\\xff\n"
        );
        assert_eq!(stderr, "web2: careful\n");
    }

    #[test]
    fn without_records_there_is_no_table() {
        let pattern = Pattern::new("(?<a>.)").unwrap();
        assert_eq!(written(&pattern, &[ended("a", 0), run_finished(&[])]).0, "");
    }
}
