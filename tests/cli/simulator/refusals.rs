//! What is refused, warned about, or taken as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Stdio;

use fleet_sim::{Canned, HostPlan, Logins};

use crate::ground::{Ground, PASSWORD};

use super::{canned, code, stderr};

#[test]
fn a_host_under_two_names_runs_twice() {
    let Ground { fleet, sim } = Ground::unknown(vec![HostPlan::new().name("a")]);
    let address = sim.host("a").unwrap().address();
    let login = format!("ops@{address}");
    let output =
        fleet.output(&["exec", "-I", "key", "--known-hosts", "known_hosts", "-w", &format!("a,a,{login}"), "echo x"]);
    let lines: BTreeSet<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(lines, ["a: x".to_owned(), format!("{login}: x")].iter().map(String::as_str).collect());
    assert_eq!(sim.stats().commands, 2);
    // Its key is one and recorded once.
    assert!(stderr(&output).contains("(1 host key recorded)"), "{}", stderr(&output));
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_before_anybody_is_contacted() {
    let Ground { fleet, sim } = Ground::named(&["a"]);
    let output = fleet.output(&["get", "/etc/hostname", "/proc/no/such"]);
    let said = stderr(&output);
    assert_eq!((code(&output), sim.stats().connections), (Some(2), 0), "{said}");
    assert!(said.starts_with("fleet: cannot write to /proc"), "{said}");
}

#[test]
fn random_order_reaches_everybody_once() {
    let names: Vec<String> = (1..=20).map(|n| format!("n{n}")).collect();
    let Ground { fleet, sim: _sim } =
        Ground::start(names.iter().map(|name| canned(name, Canned::new("x\n"))).collect());
    let output = fleet.output(&["exec", "-f", "1", "--order", "random", "x"]);
    let mut counts = BTreeMap::new();
    for line in std::str::from_utf8(&output.stdout).unwrap().lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 20);
    assert!(counts.values().all(|count| *count == 1));
}

#[test]
fn an_unwritable_known_hosts_is_warned_about_and_hinders_nobody() {
    let Ground { fleet, sim: _sim } = Ground::named(&["a"]);
    let output = fleet.output(&["exec", "--known-hosts", "/proc/nowhere/known_hosts", "echo x"]);
    let said = stderr(&output);
    assert_eq!((code(&output), &*output.stdout), (Some(0), &b"a: x\n"[..]), "{said}");
    assert!(said.starts_with("fleet: a: warning: the host key is not recorded: "), "{said}");
    assert!(said.contains("(1 host key accepted unrecorded)"), "{said}");
}

#[test]
fn a_password_for_all_works_where_keys_do_not() {
    let plans = ["a", "b"].map(|name| HostPlan::new().name(name).logins(Logins::password("ops", PASSWORD)));
    let Ground { fleet, sim: _sim } = Ground::start(plans.into());
    let fleet = fleet.env("WORD", PASSWORD);
    let output = fleet.output(&["ping", "--password-from", "env:WORD"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let output = fleet.env("WORD", "wrong").output(&["ping", "-w", "a", "--password-from", "env:WORD"]);
    let said = stderr(&output);
    assert_eq!(code(&output), Some(3), "{said}");
    assert!(said.starts_with("fleet: a: unreachable: login refused for ops: "), "{said}");
    assert!(!said.contains("wrong"), "{said}");
}

#[test]
fn the_command_gets_words_joined_and_no_input() {
    let Ground { fleet, sim } = Ground::named(&["a"]);
    let mut command = fleet.command(["exec", "-w", "a", "cat;", "printf", "'%s|'", "a  b", "-x", "--", "$HOME"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(b"not for the hosts\n");
    let output = child.wait_with_output().unwrap();
    let home = sim.host("a").unwrap().home().display().to_string();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("a: a|b|-x|--|{home}|\n"));
}
