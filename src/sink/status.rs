//! What fleet itself says of a run: lines that start with `fleet: `.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::buffer::Buffer;
use super::cause::{cause, words};
use super::escape::escape;
use super::names::fold_names;
use crate::budget::Stop;
use crate::error::Phase;
use crate::event::{Class, Event, EventKind, HostKeyAction, HostReport, Note, Sink, StopReason, Summary};
use crate::host::Host;
use crate::hostset;

/// Above how many failures the summary repeats them, grouped by their cause; and how many with one cause have lines of their
/// own before the others are left to the summary.
const FEW_FAILURES: usize = 5;

/// How many groups the summary shows at most of those whose hosts have all had lines of their own.
const MAX_GROUPS: usize = 12;

/// How [`Status`] writes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StatusOptions {
    /// 1 shows each retry, recorded host key and banner, 2 also each phase. Default 0: they are counted.
    pub verbose: u8,
    /// Leaves everything out but failures and what stops the run. Default: no.
    pub quiet: bool,
    /// Colours how a host failed. Default: no.
    pub color: bool,
    /// Says who failed at the end only, every host, grouped by status, phase and cause: what fits the folded form, where nobody
    /// wants a line a host. Default: no.
    pub grouped: bool,
}

/// Writes what fleet says of a run: the hosts that did not end well, as it happens, and one line of counts at the end.
///
/// ```text
/// fleet: web01: unreachable: key exchange timed out after 10s
/// fleet: web02: failed: exit status 1
/// fleet: 20 hosts: 18 ok, 1 failed, 1 unreachable in 1.9s (3 host keys recorded)
/// ```
///
/// After more than 5 failures the counts are followed by all of them, grouped by status, phase and cause, the largest group
/// first, with the hosts folded. Of those with one cause 5 have a line of their own before that, unless
/// [`StatusOptions::verbose`] asks for each, or [`StatusOptions::quiet`] for no summary. Hosts that were never started are in a
/// group only.
pub struct Status<W> {
    buffer: Buffer<W>,
    options: StatusOptions,
    recorded: usize,
    accepted: usize,
    replaced: usize,
    retries: usize,
    /// The hosts without a record.
    unmatched: Vec<String>,
    files: u64,
    bytes: u64,
    failures: Vec<Failure>,
    /// How many hosts failed alike.
    alike: HashMap<Kind, usize>,
}

/// What failures have in common that are told together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Kind {
    class: Class,
    phase: Option<Phase>,
    cause: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cause.is_empty() { "" } else { ": " })?;
        f.write_str(&escape(&self.cause))
    }
}

struct Failure {
    kind: Kind,
    host: Arc<Host>,
}

impl<W: Write + Send> Status<W> {
    /// Writes to `writer`, which needs no buffer.
    pub fn new(writer: W, options: StatusOptions) -> Self {
        Self {
            buffer: Buffer::new(writer),
            options,
            recorded: 0,
            accepted: 0,
            replaced: 0,
            retries: 0,
            unmatched: Vec::new(),
            files: 0,
            bytes: 0,
            failures: Vec::new(),
            alike: HashMap::new(),
        }
    }

    /// Returns what to write for an event; empty when it is only counted.
    fn lines(&mut self, event: &Event) -> String {
        let mut out = String::new();
        let is_loud = !self.options.quiet;
        match &event.kind {
            EventKind::Started { op, hosts, fanout } if self.options.verbose > 0 => {
                line(&mut out, format_args!("run {}: {op} on {}, fanout {fanout}", event.run, count(*hosts, "host")));
            }
            EventKind::Phase { host, phase } if self.options.verbose > 1 => {
                line(&mut out, format_args!("{}: {phase}", host.name));
            }
            EventKind::Note { host, note } => self.note(&mut out, host, note),
            EventKind::Warning(message) if is_loud => line(&mut out, format_args!("warning: {}", escape(message))),
            EventKind::Wave { number, begins, reaches } if is_loud => {
                line(&mut out, format_args!("wave {number}: {}, {reaches} in all", count(*begins, "host")));
            }
            EventKind::Finished(report) => self.finished(&mut out, report),
            EventKind::Stopping { stop, reason, running } => stopping(&mut out, *stop, *reason, running),
            EventKind::RunFinished(summary) => {
                if let Some(cause) = &summary.failed_sink {
                    line(&mut out, format_args!("an output failed: {}", escape(cause)));
                }
                if is_loud {
                    self.summary(&mut out, summary);
                    self.without_record(&mut out);
                }
                if is_loud || self.options.grouped {
                    self.groups(&mut out);
                }
            }
            _ => {}
        }
        out
    }

