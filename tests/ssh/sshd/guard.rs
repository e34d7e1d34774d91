//! What becomes of remote processes, and what the guard over them costs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fleet::event::Note;
use fleet::transport::{Ended, ExecLimits, ExecRequest, GuardState, KillReason, KillResult, Session, SessionEvent};
use fleet::{Budget, Class, ErrorKind, Exec, ExitStatus, Phase, Result, Stream, op};

use super::Ground;
use crate::ground::{exec, exec_with_notes, pool, run, run_in, stdout};

/// An argument of `sleep` that no other process has.
struct Marker(String);

impl Marker {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("1000.{}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst)))
    }

    /// A command with a pipeline, a background child, and one that left for a session of its own.
    fn busy(&self) -> String {
        format!("sleep {0} & setsid sleep {0} & echo begun; sleep {0} | cat", self.0)
    }

    /// The same, which says nothing.
    fn quiet(&self) -> String {
        format!("sleep {0} & setsid sleep {0} & sleep {0} | cat", self.0)
    }

    fn pids(&self) -> Vec<String> {
        let found = Command::new("pgrep").args(["-f", &format!("^sleep {}$", self.0)]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Waits until no process has it: what was killed ends when it next runs.
    fn assert_gone(&self) {
        let since = Instant::now();
        while let pids = self.pids()
            && !pids.is_empty()
        {
            assert!(since.elapsed() < Duration::from_secs(15), "{pids:?} still run");
        }
    }

    /// Ends the processes that have it, and tells how many there were.
    fn kill(&self) -> usize {
        let pids = self.pids();
        for pid in &pids {
            assert!(Command::new("kill").arg(pid).status().unwrap().success());
        }
        pids.len()
    }
}

/// How many commands the server has started, once so many connections have ended.
fn commands(ground: &Ground, connections: usize) -> usize {
    let since = Instant::now();
    while ground.sshd.log().matches("Disconnected from user").count() < connections {
        assert!(since.elapsed() < Duration::from_secs(15), "{}", ground.sshd.log());
    }
    ground.sshd.log().matches("Starting session: command").count()
}

#[test]
fn a_timeout_ends_all_that_the_command_started() {
    let ground = Ground::start();
    // With a guard that watches already, and with one that is opened to end it.
    for timeout in [1000, 100] {
        let marker = Marker::new();
        let run = || run_in(pool().timeout(Duration::from_millis(timeout)), ground.host(), Exec::new(marker.busy()));
        // A busy machine may not even have begun it when the time is over.
        let result = (0..20).map(|_| run()).find(|result| result.value().is_some()).expect("a command that began");
        assert_eq!(result.class(), Class::TimedOut);
        let killed = result.value().unwrap().ended.killed.unwrap().result;
        assert_eq!(killed, KillResult::Killed, "{}", ground.sshd.log());
        assert_eq!(marker.pids(), [""; 0]);
    }
}

#[test]
fn what_ignores_term_is_killed() {
    let ground = Ground::start();
    let marker = Marker::new();
    let pool = pool().timeout(Duration::from_secs(2)).kill_after(Duration::from_millis(500));
    let command = format!("trap '' TERM; sleep {0} & sleep {0}; sleep {0}", marker.0);
    let ended = run_in(pool, ground.host(), Exec::new(command)).outcome.unwrap().ended;
    assert_eq!(ended.killed.unwrap().result, KillResult::Killed);
    assert_eq!(ended.status, ExitStatus::Signal("KILL".into()));
    marker.assert_gone();
}

#[test]
fn a_child_that_holds_nothing_is_found_too() {
    let ground = Ground::start();
    let marker = Marker::new();
    // Its shell ends at TERM, and with it all that the server knows.
    let command = format!("(trap '' TERM; exec sleep {0} >/dev/null 2>&1 </dev/null) & sleep {0}", marker.0);
    let pool = pool().timeout(Duration::from_secs(2)).kill_after(Duration::from_secs(3));
    let ended = run_in(pool, ground.host(), Exec::new(command)).outcome.unwrap().ended;
    // On a busy machine a second may pass before a killed process is gone.
    let result = ended.killed.unwrap().result;
    assert!(matches!(result, KillResult::Killed | KillResult::NotConfirmed), "{result:?}");
    marker.assert_gone();
}

/// Tells whether the server has a guard.
fn has_guard(ground: &Ground) -> bool {
    let found = Command::new("pgrep").args(["-f", "^sh -c .* fleet-guard [0-9]+ "]).output().unwrap();
    let server = format!(" 127.0.0.1 {}", ground.sshd.port());
    let is_of_server = |pid: &str| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environ.split(|byte| *byte == 0);
        variables.any(|variable| variable.starts_with(b"SSH_CONNECTION=") && variable.ends_with(server.as_bytes()))
    };
    String::from_utf8(found.stdout).unwrap().lines().any(is_of_server)
}

/// Runs the binary against the server and waits until the command has begun.
fn binary(ground: &Ground, command: &str) -> Child {
    let host = ground.host();
    let mut fleet = Command::new("setsid");
    fleet.args(["env", "--default-signal=INT", env!("CARGO_BIN_EXE_fleet")]);
    fleet.args(["exec", "-F", "none", "--agent", "none", "-w", "127.0.0.1"]);
    fleet.args(["-l", &host.user, "-p", &host.port.to_string(), "-I"]).arg(&ground.key);
    fleet.arg("--known-hosts").arg(&host.known_hosts[0]).arg(command);
    fleet.env("HOME", ground.dir.path()).current_dir(ground.dir.path());
    let mut child = fleet.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "127.0.0.1: begun\n", "{child:?}");
    child
}

