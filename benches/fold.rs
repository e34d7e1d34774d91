//! `sink::Fold` on many outputs, beside `clubak -b` on the same lines, in one run.
//!
//! ```text
//! cargo bench --bench fold -- [--hosts 10000] [--lines 100]
//! ```
//!
//! Each case is a process of its own, so that its peak memory is its own. `after last` is the time from the arrival of the last byte of
//! output until everything is written: what a person waits for. `clubak` hears nothing while hosts run: all of its time is after the
//! last. The machines are shared and noisy: quote ratios of one run, never seconds of two.
#![expect(clippy::print_stdout, reason = "a report")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a failed measurement ends")]

use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clustershell::of_clustershell;
use cost::value;
use fleet::event::RunId;
use fleet::fake::{FakeTransport, Reply};
use fleet::sink::{Fold, FoldOptions};
use fleet::{Event, EventKind, Exec, Host, Pool, RunControl, Sink, Stream};

mod clustershell;
mod cost;

/// Who writes what, and how it comes.
const CASES: [(&str, &str, Feed); 4] = [
    ("in turn", "one host after the other, two odd ones", Feed::InTurn),
    ("at once", "all write before the first ends, two odd ones", Feed::AtOnce),
    ("different", "no two outputs are the same", Feed::Different),
    ("run", "a whole run over the fake transport, two odd ones", Feed::Run),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Feed {
    InTurn,
    AtOnce,
    Different,
    Run,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let size = Size { hosts: value(&args, "--hosts", 10_000), lines: value(&args, "--lines", 100) };
    if let Some(at) = args.iter().position(|arg| arg == "--case") {
        return case(&args[at + 1], &size);
    }
    println!("{} outputs of {} lines, {} bytes each", size.hosts, size.lines, size.text(0, Feed::InTurn).len());
    println!("{:<54} {:>12} {:>9} {:>9} {:>9}", "", "after last s", "all s", "cpu s", "peak MB");
    for (name, what, _) in CASES {
        let own = std::env::current_exe().unwrap();
        let numbers = [("--hosts", size.hosts), ("--lines", size.lines)].map(|(flag, n)| format!("{flag}={n}"));
        let mut command = Command::new(own);
        command.args(["--case", name]);
        for number in &numbers {
            command.args(number.split('='));
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        print!("{:<54} {}", format!("fleet: {what}"), String::from_utf8_lossy(&output.stdout));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines");
    size.write_lines(&path).unwrap();
    match of_clustershell(&["clubak", "-b"], &path, 1) {
        Some(cost) => {
            let (wall, peak) = (cost.wall.as_secs_f64(), cost.peak_kb as f64 / 1024.0);
            let cpu = cost.cpu.as_secs_f64();
            println!("{:<54} {wall:>12.3} {wall:>9.2} {cpu:>9.2} {peak:>9.1}", "clubak -b: two odd ones");
        }
        None => println!("clubak is not installed"),
    }
}

struct Size {
    hosts: usize,
    lines: usize,
}

impl Size {
    /// What a host writes: two have one line of their own.
    fn text(&self, host: usize, feed: Feed) -> String {
        let is_odd = feed == Feed::Different || host == self.hosts / 3 || host == self.hosts / 2;
        let line = |line: usize| match line {
            0 if is_odd => format!("line {line} is one that only host {host:05} has\n"),
            _ => format!("line {line} of an output that many hosts have\n"),
        };
        (0..self.lines).map(line).collect()
    }

    fn name(host: usize) -> String {
        format!("n{host:05}")
    }

    /// How many lines the blocks have.
    fn folded_lines(&self, feed: Feed) -> u64 {
        let groups = if feed == Feed::Different { self.hosts } else { self.hosts.min(3) };
        (groups * (3 + self.lines)) as u64
    }

    fn write_lines(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        for host in 0..self.hosts {
            let name = Self::name(host);
            for line in self.text(host, Feed::InTurn).lines() {
                writeln!(file, "{name}: {line}")?;
            }
        }
        file.flush()
    }
}

/// Counts lines as they are written.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.0.fetch_add(lines as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn case(name: &str, size: &Size) {
    let Some((_, _, feed)) = CASES.into_iter().find(|(known, ..)| *known == name) else { panic!("no case {name}") };
    let hosts: Vec<_> = (0..size.hosts).map(Size::name).map(|name| Arc::new(Host::new(name, "192.0.2.1"))).collect();
    let counter = Counter::default();
    let fold = Fold::new(counter.clone(), io::sink(), FoldOptions::default());
    let start = Instant::now();
    let after = if feed == Feed::Run { run(&hosts, size, fold) } else { fed(&hosts, size, feed, fold) };
    let all = start.elapsed();
    assert_eq!(counter.0.load(Ordering::Relaxed), size.folded_lines(feed), "{name}");
    println!("{:>12.3} {:>9.2} {:>9.2} {:>9.1}", after.as_secs_f64(), all.as_secs_f64(), cpu_seconds(), peak_mb());
}

/// Feeds events to the sink alone; returns how long it took after the last output.
fn fed<W: Write + Send>(hosts: &[Arc<Host>], size: &Size, feed: Feed, mut fold: Fold<W, io::Sink>) -> Duration {
    let mut ends = ends(hosts);
    let run_finished = ends.pop().unwrap();
    let id = RunId::new("bench");
    let output = |at: usize| {
        let (host, bytes) = (Arc::clone(&hosts[at]), size.text(at, feed).into_bytes());
        Event::now(id.clone(), EventKind::Output { host, stream: Stream::Stdout, bytes })
    };
    let mut last = Instant::now();
    for (at, end) in ends.iter().enumerate() {
        let event = output(at);
        last = Instant::now();
        fold.handle(&event).unwrap();
        if feed != Feed::AtOnce {
            fold.handle(end).unwrap();
        }
    }
    if feed == Feed::AtOnce {
        ends.iter().for_each(|end| fold.handle(end).unwrap());
    }
    fold.handle(&run_finished).unwrap();
    last.elapsed()
}

/// Returns how hosts that wrote nothing end, in their order, and the end of their run.
fn ends(hosts: &[Arc<Host>]) -> Vec<Event> {
    let mut reports = Vec::new();
    let mut run_finished = None;
    let mut sink = |event: &Event| {
        match &event.kind {
            EventKind::Finished(report) => reports.push((report.index, event.clone())),
            EventKind::RunFinished(_) => run_finished = Some(event.clone()),
            _ => {}
        }
        Ok(())
    };
    Pool::builder(FakeTransport::new()).build().run(hosts, Exec::new("true"), &RunControl::new(), &mut [&mut sink]);
    reports.sort_by_key(|(index, _)| *index);
    assert_eq!(reports.len(), hosts.len());
    reports.into_iter().map(|(_, event)| event).chain(run_finished).collect()
}

/// Runs a command on all hosts; returns how long the run went on after the last output.
fn run<W: Write + Send>(hosts: &[Arc<Host>], size: &Size, mut fold: Fold<W, io::Sink>) -> Duration {
    let fake = FakeTransport::new();
    let (count, lines) = (size.hosts, size.lines);
    fake.answer(move |host, _| {
        let at = host.trim_start_matches('n').parse().ok()?;
        Some(Reply::new().stdout(Size { hosts: count, lines }.text(at, Feed::Run)))
    });
    let mut last = None;
    let mut clock = |event: &Event| {
        if let EventKind::Output { .. } = event.kind {
            last = Some(event.time);
        }
        Ok(())
    };
    let pool = Pool::builder(fake).fanout(NonZeroUsize::new(256).unwrap()).build();
    let summary = pool.run(hosts, Exec::new("cat").capture(false), &RunControl::new(), &mut [&mut clock, &mut fold]);
    assert!(summary.is_ok());
    last.unwrap().elapsed().unwrap()
}

/// Returns the most memory that this process has had resident, in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Returns the processor time of this process so far.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call, which fills it.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(rc, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
