//! Questions: asked once, without echo, and the terminal as it was afterwards.

use std::process::Command;

use fleet_sim::{HostPlan, Logins};

use super::{Terminal, fleet, tell, until_told};
use crate::ground::{Ground, PASSWORD};
use crate::planted::Planted;

const PROMPT: &str = "fleet: login password (for ";

/// Hosts with nothing but a password.
fn by_password(names: &[&str]) -> Ground {
    let logins = Logins::password("ops", PASSWORD);
    Ground::start(names.iter().map(|name| HostPlan::new().name(*name).logins(logins.clone())).collect())
}

/// Hosts and a key that a passphrase protects.
fn by_locked_key(names: &[&str], passphrase: &str) -> Ground {
    let ground = Ground::named(names);
    let key = ground.fleet.dir().join("key");
    let mut keygen = Command::new("ssh-keygen");
    assert!(keygen.args(["-q", "-p", "-N", passphrase, "-f"]).arg(key).output().unwrap().status.success());
    ground
}

#[test]
fn one_password_lets_into_all_hosts_and_is_written_nowhere() {
    let ground = by_password(&["a", "b", "c"]);
    let terminal = Terminal::run(&ground, &["exec", "-f", "1", "-A", "echo in"]);
    terminal.answer("fleet: login password (for a and all alike):", PASSWORD);
    let record = terminal.finish_recorded();
    assert_eq!(record.matches(PROMPT).count(), 1, "{record}");
    assert!(!record.contains(PASSWORD), "{record}");
    assert!(record.contains("3 hosts: 3 ok in ") && record.ends_with("exit 0\r\n"), "{record}");
    assert_eq!(ground.sim.stats().password.accepted, 3);
}

#[test]
fn what_is_typed_is_in_no_output_of_any_form_and_in_no_process() {
    let planted = Planted::new(&["password", "passphrase", "control"]);
    let logins = Logins::password("ops", planted.get("password"));
    let ground = Ground::start(vec![HostPlan::new().name("a").logins(logins), HostPlan::new().name("b")]);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-p", "-N", planted.get("passphrase"), "-f"]).arg(ground.fleet.dir().join("key"));
    assert!(keygen.output().unwrap().status.success());
    let command = format!("echo {}; {}", planted.get("control"), until_told(&ground));
    for (form, shown) in [(&["-vv"][..], "b: s3cret-control"), (&["-vv", "--format", "json"], "{\"event\":\"output\"")]
    {
        let terminal = Terminal::run(&ground, &[&["exec", "-A"], form, &[&command]].concat());
        terminal.answer(PROMPT, planted.get("password"));
        terminal.answer("fleet: passphrase of key ", planted.get("passphrase"));
        terminal.wait_for(shown);
        let pid = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]).trim().parse().unwrap();
        // What is asked for stands among the arguments, and what hosts write on the screen: so would anything else.
        assert_eq!(planted.found_in_processes(pid), ["control"]);
        tell(&ground);
        let record = terminal.finish_recorded();
        assert!(record.ends_with("exit 0\r\n"), "{record}");
        assert_eq!(planted.found_in(record.as_bytes()), ["control"], "{record}");
        std::fs::remove_file(ground.fleet.dir().join("go")).unwrap();
    }
}

#[test]
fn a_wrong_password_is_refused_once_and_tried_no_more() {
    let ground = by_password(&["a", "b"]);
    let terminal = Terminal::run(&ground, &["ping", "-f", "1", "-A", "--color", "never"]);
    terminal.answer(PROMPT, "nonsense");
    let record = terminal.finish_recorded();
    assert_eq!(record.matches("fleet: a: unreachable: login refused for ops: ").count(), 1, "{record}");
    let left_out = "fleet: not started 1: not tried: the password of ops was refused once, and nowhere accepted: b\r\n";
    assert!(record.contains(left_out), "{record}");
    assert!(!record.contains("nonsense"), "{record}");
    assert!(record.ends_with("exit 3\r\n"), "{record}");
    assert_eq!(ground.sim.stats().password.refused, 1);
}

