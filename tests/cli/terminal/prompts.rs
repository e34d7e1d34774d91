//! Questions: asked once, without echo, and the terminal as it was afterwards.

use std::process::Command;

use fleet_sim::{HostPlan, Logins};

use super::{Terminal, fleet};
use crate::ground::{Ground, PASSWORD};

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
