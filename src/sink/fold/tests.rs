//! How outputs are grouped and written.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::{Error, ErrorKind, Phase};
use crate::event::{Class, Facts, Stream};
use crate::host::Host;
use crate::sink::fixtures::{event, host, run_finished};

const RULE: &str = "---------------";

/// What one host does.
#[derive(Clone, Debug)]
struct Deed {
    name: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: i32,
}

fn deed(name: &str, stdout: &str, stderr: &str, code: i32) -> Deed {
    Deed { name: name.to_owned(), stdout: stdout.into(), stderr: stderr.into(), code }
}

fn outputs(deed: &Deed, host: &Arc<Host>, size: usize) -> Vec<Event> {
    let of = |stream, bytes: &[u8]| -> Vec<Event> {
        let output = |bytes: &[u8]| event(EventKind::Output { host: Arc::clone(host), stream, bytes: bytes.to_vec() });
        bytes.chunks(size).map(output).collect()
    };
    [of(Stream::Stdout, &deed.stdout), of(Stream::Stderr, &deed.stderr)].concat()
}

fn ended(host: &Arc<Host>, index: usize, facts: Facts, error: Option<Error>) -> Event {
    let Event { kind: EventKind::Finished(report), .. } = crate::sink::fixtures::finished_with("", facts, error) else {
        unreachable!("it makes no other")
    };
    let mut report = (*report).clone();
    report.host = Arc::clone(host);
    report.index = index;
    event(EventKind::Finished(Arc::new(report)))
}

fn exited(host: &Arc<Host>, index: usize, code: i32) -> Event {
    let mut facts = Facts::new(if code == 0 { Class::Ok } else { Class::Failed });
    facts.exit_code = Some(code);
    ended(host, index, facts, None)
}

fn unreachable(host: &Arc<Host>, index: usize) -> Event {
    let error = Error::new(ErrorKind::Connect, format!("cannot connect to {}:22: connection refused", host.address));
    let error = error.in_phase(Phase::Connect);
    ended(host, index, Facts::new(Class::of_error(&error)), Some(error))
}

/// The events of hosts that do so, one after the other.
fn run_of(deeds: &[Deed]) -> Vec<Event> {
    let one = |(index, deed): (usize, &Deed)| {
        let host = host(&deed.name);
        let mut events = outputs(deed, &host, 7);
        events.push(exited(&host, index, deed.code));
        events
    };
    deeds.iter().enumerate().flat_map(one).chain([run_finished(&[])]).collect()
}

fn written(options: FoldOptions, events: &[Event]) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut fold = Fold::new(&mut stdout, &mut stderr, options);
    for event in events {
        fold.handle(event).unwrap();
    }
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn block(title: &str, body: &str) -> String {
    format!("{RULE}\n{title}\n{RULE}\n{body}")
}

#[test]
fn hosts_that_wrote_the_same_are_shown_once_the_most_first() {
    let deeds = [
        deed("db1", "other\n", "", 0),
        deed("web10", "ok\n", "", 0),
        deed("web2", "ok\n", "", 0),
        deed("web3", "ok\n", "careful\n", 0),
        deed("web4", "ok\n", "", 3),
        deed("web5", "", "", 0),
        deed("web6", "ok", "", 0),
    ];
    let (stdout, stderr) = written(FoldOptions::default(), &run_of(&deeds));
    let blocks = [
        block("web[2,10] (2)", "ok\n"),
        block("db1 (1)", "other\n"),
        block("web3 (1)", "ok\n"),
        block("web4 (1): exit status 3", "ok\n"),
        block("web5 (1): no output", ""),
        block("web6 (1)", "ok\n"),
    ];
    assert_eq!(stdout, blocks.concat());
    assert_eq!(stderr, block("web3 (1)", "careful\n"));
}

