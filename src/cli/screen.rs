//! The one way to standard output and standard error: lines and the progress line never tear each other.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet::Stream;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::exit::Reply;

/// Takes the cursor to the start of the line and empties it.
const CLEAR_LINE: &[u8] = b"\r\x1b[K";

/// Both outputs of the program. Clones are the same screen.
#[derive(Clone)]
pub(crate) struct Screen {
    state: Arc<Mutex<State>>,
    is_terminal: [bool; 2],
}

#[derive(Default)]
struct State {
    /// The progress line; empty where there is none.
    bar: String,
    /// Whether the progress line stands on the terminal now.
    is_bar_shown: bool,
    /// Whether somebody is asked something, and the progress line stays away.
    is_asking: bool,
    /// Whether the terminal's cursor stands behind an unfinished line.
    is_mid_line: bool,
    is_closed: bool,
    on_close: Option<Box<dyn FnOnce() + Send>>,
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

    /// Sets the progress line, which stands below everything else on standard error; an empty one takes it away.
    pub(crate) fn set_bar(&self, bar: &str) {
        let mut state = self.lock();
        if state.is_bar_shown && state.bar == bar {
            return;
        }
        let mut bytes = Vec::new();
        state.hide_bar(&mut bytes);
        bar.clone_into(&mut state.bar);
        state.show_bar(&mut bytes);
        if !bytes.is_empty() {
            let _ = write_to(Stream::Stderr, &bytes);
        }
    }

    /// Keeps the progress line away while something is asked.
    pub(crate) fn without_bar<T>(&self, ask: impl FnOnce() -> T) -> T {
        {
            let mut state = self.lock();
            let mut bytes = Vec::new();
            state.hide_bar(&mut bytes);
            state.is_asking = true;
            if !bytes.is_empty() {
                let _ = write_to(Stream::Stderr, &bytes);
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

    /// Tells whether nobody reads an output any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Takes the progress line away before the program leaves at once; waits for nobody.
    pub(crate) fn abandon(&self) {
        let stderr = io::stderr();
        let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let is_ready = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if self.is_terminal(Stream::Stderr) && is_ready && self.state.try_lock().is_ok() {
            let _ = write_to(Stream::Stderr, CLEAR_LINE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, stream: Stream, bytes: &[u8], is_own: bool) -> io::Result<()> {
        let mut state = self.lock();
        if state.is_closed {
            // The end is silent; who wrote has heard of it already.
            return if stream == Stream::Stderr { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) };
        }
        let written = if self.is_terminal(stream) {
            // One write with the progress line around it: nothing flickers.
            let mut framed = Vec::with_capacity(bytes.len() + state.bar.len() + 16);
            state.hide_bar(&mut framed);
            if is_own {
                // What was typed since, such as the `^C` that stops the run, is no part of the line either.
                framed.extend_from_slice(if state.is_mid_line { b"\n" } else { CLEAR_LINE });
            }
            framed.extend_from_slice(bytes);
            state.is_mid_line = bytes.last().is_some_and(|last| *last != b'\n');
            state.show_bar(&mut framed);
            write_to(stream, &framed)
        } else {
            write_to(stream, bytes)
        };
        if let Err(error) = &written
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            state.is_closed = true;
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
    fn hide_bar(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_bar_shown) {
            out.extend_from_slice(CLEAR_LINE);
        }
    }

    fn show_bar(&mut self, out: &mut Vec<u8>) {
        if !self.bar.is_empty() && !self.is_mid_line && !self.is_asking {
            out.extend_from_slice(self.bar.as_bytes());
            self.is_bar_shown = true;
        }
    }
}

fn write_to(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    let written = match stream {
        Stream::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
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