    fn note(&mut self, out: &mut String, host: &Host, note: &Note) {
        let name = &host.name;
        let is_verbose = self.options.verbose > 0;
        match note {
            Note::HostKey { action, key_type, fingerprint } => {
                match action {
                    HostKeyAction::Recorded => self.recorded += 1,
                    HostKeyAction::Accepted => self.accepted += 1,
                    HostKeyAction::Replaced => self.replaced += 1,
                    HostKeyAction::Changed | HostKeyAction::Known | HostKeyAction::Unknown => {}
                }
                if is_verbose {
                    line(out, format_args!("{name}: host key {}: {key_type} {fingerprint}", action.as_str()));
                }
            }
            Note::Banner(text) if is_verbose => {
                for text in text.lines() {
                    line(out, format_args!("{name}: banner: {}", escape(text)));
                }
            }
            Note::Retrying { attempt, error, delay } => {
                self.retries += 1;
                if is_verbose {
                    let (error, delay) = (error.chain(), delay.as_secs_f64());
                    let error = escape(&error);
                    line(out, format_args!("{name}: attempt {attempt} failed: {error}; next in {delay:.1}s"));
                }
            }
            Note::NoRecord => self.unmatched.push(name.clone()),
            Note::Warning(message) if !self.options.quiet => {
                line(out, format_args!("{name}: warning: {}", escape(message)));
            }
            Note::Detail(message) if is_verbose => line(out, format_args!("{name}: {}", escape(message))),
            Note::Unguarded(reason) if is_verbose => {
                line(out, format_args!("{name}: no guard: {}", escape(reason)));
            }
            Note::Banner(_) | Note::Unguarded(_) | Note::Warning(_) | Note::Detail(_) => {}
        }
    }

    fn finished(&mut self, out: &mut String, report: &HostReport) {
        self.files += report.facts.files;
        self.bytes += report.facts.transferred_bytes;
        let class = report.class();
        if class == Class::Ok {
            return;
        }
        let kind = Kind { class, phase: report.phase(), cause: cause(report) };
        let alike = self.alike.entry(kind.clone()).or_default();
        *alike += 1;
        let is_told =
            !self.options.grouped && (*alike <= FEW_FAILURES || self.options.verbose > 0 || self.options.quiet);
        if class != Class::NotStarted && is_told {
            let name = &report.host.name;
            let reason = report.reason().unwrap_or_default();
            let colored = if self.options.color { format!("\x1b[31m{}\x1b[0m", words(class)) } else { words(class) };
            if reason.is_empty() || reason == words(class) {
                line(out, format_args!("{name}: {colored}"));
            } else {
                line(out, format_args!("{name}: {colored}: {}", escape(&reason)));
            }
        }
        if class != Class::NotStarted && !is_told && !self.options.grouped && *alike == FEW_FAILURES + 1 {
            line(out, format_args!("more hosts {}{kind} (listed at the end; -v shows each)", words(class)));
        }
        self.failures.push(Failure { kind, host: Arc::clone(&report.host) });
    }

    fn summary(&self, out: &mut String, summary: &Summary) {
        let mut text = format!("{}: {} ok", count(summary.hosts, "host"), summary.of(Class::Ok));
        for class in Class::ALL.iter().filter(|class| **class != Class::Ok && summary.of(**class) > 0) {
            let _ = write!(text, ", {} {}", summary.of(*class), words(*class));
        }
        let _ = write!(text, " in {}", elapsed(summary.duration));
        let mut extras = Vec::new();
        if self.files > 0 {
            let rate = self.bytes as f64 / summary.duration.as_secs_f64().max(0.001);
            extras.push(format!("{}, {}, {}/s", count(self.files, "file"), bytes(self.bytes as f64), bytes(rate)));
        }
        if self.recorded > 0 {
            extras.push(format!("{} recorded", count(self.recorded, "host key")));
        }
        if self.replaced > 0 {
            extras.push(format!("{} replaced", count(self.replaced, "host key")));
        }
        if self.accepted > 0 {
            extras.push(format!("{} accepted unrecorded", count(self.accepted, "host key")));
        }
        match self.retries {
            0 => {}
            1 => extras.push("1 retry".to_owned()),
            retries => extras.push(format!("{retries} retries")),
        }
        if !extras.is_empty() {
            let _ = write!(text, " ({})", extras.join(", "));
        }
        line(out, format_args!("{text}"));
    }

