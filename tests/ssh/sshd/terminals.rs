//! Pseudo-terminals on OpenSSH's sshd.

use std::time::Duration;

use fleet::op::Script;
use fleet::transport::Pty;
use fleet::{Class, Exec, ExitStatus, Input};

use super::Ground;
use crate::ground::{exec, pool, run, run_in, stderr, stdout};

#[test]
fn a_command_believes_in_its_terminal() {
    let ground = Ground::start();
    let command = "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM; echo err >&2; exit 7";
    let result = run(ground.host(), Exec::new(command).pty(Pty::new("vt220").size(132, 43)));
    assert_eq!((stdout(&result).as_str(), stderr(&result).as_str()), ("43 132\nvt220\nerr\n", ""));
    assert_eq!(result.value().unwrap().code(), Some(7));
    assert_eq!(stdout(&exec(ground.host(), "tty")), "not a tty\n");
}

#[test]
fn its_input_is_at_its_end_and_it_ends_by_signals_as_any() {
    let ground = Ground::start();
    for (command, expected) in [("cat; echo end", "end\n"), ("read x || echo nothing", "nothing\n")] {
        let result = run(ground.host(), Exec::new(command).pty(Pty::new("xterm")));
        assert_eq!((stdout(&result).as_str(), result.class()), (expected, Class::Ok));
    }
    let exec = Exec::new("read x; echo \"got $x\"; cat").stdin(Input::from_bytes("typed\nmore\n"));
    assert_eq!(stdout(&run(ground.host(), exec.pty(Pty::new("xterm")))), "got typed\nmore\n");
    let result = run(ground.host(), Exec::new("kill -KILL $$").pty(Pty::new("xterm")));
    assert_eq!(result.value().unwrap().ended.status, ExitStatus::Signal("KILL".into()));
}

#[test]
fn a_timeout_ends_what_runs_on_a_terminal() {
    let ground = Ground::start();
    let pool = pool().timeout(Duration::from_secs(1));
    let result = run_in(pool, ground.host(), Exec::new("echo begun; sleep 1000 & sleep 1000").pty(Pty::new("xterm")));
    assert_eq!((result.class(), stdout(&result).as_str()), (Class::TimedOut, "begun\n"));
    assert_eq!(result.report.facts.killed, Some("killed"));
}

#[test]
fn a_script_runs_on_a_terminal_too() {
    let ground = Ground::start();
    let script =
        Script::new("#!/usr/bin/perl\nprint -t STDIN ? \"terminal $ARGV[0]\\n\" : \"none\\n\"; exit 3").unwrap();
    let result = run(ground.host(), script.args(["a b"]).pty(Pty::new("xterm")));
    assert_eq!((stdout(&result).as_str(), result.value().unwrap().code()), ("terminal a b\n", Some(3)));
}

#[test]
fn a_server_without_terminals_says_so() {
    let ground = Ground::with(|builder| builder.config("PermitTTY no"));
    let result = run(ground.host(), Exec::new("echo ran").pty(Pty::new("xterm")));
    assert_eq!(
        (result.class(), result.error().unwrap().to_string().as_str()),
        (Class::Failed, "the server refused a terminal")
    );
}