/// Hosts whose sudo wants the password, and writes down whether it was right.
fn by_sudo(dir: &std::path::Path, names: &[&str]) -> Ground {
    let plan = |name: &&str| {
        let plan = HostPlan::new().name(*name).env("PATH", crate::sudo::install(dir)).env("FAKE_SUDO", "password");
        plan.env("FAKE_SUDO_PASSWORD", PASSWORD).env("FAKE_SUDO_LOG", dir.join("log").to_str().unwrap())
    };
    Ground::start(names.iter().map(plan).collect())
}

#[test]
fn one_password_for_sudo_is_asked_for_and_written_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let ground = by_sudo(dir.path(), &["a", "b", "c"]);
    let terminal = Terminal::run(&ground, &["exec", "-K", "--sudo", "id >&2; echo as $USER"]);
    terminal.answer("fleet: sudo password (for a and all alike):", PASSWORD);
    let record = terminal.finish_recorded();
    assert!(!record.contains(PASSWORD), "{record}");
    assert_eq!((record.matches("as root").count(), record.ends_with("exit 0\r\n")), (3, true), "{record}");
    assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "accepted\n".repeat(3));
}

#[test]
fn a_mistyped_password_for_sudo_is_tried_once() {
    let dir = tempfile::tempdir().unwrap();
    let ground = by_sudo(dir.path(), &["a", "b", "c"]);
    let terminal = Terminal::run(&ground, &["exec", "-K", "--sudo", "--color", "never", "echo ran"]);
    terminal.answer("fleet: sudo password (for a and all alike):", "wrong");
    let record = terminal.finish_recorded();
    assert!(record.contains("not tried: the password of ops was refused once, and nowhere accepted"), "{record}");
    assert!(record.contains(": failed: the sudo password was refused") && record.ends_with("exit 3\r\n"), "{record}");
    assert_eq!(std::fs::read_to_string(dir.path().join("log")).unwrap(), "refused\n");
}

#[test]
fn a_prompt_works_with_both_outputs_piped() {
    let ground = by_password(&["a"]);
    let line = format!("{} > out 2>&1 < /dev/null", fleet(&ground, &["exec", "-A", "echo in"]));
    let terminal = Terminal::shell(&ground, &line, 100);
    terminal.answer(PROMPT, PASSWORD);
    let record = terminal.finish_recorded();
    assert!(record.ends_with("exit 0\r\n"), "{record}");
    assert!(std::fs::read_to_string(ground.fleet.dir().join("out")).unwrap().starts_with("a: in\n"));
}

#[test]
fn a_wrong_passphrase_contacts_nobody() {
    let ground = by_locked_key(&["a", "b"], "open sesame");
    let terminal = Terminal::run(&ground, &["ping"]);
    terminal.answer("fleet: passphrase of key ", "open simsalabim");
    let record = terminal.finish_recorded();
    let key = ground.fleet.dir().join("key");
    assert!(record.contains(&format!("fleet: wrong passphrase for key {}", key.display())), "{record}");
    assert!(!record.contains("simsalabim") && record.ends_with("exit 2\r\n"), "{record}");
    assert_eq!(ground.sim.stats().connections, 0);
}

#[test]
fn no_passphrase_leaves_the_key_out() {
    let ground = by_locked_key(&["a"], "open sesame");
    let terminal = Terminal::run(&ground, &["ping", "--password-from", "cmd:echo 'correct horse'"]);
    terminal.answer("fleet: passphrase of key ", "");
    let record = terminal.finish_recorded();
    assert!(record.contains("fleet: 1 host: 1 ok in ") && record.ends_with("exit 0\r\n"), "{record}");
    assert_eq!(ground.sim.stats().password.accepted, 1);
}

#[test]
fn an_interrupt_at_a_prompt_leaves_at_once_and_the_terminal_as_it_was() {
    let ground = by_password(&["a"]);
    let line = format!("{}; echo code $?; stty -a", fleet(&ground, &["ping", "-A"]));
    let terminal = Terminal::shell(&ground, &line, 100);
    terminal.wait_for_hidden_input(PROMPT);
    terminal.press(&["C-c"]);
    let screen = terminal.finish();
    let told = |what: &str| screen.iter().any(|line| line == what);
    assert!(told("fleet: interrupted: no host was contacted") && told("code 130"), "{screen:#?}");
    assert!(screen.iter().any(|line| line.split_whitespace().any(|word| word == "echo")), "{screen:#?}");
    assert_eq!(ground.sim.stats().connections, 0);
}

