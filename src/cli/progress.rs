//! One line on standard error that says how far the run is. The only user of indicatif.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fleet::pool::RunControl;
use fleet::{Class, Error, ErrorKind, Event, EventKind, Sink, Stream};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};
use unicode_width::UnicodeWidthChar;

use super::screen::Screen;

/// How often the line on a terminal is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const REPORT: Duration = Duration::from_secs(5);

/// Counts what happens; a thread of its own draws it, so that a busy run draws no more often than an idle one.
pub(crate) struct Progress {
    counts: Arc<Counts>,
    transfers: HashMap<String, (u64, u64)>,
    ticker: Option<Ticker>,
}

struct Ticker {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

struct Counts {
    control: RunControl,
    hosts: AtomicUsize,
    done: AtomicUsize,
    failed: AtomicUsize,
    /// Hosts that a stop kept from being started.
    left_out: AtomicUsize,
    is_transfer: AtomicBool,
    moved_bytes: AtomicU64,
    /// All bytes of the hosts whose transfer has begun.
    known_bytes: AtomicU64,
    /// How many hosts those are.
    known_hosts: AtomicUsize,
}

impl Progress {
    /// Starts to draw: one line on a terminal, else a line now and then.
    pub(crate) fn start(screen: &Screen, control: RunControl) -> Result<Self, Error> {
        let counts = Arc::new(Counts {
            control,
            hosts: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            left_out: AtomicUsize::new(0),
            is_transfer: AtomicBool::new(false),
            moved_bytes: AtomicU64::new(0),
            known_bytes: AtomicU64::new(0),
            known_hosts: AtomicUsize::new(0),
        });
        let (stop, stopped) = mpsc::channel();
        let shared = Arc::clone(&counts);
        let screen = screen.clone();
        let draw = move || {
            let mut line = Line::new(&screen, &shared);
            let period = if screen.is_terminal(Stream::Stderr) { REDRAW } else { REPORT };
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                line.draw();
            }
            line.clear();
        };
        let thread = thread::Builder::new().name("fleet-progress".to_owned()).spawn(draw).map_err(|error| {
            Error::new(ErrorKind::LocalLimit, "cannot start the thread that shows progress").caused_by(error)
        })?;
        Ok(Self { counts, transfers: HashMap::new(), ticker: Some(Ticker { stop, thread }) })
    }

    fn stop(&mut self) {
        if let Some(Ticker { stop, thread }) = self.ticker.take() {
            drop(stop);
            // Drawing is never worth a failure.
            let _ = thread.join();
        }
    }