#[test]
fn on_a_terminal_both_streams_are_one_block_and_nothing_steers_it() {
    let options =
        FoldOptions { stdout: Target::terminal(false), stderr: Target::terminal(false), ..FoldOptions::default() };
    let deeds = [deed("a", "\x1b[2Jx\rshown\n", "e\n", 1), deed("b", "\x1b[2Jx\rshown\n", "e\n", 1)];
    let (stdout, stderr) = written(options, &run_of(&deeds));
    assert_eq!(stdout, block("a,b (2): exit status 1", "\\x1b[2Jx\nshown\n"));
    assert_eq!(stderr, "--- stderr\ne\n");
}

#[test]
fn hosts_that_nothing_was_heard_of_have_a_group_but_no_block() {
    let hosts = [host("db1"), host("db2"), host("web1")];
    let mut fold = Fold::new(Vec::new(), Vec::new(), FoldOptions::default());
    fold.handle(&unreachable(&hosts[0], 0)).unwrap();
    fold.handle(&unreachable(&hosts[1], 1)).unwrap();
    fold.handle(&exited(&hosts[2], 2, 0)).unwrap();
    let groups = fold.groups();
    let [refused, well] = groups.as_slice() else { panic!("{groups:?}") };
    assert_eq!(refused.names(), "db[1-2]");
    assert_eq!((refused.class(), refused.phase()), (Class::Unreachable, Some(Phase::Connect)));
    assert_eq!(refused.ending().unwrap(), "unreachable: cannot connect to …: connection refused");
    assert_eq!((well.names(), well.ending()), ("web1".to_owned(), None));
    fold.handle(&run_finished(&[])).unwrap();
    assert!(fold.groups().is_empty());
    assert_eq!(String::from_utf8_lossy(&fold.stdout.buffer.writer), block("web1 (1): no output", ""));
}

#[test]
fn what_a_host_wrote_before_it_was_lost_is_shown() {
    let host = host("a");
    let error = Error::new(ErrorKind::Timeout, "the command timed out after 1s").in_phase(Phase::Running);
    let events = [
        outputs(&deed("a", "half\n", "", 0), &host, 9),
        vec![ended(&host, 0, Facts::new(Class::of_error(&error)), Some(error)), run_finished(&[])],
    ];
    let (stdout, _) = written(FoldOptions::default(), &events.concat());
    assert_eq!(stdout, block("a (1): timed out: the command timed out after 1s", "half\n"));
}

#[test]
fn what_is_written_again_counts_once() {
    let host = host("a");
    let error = Error::new(ErrorKind::Disconnected, "reset").in_phase(Phase::Running);
    let delay = std::time::Duration::ZERO;
    let again = crate::event::Note::Retrying { attempt: 1, error, delay };
    let again = event(EventKind::Note { host: Arc::clone(&host), note: again });
    let output = outputs(&deed("a", "once\n", "", 0), &host, 9);
    let events = [output.clone(), vec![again], output, vec![exited(&host, 0, 0), run_finished(&[])]].concat();
    assert_eq!(written(FoldOptions::default(), &events).0, block("a (1)", "once\n"));
}

#[test]
fn a_wave_is_shown_when_it_ends() {
    let hosts = [host("a"), host("b")];
    let mut fold = Fold::new(Vec::new(), Vec::new(), FoldOptions::default());
    fold.handle(&event(EventKind::Wave { number: 1, begins: 1, reaches: 1 })).unwrap();
    fold.handle(&exited(&hosts[0], 0, 0)).unwrap();
    let first = block("a (1): no output", "");
    assert_eq!(String::from_utf8_lossy(&fold.stdout.buffer.writer), first);
    fold.handle(&event(EventKind::Wave { number: 2, begins: 1, reaches: 2 })).unwrap();
    fold.handle(&exited(&hosts[1], 1, 0)).unwrap();
    fold.handle(&run_finished(&[])).unwrap();
    assert_eq!(String::from_utf8_lossy(&fold.stdout.buffer.writer), first + &block("b (1): no output", ""));
}

