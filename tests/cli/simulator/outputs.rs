//! What hosts write, and outputs that fail.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Stdio;

use base64::Engine as _;
use fleet_sim::Canned;
use serde_json::Value;
use std::process::Output;

use crate::ground::{Ground, line};

use super::{canned, code, stderr};

const MB: usize = 1024 * 1024;

/// The events of a run in JSON.
fn events(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Puts a stream together again, as the documentation of the JSON form says.
fn restored(events: &[Value], host: &str, stream: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events.iter().filter(|event| event["event"] == "output" && event["host"] == host) {
        if event["stream"] != stream {
            continue;
        }
        match (event["text"].as_str(), event["base64"].as_str()) {
            (Some(text), None) => bytes.extend_from_slice(text.as_bytes()),
            (None, Some(base64)) => bytes.extend(base64::engine::general_purpose::STANDARD.decode(base64).unwrap()),
            _ => panic!("neither text nor base64: {event}"),
        }
        if event["eol"] == true {
            bytes.push(b'\n');
        }
    }
    bytes
}

#[test]
fn many_hosts_are_all_told() {
    let names: Vec<String> = (1..=150).map(|n| format!("n{n:03}")).collect();
    let hosts = names.iter().map(|name| canned(name, Canned::new(format!("I am {name}\nand well\n")))).collect();
    let Ground { fleet, sim: _sim } = Ground::unknown(hosts);
    let output = fleet.output(&["exec", "x"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let lines: BTreeSet<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    let expected: Vec<String> =
        names.iter().flat_map(|name| [format!("{name}: I am {name}"), format!("{name}: and well")]).collect();
    assert_eq!(lines, expected.iter().map(String::as_str).collect());
    let said = stderr(&output);
    assert!(said.starts_with("fleet: 150 hosts: 150 ok in ") && said.ends_with("(150 host keys recorded)\n"), "{said}");
    let known = std::fs::read_to_string(fleet.dir().join("known_hosts")).unwrap();
    assert_eq!(known.lines().count(), 150);
}

#[test]
fn a_line_of_5_mb_is_written_whole() {
    let line = [b'x'; 64];
    let hosts = vec![canned("long", Canned { stdout: repeated(&line, 5 * MB / 64), ..Canned::default() }), {
        canned("short", Canned::new("short\n"))
    }];
    let Ground { fleet, sim: _sim } = Ground::start(hosts);
    let plain = fleet.output(&["exec", "-N", "-w", "long", "x"]);
    assert!(plain.stdout == vec![b'x'; 5 * MB]);
    let json = fleet.output(&["exec", "--format", "json", "x"]);
    assert!(restored(&events(&json), "long", "stdout") == vec![b'x'; 5 * MB]);
    let prefixed = fleet.output(&["exec", "x"]);
    let text = String::from_utf8(prefixed.stdout).unwrap();
    let bytes: usize = text.lines().filter_map(|line| line.strip_prefix("long: ")).map(str::len).sum();
    assert_eq!(bytes, 5 * MB);
    assert_eq!(text.lines().filter(|line| *line == "short: short").count(), 1);
}

fn repeated(bytes: &[u8], times: usize) -> fleet_sim::Repeated {
    fleet_sim::Repeated { bytes: bytes.to_vec(), times: times as u64 }
}

#[test]
fn binary_output_is_restored_exactly() {
    let mut out: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    out.extend_from_slice(b"\r\rlone\r\r\n\n\nend without a newline \xe2\x82");
    let err = b"\xff\n\x00\ntext\n".to_vec();
    let host = canned("bin", Canned::new(out.clone()).stderr(err.clone(), 1));
    let Ground { fleet, sim: _sim } = Ground::start(vec![host]);
    let json = fleet.output(&["exec", "--format", "json", "x"]);
    let events = events(&json);
    assert!(restored(&events, "bin", "stdout") == out);
    assert_eq!(restored(&events, "bin", "stderr"), err);
    let finished = events.iter().find(|event| event["event"] == "finished").unwrap();
    assert_eq!(finished["stdout_bytes"], out.len());
    assert_eq!(finished["stderr_bytes"], err.len());
    let plain = fleet.output(&["exec", "-N", "-q", "x"]);
    assert!(plain.stdout == out && plain.stderr == err);
}

#[test]
fn carriage_returns_and_escapes_pass_through_a_pipe() {
    let Ground { fleet, sim: _sim } = Ground::start(vec![canned("a", Canned::new("10%\r20%\rdone\n\x1b[1mbold\x07"))]);
    let output = fleet.output(&["exec", "x"]);
    assert_eq!(output.stdout, b"a: 10%\r20%\rdone\na: \x1b[1mbold\x07\n");
}

#[test]
fn an_output_that_nobody_reads_ends_the_run_at_its_first_line() {
    let ground = Ground::named(&["a"]);
    let mut run = ground.spawn(&["exec", "echo x; sleep 1000"]);
    run.stdout = Box::new(std::io::empty());
    let output = run.finish();
    assert_eq!((code(&output), stderr(&output)), (Some(141), ""));
    ground.assert_no_processes();
}

#[test]
fn blocks_that_nobody_reads_end_in_silence() {
    for form in ["-b", "--diff"] {
        let ground = Ground::named(&["a", "b"]);
        let mut run = ground.spawn(&["exec", form, "echo $HOME"]);
        run.stdout = Box::new(std::io::empty());
        let output = run.finish();
        assert_eq!((code(&output), stderr(&output)), (Some(141), ""), "{form}");
    }
}

#[test]
fn a_full_disk_is_said_and_every_result_still_told() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a", "b"]);
    for format in ["text", "json"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = fleet.command(["exec", "-f", "1", "--format", format, "echo x; exit 3"]);
        let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = stderr(&output);
        assert_eq!(code(&output), Some(70), "{said}");
        assert!(said.contains("fleet: an output failed: "), "{said}");
        assert!(said.to_lowercase().contains("no space left on device"), "{said}");
        assert!(said.contains("fleet: 2 hosts: "), "{said}");
    }
}

#[test]
fn a_full_standard_error_does_not_hurt_the_output() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = fleet.command(["exec", "echo x"]).stdout(Stdio::piped()).stderr(full).output().unwrap();
    assert_eq!((code(&output), &*output.stdout), (Some(70), &b"a: x\n"[..]));
}

#[test]
fn progress_without_a_terminal_is_a_line_now_and_then() {
    let ground = Ground::named(&["a", "b"]);
    let command = "case $HOME in *b) exit 3;; esac; while [ ! -e go ]; do sleep 0.05; done";
    let mut run = ground.spawn(&["exec", "--progress", command]);
    assert_eq!(line(&mut run.stderr), "fleet: b: failed: exit status 3\n");
    assert!(line(&mut run.stderr).starts_with("fleet: 1/2 done, 1 running, 1 failed, "));
    std::fs::write(ground.sim.host("a").unwrap().home().join("go"), "").unwrap();
    let output = run.finish();
    assert!(stderr(&output).starts_with("fleet: 2 hosts: 1 ok, 1 failed in "), "{}", stderr(&output));
    assert_eq!((code(&output), stderr(&output).lines().count()), (Some(1), 1));
}
