//! The one way to standard output and standard error: lines, and what stands below them, never tear each other.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet::Stream;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::exit::Reply;

/// Takes the cursor to the start of the line and empties it.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";
/// Empties the screen from the cursor on.
const CLEAR_BELOW: &str = "\x1b[J";
/// How many columns at the end of each line of a foot stay free, for a `^C` that the terminal shows.
const FREE_COLUMNS: usize = 3;

/// How soon an Enter is heard of after the terminal has shown it, at the latest.
const QUIET: Duration = Duration::from_millis(50);

/// Both outputs of the program. Clones are the same screen.
#[derive(Clone)]
pub(crate) struct Screen {
    state: Arc<Mutex<State>>,
    is_terminal: [bool; 2],
}

#[derive(Default)]
struct State {
    /// What stands below all lines on standard error's terminal, the part with the least number first.
    feet: BTreeMap<u8, Vec<String>>,
    /// The lines of them that stand there now, as wide as they are drawn.
    shown: Vec<String>,
    /// Whether somebody is asked something, and the feet stay away.
    is_asking: bool,
    /// When lines were last written to a terminal.
    last_line: Option<Instant>,
    /// Whether the terminal's cursor stands behind an unfinished line.
    is_mid_line: bool,
    /// Which of both outputs nobody reads any more.
    closed: [bool; 2],
    /// Whether the run goes on without readers.
    outlives_readers: bool,
    on_close: Option<Box<dyn FnOnce() + Send>>,
}

