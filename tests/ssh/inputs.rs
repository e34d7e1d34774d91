//! What holds for standard input on every server.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fleet::op::{Context, Script};
use fleet::transport::KillReason;
use fleet::{Class, ErrorKind, Event, EventKind, Exec, Host, Input, Outputs, RunControl};

use crate::ground::{fanout, pool, run, run_in, stdout};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn cksum(bytes: &[u8]) -> String {
    let mut child = Command::new("cksum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Makes an input of what a thread writes into a pipe.
fn piped(write: impl FnOnce(std::io::PipeWriter) + Send + 'static) -> Input {
    let (source, sink) = std::io::pipe().unwrap();
    std::thread::spawn(move || write(sink));
    Input::from_fd("a pipe", source.into())
}

pub(crate) fn every_host_gets_every_byte_once_read(hosts: &[Arc<Host>]) {
    let bytes = pattern(5_000_000);
    let expected = cksum(&bytes);
    // With one host at a time, all but the first begin when the pipe is at its end.
    for at_once in [hosts.len(), 1] {
        let text = bytes.clone();
        let input = piped(move |mut sink| sink.write_all(&text).unwrap());
        let exec = Exec::new("cksum").stdin(input);
        for result in pool().fanout(fanout(at_once)).build().map(hosts, exec) {
            assert_eq!(stdout(&result), expected);
        }
    }
}

pub(crate) fn bytes_come_back_as_they_were(host: &Host) {
    let bytes = pattern(3_000_000);
    let result = run(host.clone(), Exec::new("cat; exit 3").stdin(Input::from_bytes(bytes.clone())));
    let value = result.value().unwrap();
    assert!(value.stdout.bytes().unwrap() == bytes);
    assert_eq!(value.code(), Some(3));
}

pub(crate) fn a_command_need_not_read_it(host: &Host) {
    let input = piped(|mut sink| while sink.write_all(&[b'y'; 65536]).is_ok() {});
    for (command, expected) in
        [("true", ""), ("head -c 5; exit 0", "yyyyy"), ("exec <&-; echo closed; sleep 0.5", "closed\n")]
    {
        let result = run(host.clone(), Exec::new(command).stdin(input.clone()));
        assert_eq!((stdout(&result).as_str(), result.class()), (expected, Class::Ok), "{command}");
    }
}

pub(crate) fn what_comes_later_is_given_at_once(host: &Host) {
    let (heard, hear) = std::sync::mpsc::channel::<Vec<u8>>();
    let input = piped(move |mut sink| {
        // Each line is written when the one before has come back.
        for line in ["one\n", "two\n", "three\n"] {
            sink.write_all(line.as_bytes()).unwrap();
            let mut back = Vec::new();
            while back.len() < line.len() {
                back.extend(hear.recv().unwrap());
            }
            assert_eq!(back, line.as_bytes());
        }
    });
    let mut sink = |event: &Event| {
        if let EventKind::Output { bytes, .. } = &event.kind {
            heard.send(bytes.clone()).unwrap();
        }
        Ok(())
    };
    let mut result = None;
    let hosts = [Arc::new(host.clone())];
    let outputs = Outputs::new().sink(&mut sink);
    pool().build().run_with(&hosts, Exec::new("cat; echo end >&2").stdin(input), &RunControl::new(), outputs, |one| {
        result = Some(one);
    });
    assert_eq!(stdout(&result.unwrap()), "one\ntwo\nthree\n");
}

/// The first host reads nothing until all others have ended.
pub(crate) fn a_slow_host_delays_no_other(hosts: &[Arc<Host>]) {
    let bytes = pattern(8_000_000);
    let expected = cksum(&bytes);
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let command = format!("while test $FLEET_INDEX = 0 && ! test -e {}; do sleep 0.02; done; cksum", go.display());
    let exec = Exec::new(command).within(Context::new().export_host(true)).stdin(Input::from_bytes(bytes));
    let mut ended = Vec::new();
    pool().build().run_with(hosts, exec, &RunControl::new(), Outputs::new(), |result| {
        assert_eq!(stdout(&result), expected);
        ended.push(result.host().name.clone());
        if ended.len() == hosts.len() - 1 {
            std::fs::write(&go, "").unwrap();
        }
    });
    assert_eq!(ended.len(), hosts.len());
    assert_eq!(ended.last(), Some(&hosts[0].name));
}

pub(crate) fn a_source_that_fails_ends_the_command_and_says_so(host: &Host) {
    let input = Input::open("/proc/self/mem").unwrap();
    let pool = pool().kill_after(Duration::from_millis(300));
    let result = run_in(pool, host.clone(), Exec::new("cat; exec sleep 20").stdin(input));
    let error = result.error().unwrap();
    assert_eq!((error.kind(), result.class()), (ErrorKind::LocalFile, Class::Error));
    assert_eq!(error.to_string(), "cannot read /proc/self/mem");
}

pub(crate) fn taking_input_is_no_silence(host: &Host) {
    let input = piped(|mut sink| {
        for _ in 0..5 {
            sink.write_all(b"x").unwrap();
            std::thread::sleep(Duration::from_millis(700));
        }
        // Nothing more comes: from here on it is silence.
        std::thread::sleep(Duration::from_secs(60));
    });
    let pool = pool().idle_timeout(Duration::from_secs(3)).kill_after(Duration::from_millis(300));
    let result = run_in(pool, host.clone(), Exec::new("head -c 5 | wc -c; exec sleep 60").stdin(input));
    assert_eq!(stdout(&result).trim(), "5");
    assert_eq!(result.value().unwrap().ended.killed.unwrap().reason, KillReason::Idle(Duration::from_secs(3)));
}

pub(crate) fn a_script_has_it_for_itself(host: &Host) {
    let bytes = pattern(2_000_000);
    for text in ["cksum; exit 4", "#!/usr/bin/env perl\nexec 'sh', '-c', 'cksum; exit 4';"] {
        let script = Script::new(text).unwrap().stdin(Input::from_bytes(bytes.clone()));
        let result = run(host.clone(), script);
        assert_eq!((stdout(&result), result.value().unwrap().code()), (cksum(&bytes), Some(4)));
    }
}
