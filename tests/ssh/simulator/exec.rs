//! What a command leaves behind: its output, and how it ended.

use std::time::Duration;

use fleet::op::Context;
use fleet::transport::{KillReason, KillResult, Pty};
use fleet::{Class, ErrorKind, Exec, ExitStatus, Phase};
use fleet_sim::{Canned, Fault, HostPlan, Mode};

use crate::ground::{Ground, exec, pool, run, run_in, stderr, stdout};

const MB: u64 = 1024 * 1024;

#[test]
fn streams_and_status_are_told_apart() {
    let ground = Ground::one(HostPlan::new());
    let result = exec(ground.first(), "echo out; echo err >&2; exit 3");
    assert_eq!(result.class(), Class::Failed);
    assert_eq!(stdout(&result), "out\n");
    assert_eq!(stderr(&result), "err\n");
    assert_eq!(result.value().unwrap().ended.status, ExitStatus::Code(3));
    assert_eq!(result.report.reason().as_deref(), Some("exit status 3"));
}

#[test]
fn a_terminal_s_input_ends_by_its_key_alone() {
    let ground = Ground::one(HostPlan::new().fault(Fault::HangUpAtEof));
    // The end of the channel's input would end the command meanwhile.
    let command = "test \"$(head -c 1)\" = \"$(printf '\\004')\"; sleep 0.3; echo done";
    let result = run(ground.first(), Exec::new(command).pty(Pty::new("xterm")));
    assert_eq!((stdout(&result).as_str(), result.class()), ("done\n", Class::Ok), "{result:?}");
    let result = exec(ground.first(), "sleep 1000");
    assert_eq!(result.report.reason().as_deref(), Some("ended by signal HUP"));
}

#[test]
fn the_command_goes_over_byte_for_byte() {
    let ground = Ground::one(HostPlan::new());
    let result = exec(ground.first(), "printf '%s|' 'a  b' \"$0\" 'ü\"\\' '*'");
    assert_eq!(stdout(&result), "a  b|/bin/sh|ü\"\\|*|");
}

#[test]
fn a_command_finds_its_variables_directory_and_host() {
    let ground = Ground::start(vec![HostPlan::new(), HostPlan::new()]);
    std::fs::create_dir(ground.home().join("it's")).unwrap();
    std::fs::create_dir(ground.sim.hosts()[1].home().join("it's")).unwrap();
    let context = Context::new().env("A", "b 'c' \n").cwd("it's").export_host(true).template(true);
    let exec = Exec::new("printf '%s|' \"$A\" \"${PWD##*/}\" $FLEET_HOST $FLEET_INDEX $FLEET_TOTAL {{host}}; exit 9")
        .within(context);
    let results = pool().build().map(&ground.hosts(), exec);
    for (index, result) in results.iter().enumerate() {
        let name = &result.host().name;
        assert_eq!(stdout(result), format!("b 'c' \n|it's|{name}|{index}|2|{name}|"));
        assert_eq!(result.value().unwrap().ended.status, ExitStatus::Code(9));
    }
}

#[test]
fn a_signal_reaches_a_command_with_variables() {
    let ground = Ground::one(HostPlan::new());
    let exec = Exec::new("trap 'echo heard; exit 4' TERM; echo begun; while :; do sleep 0.05; done");
    let pool = pool().timeout(Duration::from_secs(2));
    let result = run_in(pool, ground.first(), exec.within(Context::new().env("A", "b").cwd("/")));
    assert_eq!(stdout(&result), "begun\nheard\n");
    assert_eq!(result.value().unwrap().ended.status, ExitStatus::Code(4));
}

#[test]
fn a_template_that_cannot_be_filled_runs_nothing() {
    let ground = Ground::one(HostPlan::new());
    let result = run_in(pool(), ground.first(), Exec::new("echo {{vars.no}}").within(Context::new().template(true)));
    assert_eq!(result.error().unwrap().kind(), ErrorKind::Usage);
    assert_eq!(ground.sim.stats().commands, 0);
}

#[test]
fn standard_input_is_at_its_end() {
    let ground = Ground::one(HostPlan::new());
    assert_eq!(stdout(&exec(ground.first(), "cat; echo end")), "end\n");
}

#[test]
fn a_signal_is_not_a_status() {
    let ground = Ground::one(HostPlan::new());
    let result = exec(ground.first(), "kill -9 $$");
    assert_eq!(result.value().unwrap().ended.status, ExitStatus::Signal("KILL".into()));
    assert_eq!(result.class(), Class::Failed);
    assert_eq!(result.report.facts.exit_code, None);
    assert_eq!(result.report.facts.signal.as_deref(), Some("KILL"));
}

#[test]
fn no_exit_status_is_not_status_0() {
    let ground = Ground::one(HostPlan::new().fault(Fault::NoExitStatus));
    let result = exec(ground.first(), "echo out");
    assert_eq!(stdout(&result), "out\n");
    assert_eq!(result.value().unwrap().ended.status, ExitStatus::NotSent);
    assert_eq!(result.class(), Class::Failed);
    assert_eq!(result.report.reason().as_deref(), Some("the server sent no exit status"));
}

#[test]
fn stderr_flood_does_not_stall() {
    let canned = Canned::new("").stderr([b'e'; 1024], 5 * 1024);
    let ground = Ground::one(HostPlan::new().mode(Mode::Canned(canned)));
    let result = exec(ground.first(), "x");
    assert_eq!(result.report.facts.stderr_bytes, 5 * MB);
    assert_eq!(result.class(), Class::Ok);
}