/// How large the terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Size {
    /// Returns how large standard error's terminal is now.
    pub(crate) fn now() -> Self {
        let size = terminal_size::terminal_size_of(io::stderr());
        size.map_or(Self { columns: 80, rows: 24 }, |(columns, rows)| Self {
            columns: usize::from(columns.0).max(1),
            rows: usize::from(rows.0).max(1),
        })
    }

    /// Returns how many columns a foot may fill.
    pub(crate) fn free_columns(self) -> usize {
        self.columns.saturating_sub(FREE_COLUMNS).max(1)
    }
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), is_terminal: [io::stdout().is_terminal(), io::stderr().is_terminal()] }
    }

    /// Tells whether a stream is a terminal.
    pub(crate) fn is_terminal(&self, stream: Stream) -> bool {
        let [stdout, stderr] = self.is_terminal;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    /// Returns a writer to a stream; what is written to it appears at once.
    pub(crate) fn writer(&self, stream: Stream) -> Writer {
        Writer { screen: self.clone(), stream, is_own: false }
    }

    /// Returns a writer to standard error for fleet's own lines, which begin on a line of their own.
    pub(crate) fn own_writer(&self) -> Writer {
        Writer { screen: self.clone(), stream: Stream::Stderr, is_own: true }
    }

    /// Writes a line of fleet's own to standard error.
    pub(crate) fn say(&self, line: &str) {
        // Nobody is left to be told that standard error is gone.
        let _ = self.own_writer().write_all(format!("fleet: {line}\n").as_bytes());
    }

    /// Writes a warning to standard error.
    pub(crate) fn warn(&self, warning: &str) {
        self.say(&format!("warning: {}", fleet::sink::escape(warning)));
    }

    /// Writes what may help to standard error.
    pub(crate) fn hint(&self, hint: &str) {
        let _ = self.own_writer().write_all(format!("hint: {hint}\n").as_bytes());
    }

    /// Writes a reply and returns its code.
    pub(crate) fn reply(&self, reply: &Reply) -> ExitCode {
        let stream = if reply.is_answer { Stream::Stdout } else { Stream::Stderr };
        let _ = self.writer(stream).write_all(reply.text.as_bytes());
        ExitCode::from(reply.code)
    }

    /// Returns a foot, which stands below all lines on standard error's terminal, in the order of these numbers; where that is
    /// no terminal, it is never shown.
    pub(crate) fn foot(&self, number: u8) -> Foot {
        Foot { screen: self.clone(), number }
    }

    fn set_foot(&self, number: u8, lines: Vec<String>) {
        let mut state = self.lock();
        if lines.is_empty() {
            state.feet.remove(&number);
        } else {
            state.feet.insert(number, lines);
        }
        if self.is_terminal(Stream::Stderr)
            && let Some(frame) = state.redrawn(Size::now())
        {
            let _ = write_to(Stream::Stderr, frame.as_bytes());
        }
    }

    /// Takes note of an Enter that the terminal has shown: the cursor stands a line below where it was left.
    pub(crate) fn enter_pressed(&self) {
        let mut state = self.lock();
        state.is_mid_line = false;
        // With lines just written nobody knows whether they came before it or after: then the feet's old lines stay.
        let is_quiet = state.last_line.is_none_or(|at| at.elapsed() > QUIET);
        if self.is_terminal(Stream::Stderr) && !state.shown.is_empty() && is_quiet {
            let _ = write_to(Stream::Stderr, b"\x1b[A");
        }
    }

    /// Keeps the feet away while something is asked.
    pub(crate) fn without_foot<T>(&self, ask: impl FnOnce() -> T) -> T {
        {
            let mut state = self.lock();
            state.is_asking = true;
            let hidden = state.hidden(Size::now());
            if !hidden.is_empty() {
                let _ = write_to(Stream::Stderr, hidden.as_bytes());
            }
        }
        let answer = ask();
        self.lock().is_asking = false;
        answer
    }

    /// Sets what is called once, when nobody reads an output any more.
    pub(crate) fn on_close(&self, call: impl FnOnce() + Send + 'static) {
        self.lock().on_close = Some(Box::new(call));
    }

    /// Goes on when nobody reads an output any more: what is written to it is dropped, in silence.
    pub(crate) fn outlive_readers(&self) {
        self.lock().outlives_readers = true;
    }

    /// Tells whether nobody reads an output any more, and that ends the run.
    pub(crate) fn is_closed(&self) -> bool {
        let state = self.lock();
        !state.outlives_readers && state.closed.contains(&true)
    }

    /// Takes the feet away before the program leaves at once; waits for nobody.
    pub(crate) fn abandon(&self) {
        let stderr = io::stderr();
        let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let is_ready = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if self.is_terminal(Stream::Stderr)
            && is_ready
            && let Ok(mut state) = self.state.try_lock()
        {
            let mut frame = state.hidden(Size::now()).into_bytes();
            frame.extend_from_slice(CLEAR_LINE);
            let _ = write_to(Stream::Stderr, &frame);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, stream: Stream, bytes: &[u8], is_own: bool) -> io::Result<()> {
        let mut state = self.lock();
        if state.is_closed_to(stream) {
            // The end is silent; who wrote has heard of it already.
            let is_dropped = state.outlives_readers || stream == Stream::Stderr;
            return if is_dropped { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) };
        }
        let written = if self.is_terminal(stream) {
            // One write with the feet around it: nothing flickers.
            let has_feet = !state.feet.is_empty();
            let size = if has_feet { Size::now() } else { Size { columns: 0, rows: 0 } };
            let mut framed = state.hidden(size).into_bytes();
            framed.reserve(bytes.len());
            if is_own {
                // What was typed since, such as the `^C` that stops the run, is no part of the line either.
                framed.extend_from_slice(if state.is_mid_line { b"\n" } else { CLEAR_LINE });
            }
            framed.extend_from_slice(bytes);
            state.is_mid_line = bytes.last().is_some_and(|last| *last != b'\n');
            state.last_line = Some(Instant::now());
            if has_feet && let Some(feet) = state.redrawn(size) {
                framed.extend_from_slice(feet.as_bytes());
            }
            write_to(stream, &framed)
        } else {
            write_to(stream, bytes)
        };
        if let Err(error) = &written
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            let [stdout, stderr] = &mut state.closed;
            *(match stream {
                Stream::Stdout => stdout,
                Stream::Stderr => stderr,
            }) = true;
            if state.outlives_readers {
                return Ok(());
            }
            let call = state.on_close.take();
            drop(state);
            if let Some(call) = call {
                call();
            }
        }
        written
    }
}