#[test]
fn an_interrupt_ends_all_that_the_command_started() {
    let ground = Ground::start();
    let marker = Marker::new();
    let child = binary(&ground, &marker.busy());
    // With no host waiting, the first is already the second.
    assert!(Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("cancelled: stopped, remote process killed\n"), "{said}");
    marker.assert_gone();
}

#[test]
fn nothing_outlives_a_client_that_is_killed() {
    let ground = Ground::start();
    let marker = Marker::new();
    let mut child = binary(&ground, &marker.busy());
    let since = Instant::now();
    while !has_guard(&ground) {
        assert!(since.elapsed() < Duration::from_secs(15), "{}", ground.sshd.log());
    }
    // What is promised begins when the command has run for a second, on a machine that is not busy.
    std::thread::sleep(Duration::from_secs(2));
    child.kill().unwrap();
    child.wait().unwrap();
    marker.assert_gone();
}

/// Starts a command in a session and waits until a guard watches over it.
fn start_guarded(session: &mut dyn Session, command: &str) -> Result<()> {
    let budget = Budget::grace(Duration::from_secs(30));
    let id = session.start(&ExecRequest::new(command), &budget)?;
    assert!(session.guard(id, Duration::from_secs(5)));
    while !matches!(session.pump(&budget)?, SessionEvent::Guard(GuardState::Watching)) {}
    // The word that arms it leaves with the next wait.
    let error = session.pump(&Budget::grace(Duration::from_millis(200))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    Ok(())
}

#[test]
fn nothing_outlives_a_connection_that_goes_silent() {
    let ground = Ground::with(|builder| builder.config("ClientAliveInterval 1").config("ClientAliveCountMax 2"));
    let marker = Arc::new(Marker::new());
    let sleeping = Arc::clone(&marker);
    let op = op::from_fn("silent", move |session, _| {
        start_guarded(session, &sleeping.quiet())?;
        // Nobody reads or answers: as behind a cable that was cut.
        sleeping.assert_gone();
        let error = session.pump(&Budget::grace(Duration::from_secs(30))).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
        Ok(())
    });
    let result = run(ground.host(), op);
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn nothing_outlives_a_session_that_is_dropped() {
    let ground = Ground::start();
    let marker = Arc::new(Marker::new());
    let sleeping = Arc::clone(&marker);
    let op = op::from_fn("drop", move |session, _| {
        start_guarded(session, &sleeping.quiet())?;
        let since = Instant::now();
        while sleeping.pids().len() < 3 {
            assert!(since.elapsed() < Duration::from_secs(15), "{:?}", sleeping.pids());
        }
        Ok(())
    });
    assert!(run(ground.host(), op).is_ok());
    marker.assert_gone();
}

#[test]
fn a_daemon_whose_command_ended_lives_on() {
    let ground = Ground::start();
    // Before a guard comes, as it comes, and with one.
    for pause in ["0", "0.3", "0.31", "0.32", "0.35", "1"] {
        let marker = Marker::new();
        let daemon = format!("sleep {} >/dev/null 2>&1 </dev/null &", marker.0);
        let result = exec(ground.host(), &format!("nohup {daemon} setsid {daemon} sleep {pause}; exit 7"));
        assert_eq!(result.value().unwrap().code(), Some(7));
        let since = Instant::now();
        while has_guard(&ground) {
            assert!(since.elapsed() < Duration::from_secs(15), "a guard stays");
        }
        assert_eq!(marker.kill(), 2, "after {pause} s");
    }
}

#[test]
fn a_stop_spares_what_earlier_commands_left() {
    let ground = Ground::start();
    let (daemon, second) = (Marker::new(), Marker::new());
    let commands =
        [format!("setsid sleep {} >/dev/null 2>&1 & sleep 0.6", daemon.0), format!("echo begun; sleep {}", second.0)];
    let op = op::from_fn("two", move |session, job| -> Result<Vec<Option<KillResult>>> {
        let mut limits = ExecLimits::default();
        let mut run = |command: &String| {
            let request = ExecRequest::new(command.as_str());
            let ended = session.exec(&request, &limits, job.budget, &mut |_, _| Ok(()))?;
            limits.idle = Some(Duration::from_secs(1));
            Ok(ended.killed.map(|killed| killed.result))
        };
        commands.iter().map(&mut run).collect()
    });
    let result = run(ground.host(), op);
    assert_eq!(result.outcome.unwrap(), [None, Some(KillResult::Killed)]);
    second.assert_gone();
    assert_eq!(daemon.kill(), 1);
}

#[test]
fn bytes_in_and_out_are_exact_under_a_guard() {
    let ground = Ground::start();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = sent.clone();
    let op = op::from_fn("cat", move |session, job| -> Result<(Vec<u8>, Option<i32>)> {
        let mut request = ExecRequest::new("cat; sleep 0.3; exit 9");
        request.stdin = true;
        let id = session.start(&request, job.budget)?;
        assert!(session.guard(id, Duration::from_secs(5)));
        let (mut rest, mut received, mut is_watched, mut is_closed) = (&sent[..], Vec::new(), false, false);
        loop {
            while !rest.is_empty() {
                let taken = session.write(id, rest)?;
                rest = &rest[taken..];
                if taken == 0 {
                    break;
                }
            }
            // It runs at least until there is a guard.
            if rest.is_empty() && is_watched && !is_closed {
                session.close_stdin(id)?;
                is_closed = true;
            }
            match session.pump(job.budget)? {
                SessionEvent::Output { stream: Stream::Stdout, bytes, .. } => received.extend(bytes),
                SessionEvent::Guard(state) => is_watched |= state == GuardState::Watching,
                SessionEvent::Ended { ended, .. } => return Ok((received, ended.code())),
                _ => {}
            }
        }
    });
    let (received, code) = run(ground.host(), op).outcome.unwrap();
    assert!(received == expected, "{} bytes", received.len());
    assert_eq!(code, Some(9));
}

#[test]
fn only_what_runs_on_gets_a_guard() {
    let ground = Ground::start();
    assert!(run_in(pool().guard(false), ground.host(), Exec::new("sleep 0.6")).is_ok());
    assert_eq!(commands(&ground, 1), 1);
    assert!(exec(ground.host(), "sleep 0.6").is_ok());
    assert_eq!(commands(&ground, 2), 3);
    // A busy machine may take its time even for nothing; then there is a guard, and rightly.
    let is_quick = |number: usize| {
        let before = commands(&ground, number - 1);
        let result = exec(ground.host(), "true");
        let running = result.report.phases.iter().find(|(phase, _)| *phase == Phase::Running).unwrap().1;
        let is_quick = running < Duration::from_millis(250);
        assert!(!is_quick || commands(&ground, number) == before + 1);
        is_quick
    };
    let since = Instant::now();
    let is_in_time = |_: &usize| since.elapsed() < Duration::from_secs(120);
    assert!((3..).take_while(is_in_time).any(is_quick), "{}", ground.sshd.log());
}

#[test]
fn a_missing_guard_is_noted_and_hinders_nothing() {
    // Long enough for the answer to come on a busy machine.
    let command = "echo begun; sleep 5; exit 5";
    let forced = format!("ForceCommand case $SSH_ORIGINAL_COMMAND in exec*) exit 1;; esac; {command}");
    for (config, why) in [
        ("MaxSessions 1", "the server refused another channel"),
        (&forced, "the login ran something else in its place"),
    ] {
        let ground = Ground::with(|builder| builder.config(config));
        let (result, notes) = exec_with_notes(ground.host(), command);
        assert_eq!((stdout(&result).as_str(), result.value().unwrap().code()), ("begun\n", Some(5)), "{config}");
        let is_it = |note: &Note| matches!(note, Note::Unguarded(reason) if reason == why);
        assert!(notes.iter().any(is_it), "{config}: {notes:?}");
    }
}

#[test]
fn a_guard_that_is_killed_takes_nothing_with_it() {
    let ground = Ground::start();
    // It kills what guards it: no command is safe from its own. The guard was heard some time after it can be seen.
    let command = "for n in $(seq 300); do sleep 0.1; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'fleet-guard [0-9]* first' && break; done; \
        sleep 2; for f in /proc/[0-9]*/environ; do p=${f#/proc/}; p=${p%/environ}; \
        [ $p != $$ ] && grep -qzxF \"SSH_CONNECTION=$SSH_CONNECTION\" $f && kill -9 $p; done; sleep 1; echo over; exit 6";
    let (result, notes) = exec_with_notes(ground.host(), command);
    assert_eq!((stdout(&result).as_str(), result.value().unwrap().code()), ("over\n", Some(6)));
    let is_it = |note: &Note| matches!(note, Note::Unguarded(reason) if reason == "it ended early");
    assert!(notes.iter().any(is_it), "{notes:?}");
}

#[test]
fn without_a_guard_nothing_is_claimed() {
    let ground = Ground::with(|builder| builder.config("MaxSessions 1"));
    let marker = Marker::new();
    let pool = pool().timeout(Duration::from_millis(600)).kill_after(Duration::from_millis(300));
    let ended =
        run_in(pool, ground.host(), Exec::new(format!("sleep {0} & sleep {0} | cat", marker.0))).outcome.unwrap().ended;
    assert_eq!(ended.unguarded.as_deref(), Some("the server refused another channel"));
    // sshd passes no signals on where it has not separated its privileges.
    let expected = if ground.sshd.user() == "root" { KillResult::NotConfirmed } else { KillResult::Killed };
    assert_eq!(ended.killed.unwrap().result, expected);
    marker.kill();
}

#[test]
fn a_command_among_others_is_ended_by_signal_alone() {
    let ground = Ground::start();
    let (first, second) = (Marker::new(), Marker::new());
    let commands = [first.quiet(), format!("echo begun; sleep {}", second.0)];
    let op = op::from_fn("two", move |session: &mut dyn Session, job| -> Result<Ended> {
        start_guarded(session, &commands[0])?;
        let mut limits = ExecLimits::default();
        limits.idle = Some(Duration::from_millis(500));
        limits.kill_after = Duration::from_millis(200);
        session.exec(&ExecRequest::new(commands[1].as_str()), &limits, job.budget, &mut |_, _| Ok(()))
    });
    let ended = run(ground.host(), op).outcome.unwrap();
    let killed = ended.killed.unwrap();
    assert_eq!(killed.reason, KillReason::Idle(Duration::from_millis(500)));
    let expected = if ground.sshd.user() == "root" { KillResult::NotConfirmed } else { KillResult::Killed };
    assert_eq!(killed.result, expected);
    // With the session, the guarded ones end.
    first.assert_gone();
    second.assert_gone();
}
