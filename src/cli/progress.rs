//! What stands below the output while a run goes on: a line for the whole, and above it the hosts that take longest. The
//! only user of indicatif.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet::pool::{InFlight, RunControl};
use fleet::sink::escape;
use fleet::{Class, Error, Event, EventKind, Sink, Stream};
use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};
use unicode_width::UnicodeWidthStr;

use super::screen::{Foot, Screen, Size, shortened};
use super::ticker::Ticker;

/// How often it is drawn on a terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const REPORT: Duration = Duration::from_secs(5);
/// How many hosts have lines of their own at most.
const MAX_HOSTS: usize = 8;
/// How long a host runs before it has one: who is done sooner would only flicker.
const LONG: Duration = Duration::from_secs(1);
/// The time that a host's rate is of.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// To how many columns the names of hosts are padded at most.
const MAX_NAME_COLUMNS: usize = 32;
/// Where it stands among the screen's feet: below all others.
const FOOT: u8 = u8::MAX;

/// Counts what happens; a thread of its own draws it, so that a busy run draws no more often than an idle one.
pub(crate) struct Progress {
    counts: Arc<Counts>,
    ticker: Option<Ticker>,
}

struct Counts {
    control: RunControl,
    /// Of how many of a terminal's rows one may be a host's.
    host_share: usize,
    hosts: AtomicUsize,
    done: AtomicUsize,
    failed: AtomicUsize,
    /// Hosts that a stop kept from being started.
    left_out: AtomicUsize,
    is_transfer: AtomicBool,
    moved: Mutex<Moved>,
}

/// The bytes of transfers, of all hosts and of each that is on its way.
#[derive(Default)]
struct Moved {
    bytes: u64,
    /// All bytes of the hosts whose transfer has begun.
    known_bytes: u64,
    /// How many hosts those are.
    known_hosts: u64,
    hosts: HashMap<String, Transfer>,
}

#[derive(Clone, Copy, Default)]
struct Transfer {
    done: u64,
    total: u64,
}

impl Progress {
    /// Starts to draw: on a terminal at its foot, else a line now and then. What is folded has most of the foot's room.
    pub(crate) fn start(screen: &Screen, control: RunControl, is_folded: bool) -> Result<Self, Error> {
        let counts = Arc::new(Counts {
            control,
            host_share: if is_folded { 12 } else { 3 },
            hosts: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            left_out: AtomicUsize::new(0),
            is_transfer: AtomicBool::new(false),
            moved: Mutex::default(),
        });
        let (shared, screen) = (Arc::clone(&counts), screen.clone());
        let ticker = Ticker::start("fleet-progress", "progress", move |ticks| {
            let mut display = Display::new(&screen, &shared);
            let period = if screen.is_terminal(Stream::Stderr) { REDRAW } else { REPORT };
            while ticks.wait(period) {
                display.draw();
            }
        })?;
        Ok(Self { counts, ticker: Some(ticker) })
    }
}

impl Sink for Progress {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        let counts = &self.counts;
        match &event.kind {
            EventKind::Started { op, hosts, .. } => {
                counts.hosts.store(*hosts, Ordering::Relaxed);
                counts.is_transfer.store(matches!(op.as_str(), "put" | "get"), Ordering::Relaxed);
            }
            EventKind::Transfer { host, done, total, .. } => counts.moved().add(&host.name, *done, *total),
            EventKind::Finished(report) => {
                let count = match report.class() {
                    Class::Ok => None,
                    Class::NotStarted => Some(&counts.left_out),
                    _ => Some(&counts.failed),
                };
                counts.done.fetch_add(1, Ordering::Relaxed);
                count.map(|count| count.fetch_add(1, Ordering::Relaxed));
            }
            // The counts of the summary take its place.
            EventKind::RunFinished(_) => self.ticker = None,
            _ => {}
        }
        Ok(())
    }
}