impl State {
    /// Tells whether a stream takes nothing more: without one reader there is no use for the other, unless the run outlives both.
    fn is_closed_to(&self, stream: Stream) -> bool {
        let [stdout, stderr] = self.closed;
        match stream {
            _ if !self.outlives_readers => stdout || stderr,
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    /// Returns what takes the feet away and leaves the cursor where they began.
    fn hidden(&mut self, size: Size) -> String {
        match Self::rows(&std::mem::take(&mut self.shown), size) {
            0 => String::new(),
            // Row by row: there are terminals that keep what an emptied screen had.
            rows => format!("\r\x1b[K{}", "\x1b[A\x1b[K".repeat(rows - 1)),
        }
    }

    /// Returns what draws the feet over those that are shown; nothing if they are the same.
    fn redrawn(&mut self, size: Size) -> Option<String> {
        let wanted = self.wanted(size);
        if wanted == self.shown {
            return None;
        }
        if wanted.is_empty() {
            return Some(self.hidden(size));
        }
        let mut frame = match Self::rows(&self.shown, size) {
            0 => String::new(),
            1 => "\r".to_owned(),
            rows => format!("\r\x1b[{}A", rows - 1),
        };
        for (number, line) in wanted.iter().enumerate() {
            frame.push_str(if number > 0 { "\r\n" } else { "" });
            frame.push_str(line);
            frame.push_str("\x1b[K");
        }
        frame.push_str(CLEAR_BELOW);
        self.shown = wanted;
        Some(frame)
    }

    /// Returns the lines that may stand there now: never so many that the line above them leaves the screen.
    fn wanted(&self, size: Size) -> Vec<String> {
        if self.is_mid_line || self.is_asking {
            return Vec::new();
        }
        let lines: Vec<&String> = self.feet.values().flatten().collect();
        let room = size.rows.saturating_sub(1).max(1);
        lines.iter().skip(lines.len().saturating_sub(room)).map(|line| fitting(line, size.free_columns())).collect()
    }

    /// Returns how many rows lines take that were drawn.
    fn rows(shown: &[String], size: Size) -> usize {
        // A terminal that has become narrower has broken them.
        shown.iter().map(|line| columns(line).div_ceil(size.columns.max(1)).max(1)).sum()
    }
}

/// Lines below all others. Dropped, they leave.
pub(crate) struct Foot {
    screen: Screen,
    number: u8,
}

impl Foot {
    /// Shows these lines in the place of those before. Each is cut where the terminal ends, may be coloured, and has no other
    /// control characters; lines that the terminal has no room for are left out, the first before others.
    pub(crate) fn set(&self, lines: Vec<String>) {
        self.screen.set_foot(self.number, lines);
    }
}

impl Drop for Foot {
    fn drop(&mut self) {
        self.set(Vec::new());
    }
}

/// Returns as much of a line's beginning as fits into so many columns; its colours end with it.
pub(crate) fn fitting(line: &str, columns: usize) -> String {
    let mut used = 0;
    let mut is_in_colour = false;
    let end = line.char_indices().find_map(|(at, c)| {
        if is_in_colour || c == '\x1b' {
            is_in_colour = c != 'm';
            return None;
        }
        used += c.width().unwrap_or(0);
        (used > columns).then_some(at)
    });
    match end.and_then(|end| line.get(..end)) {
        Some(start) if start.contains('\x1b') => format!("{start}\x1b[0m"),
        Some(start) => start.to_owned(),
        None => line.to_owned(),
    }
}

/// Cuts a text without colours to so many columns; it ends with `…` then.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    match columns {
        _ if text.width() <= columns => text.to_owned(),
        0 => String::new(),
        _ => fitting(text, columns - 1) + "…",
    }
}