#[test]
fn a_wave_waits_for_a_yes_and_the_progress_line_stays_away_meanwhile() {
    let ground = Ground::named(&["a", "b", "c"]);
    let args = ["exec", "--rollout", "1,2", "--confirm", "--progress", "--color", "never", "echo in"];
    let terminal = Terminal::run(&ground, &args);
    let question = "fleet: wave 1 ended: 1 of 3 hosts done, 0 failed; begin the next 1? [y/N]";
    terminal.wait_for(question);
    terminal.press(&["y", "Enter"]);
    terminal.wait_for("fleet: wave 2 ended: 2 of 3 hosts done, 0 failed; begin the next 1? [y/N]");
    terminal.press(&["Enter"]);
    let screen = terminal.finish();
    assert!(screen.contains(&format!("{question} y")), "{screen:#?}");
    assert!(screen.iter().any(|line| line.starts_with("fleet: 3 hosts: 2 ok, 1 not started in ")), "{screen:#?}");
    assert_eq!(screen.last().map(String::as_str), Some("exit 4"));
    assert_eq!(ground.sim.stats().commands, 2);
}

#[test]
fn an_interrupt_answers_no() {
    let ground = Ground::named(&["a", "b"]);
    let terminal = Terminal::run(&ground, &["exec", "--rollout", "1", "--confirm", "echo in"]);
    terminal.wait_for("fleet: wave 1 ended: ");
    terminal.press(&["C-c"]);
    let screen = terminal.finish();
    assert_eq!(screen.last().map(String::as_str), Some("exit 130"), "{screen:#?}");
    assert_eq!(ground.sim.stats().commands, 1);
}

/// Hosts whose keys nobody knows.
fn unknown(names: &[&str]) -> Ground {
    Ground::unknown(names.iter().map(|name| HostPlan::new().name(*name)).collect())
}

fn known_hosts(ground: &Ground) -> String {
    std::fs::read_to_string(ground.fleet.dir().join("known_hosts")).unwrap()
}

#[test]
fn host_keys_are_shown_and_asked_about_once() {
    let ground = unknown(&["a", "b"]);
    let terminal = Terminal::run(&ground, &["trust"]);
    let question = format!("fleet: record 2 keys in {}/known_hosts? [y/N]", ground.fleet.dir().display());
    terminal.wait_for(&question);
    assert_eq!(known_hosts(&ground), "");
    terminal.press(&["-l", "yes"]);
    terminal.press(&["Enter"]);
    let screen = terminal.finish();
    assert!(screen[0].starts_with("ssh-ed25519          SHA256:") && screen[0].ends_with("  a"), "{screen:#?}");
    assert!(screen[1].ends_with("  b"), "{screen:#?}");
    assert_eq!(screen[2], format!("{question} yes"));
    assert!(screen[3].starts_with("fleet: 2 hosts: 2 ok in ") && screen[3].ends_with("(2 host keys recorded)"));
    assert_eq!(screen[4], "exit 0");
    assert_eq!(known_hosts(&ground).lines().count(), 2);
}

#[test]
fn host_keys_that_nobody_says_yes_to_are_not_recorded() {
    for (answer, code) in [(["Enter"], "exit 3"), (["n\n"], "exit 3"), (["C-d"], "exit 3"), (["C-c"], "exit 130")] {
        let ground = unknown(&["a"]);
        let terminal = Terminal::run(&ground, &["trust"]);
        terminal.wait_for("fleet: record 1 key in ");
        terminal.press(&answer);
        let screen = terminal.finish();
        assert_eq!(screen.last().unwrap(), code, "{answer:?}: {screen:#?}");
        assert_eq!(known_hosts(&ground), "", "{answer:?}");
    }
}