impl Moved {
    fn add(&mut self, host: &str, done: u64, total: u64) {
        if !self.hosts.contains_key(host) {
            self.known_hosts += 1;
            self.hosts.insert(host.to_owned(), Transfer::default());
        }
        if let Some(known) = self.hosts.get_mut(host) {
            self.bytes += done.saturating_sub(known.done);
            self.known_bytes += total.saturating_sub(known.total);
            *known = Transfer { done: done.max(known.done), total: total.max(known.total) };
        }
    }
}

impl Counts {
    fn moved(&self) -> MutexGuard<'_, Moved> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how far the run is, in its own unit: hosts, or bytes of all hosts as far as they are known.
    fn position(&self) -> (u64, u64) {
        let hosts = self.hosts.load(Ordering::Relaxed) as u64;
        if !self.is_transfer.load(Ordering::Relaxed) {
            return (self.done.load(Ordering::Relaxed) as u64, hosts);
        }
        let moved = self.moved();
        let mean = moved.known_bytes / moved.known_hosts.max(1);
        (moved.bytes, mean.saturating_mul(hosts).max(moved.bytes).max(1))
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
enum Display<'a> {
    Live(Box<Live<'a>>),
    Report { screen: &'a Screen, counts: &'a Counts, since: Instant },
}

struct Live<'a> {
    foot: Foot,
    counts: &'a Arc<Counts>,
    bar: ProgressBar,
    /// What indicatif drew last.
    line: Arc<Mutex<String>>,
    has_transfer_style: bool,
    /// Of the hosts that have lines now.
    rates: HashMap<String, Rate>,
}

impl<'a> Display<'a> {
    fn new(screen: &'a Screen, counts: &'a Arc<Counts>) -> Self {
        if !screen.is_terminal(Stream::Stderr) {
            return Self::Report { screen, counts, since: Instant::now() };
        }
        let line = Arc::<Mutex<String>>::default();
        let canvas = Canvas { text: Mutex::default(), line: Arc::clone(&line) };
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::term_like(Box::new(canvas)));
        bar.set_style(style("fleet: [{bar:20}] {counts}{rate}, {elapsed}{left}", counts));
        let foot = screen.foot(FOOT);
        Self::Live(Box::new(Live { foot, counts, bar, line, has_transfer_style: false, rates: HashMap::new() }))
    }

    fn draw(&mut self) {
        match self {
            Self::Live(live) => live.draw(),
            Self::Report { screen, counts, since } => {
                let bytes = match counts.is_transfer.load(Ordering::Relaxed) {
                    true => format!(", {}", BinaryBytes(counts.moved().bytes)),
                    false => String::new(),
                };
                screen.say(&format!("{counts}{bytes}, {}s", since.elapsed().as_secs()));
            }
        }
    }
}

impl Live<'_> {
    fn draw(&mut self) {
        if !self.has_transfer_style && self.counts.is_transfer.load(Ordering::Relaxed) {
            self.has_transfer_style = true;
            let template = "fleet: [{bar:20}] {counts}, {binary_bytes}, {binary_bytes_per_sec}, {elapsed}{left}";
            self.bar.set_style(style(template, self.counts));
        }
        let (position, length) = self.counts.position();
        self.bar.update(|state| {
            state.set_len(length);
            state.set_pos(position);
        });
        let mut lines = self.hosts(Size::now(), Instant::now());
        let line = lock(&self.line);
        if !line.is_empty() {
            lines.push(line.clone());
        }
        drop(line);
        self.foot.set(lines);
    }

    /// Returns the lines of the hosts that run longest: with what else stands there at most a third of a terminal.
    fn hosts(&mut self, size: Size, now: Instant) -> Vec<String> {
        let age = |flight: &InFlight| now.saturating_duration_since(flight.since);
        let mut longest = self.counts.control.in_flight();
        longest.retain(|flight| age(flight) >= LONG);
        longest.sort_by_key(|flight| flight.since);
        longest.truncate(MAX_HOSTS.min(size.rows / self.counts.host_share));
        let name = |flight: &InFlight| shortened(&escape(&flight.host.name), MAX_NAME_COLUMNS);
        let widest = longest.iter().map(|flight| name(flight).width()).max().unwrap_or(0);
        let widest_phase = longest.iter().map(|flight| flight.phase.as_str().len()).max().unwrap_or(0);
        self.rates.retain(|name, _| longest.iter().any(|flight| flight.host.name == *name));
        let mut lines = Vec::with_capacity(longest.len());
        for flight in &longest {
            let shown = name(flight);
            let padding = " ".repeat(widest.saturating_sub(shown.width()));
            let phase = flight.phase.as_str();
            let moved = self.transfer(&flight.host.name, now);
            lines.push(format!("  {shown}{padding}  {phase:widest_phase$}  {:>4}{moved}", time(age(flight))));
        }
        lines
    }

    /// Writes how far a host's transfer is, and how fast.
    fn transfer(&mut self, host: &str, now: Instant) -> String {
        let Some(Transfer { done, total }) = self.counts.moved().hosts.get(host).copied() else { return String::new() };
        let rate = self.rates.entry(host.to_owned()).or_default().measure(now, done);
        format!("  {}/{}, {}/s", BinaryBytes(done), BinaryBytes(total), BinaryBytes(rate))
    }
}

