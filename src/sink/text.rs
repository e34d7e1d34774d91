//! The text form: `HOST: line`.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};

use super::lines::Lines;
use super::out::{Out, Target};
use crate::event::{Event, EventKind, Sink, Stream};

/// How [`Text`] writes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TextOptions {
    /// Puts `HOST: ` before each line. Without it, what is not a terminal gets the bytes exactly. Default: yes.
    pub prefix: bool,
    /// Where standard output goes. Default: [`Target::PLAIN`].
    pub stdout: Target,
    /// Where standard error goes. Default: [`Target::PLAIN`].
    pub stderr: Target,
    /// To how many columns names are padded on a terminal. Default 0.
    pub name_columns: usize,
    /// Measures a name in columns. Default: one per character.
    pub columns: fn(&str) -> usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            prefix: true,
            stdout: Target::PLAIN,
            stderr: Target::PLAIN,
            name_columns: 0,
            columns: |name| name.chars().count(),
        }
    }
}

/// Writes what the hosts write, line by line: `HOST: line`.
///
/// Lines of standard output go to one writer, those of standard error to the other. Hosts never share a line: one is held
/// until its end or 64 KiB, then written in pieces cut at a character boundary; an unfinished last line gets its newline
/// when the host is done. At most 64 KiB are held for each stream of a running host.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use fleet::event::{Event, EventKind, RunId};
/// use fleet::sink::{Text, TextOptions};
/// use fleet::{Host, Sink, Stream};
///
/// let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
/// let mut text = Text::new(&mut stdout, &mut stderr, TextOptions::default());
/// let host = Arc::new(Host::new("web01", "10.0.0.5"));
/// let output = EventKind::Output { host, stream: Stream::Stdout, bytes: b"up 3 days\n".to_vec() };
/// text.handle(&Event::now(RunId::new("r"), output))?;
/// text.flush()?;
/// assert_eq!(stdout, b"web01: up 3 days\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Text<O, E> {
    stdout: Out<O>,
    stderr: Out<E>,
    options: TextOptions,
    running: HashMap<String, Running>,
}

struct Running {
    stdout: HostStream,
    stderr: HostStream,
}

struct HostStream {
    prefix: Vec<u8>,
    lines: Lines,
}

impl<O: Write + Send, E: Write + Send> Text<O, E> {
    /// Writes standard output to `stdout` and standard error to `stderr`; neither needs a buffer.
    pub fn new(stdout: O, stderr: E, options: TextOptions) -> Self {
        Self {
            stdout: Out::new(stdout, options.stdout),
            stderr: Out::new(stderr, options.stderr),
            options,
            running: HashMap::new(),
        }
    }

    fn output(&mut self, name: &str, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if !self.running.contains_key(name) {
            let running = Running {
                stdout: self.host_stream(name, self.options.stdout, ":"),
                stderr: self.host_stream(name, self.options.stderr, RED_COLON),
            };
            self.running.insert(name.to_owned(), running);
        }
        let Some(running) = self.running.get_mut(name) else { return Ok(()) };
        let keep_open = !self.options.prefix;
        // The two streams may end in one file or terminal: neither overtakes the other.
        match stream {
            Stream::Stdout => {
                self.stderr.buffer.write()?;
                running.stdout.push(bytes, &mut self.stdout, keep_open)
            }
            Stream::Stderr => {
                self.stdout.buffer.write()?;
                running.stderr.push(bytes, &mut self.stderr, keep_open)
            }
        }
    }

    fn finish(&mut self, name: &str) -> io::Result<()> {
        let Some(mut running) = self.running.remove(name) else { return Ok(()) };
        let keep_open = !self.options.prefix;
        let stdout = running.stdout.finish(&mut self.stdout, keep_open);
        stdout.and(running.stderr.finish(&mut self.stderr, keep_open))
    }