#[test]
fn a_diff_shows_what_the_few_have_other_than_the_most() {
    let most: String = (1..=9).map(|n| format!("line {n}\n")).collect();
    let deeds = [
        deed("web1", &most, "", 0),
        deed("web2", &most, "", 0),
        deed("web3", &most.replace("line 5", "line five"), "", 0),
        deed("web4", &most, "oops\n", 0),
        deed("web5", &most, "", 2),
        deed("web6", "", "", 0),
    ];
    let options = FoldOptions { diff: true, ..FoldOptions::default() };
    let (stdout, stderr) = written(options, &run_of(&deeds));
    let diff = "--- web[1-2]\n+++ web3\n@@ -2,7 +2,7 @@\n line 2\n line 3\n line 4\n-line 5\n+line five\n line 6\n line 7\n line 8\n";
    let blocks = [
        block("web[1-2] (2)", &most),
        block("web3 (1)", diff),
        block("web4 (1): the same standard output", ""),
        block("web5 (1): exit status 2, the same output", ""),
        block("web6 (1): no output", ""),
    ];
    assert_eq!(stdout, blocks.concat());
    assert_eq!(stderr, block("web4 (1): the same standard output", "--- web[1-2]\n+++ web4\n@@ -0,0 +1 @@\n+oops\n"));
}

#[test]
fn what_is_too_long_or_no_text_is_not_compared_by_line() {
    let long = "x\n".repeat(600_000);
    let deeds = [deed("a", "1\n", "", 0), deed("b", "1\n", "", 0), deed("c", &long, "", 0), deed("d", "1\n\0", "", 0)];
    let options = FoldOptions { diff: true, ..FoldOptions::default() };
    let (stdout, _) = written(options, &run_of(&deeds));
    let blocks = [
        block("a,b (2)", "1\n"),
        block("c (1)", "differs from a,b: 1200000 bytes instead of 2, too many to compare by line\n"),
        block("d (1)", "differs from a,b: 3 bytes instead of 2, not text\n"),
    ];
    assert_eq!(stdout, blocks.concat());
}

#[test]
fn ten_thousand_outputs_are_one_copy_of_each() {
    let spools = SpoolSet::default();
    let all = spools.free_memory();
    let options = FoldOptions { spools: spools.clone(), ..FoldOptions::default() };
    let mut fold = Fold::new(Vec::new(), Vec::new(), options);
    let usual: String = (0..100).map(|n| format!("line {n} of an output that many hosts have\n")).collect();
    let hosts: Vec<_> = (0..10_000).map(|n| host(&format!("n{n:05}"))).collect();
    let text = |n: usize| match n {
        17 | 4_711 => format!("{usual}and {n}\n"),
        _ => usual.clone(),
    };
    let mut most_used = 0;
    // A thousand run at once.
    for wave in hosts.chunks(1_000) {
        let start = hosts.iter().position(|host| Arc::ptr_eq(host, &wave[0])).unwrap();
        for (index, host) in wave.iter().enumerate() {
            for event in outputs(&deed("", &text(start + index), "", 0), host, 4096) {
                fold.handle(&event).unwrap();
            }
        }
        most_used = most_used.max(all - spools.free_memory());
        for (index, host) in wave.iter().enumerate() {
            fold.handle(&exited(host, start + index, 0)).unwrap();
        }
        assert!(all - spools.free_memory() <= 3 * 2 * usual.len(), "{} bytes are kept", all - spools.free_memory());
    }
    assert!(most_used >= 1_000 * usual.len() && most_used <= all);
    let sizes: Vec<_> = fold.groups().iter().map(|group| (group.size(), group.names().len())).collect();
    assert_eq!(sizes, [(9_998, "n[00000-00016,00018-04710,04712-09999]".len()), (1, 6), (1, 6)]);
    fold.handle(&run_finished(&[])).unwrap();
    assert_eq!(spools.free_memory(), all);
}