/// How fast bytes come, of late.
#[derive(Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    /// Takes a count, and returns the bytes a second since the oldest of the window.
    fn measure(&mut self, now: Instant, done: u64) -> u64 {
        self.0.push_back((now, done));
        while self.0.len() > 2 && self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= RATE_WINDOW)
        {
            self.0.pop_front();
        }
        let Some((since, before)) = self.0.front().copied() else { return 0 };
        let millis = now.saturating_duration_since(since).as_millis().max(1);
        let bytes = u128::from(done.saturating_sub(before)) * 1000 / millis;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// Writes a time in few characters: `34s`, `2m10`, `1h05`.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Writes how many hosts are done in a second, or in a minute where they are few.
fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 10.0 => format!("{rate:.0}/s"),
        rate if rate >= 1.0 => format!("{rate:.1}/s"),
        rate => format!("{:.1}/min", rate * 60.0),
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
        .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let seconds = state.elapsed().as_secs_f64();
            // Of less than a second it would be a guess.
            if state.pos() > 0 && seconds >= 1.0 {
                let _ = write!(out, ", {}", rate(state.pos() as f64 / seconds));
            }
        })
        .with_key("left", |state: &ProgressState, out: &mut dyn fmt::Write| {
            // Before anything is done there is nothing to guess from.
            if state.pos() > 0 && Some(state.pos()) < state.len() {
                let _ = write!(out, ", eta {:#}", HumanDuration(state.eta()));
            }
        })
}

fn lock(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what indicatif would draw, as one line.
#[derive(Debug)]
struct Canvas {
    text: Mutex<String>,
    line: Arc<Mutex<String>>,
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        u16::try_from(Size::now().columns).unwrap_or(u16::MAX)
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
        lock(&self.text).push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        lock(&self.text).clear();
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut *lock(&self.text));
        // It is filled up with spaces to the terminal's edge.
        text.trim().clone_into(&mut lock(&self.line));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_late() {
        let mut rate = Rate::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.measure(at(0), 100), 0);
        assert_eq!(rate.measure(at(1), 300), 200);
        for second in 2..20 {
            rate.measure(at(second), 300);
        }
        assert_eq!(rate.measure(at(20), 300), 0);
        assert!(rate.0.len() < 10);
    }

    #[test]
    fn bytes_are_those_of_all_hosts_and_never_counted_twice() {
        let mut moved = Moved::default();
        moved.add("a", 10, 100);
        moved.add("a", 30, 100);
        moved.add("b", 5, 200);
        // A transfer that is begun again.
        moved.add("a", 0, 100);
        assert_eq!((moved.bytes, moved.known_bytes, moved.known_hosts), (35, 300, 2));
    }

    #[test]
    fn times_and_rates_are_short() {
        assert_eq!([59, 60, 3599, 3600].map(|s| time(Duration::from_secs(s))), ["59s", "1m00", "59m59", "1h00"]);
        assert_eq!([0.01, 2.5, 41.4].map(rate), ["0.6/min", "2.5/s", "41/s"]);
    }
}