    fn host_stream(&self, name: &str, target: Target, colored_colon: &str) -> HostStream {
        let mut prefix = Vec::new();
        if self.options.prefix {
            let label = match target.color {
                true => format!("\x1b[{}m{name}{colored_colon}\x1b[0m ", color_of(name)),
                false => format!("{name}: "),
            };
            prefix.extend_from_slice(label.as_bytes());
            if target.terminal {
                let padding = self.options.name_columns.saturating_sub((self.options.columns)(name));
                prefix.resize(prefix.len() + padding, b' ');
            }
        }
        HostStream { prefix, lines: Lines::default() }
    }
}

/// Tells standard error from standard output where both are coloured.
const RED_COLON: &str = "\x1b[0;31m:";

/// Colours that can be read on a light and on a dark background; red is for failures.
const COLORS: [&str; 10] = ["36", "32", "33", "35", "34", "1;36", "1;32", "1;33", "1;35", "1;34"];

/// Returns the colour of a host: the same in every run.
fn color_of(name: &str) -> &'static str {
    // FNV-1a: the hashes of std may change with its version.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let place = usize::try_from((hash ^ (hash >> 32)) % COLORS.len() as u64).unwrap_or(0);
    COLORS.get(place).copied().unwrap_or("36")
}

impl HostStream {
    fn push<W: Write>(&mut self, bytes: &[u8], out: &mut Out<W>, keep_open: bool) -> io::Result<()> {
        let Self { prefix, lines } = self;
        lines.push(bytes, &mut |line, eol| out.line(prefix, line, eol || !keep_open))
    }

    fn finish<W: Write>(&mut self, out: &mut Out<W>, keep_open: bool) -> io::Result<()> {
        let Self { prefix, lines } = self;
        lines.finish(&mut |line, eol| out.line(prefix, line, eol || !keep_open))
    }
}

impl<O: Write + Send, E: Write + Send> Sink for Text<O, E> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Output { host, stream, bytes } => self.output(&host.name, *stream, bytes),
            EventKind::Finished(report) => self.finish(&report.host.name),
            EventKind::RunFinished(_) => self.flush(),
            _ => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.buffer.write().and(self.stderr.buffer.write())
    }
}