    fn without_record(&self, out: &mut String) {
        if !self.unmatched.is_empty() {
            let names = fold_names(self.unmatched.iter().map(String::as_str));
            line(out, format_args!("no record of {}: {names}", count(self.unmatched.len(), "host")));
        }
    }

    /// Says who failed, by cause: after hundreds of lines nobody can count them any more.
    fn groups(&mut self, out: &mut String) {
        let is_started = |failure: &Failure| failure.kind.class != Class::NotStarted;
        let StatusOptions { grouped, quiet, .. } = self.options;
        if !grouped && self.failures.iter().filter(|failure| is_started(failure)).count() <= FEW_FAILURES {
            self.failures.retain(|failure| !is_started(failure));
        }
        if quiet {
            // Who stopped the run knows that others were not started.
            self.failures.retain(is_started);
        }
        self.failures.sort_by(|a, b| a.kind.cmp(&b.kind));
        let mut groups: Vec<&[Failure]> = self.failures.chunk_by(|a, b| a.kind == b.kind).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        // Whoever had no line of their own is named here, however many groups and names that makes.
        let are_told = |group: &[Failure]| !grouped && group.len() <= FEW_FAILURES && group.iter().all(is_started);
        let (mut shown, mut left_out) = (0, 0);
        for group in &groups {
            let Some(Failure { kind, .. }) = group.first() else { continue };
            if shown >= MAX_GROUPS && are_told(group) {
                left_out += group.len();
                continue;
            }
            shown += 1;
            let names = group.iter().map(|failure| failure.host.name.as_str());
            let names = if are_told(group) { fold_names(names) } else { hostset::fold(names) };
            let is_ambiguous = |other: &&&[Failure]| {
                other.first().is_some_and(|Failure { kind: other, .. }| {
                    (other.class, &other.cause) == (kind.class, &kind.cause) && other.phase != kind.phase
                })
            };
            let phase = kind.phase.filter(|_| groups.iter().any(|other| is_ambiguous(&other)));
            let phase = phase.map_or_else(String::new, |phase| format!(" in {phase}"));
            line(out, format_args!("{} {}{phase}{kind}: {names}", words(kind.class), group.len()));
        }
        if left_out > 0 {
            line(out, format_args!("and {} with {} other causes", count(left_out, "host"), groups.len() - shown));
        }
    }
}

impl<W: Write + Send> Sink for Status<W> {
    fn handle(&mut self, event: &Event) -> io::Result<()> {
        let lines = self.lines(event);
        self.buffer.gathered.extend_from_slice(lines.as_bytes());
        match event.kind {
            EventKind::RunFinished(_) => self.flush(),
            _ => self.buffer.end_line(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.write()
    }
}

impl<W> fmt::Debug for Status<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status").field("options", &self.options).finish_non_exhaustive()
    }
}

fn stopping(out: &mut String, stop: Stop, reason: StopReason, running: &[Arc<Host>]) {
    let why = match reason {
        StopReason::Threshold => "too many failures: ",
        StopReason::Rollout => "the rollout ends here: ",
        StopReason::Breaker => "too many refused logins: ",
        StopReason::Deadline => "the run's deadline passed: ",
        StopReason::Terminate => "terminated: ",
        StopReason::Hangup => "the terminal is gone: ",
        StopReason::Output => "an output failed: ",
        StopReason::Interrupt => "",
    };
    let names = fold_names(running.iter().map(|host| host.name.as_str()));
    let what = match (stop, running.len()) {
        (Stop::Drain, 0) => "no new hosts; none is running".to_owned(),
        (Stop::Drain, running) => format!("no new hosts; {running} still running: {names}"),
        (Stop::Abort, 0) => "no host is running".to_owned(),
        (Stop::Abort, running) => format!("ending {}: {names}", count(running, "host")),
    };
    let hint = match (reason, stop) {
        (StopReason::Interrupt, Stop::Drain) => "; press again to end them",
        (StopReason::Interrupt, Stop::Abort) => "; press again to leave at once",
        _ => "",
    };
    line(out, format_args!("stopping: {why}{what}{hint}"));
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    let _ = writeln!(out, "fleet: {text}");
}