#[test]
fn when_no_more_can_be_kept_what_there_is_is_shown() {
    let spools = SpoolSet::with_memory_in(0, "/nowhere/at/all");
    let options = FoldOptions { spools, ..FoldOptions::default() };
    let mut fold = Fold::new(Vec::new(), Vec::new(), options);
    let hosts = [host("a"), host("b")];
    fold.handle(&exited(&hosts[0], 0, 0)).unwrap();
    let error = fold.handle(&outputs(&deed("b", "x", "", 0), &hosts[1], 9)[0]).unwrap_err();
    assert!(error.to_string().starts_with("cannot write the spill file in /nowhere/at/all: "), "{error}");
    assert_eq!(String::from_utf8_lossy(&fold.stdout.buffer.writer), block("a (1): no output", ""));
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let text = || prop_oneof!["[ab]{0,2}\n?", Just("x\n".repeat(40))].prop_map(String::into_bytes);
    prop::collection::vec((text(), text(), 0..2_i32), 1..30).prop_map(|deeds| {
        let deed = |(n, (stdout, stderr, code))| Deed { name: format!("n{n}"), stdout, stderr, code };
        deeds.into_iter().enumerate().map(deed).collect()
    })
}

proptest! {
    #[test]
    fn every_host_is_in_one_group_of_its_like(deeds in deeds()) {
        let mut fold = Fold::new(Vec::new(), Vec::new(), FoldOptions::default());
        let mut events = run_of(&deeds);
        events.pop();
        for event in &events {
            fold.handle(event).unwrap();
        }
        let mut seen = BTreeSet::new();
        let mut alike = BTreeSet::new();
        for group in fold.groups() {
            let mut found = BTreeSet::new();
            for host in group.hosts() {
                prop_assert!(seen.insert(host.name.clone()), "{} twice", host.name);
                let deed = deeds.iter().find(|deed| deed.name == host.name).unwrap();
                prop_assert_eq!(&deed.stdout, &group.stdout().bytes().unwrap());
                prop_assert_eq!(&deed.stderr, &group.stderr().bytes().unwrap());
                found.insert((deed.stdout.clone(), deed.stderr.clone(), deed.code));
            }
            prop_assert_eq!(found.len(), 1);
            prop_assert!(alike.insert(found), "two groups of one kind");
        }
        prop_assert_eq!(seen.len(), deeds.len());
    }

    #[test]
    fn how_and_when_outputs_arrive_does_not_matter(
        deeds in deeds(),
        seed in any::<u64>(),
        size in 1_usize..50,
        is_diff in any::<bool>(),
    ) {
        let options = || FoldOptions { diff: is_diff, ..FoldOptions::default() };
        let expected = written(options(), &run_of(&deeds));
        // Each host's events in their order, all of them mixed by chance.
        let mut random = fastrand::Rng::with_seed(seed);
        let mut queues: Vec<Vec<Event>> = deeds.iter().enumerate().map(|(index, deed)| {
            let host = host(&deed.name);
            let mut events = outputs(deed, &host, size);
            events.push(exited(&host, index, deed.code));
            events.reverse();
            events
        }).collect();
        let mut events = Vec::new();
        while !queues.is_empty() {
            let at = random.usize(..queues.len());
            match queues[at].pop() {
                Some(event) => events.push(event),
                None => drop(queues.swap_remove(at)),
            }
        }
        events.push(run_finished(&[]));
        prop_assert_eq!(written(options(), &events), expected);
    }

    #[test]
    fn nothing_that_hosts_write_steers_a_terminal(
        stdout in prop::collection::vec(any::<u8>(), 0..300),
        stderr in "[\\x00-\\x1f\\x7f-\\u{9f}\\u{202e}x]{0,30}",
        is_diff in any::<bool>(),
    ) {
        let both = Target::terminal(false);
        let options = FoldOptions { diff: is_diff, stdout: both, stderr: both, ..FoldOptions::default() };
        let deeds = [deed("a", "a\n", "", 0), deed("b", "a\n", "", 0), Deed { stdout, ..deed("c", "", &stderr, 1) }];
        let (stdout, stderr) = written(options, &run_of(&deeds));
        for c in stdout.chars().chain(stderr.chars()) {
            prop_assert!(matches!(c, '\n' | '\t') || !(c.is_control() || c == '\u{202e}'), "{:?}", c);
        }
    }
}