impl<O, E> fmt::Debug for Text<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::event::Class;
    use crate::sink::fixtures::{finished, output};

    fn written(options: TextOptions, events: &[Event]) -> (String, String) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut text = Text::new(&mut stdout, &mut stderr, options);
        for event in events {
            text.handle(event).unwrap();
        }
        text.flush().unwrap();
        assert!(text.running.is_empty());
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn on_terminal() -> TextOptions {
        TextOptions {
            stdout: Target::terminal(false),
            stderr: Target::terminal(false),
            name_columns: 5,
            ..TextOptions::default()
        }
    }

    #[test]
    fn hosts_never_share_a_line() {
        let events = [
            output("a", Stream::Stdout, b"one "),
            output("b", Stream::Stdout, b"two\nthr"),
            output("a", Stream::Stderr, b"oops\n"),
            output("a", Stream::Stdout, b"more\n"),
            finished("a", Class::Ok),
            output("b", Stream::Stdout, b"ee"),
            finished("b", Class::Ok),
        ];
        let (stdout, stderr) = written(TextOptions::default(), &events);
        assert_eq!(stdout, "b: two\na: one more\nb: three\n");
        assert_eq!(stderr, "a: oops\n");
    }

    #[test]
    fn a_pipe_gets_the_bytes_untouched() {
        let events = [output("a", Stream::Stdout, b"10%\r20%\r\n\x1b[1mbold\n"), finished("a", Class::Ok)];
        let (stdout, _) = written(TextOptions::default(), &events);
        assert_eq!(stdout, "a: 10%\r20%\r\na: \x1b[1mbold\n");
    }

    #[test]
    fn without_a_prefix_the_bytes_are_exact() {
        let events = [output("a", Stream::Stdout, b"x\n\ny"), finished("a", Class::Ok)];
        let (stdout, _) = written(TextOptions { prefix: false, ..TextOptions::default() }, &events);
        assert_eq!(stdout, "x\n\ny");
    }

    #[test]
    fn on_a_terminal_names_are_padded_and_nothing_is_hidden() {
        let events = [
            output("a", Stream::Stdout, b"secret\rshown\r\n\n\x1b[2J\n"),
            finished("a", Class::Ok),
            output("web01", Stream::Stdout, b"x"),
            finished("web01", Class::Ok),
        ];
        let (stdout, _) = written(on_terminal(), &events);
        assert_eq!(stdout, "a:     secret\na:     shown\na:     \na:     \\x1b[2J\nweb01: x\n");
    }

    #[test]
    fn a_host_has_one_colour_and_many_hosts_have_many() {
        let options = TextOptions { stdout: Target::terminal(true), stderr: Target::terminal(true), ..on_terminal() };
        let events =
            |name| [output(name, Stream::Stdout, b"x"), output(name, Stream::Stderr, b"y"), finished(name, Class::Ok)];
        let (stdout, stderr) = written(options, &events("web01"));
        let color = color_of("web01");
        assert_eq!(stdout, format!("\x1b[{color}mweb01:\x1b[0m x\n"));
        assert_eq!(stderr, format!("\x1b[{color}mweb01\x1b[0;31m:\x1b[0m y\n"));
        assert_eq!(written(options, &events("web01")).0, stdout);
        let colors: std::collections::HashSet<_> = (1..=100).map(|n| color_of(&format!("web{n:02}"))).collect();
        assert_eq!(colors.len(), COLORS.len());
    }

    #[test]
    fn neither_stream_overtakes_the_other() {
        #[derive(Clone, Default)]
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let both = Shared::default();
        let mut text = Text::new(both.clone(), both.clone(), TextOptions::default());
        for (stream, bytes) in [(Stream::Stdout, b"1\n"), (Stream::Stderr, b"2\n"), (Stream::Stdout, b"3\n")] {
            text.handle(&output("a", stream, bytes)).unwrap();
        }
        text.flush().unwrap();
        assert_eq!(*both.0.lock().unwrap(), b"a: 1\na: 2\na: 3\n");
    }

    #[test]
    fn a_failing_writer_fails_the_sink() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut text = Text::new(Full, Vec::new(), TextOptions::default());
        assert!(text.handle(&output("a", Stream::Stdout, b"held")).is_ok());
        assert!(text.handle(&finished("a", Class::Ok)).is_ok());
        assert!(text.flush().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_safe_on_a_terminal(
            parts in proptest::collection::vec(
                proptest::prop_oneof![
                    proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6),
                    // What steers terminals: C0, DEL, C1, a change of direction, a cut character.
                    proptest::sample::select(vec![
                        b"\x1b]0;x\x07".to_vec(),
                        b"\r\n\x7f\x08".to_vec(),
                        "\u{9b}31m\u{202e}\u{2066}\u{2028}".as_bytes().to_vec(),
                        b"\xf0\x9f\x98".to_vec(),
                        b"\xc2".to_vec(),
                        b"\x9b".to_vec(),
                    ]),
                ],
                0..8,
            ),
            size in 1_usize..9,
            is_stdout: bool,
        ) {
            let bytes = parts.concat();
            let stream = if is_stdout { Stream::Stdout } else { Stream::Stderr };
            let mut events: Vec<Event> = bytes.chunks(size).map(|part| output("a", stream, part)).collect();
            events.push(finished("a", Class::Ok));
            let (stdout, stderr) = written(on_terminal(), &events);
            let text = stdout + &stderr;
            let acts = |c: char| {
                (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            proptest::prop_assert!(!text.contains(acts), "{text:?}");
            proptest::prop_assert!(text.lines().all(|line| line.starts_with("a:     ")), "{text:?}");
        }
    }
}