    fn transfer(&mut self, host: &str, done: u64, total: u64) {
        let counts = &self.counts;
        match self.transfers.get_mut(host) {
            Some((known_done, known_total)) => {
                counts.moved_bytes.fetch_add(done.saturating_sub(*known_done), Ordering::Relaxed);
                counts.known_bytes.fetch_add(total.saturating_sub(*known_total), Ordering::Relaxed);
                *known_done = done.max(*known_done);
                *known_total = total.max(*known_total);
            }
            None => {
                counts.moved_bytes.fetch_add(done, Ordering::Relaxed);
                counts.known_bytes.fetch_add(total, Ordering::Relaxed);
                counts.known_hosts.fetch_add(1, Ordering::Relaxed);
                self.transfers.insert(host.to_owned(), (done, total));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Sink for Progress {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        match &event.kind {
            EventKind::Started { op, hosts, .. } => {
                self.counts.hosts.store(*hosts, Ordering::Relaxed);
                self.counts.is_transfer.store(matches!(op.as_str(), "put" | "get"), Ordering::Relaxed);
            }
            EventKind::Transfer { host, done, total, .. } => self.transfer(&host.name, *done, *total),
            EventKind::Finished(report) => {
                let count = match report.class() {
                    Class::Ok => None,
                    Class::NotStarted => Some(&self.counts.left_out),
                    _ => Some(&self.counts.failed),
                };
                self.counts.done.fetch_add(1, Ordering::Relaxed);
                count.map(|count| count.fetch_add(1, Ordering::Relaxed));
            }
            // The counts of the summary take the line's place.
            EventKind::RunFinished(_) => self.stop(),
            _ => {}
        }
        Ok(())
    }
}

impl Counts {
    /// Returns how far the run is, in its own unit: hosts, or bytes of all hosts as far as they are known.
    fn position(&self) -> (u64, u64) {
        let hosts = self.hosts.load(Ordering::Relaxed);
        if !self.is_transfer.load(Ordering::Relaxed) {
            return (self.done.load(Ordering::Relaxed) as u64, hosts as u64);
        }
        let known_hosts = self.known_hosts.load(Ordering::Relaxed).max(1) as u64;
        let mean = self.known_bytes.load(Ordering::Relaxed) / known_hosts;
        let moved = self.moved_bytes.load(Ordering::Relaxed);
        (moved, mean.saturating_mul(hosts as u64).max(moved).max(1))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, hosts) = (self.done.load(Ordering::Relaxed), self.hosts.load(Ordering::Relaxed));
        write!(f, "{done}/{hosts} done, {} running", self.control.running())?;
        for (count, word) in [(&self.failed, "failed"), (&self.left_out, "not started")] {
            match count.load(Ordering::Relaxed) {
                0 => {}
                count => write!(f, ", {count} {word}")?,
            }
        }
        Ok(())
    }
}

/// What is drawn, and where.
enum Line<'a> {
    Bar { bar: ProgressBar, counts: &'a Arc<Counts>, has_transfer_style: bool },
    Report { screen: &'a Screen, counts: &'a Counts, since: Instant },
}

impl<'a> Line<'a> {
    fn new(screen: &'a Screen, counts: &'a Arc<Counts>) -> Self {
        if !screen.is_terminal(Stream::Stderr) {
            return Self::Report { screen, counts, since: Instant::now() };
        }
        let canvas = Canvas { screen: screen.clone(), text: Mutex::default() };
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::term_like(Box::new(canvas)));
        bar.set_style(style("fleet: [{bar:20}] {counts}, {elapsed}{left}", counts));
        Self::Bar { bar, counts, has_transfer_style: false }
    }

    fn draw(&mut self) {
        match self {
            Self::Bar { bar, counts, has_transfer_style } => {
                if !*has_transfer_style && counts.is_transfer.load(Ordering::Relaxed) {
                    *has_transfer_style = true;
                    let template =
                        "fleet: [{bar:20}] {counts}, {binary_bytes}, {binary_bytes_per_sec}, {elapsed}{left}";
                    bar.set_style(style(template, counts));
                }
                let (position, length) = counts.position();
                bar.update(|state| {
                    state.set_len(length);
                    state.set_pos(position);
                });
            }
            Self::Report { screen, counts, since } => {
                screen.say(&format!("{counts}, {}s", since.elapsed().as_secs()));
            }
        }
    }

    fn clear(self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

// What cannot be formatted is not drawn.
fn style(template: &str, counts: &Arc<Counts>) -> ProgressStyle {
    let counts = Arc::clone(counts);
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("=> ")
        .with_key("counts", move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{counts}");
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // Before anything is done there is nothing to guess from.
            if state.pos() > 0 && Some(state.pos()) < state.len() {
                let _ = write!(out, ", eta {:#}", HumanDuration(state.eta()));
            }
        })
}

/// Takes what indicatif would draw and gives it to the screen as one line.
struct Canvas {
    screen: Screen,
    text: Mutex<String>,
}

impl Canvas {
    fn edit(&self, edit: impl FnOnce(&mut String)) -> io::Result<()> {
        edit(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

impl fmt::Debug for Canvas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canvas").finish_non_exhaustive()
    }
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0)
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.edit(|line| line.push_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.edit(String::clear)
    }

    fn flush(&self) -> io::Result<()> {
        self.edit(|line| {
            // It is filled up with spaces to the terminal's edge, where the cursor would wrap.
            let columns = usize::from(self.width()).saturating_sub(1);
            self.screen.set_bar(fitting(line.trim(), columns));
            line.clear();
        })
    }
}

/// Returns as much of a text's beginning as fits into so many columns.
fn fitting(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        used += c.width().unwrap_or(0);
        (used > columns).then_some(at)
    });
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_the_terminal_ends() {
        assert_eq!(fitting("12345", 5), "12345");
        assert_eq!(fitting("12345", 4), "1234");
        assert_eq!(fitting("日本語", 5), "日本");
        assert_eq!(fitting("x", 0), "");
    }
}
