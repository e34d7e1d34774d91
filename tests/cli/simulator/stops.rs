//! Runs that end before their time.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use fleet_sim::{Canned, Fault, HostPlan};

use crate::fleet::BINARY;
use crate::ground::{Ground, Running, assert_no_processes, line};

use super::{canned, code, stderr};

#[test]
fn a_lost_connection_is_told() {
    for fault in ["cut-output:200", "reset-output:200"] {
        let host = canned("a", Canned::default()).fault(fault.parse::<Fault>().unwrap());
        let Ground { fleet, sim: _sim } = Ground::start(vec![host]);
        let output = fleet.output(&["exec", "x"]);
        let said = stderr(&output);
        assert_eq!(code(&output), Some(3), "{said}");
        assert!(said.starts_with("fleet: a: lost: "), "{fault}: {said}");
        assert!(said.contains("fleet: 1 host: 0 ok, 1 lost in "), "{said}");
    }
}

#[test]
fn a_dead_link_ends_at_the_time_limit() {
    let host = canned("a", Canned::default()).fault(Fault::FreezeOutput { after_bytes: 200 });
    let Ground { fleet, sim: _sim } = Ground::start(vec![host]);
    let output = fleet.output(&["exec", "-u", "1", "x"]);
    let said = stderr(&output);
    assert_eq!(code(&output), Some(124), "{said}");
    assert!(said.starts_with("fleet: a: timed out: command timed out after 1s, "), "{said}");
    assert!(!said.contains("remote process killed"), "nobody can know that: {said}");
}

#[test]
fn interrupts_drain_then_end_all_that_run() {
    let ground = Ground::named(&["a", "b", "c"]);
    let mut run = ground.spawn(&["exec", "-f", "2", "echo begun; sleep 1000"]);
    line(&mut run.stdout);
    line(&mut run.stdout);
    run.signal("INT");
    let running = line(&mut run.stderr);
    assert!(running.starts_with("fleet: running 2: a,b (longest "), "{running}");
    let stopping = line(&mut run.stderr);
    assert_eq!(stopping, "fleet: stopping: no new hosts; 2 still running: a,b; press again to end them\n");
    run.signal("INT");
    let output = run.finish();
    let said = stderr(&output);
    assert!(said.starts_with("fleet: stopping: ending 2 hosts: a,b; press again to leave at once\n"), "{said}");
    for host in ["a", "b"] {
        assert!(said.contains(&format!("fleet: {host}: cancelled: stopped, remote process killed\n")), "{said}");
    }
    assert!(said.contains("fleet: 3 hosts: 0 ok, 2 cancelled, 1 not started in "), "{said}");
    assert!(said.ends_with("fleet: not started 1: c\n"), "{said}");
    assert_eq!((code(&output), &*output.stdout), (Some(130), &b""[..]));
    ground.assert_no_processes();
}

#[test]
fn a_command_that_began_a_moment_ago_is_ended_too() {
    let Ground { fleet, sim } = Ground::start(vec![HostPlan::new().rtt(Duration::from_millis(600))]);
    let mut run = Running::start(fleet.command(["exec", "sleep 1000"]));
    // The command runs, and the answer that says so is on its way.
    while sim.processes().is_empty() {
        assert_eq!(run.ended(), None);
    }
    run.signal("TERM");
    let output = run.finish();
    assert_eq!(code(&output), Some(143), "{}", stderr(&output));
    assert!(stderr(&output).contains(": cancelled: stopped, remote process killed\n"), "{}", stderr(&output));
    assert_no_processes(&sim);
}

#[test]
fn nothing_outlives_a_fleet_that_is_killed() {
    let ground = Ground::named(&["a", "b"]);
    let mut run = ground.spawn(&["exec", "echo begun; setsid sleep 1000 & sleep 1000 | cat"]);
    line(&mut run.stdout);
    line(&mut run.stdout);
    // What is promised begins when the commands have run for a second, on a machine that is not busy.
    std::thread::sleep(Duration::from_secs(2));
    run.signal("KILL");
    run.finish();
    ground.assert_no_processes();
}

#[test]
fn without_a_guard_the_server_alone_is_asked() {
    let ground = Ground::named(&["a"]);
    let begun = "echo begun; setsid sleep 1000 >/dev/null 2>&1 & sleep 1000";
    let output = ground.fleet.output(&["exec", "--no-guard", "--kill-after", "300ms", "-u", "1s", begun]);
    assert!(stderr(&output).contains("command timed out after 1s, remote process killed"), "{}", stderr(&output));
    assert_eq!(ground.sim.processes().len(), 1, "what left its process group stays");
    let output = ground.fleet.output(&["exec", "--kill-after", "300ms", "-u", "1s", begun]);
    assert!(stderr(&output).contains("command timed out after 1s, remote process killed"), "{}", stderr(&output));
    assert_eq!(ground.sim.processes().len(), 1, "that of the other connection");
}

#[test]
fn an_ignored_interrupt_stays_ignored() {
    let ground = Ground::named(&["a"]);
    let go = ground.sim.host("a").unwrap().home().join("go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    let mut shell = Command::new("sh");
    // As nohup and a shell's background jobs do.
    shell.args(["-c", "trap '' INT; exec \"$0\" \"$@\""]).arg(BINARY);
    shell.args(["exec", "echo begun; read -r line < go; echo done"]);
    shell.current_dir(ground.fleet.dir()).env("HOME", ground.fleet.dir()).stdin(Stdio::null());
    let mut run = Running::start(shell);
    line(&mut run.stdout);
    run.signal("INT");
    File::options().write(true).open(&go).unwrap().write_all(b"go\n").unwrap();
    let output = run.finish();
    assert_eq!((code(&output), &*output.stdout), (Some(0), &b"a: done\n"[..]), "{}", stderr(&output));
}

#[test]
fn max_fail_lets_the_running_ones_end() {
    let broken = canned("a", Canned::default().exit(1));
    let slow = canned("b", Canned::new("late\n").delay(Duration::from_millis(800)));
    let Ground { fleet, sim: _sim } = Ground::start(vec![broken, slow, canned("c", Canned::new("never\n"))]);
    let output = fleet.output(&["exec", "-f", "2", "--fail-fast", "x"]);
    assert_eq!((code(&output), &*output.stdout), (Some(4), &b"b: late\n"[..]), "{}", stderr(&output));
    assert!(stderr(&output).contains("too many failures: no new hosts; 1 still running: b\n"), "{}", stderr(&output));
}
