//! What a run holds in memory while hosts write more than anybody takes.

use std::io::Read as _;
use std::process::Command;
use std::time::Duration;

use crate::ground::{Ground, Running, line};

use super::{code, stderr};

/// The most that a run may ever have in memory, in KiB.
const MAX_KIB: u64 = 100 * 1024;

/// The output forms that pass on what comes, as flags, and those that keep it until a host is done.
const PASSING: [&[&str]; 2] = [&["-O", "out"], &["--format", "json"]];
const KEEPING: [&[&str]; 4] = [&["--format", "jsonl"], &["--format", "csv"], &["-b"], &["--ordered"]];

/// Returns the most memory that a process has had resident so far, in KiB; `None` once it has ended.
fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Runs to the end, taking whatever is written; returns the most memory it had, how much came on stdout, and the rest.
fn watched(command: Command) -> (u64, u64, std::process::Output) {
    let mut run = Running::start(command);
    let mut stdout = std::mem::replace(&mut run.stdout, Box::new(std::io::empty()));
    let pid = run.id();
    let mut buffer = vec![0; 1 << 20];
    let (mut peak, mut bytes) = (0, 0);
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        peak = peak.max(peak_kib(pid).unwrap_or(0));
        bytes += count as u64;
        if count == 0 {
            return (peak, bytes, run.finish());
        }
    }
}

/// Lets ten hosts write without end until they are stopped, and checks what the run had in memory.
fn stays_within(max_mib: u64, each_mib: u64, forms: &[&[&str]]) {
    const HOSTS: u64 = 10;
    let names: Vec<String> = (0..HOSTS).map(|n| format!("h{n}")).collect();
    let ground = Ground::named(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let max_output = format!("{each_mib}MiB");
    // Long lines: what a form adds to each is not what is measured.
    let yes = format!("yes {}", "y".repeat(500));
    for form in forms {
        let args = [&["exec", "--max-output", &max_output], *form, &[yes.as_str()]].concat();
        let mut command = ground.fleet.command(args);
        command.env("FLEET_TMPDIR", ground.fleet.dir());
        let (peak, bytes, output) = watched(command);
        assert_eq!(code(&output), Some(1), "{form:?}: {}", stderr(&output));
        // All wrote the same, and more than was asked for.
        let shown = if *form == ["-b"] { each_mib } else { HOSTS * each_mib };
        assert!(bytes >= shown << 20, "{form:?}: only {bytes} bytes came");
        assert!(peak < max_mib * 1024, "{form:?}: {peak} KiB");
    }
}

// What is on its way takes some 40 MiB: beside that, all that the hosts write would not fit below the limit.

#[test]
fn endless_output_that_passes_stays_within_bounds_in_every_form() {
    stays_within(64, 4, &PASSING);
}

#[test]
fn endless_output_that_is_kept_stays_within_bounds_in_every_form() {
    stays_within(90, 6, &KEEPING);
}

#[test]
fn a_large_output_without_a_newline_arrives_whole() {
    const BYTES: u64 = 100 << 20;
    let ground = Ground::named(&["a"]);
    let command = ground.fleet.command(["exec", "-O", "out", &format!("head -c {BYTES} /dev/zero")]);
    let (peak, bytes, output) = watched(command);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(bytes > BYTES && peak < MAX_KIB, "{peak} KiB, {bytes} bytes on standard output");
    let kept = ground.fleet.dir().join("out/a.stdout");
    assert_eq!(std::fs::metadata(kept).unwrap().len(), BYTES);
}

#[test]
fn a_reader_that_pauses_holds_the_host_back_and_costs_it_no_time() {
    const BYTES: u64 = 48 << 20;
    let ground = Ground::named(&["a"]);
    let command = format!("echo begun; head -c {BYTES} /dev/zero; echo; echo end");
    let mut run = ground.spawn(&["exec", "-N", "-u", "5s", "--idle-timeout", "4s", &command]);
    assert_eq!(line(&mut run.stdout), "begun\n");
    // Longer than the limits: that they do not pass meanwhile is what is tested.
    std::thread::sleep(Duration::from_secs(6));
    let peak = peak_kib(run.id()).unwrap();
    let output = run.finish();
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(output.stdout.len() as u64, BYTES + 5);
    assert!(peak < MAX_KIB / 2, "{peak} KiB");
}
