//! Runs over simulated hosts.

mod copy_id;
mod forms;
mod inputs;
mod memory;
mod out_dir;
mod outputs;
mod refusals;
mod secrets;
mod stops;
mod trust;

use std::io::BufReader;
use std::process::{Command, Output, Stdio};

use fleet_sim::{Canned, HostPlan, Mode};

use super::Ground;
use super::ground::{PASSWORD, assert_no_processes, line};

/// A host with this answer to every command.
fn canned(name: &str, canned: Canned) -> HostPlan {
    HostPlan::new().name(name).mode(Mode::Canned(canned))
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn lines_failures_and_the_summary() {
    let ground = Ground::healthy(3);
    let fleet = ground.fleet;
    fleet
        .run(&["exec", "-f", "1", "echo $((1 + 1)); echo oops >&2; printf 'no end'"])
        .run(&["exec", "-q", "-w", "sim0001", "true"])
        .run(&["exec", "-f", "1", "exit 3"])
        .run(&["exec", "-f", "1", "-q", "-w", "sim0002", "kill -9 $$"])
        .run(&["exec", "-f", "1", "--fail-fast", "false"])
        .run(&["exec", "-N", "-w", "sim0001", "printf 'a\\nb'"])
        .run(&["ping"])
        .golden("run_text");
}

#[test]
fn a_hint_says_how_a_login_is_given_something_to_log_in_with() {
    let ground = Ground::healthy(1);
    let fleet = ground.fleet.configure("sim0001", "identity = []");
    let hint = "hint: -I PATH names a private key, -A asks for the password\n";
    let output = fleet.output(&["ping"]);
    assert!(stderr(&output).contains("no key and no password") && stderr(&output).ends_with(hint), "{output:?}");
    assert_eq!(code(&output), Some(3));
    assert!(!stderr(&fleet.output(&["ping", "-q"])).contains("hint: "));
}

#[test]
fn an_encrypted_key_that_the_agent_has_asks_for_nothing() {
    let ground = Ground::healthy(1);
    let dir = ground.fleet.dir().to_owned();
    let ssh = |name: &str| {
        let mut command = Command::new(name);
        command.current_dir(&dir).env("SSH_AUTH_SOCK", dir.join("agent")).stdin(Stdio::null());
        command
    };
    let mut agent = ssh("ssh-agent").args(["-D", "-a", "agent"]).stdout(Stdio::null()).spawn().unwrap();
    while ssh("ssh-add").arg("-l").output().unwrap().status.code() == Some(2) {
        assert!(agent.try_wait().unwrap().is_none(), "ssh-agent has ended");
    }
    assert!(ssh("ssh-add").args(["-q", "key"]).status().unwrap().success());
    let encrypted = ssh("ssh-keygen").args(["-q", "-p", "-P", "", "-N", "secret", "-f", "key"]).output().unwrap();
    assert!(encrypted.status.success());
    let fleet = ground.fleet.env("SSH_AUTH_SOCK", dir.join("agent"));
    let with = fleet.output(&["exec", "-q", "echo ok"]);
    let without = fleet.output(&["exec", "--agent", "none", "echo ok"]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let said = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((said(&with).as_str(), with.status.code()), ("", Some(0)));
    assert!(said(&without).contains("is encrypted and no passphrase was given"), "{}", said(&without));
    assert_eq!(without.status.code(), Some(2));
}

#[test]
fn one_json_object_a_line() {
    let ground = Ground::start(vec![HostPlan::new().banner("Authorised use only\n"), HostPlan::new()]);
    ground
        .fleet
        .run(&["exec", "-f", "1", "--format", "json", "-q", "printf 'caf\\303\\251\\n\\377'; exit 3"])
        .run(&["ping", "-f", "1", "--format", "json", "-v", "-w", "sim0001"])
        .golden("run_json");
}

#[test]
fn hosts_that_cannot_be_reached() {
    let ground = Ground::faulty(&["silent", "stall-kex", "stall-login", "garbage-banner", "cut-before-login:1"]);
    let output = ground.fleet.output(&["exec", "-t", "2s", "echo ok"]);
    let mut lines: Vec<String> = String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect();
    let summary = lines.pop().unwrap();
    lines.sort();
    assert_eq!(
        lines,
        [
            "fleet: sim0002: unreachable: banner timed out after 2s",
            "fleet: sim0003: unreachable: key exchange timed out after 2s",
            "fleet: sim0004: unreachable: login timed out after 2s",
            lines[3].as_str(),
        ]
    );
    assert!(lines[3].starts_with("fleet: sim0005: unreachable: "), "{lines:?}");
    assert!(summary.starts_with("fleet: 6 hosts: 2 ok, 4 unreachable in "), "{summary}");
    assert_eq!(output.status.code(), Some(3));
    let mut stdout: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    stdout.sort_unstable();
    assert_eq!(stdout, ["sim0001: ok", "sim0006: ok"]);
}

#[test]
fn many_failures_are_said_again_by_cause() {
    let ground = Ground::faulty(&["silent", "silent", "silent", "stall-kex", "stall-kex", "exit-signal:KILL"]);
    let output = ground.fleet.output(&["exec", "-t", "2s", "true"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let groups: Vec<&str> = stderr.lines().skip(7).collect();
    assert_eq!(
        groups,
        [
            "fleet: unreachable 3: banner timed out after 2s: sim[0002-0004]",
            "fleet: unreachable 2: key exchange timed out after 2s: sim[0005-0006]",
            "fleet: failed 1: ended by signal KILL: sim0007",
        ]
    );
}

#[test]
fn time_limits_end_commands() {
    let ground = Ground::healthy(1);
    ground
        .fleet
        .run(&["exec", "-u", "300ms", "echo begun; sleep 60"])
        .run(&["exec", "--idle-timeout", "300ms", "echo begun; sleep 60"])
        .run(&["exec", "--deadline", "2s", "echo begun; sleep 60"])
        .golden("run_timeouts");
    assert_no_processes(&ground.sim);
}

#[test]
fn bytes_are_exact_without_a_prefix() {
    let ground = Ground::healthy(1);
    let output = ground.fleet.output(&["exec", "-N", r"printf 'a\000b\r\n\377'; head -c 300000 /dev/zero"]);
    let expected = [b"a\0b\r\n\xff".as_slice(), &[0; 300_000]].concat();
    assert!(output.stdout == expected, "{} bytes", output.stdout.len());
}

#[test]
fn files_go_there_and_back() {
    let ground = Ground::healthy(2);
    let fleet = ground.fleet.file("site/index.html", "hello").file("site/deep/er", "x");
    let fleet = fleet
        .run(&["put", "-f", "1", "site", "copy"])
        .run(&["exec", "-f", "1", "find copy -type f | sort"])
        .run(&["get", "-f", "1", "copy", "back"])
        .run(&["get", "-f", "1", "missing", "back"]);
    fleet.golden("run_files");
    for host in ["sim0001", "sim0002"] {
        assert_eq!(
            std::fs::read_to_string(fleet.dir().join("back").join(host).join("copy/index.html")).unwrap(),
            "hello"
        );
    }
}

#[test]
fn an_unknown_key_is_recorded_once_and_counted() {
    let ground = Ground::healthy(2);
    std::fs::write(ground.fleet.dir().join("known_hosts"), "").unwrap();
    ground
        .fleet
        .run(&["ping", "--host-key", "strict", "-w", "sim0001", "-q", "--format", "json"])
        .env("FLEET_QUIET", "0")
        .run(&["ping"])
        .run(&["ping"])
        .golden("run_host_keys");
}

#[test]
fn a_password_comes_by_reference() {
    let ground = Ground::healthy(1);
    ground
        .fleet
        .file("secret", &format!("{PASSWORD}\n"))
        .env("SIM_PASSWORD", PASSWORD)
        .run(&["ping", "--password-from", "env:SIM_PASSWORD"])
        .run(&["ping", "--password-from", "cmd:cat secret"])
        .golden("run_password");
}

#[test]
fn a_closed_stdout_ends_the_run_in_silence() {
    let ground = Ground::start(vec![HostPlan::new().mode(Mode::Shell); 2]);
    let mut run = ground.spawn(&["exec", "yes"]);
    line(&mut run.stdout);
    run.stdout = Box::new(BufReader::new(std::io::empty()));
    let output = run.finish();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(141), String::new()));
    ground.assert_no_processes();
}

#[test]
fn a_full_disk_drains_the_run() {
    let ground = Ground::healthy(3);
    let mut command = ground.fleet.command(["exec", "-f", "1", "echo x; sleep 0.2"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("fleet: stopping: an output failed: no new hosts"), "{stderr}");
    assert!(stderr.contains("fleet: an output failed: standard output: No space left on device"), "{stderr}");
    assert_eq!(output.status.code(), Some(70));
}

#[test]
fn the_first_interrupt_drains_and_the_second_ends() {
    let ground = Ground::healthy(2);
    let mut run = ground.spawn(&["exec", "-f", "1", "echo begun; sleep 60"]);
    assert_eq!(line(&mut run.stdout), "sim0001: begun\n");
    run.signal("INT");
    assert!(line(&mut run.stderr).starts_with("fleet: running 1: sim0001 ("));
    assert_eq!(
        line(&mut run.stderr),
        "fleet: stopping: no new hosts; 1 still running: sim0001; press again to end them\n"
    );
    run.signal("INT");
    assert_eq!(line(&mut run.stderr), "fleet: stopping: ending 1 host: sim0001; press again to leave at once\n");
    assert_eq!(line(&mut run.stderr), "fleet: sim0001: cancelled: stopped, remote process killed\n");
    assert_eq!(run.finish().status.code(), Some(130));
    ground.assert_no_processes();
}

#[test]
fn with_nothing_queued_the_first_interrupt_ends() {
    let ground = Ground::healthy(1);
    let mut run = ground.spawn(&["exec", "echo begun; sleep 60"]);
    line(&mut run.stdout);
    run.signal("INT");
    assert!(line(&mut run.stderr).starts_with("fleet: running 1: sim0001 ("));
    assert_eq!(line(&mut run.stderr), "fleet: stopping: ending 1 host: sim0001; press again to leave at once\n");
    assert_eq!(run.finish().status.code(), Some(130));
}

#[test]
fn the_third_interrupt_leaves_at_once() {
    let ground = Ground::healthy(2);
    let mut run = ground.spawn(&["exec", "-f", "1", "trap '' TERM; echo begun; while :; do sleep 1; done"]);
    line(&mut run.stdout);
    for said in [&["fleet: running 1: ", "fleet: stopping: "][..], &["fleet: stopping: "]] {
        run.signal("INT");
        assert!(said.iter().all(|start| line(&mut run.stderr).starts_with(start)));
    }
    run.signal("INT");
    let output = run.finish();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(130), String::new()));
}

#[test]
fn a_termination_ends_in_order() {
    for (signal, code) in [("TERM", 143), ("HUP", 129)] {
        let ground = Ground::healthy(2);
        let mut run = ground.spawn(&["exec", "-f", "1", "echo begun; sleep 60"]);
        line(&mut run.stdout);
        run.signal(signal);
        assert_eq!(run.finish().status.code(), Some(code));
        ground.assert_no_processes();
    }
}