fn count(number: impl Into<CountOf>, noun: &str) -> String {
    let CountOf(number) = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

struct CountOf(u64);

impl From<usize> for CountOf {
    fn from(number: usize) -> Self {
        Self(number as u64)
    }
}

impl From<u64> for CountOf {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// Writes a duration for people: `0.2s`, `1m 05s`, `2h 03m`.
fn elapsed(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        seconds @ 60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Writes a size for people: `512 B`, `1.5 KiB`.
fn bytes(number: f64) -> String {
    let mut value = number;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::sink::fixtures::{event, exited, failed, finished, host, note, run_finished};

    fn written(options: StatusOptions, events: &[Event]) -> String {
        let mut out = Vec::new();
        let mut status = Status::new(&mut out, options);
        for event in events {
            status.handle(event).unwrap();
        }
        status.flush().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn timeout(phase: Phase) -> Error {
        Error::new(ErrorKind::Timeout, format!("{phase} timed out after 10s")).in_phase(phase)
    }

    fn recorded(name: &str) -> Event {
        note(
            name,
            Note::HostKey {
                action: HostKeyAction::Recorded,
                key_type: "ssh-ed25519".into(),
                fingerprint: "SHA256:x".into(),
            },
        )
    }

    fn retrying(name: &str) -> Event {
        let error = Error::new(ErrorKind::Protocol, "not SSH: Exceeded\nMaxStartups").in_phase(Phase::Banner);
        note(name, Note::Retrying { attempt: 1, error, delay: Duration::from_millis(400) })
    }

    #[test]
    fn a_failure_is_one_line_and_the_end_is_one() {
        let events = [
            recorded("web01"),
            retrying("web01"),
            exited("web01", 0),
            failed("web02", timeout(Phase::KeyExchange)),
            exited("web03", 1),
            run_finished(&[Class::Ok, Class::Unreachable, Class::Failed]),
        ];
        assert_eq!(
            written(StatusOptions::default(), &events),
            "fleet: web02: unreachable: key exchange timed out after 10s\n\
             fleet: web03: failed: exit status 1\n\
             fleet: 3 hosts: 1 ok, 1 failed, 1 unreachable in 1.9s (1 host key recorded, 1 retry)\n"
        );
    }

    #[test]
    fn verbose_shows_what_is_otherwise_counted() {
        let events = [
            recorded("a"),
            retrying("a"),
            note("a", Note::Banner("one\n\x1b[2J\n".into())),
            note("a", Note::Unguarded("x".into())),
        ];
        assert_eq!(
            written(StatusOptions { verbose: 1, ..StatusOptions::default() }, &events),
            "fleet: a: host key recorded: ssh-ed25519 SHA256:x\n\
             fleet: a: attempt 1 failed: not SSH: Exceeded\\nMaxStartups; next in 0.4s\n\
             fleet: a: banner: one\n\
             fleet: a: banner: \\x1b[2J\n\
             fleet: a: no guard: x\n"
        );
    }

    #[test]
    fn quiet_leaves_failures() {
        let events = [
            event(EventKind::Warning("w".into())),
            exited("a", 0),
            exited("b", 2),
            run_finished(&[Class::Ok, Class::Failed]),
        ];
        let options = StatusOptions { quiet: true, ..StatusOptions::default() };
        assert_eq!(written(options, &events), "fleet: b: failed: exit status 2\n");
    }

    #[test]
    fn many_failures_are_grouped_by_what_they_have_in_common() {
        let refused = |name: &str| {
            let what = "cannot connect to 192.0.2.1:22: connection refused";
            failed(name, Error::new(ErrorKind::Connect, what).in_phase(Phase::Connect))
        };
        let changed = |name: &str| {
            let what = format!("the host key of {name} has CHANGED: SHA256:{name} is not SHA256:x");
            failed(name, Error::new(ErrorKind::HostKey, what).in_phase(Phase::HostKey))
        };
        let mut events: Vec<Event> = ["db1", "db2", "db3"].map(refused).into();
        events.extend(["web1", "web2", "web3", "web4"].map(|name| failed(name, timeout(Phase::Login))));
        events.extend(["a", "b"].map(changed));
        events.push(finished("z", Class::NotStarted));
        let text = written(StatusOptions::default(), &[events, vec![run_finished(&[])]].concat());
        let (_, groups) = text.split_once(" in 1.9s\n").unwrap();
        assert_eq!(
            groups,
            "fleet: unreachable 4: login timed out after 10s: web[1-4]\n\
             fleet: unreachable 3: cannot connect to …: connection refused: db[1-3]\n\
             fleet: unreachable 2: the host key of … has CHANGED: a,b\n\
             fleet: not started 1: z\n"
        );
        assert!(!text.contains("fleet: z: "), "{text}");
    }

    fn many(count: usize) -> Vec<Event> {
        let mut events: Vec<Event> =
            (1..=count).map(|number| failed(&format!("db{number:03}"), timeout(Phase::KeyExchange))).collect();
        events.push(exited("web1", 3));
        events.push(run_finished(&[]));
        events
    }

    #[test]
    fn hosts_that_fail_alike_are_left_to_the_summary_after_some_lines() {
        let text = written(StatusOptions::default(), &many(400));
        let (before, groups) = text.split_once(" in 1.9s\n").unwrap();
        let lines: Vec<&str> = before.lines().collect();
        assert_eq!(lines.len(), 8, "{before}");
        assert_eq!(lines[4], "fleet: db005: unreachable: key exchange timed out after 10s");
        let more = "fleet: more hosts unreachable: key exchange timed out after 10s (listed at the end; -v shows each)";
        assert_eq!(lines[5], more);
        assert_eq!(lines[6], "fleet: web1: failed: exit status 3");
        assert_eq!(
            groups,
            "fleet: unreachable 400: key exchange timed out after 10s: db[001-400]\n\
             fleet: failed 1: exit status 3: web1\n"
        );
    }

    #[test]
    fn verbose_and_quiet_tell_every_failure_as_it_comes() {
        let verbose = StatusOptions { verbose: 1, ..StatusOptions::default() };
        let quiet = StatusOptions { quiet: true, ..StatusOptions::default() };
        for options in [verbose, quiet] {
            let text = written(options, &many(400));
            assert_eq!(text.matches(": unreachable: key exchange timed out after 10s\n").count(), 400);
            assert!(!text.contains("more hosts"), "{text}");
        }
    }

    #[test]
    fn whoever_has_no_line_is_named_at_the_end() {
        let name = |number: usize| format!("{}-{}", "x".repeat(20), char::from(b'a' + (number % 26) as u8));
        let mut events: Vec<Event> = (0..26).map(|number| failed(&name(number), timeout(Phase::Login))).collect();
        // More groups than are shown of those that have had their lines.
        events.extend((0..20).map(|number| exited(&format!("one{number}"), number + 10)));
        events.push(run_finished(&[]));
        let text = written(StatusOptions::default(), &events);
        let line = text.lines().find(|line| line.starts_with("fleet: unreachable 26: ")).unwrap();
        assert!((0..26).all(|number| line.contains(&name(number))), "{line}");
        assert!(text.ends_with("fleet: and 9 hosts with 9 other causes\n"), "{text}");
    }

    #[test]
    fn causes_that_differ_in_the_hosts_own_names_alone_are_one() {
        let what = [
            |name: &str| format!("cannot resolve {name}"),
            |name: &str| format!("cannot connect to {name}:22: connection refused"),
            |name: &str| format!("cannot write out/{name}/log"),
        ];
        let fail = |name: &str, what: &fn(&str) -> String| {
            failed(name, Error::new(ErrorKind::Connect, what(name)).in_phase(Phase::Connect))
        };
        let mut events: Vec<Event> = Vec::new();
        for what in what {
            let what: fn(&str) -> String = what;
            events.extend(["db1", "db2", "db3"].map(|name| fail(name, &what)));
        }
        events.push(run_finished(&[]));
        let text = written(StatusOptions::default(), &events);
        let (_, groups) = text.split_once(" in 1.9s\n").unwrap();
        assert_eq!(
            groups,
            "fleet: unreachable 3: cannot connect to …: connection refused: db[1-3]\n\
             fleet: unreachable 3: cannot resolve …: db[1-3]\n\
             fleet: unreachable 3: cannot write out/…/log: db[1-3]\n"
        );
    }

    #[test]
    fn one_cause_in_two_phases_is_two_groups() {
        let ended = |name: &str, phase| failed(name, Error::new(ErrorKind::Disconnected, "gone").in_phase(phase));
        let mut events: Vec<Event> = ["a1", "a2", "a3", "a4"].map(|name| ended(name, Phase::Banner)).into();
        events.extend(["b1", "b2"].map(|name| ended(name, Phase::Login)));
        events.push(run_finished(&[]));
        let text = written(StatusOptions::default(), &events);
        assert!(
            text.ends_with(
                "fleet: unreachable 4 in banner: gone: a[1-4]\nfleet: unreachable 2 in login: gone: b[1-2]\n"
            )
        );
    }

    #[test]
    fn grouped_failures_are_told_at_the_end_and_all_of_them() {
        let refused = |name: &str, phase| failed(name, Error::new(ErrorKind::Connect, "refused").in_phase(phase));
        let mut events = vec![
            refused("db1", Phase::Connect),
            refused("db2", Phase::Connect),
            refused("db3", Phase::Banner),
            exited("web1", 2),
        ];
        events.extend((0..20).map(|n| failed(&format!("x{n}"), Error::new(ErrorKind::Login, format!("no. {n}")))));
        events.extend([finished("z", Class::NotStarted), run_finished(&[])]);
        let options = StatusOptions { grouped: true, ..StatusOptions::default() };
        let text = written(options, &events);
        let (head, groups) = text.split_once(" in 1.9s\n").unwrap();
        assert_eq!(head, "fleet: 0 hosts: 0 ok");
        assert!(
            groups.starts_with(
                "fleet: unreachable 2 in connect: refused: db[1-2]\nfleet: failed 1: exit status 2: web1\n"
            )
        );
        assert!(groups.contains("fleet: unreachable 1 in banner: refused: db3\n"), "{groups}");
        assert_eq!(groups.lines().count(), 24);
        let quiet = written(StatusOptions { quiet: true, ..options }, &events);
        assert_eq!(quiet, groups.replace("fleet: not started 1: z\n", ""));
    }

    #[test]
    fn a_stop_says_who_still_runs_and_what_the_next_key_press_does() {
        let stopping = |stop, reason, names: &[&str]| {
            let running = names.iter().map(|name| host(name)).collect();
            written(StatusOptions::default(), &[event(EventKind::Stopping { stop, reason, running })])
        };
        assert_eq!(
            stopping(Stop::Drain, StopReason::Interrupt, &["web1", "web2"]),
            "fleet: stopping: no new hosts; 2 still running: web[1-2]; press again to end them\n"
        );
        assert_eq!(
            stopping(Stop::Abort, StopReason::Interrupt, &["web1"]),
            "fleet: stopping: ending 1 host: web1; press again to leave at once\n"
        );
        assert_eq!(
            stopping(Stop::Drain, StopReason::Threshold, &["web1"]),
            "fleet: stopping: too many failures: no new hosts; 1 still running: web1\n"
        );
    }

    #[test]
    fn durations_and_sizes_are_written_for_people() {
        assert_eq!(elapsed(Duration::from_millis(1940)), "1.9s");
        assert_eq!(elapsed(Duration::from_secs(65)), "1m 05s");
        assert_eq!(elapsed(Duration::from_secs(7380)), "2h 03m");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1536.0), "1.5 KiB");
        assert_eq!(bytes(5.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0), "5.0 TiB");
    }
}
