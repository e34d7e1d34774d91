//! `fleet trust` over many hosts.

use std::collections::BTreeSet;
use std::process::Stdio;

use fleet_sim::{Fault, HostPlan, KeyKind, Mode};

use crate::ground::Ground;

use super::{code, stderr};

fn plans(count: usize, kind: KeyKind) -> Vec<HostPlan> {
    vec![HostPlan::new().mode(Mode::canned("ok\n")).host_keys([kind]); count]
}

fn known_hosts(ground: &Ground) -> Vec<String> {
    let text = std::fs::read_to_string(ground.fleet.dir().join("known_hosts")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(str::to_owned).collect()
}

/// Returns the lines of known_hosts as the simulator would write them.
fn expected(ground: &Ground) -> BTreeSet<String> {
    let path = ground.fleet.dir().join("expected");
    ground.sim.write_known_hosts(&path).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn many_hosts_are_looked_at_and_recorded_at_once() {
    let ground = Ground::unknown(plans(300, KeyKind::Ed25519));
    let output = ground.fleet.output(&["trust", "--yes"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().count(), 300);
    let names: Vec<&str> = table.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert!(names.is_sorted(), "in the order of the inventory");
    assert!(stderr(&ground.fleet.output(&["trust"])).starts_with("fleet: 300 keys known already\n"));
    let lines = known_hosts(&ground);
    assert_eq!((lines.len(), lines.into_iter().collect()), (300, expected(&ground)));
    let stats = ground.sim.stats();
    assert_eq!((stats.connections, stats.logins), (600, 0), "two looks, no login");
    assert_eq!(code(&ground.fleet.output(&["ping", "--host-key", "strict"])), Some(0));
}

#[test]
fn one_key_on_many_hosts_is_one_row_and_said_aloud() {
    let ground = Ground::unknown(plans(40, KeyKind::Rsa2048));
    let output = ground.fleet.output(&["trust"]);
    assert_eq!(code(&output), Some(3), "{}", stderr(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.lines().count() == 1 && table.ends_with("  sim[0001-0040]\n"), "{table}");
    assert!(stderr(&output).contains("fleet: warning: 40 hosts have one key, SHA256:"), "{}", stderr(&output));
    assert_eq!(known_hosts(&ground), [""; 0], "nobody said yes");
}

#[test]
fn changed_keys_are_replaced_one_by_one_and_the_rest_of_the_file_stays() {
    let ground = Ground::start(plans(20, KeyKind::Ed25519));
    let path = ground.fleet.dir().join("known_hosts");
    let before = known_hosts(&ground);
    let text = format!("# mine\n{}\n@cert-authority x nonsense\n", before.join("\n"));
    std::fs::write(&path, &text).unwrap();
    for name in ["sim0003", "sim0007"] {
        ground.sim.host(name).unwrap().set_fault(Some(Fault::WrongHostKey));
    }
    let output = ground.fleet.output(&["trust", "--yes"]);
    assert_eq!(code(&output), Some(3));
    assert_eq!(stderr(&output).matches(" has CHANGED: ").count(), 2, "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let output = ground.fleet.output(&["trust", "-a", "--yes", "--replace", "sim0007"]);
    assert_eq!(code(&output), Some(3), "the other one is still refused");
    let after: Vec<String> = known_hosts(&ground);
    let old = text.lines().position(|line| line == before[6]).unwrap();
    let mut kept: Vec<&str> = text.lines().collect();
    kept.remove(old);
    assert_eq!(after[..after.len() - 1], kept);
    let name = before[6].split(' ').next().unwrap();
    assert!(after.last().unwrap().starts_with(&format!("{name} ssh-ed25519 ")), "{after:?}");
    assert_eq!(code(&ground.fleet.output(&["ping", "-w", "sim0007", "--host-key", "strict"])), Some(0));
}

#[test]
fn two_at_once_lose_no_line() {
    let ground = Ground::unknown(plans(200, KeyKind::Ed25519));
    let start = |select: &str| {
        let mut command = ground.fleet.command(["trust", "--yes", "-w", select]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Half of what each looks at the other looks at too.
    let children = ["sim[0001-0150]", "sim[0051-0200]", "sim[0100-0200]"].map(start);
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    }
    let lines = known_hosts(&ground);
    assert_eq!((lines.len(), lines.into_iter().collect()), (200, expected(&ground)));
}

#[test]
fn no_key_and_no_password_is_looked_at() {
    let Ground { fleet, sim } = Ground::unknown(plans(2, KeyKind::Ed25519));
    let fleet = fleet.configure("sim0001", "password = \"cmd:touch asked; false\"");
    assert_eq!(code(&fleet.output(&["ping"])), Some(2));
    for name in ["asked", "key"] {
        std::fs::remove_file(fleet.dir().join(name)).unwrap();
    }
    let output = fleet.output(&["trust", "--yes"]);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(!fleet.dir().join("asked").exists());
    assert_eq!(sim.stats().logins, 0);
}