/// Returns how many columns a line takes; its colours take none.
fn columns(line: &str) -> usize {
    let mut parts = line.split('\x1b');
    let first = parts.next().map_or(0, UnicodeWidthStr::width);
    first + parts.map(|part| part.split_once('m').map_or(0, |(_, text)| text.width())).sum::<usize>()
}

fn write_to(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let written = match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    };
    let name = match stream {
        Stream::Stdout => "standard output",
        Stream::Stderr => "standard error",
    };
    written.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
}

/// Writes a value as one line of JSON.
pub(crate) fn json_line(value: &impl serde::Serialize) -> String {
    // Only a map with keys that are no text could fail.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

/// Writes to one stream of a [`Screen`].
pub(crate) struct Writer {
    screen: Screen,
    stream: Stream,
    is_own: bool,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.screen.write(self.stream, bytes, self.is_own)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Size = Size { columns: 80, rows: 24 };

    fn state(lines: &[&str]) -> State {
        let mut state = State::default();
        state.feet.insert(1, lines.iter().map(|line| (*line).to_owned()).collect());
        state
    }

    #[test]
    fn a_line_is_cut_where_the_terminal_ends() {
        assert_eq!(fitting("12345", 5), "12345");
        assert_eq!(fitting("12345", 4), "1234");
        assert_eq!(fitting("日本語", 5), "日本");
        assert_eq!(fitting("x", 0), "");
        assert_eq!(fitting("\x1b[36mweb\x1b[0m: x", 2), "\x1b[36mwe\x1b[0m");
        assert_eq!(fitting("\x1b[36mweb\x1b[0m: x", 6), "\x1b[36mweb\x1b[0m: x");
        assert_eq!(columns("\x1b[36mweb\x1b[0m: 日"), 7);
        assert_eq!([5, 4, 1, 0].map(|columns| shortened("12345", columns)), ["12345", "123…", "…", ""]);
    }

    #[test]
    fn feet_are_drawn_over_those_before() {
        let mut state = state(&["a", "b"]);
        state.feet.insert(0, vec!["first".to_owned()]);
        assert_eq!(state.redrawn(WIDE).as_deref(), Some("first\x1b[K\r\na\x1b[K\r\nb\x1b[K\x1b[J"));
        assert_eq!(state.redrawn(WIDE), None);
        state.feet.insert(1, vec!["c".to_owned()]);
        assert_eq!(state.redrawn(WIDE).as_deref(), Some("\r\x1b[2Afirst\x1b[K\r\nc\x1b[K\x1b[J"));
        assert_eq!(state.hidden(WIDE), "\r\x1b[K\x1b[A\x1b[K");
        assert_eq!(state.hidden(WIDE), "");
    }

    #[test]
    fn feet_never_fill_the_screen() {
        let small = Size { columns: 8, rows: 3 };
        let state = state(&["1", "2", "3", "a long line"]);
        assert_eq!(state.wanted(small), ["3", "a lon"]);
        assert_eq!(state.wanted(Size { columns: 1, rows: 1 }), ["a"]);
    }

    #[test]
    fn lines_that_a_narrower_terminal_broke_leave_whole() {
        let mut state = state(&["123456789", "x"]);
        state.redrawn(WIDE);
        assert_eq!(state.hidden(Size { columns: 4, rows: 24 }), format!("\r\x1b[K{}", "\x1b[A\x1b[K".repeat(3)));
    }

    #[test]
    fn feet_stay_away_from_an_unfinished_line() {
        let mut state = state(&["x"]);
        state.is_mid_line = true;
        assert_eq!(state.redrawn(WIDE), None);
        state.is_mid_line = false;
        assert!(state.redrawn(WIDE).is_some());
    }
}
