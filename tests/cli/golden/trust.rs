//! What is said of host keys. The table is in the order of the inventory, whoever answered first.

use fleet_sim::{Canned, Fault, HostPlan, KeyKind, Mode};

use crate::Fleet;
use crate::ground::Ground;

fn well(name: &str) -> HostPlan {
    HostPlan::new().name(name).mode(Mode::Canned(Canned::new("fine\n")))
}

#[test]
fn trust_in_text() {
    let Ground { fleet, sim } = Ground::unknown(vec![well("web01"), well("web02"), well("db1")]);
    let count = |fleet: &Fleet| std::fs::read_to_string(fleet.dir().join("known_hosts")).unwrap().lines().count();
    // Nobody is asked: there is no terminal.
    let fleet = fleet.run(&["trust", "--dry-run", "-w", "db1"]).run(&["trust", "-f", "1"]);
    assert_eq!(count(&fleet), 0);
    let fleet = fleet.run(&["trust", "-f", "1", "-w", "web01", "--yes"]);
    assert_eq!(count(&fleet), 1);
    let fleet = fleet.run(&["trust", "-f", "1", "-y", "-v"]).run(&["trust", "-y"]).run(&["trust", "-y", "-q"]);
    assert_eq!(count(&fleet), 3);
    assert_eq!(sim.stats().logins, 0);
    fleet.golden("trust_text");
}

#[test]
fn trust_in_json() {
    let Ground { fleet, sim } = Ground::unknown(vec![well("a"), well("b")]);
    let fleet =
        fleet.run(&["trust", "-f", "1", "--format", "json"]).run(&["trust", "-f", "1", "--format", "json", "-y"]);
    sim.host("b").unwrap().set_fault(Some(Fault::WrongHostKey));
    fleet
        .run(&["trust", "-f", "1", "--format", "json", "-y"])
        .run(&["trust", "-f", "1", "--format", "json", "-y", "--replace", "b"])
        .golden("trust_json");
}

#[test]
fn trust_in_a_changed_key() {
    let Ground { fleet, sim } = Ground::start(vec![well("a"), well("b"), well("c")]);
    for name in ["a", "b"] {
        sim.host(name).unwrap().set_fault(Some(Fault::WrongHostKey));
    }
    fleet
        .run(&["trust", "-f", "1", "--yes"])
        .run(&["trust", "-f", "1", "--replace", "a"])
        .run(&["trust", "-f", "1", "--yes", "--replace", "a"])
        .run(&["trust", "-f", "1", "--yes", "--replace", "a"])
        .run(&["exec", "-w", "a,c", "-f", "1", "x"])
        .run(&["exec", "-i", "hosts.toml", "-w", "b", "x"])
        .golden("trust_changed");
}

#[test]
fn trust_in_what_is_not_reached_and_wrong_flags() {
    let Ground { fleet, sim } = Ground::start(vec![well("a"), well("mailer").fault(Fault::GarbageBanner)]);
    let fleet = fleet
        .env("FLEET_RETRIES", "0")
        .run(&["trust", "-f", "1"])
        .run(&["trust", "-w", "a", "--replace", "mailer"])
        .run(&["trust", "--replace", "nobody"])
        .run(&["trust", "-A"])
        .run(&["trust", "--host-key", "off"]);
    let known = sim.host("a").unwrap().host_key_line().split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ");
    fleet
        .file("known_hosts", &format!("@revoked * {known}\n"))
        .run(&["trust", "-w", "a", "--yes", "--replace", "a"])
        .run(&["trust", "-w", "a", "--yes", "--known-hosts", "/proc/nowhere/known_hosts"])
        .golden("trust_refused");
}

#[test]
fn trust_in_clones() {
    // The simulator's hosts share their RSA key.
    let cloned = |name: &str| well(name).host_keys([KeyKind::Rsa2048]);
    let Ground { fleet, sim: _sim } = Ground::unknown(vec![cloned("web01"), well("db1"), cloned("web02")]);
    fleet
        .run(&["trust", "-f", "1", "-w", "web01,db1", "-y"])
        .run(&["trust", "-f", "1", "-y"])
        .run(&["trust", "-f", "1", "--format", "json", "-q", "-w", "db1", "-y"])
        .golden("trust_clones");
}