#[test]
fn both_streams_flood_at_once() {
    let ground = Ground::one(HostPlan::new());
    let result = exec(ground.first(), "head -c 5242880 /dev/zero & head -c 5242880 /dev/zero >&2; wait");
    assert_eq!((result.report.facts.stdout_bytes, result.report.facts.stderr_bytes), (5 * MB, 5 * MB));
    let value = result.value().unwrap();
    assert_eq!((value.stdout.len(), value.stderr.len()), (5 * MB, 5 * MB));
}

#[test]
fn a_timeout_ends_the_remote_process() {
    let ground = Ground::one(HostPlan::new());
    let pool = pool().timeout(Duration::from_secs(2));
    let result = run_in(pool, ground.first(), Exec::new("echo begun; sleep 1000"));
    assert_eq!(result.class(), Class::TimedOut);
    assert_eq!(stdout(&result), "begun\n");
    let killed = result.value().unwrap().ended.killed.unwrap();
    assert_eq!(killed.reason, KillReason::Timeout(Duration::from_secs(2)));
    assert_eq!(killed.result, KillResult::Killed);
    assert_eq!(result.report.facts.killed, Some("killed"));
    ground.assert_no_process_is_left();
}

#[test]
fn a_guard_ends_what_left_its_session_and_nothing_of_other_hosts() {
    let ground = Ground::start(vec![HostPlan::new(), HostPlan::new()]);
    let hosts = ground.hosts();
    // One process serves both: the guard of the first has the second's commands beside it.
    let op = fleet::op::from_fn("stop one", |session, job| {
        let mut limits = *job.limits;
        limits.idle = (job.index == 0).then_some(Duration::from_millis(800));
        let command = "setsid sleep 3 >/dev/null & sleep 3 | cat; echo over";
        session.exec(&fleet::transport::ExecRequest::new(command), &limits, job.budget, &mut |_, _| Ok(()))
    });
    let results = pool().build().map(&hosts, op);
    let [stopped, other] = results.as_slice() else { panic!("{results:?}") };
    assert_eq!(stopped.value().unwrap().killed.unwrap().result, KillResult::Killed);
    assert_eq!((other.class(), other.report.facts.stdout_bytes), (Class::Ok, 5));
}

#[test]
fn a_process_that_ignores_term_is_killed() {
    let ground = Ground::one(HostPlan::new());
    let pool = pool().timeout(Duration::from_secs(2)).kill_after(Duration::from_millis(300));
    let result = run_in(pool, ground.first(), Exec::new("trap '' TERM; while :; do sleep 0.05; done"));
    let ended = &result.value().unwrap().ended;
    assert_eq!(ended.killed.unwrap().result, KillResult::Killed);
    assert_eq!(ended.status, ExitStatus::Signal("KILL".into()));
}

#[test]
fn silence_ends_at_the_idle_timeout_and_output_puts_it_off() {
    let ground = Ground::one(HostPlan::new());
    let pool = pool().idle_timeout(Duration::from_millis(600));
    let result = run_in(pool, ground.first(), Exec::new("for i in 1 2 3 4; do echo $i; sleep 0.3; done; sleep 1000"));
    assert_eq!(stdout(&result), "1\n2\n3\n4\n");
    assert_eq!(result.value().unwrap().ended.killed.unwrap().reason, KillReason::Idle(Duration::from_millis(600)));
    assert_eq!(result.class(), Class::TimedOut);
}

#[test]
fn a_timeout_ends_endless_output() {
    let ground = Ground::one(HostPlan::new().fault(Fault::EndlessOutput));
    let pool = pool().timeout(Duration::from_secs(2)).kill_after(Duration::from_millis(200));
    let result = run_in(pool, ground.first(), Exec::new("x").capture(false));
    assert_eq!(result.class(), Class::TimedOut);
    assert!(result.report.facts.stdout_bytes > 0);
}

#[test]
fn output_past_the_limit_ends_the_command_and_says_so() {
    let ground = Ground::one(HostPlan::new());
    let result = run_in(pool().max_output_bytes(100_000), ground.first(), Exec::new("yes"));
    let value = result.value().unwrap();
    assert_eq!(value.ended.killed.unwrap().reason, KillReason::MaxOutput(100_000));
    assert!(value.stdout.len() <= 100_000);
    assert_eq!(result.class(), Class::Failed);
    assert!(result.report.reason().unwrap().starts_with("wrote more than 100000 bytes"));
}

#[test]
fn a_refused_channel_or_command_is_a_failure_that_says_so() {
    for (fault, what) in [
        (Fault::RefuseChannel, "the server refused to open a channel"),
        (Fault::RefuseExec, "the server refused to run the command"),
    ] {
        let ground = Ground::one(HostPlan::new().fault(fault));
        let result = exec(ground.first(), "true");
        let error = result.error().expect("an error");
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Refused, Some(Phase::Channel)));
        assert_eq!(error.to_string(), what);
        assert_eq!(result.class(), Class::Failed);
    }
}

#[test]
fn a_command_too_long_for_a_packet_is_refused_before_it_is_sent() {
    let ground = Ground::one(HostPlan::new());
    let result = exec(ground.first(), &format!("echo {}", "x".repeat(40_000)));
    assert!(result.error().unwrap().to_string().starts_with("the command has 40005 bytes"), "{result:?}");
    assert_eq!(ground.sim.stats().commands, 0);
}
