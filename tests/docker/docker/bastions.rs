//! Hosts that only a bastion reaches, by names that only it knows.

use crate::fixture::fixture;

fn logins(log: &str) -> usize {
    log.matches("Accepted publickey for ops").count()
}

#[test]
fn a_bastion_is_logged_in_to_once_for_all_hosts_behind_it() {
    let fixture = fixture();
    let names = ["bastion", "inner1", "inner2"];
    let before = names.map(|host| logins(&fixture.log(host)));
    let said = fixture.fleet(&["exec", "-i", "hosts-inner.toml", "-w", "inner[1-2]", "hostname; df"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for host in ["inner1", "inner2"] {
        assert_eq!(said.stdout.matches(&format!("{host}: {host}\n")).count(), 1, "{said:?}");
        assert_eq!(said.stdout.matches(&format!("{host}: Filesystem ")).count(), 1, "{said:?}");
    }
    assert_eq!(names.map(|host| logins(&fixture.log(host))), before.map(|count| count + 1));
    // No other way leads to them.
    let direct = fixture.fleet(&["ping", "-i", "hosts-inner.toml", "-w", "inner1", "-J", "none"]);
    assert_eq!(direct.code, Some(3), "{direct:?}");
}

#[test]
fn a_chain_of_two_bastions_reaches_further() {
    let fixture = fixture();
    let before = ["bastion", "bastion2", "deep1"].map(|host| logins(&fixture.log(host)));
    let said = fixture.fleet(&["exec", "-i", "hosts-inner.toml", "-w", "deep1", "hostname; df"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.starts_with("deep1: deep1\ndeep1: Filesystem "), "{said:?}");
    let after = ["bastion", "bastion2", "deep1"].map(|host| logins(&fixture.log(host)));
    assert_eq!(after, before.map(|count| count + 1));
    // The first bastion alone does not know the name.
    let said = fixture.fleet(&["ping", "-i", "hosts-inner.toml", "-w", "deep1", "-J", "bastion"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    let told = said.lines("fleet: deep1: unreachable: the bastion bastion cannot connect to deep1:22: ");
    assert_eq!(told.len(), 1, "{said:?}");
}

#[test]
fn files_and_stops_reach_through_bastions() {
    let fixture = fixture();
    fixture.write("up", &"line\n".repeat(300_000));
    let hosts = ["-i", "hosts-inner.toml", "-w", "inner[1-2],deep1"];
    let said = fixture.fleet(&[&["put"], &hosts[..], &["up", "/tmp/up"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = fixture.fleet(&[&["get"], &hosts[..], &["/tmp/up", "far/"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    for host in ["inner1", "inner2", "deep1"] {
        assert!(fixture.read(&format!("far/{host}/up")) == fixture.read("up"), "{host}");
    }
    let said = fixture.fleet(&[&["exec"], &hosts[..], &["-u", "1", "sleep 1000 & sleep 1000 | cat"]].concat());
    assert_eq!(said.code, Some(124), "{said:?}");
    assert_eq!(said.stderr.matches("remote process killed").count(), 3, "{said:?}");
    for host in ["inner1", "inner2", "deep1"] {
        fixture.assert_no_processes(host);
    }
}

#[test]
fn a_bastion_that_is_gone_is_blamed_by_name() {
    let mut fixture = fixture();
    fixture.disturb();
    fixture.docker(&["kill"], "bastion");
    let said = fixture.fleet(&["exec", "-i", "hosts-inner.toml", "-w", "inner[1-2]", "true"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    for host in ["inner1", "inner2"] {
        let told =
            said.lines(&format!("fleet: {host}: unreachable: the bastion bastion cannot be used: cannot connect to "));
        assert_eq!(told.len(), 1, "{said:?}");
    }
}

#[test]
fn keys_of_hosts_behind_bastions_are_looked_at_and_recorded() {
    let fixture = fixture();
    let known = fixture.path("known_far");
    let known = known.to_str().unwrap();
    let _ = std::fs::remove_file(known);
    let args = ["trust", "-i", "hosts-inner.toml", "-w", "inner[1-2],deep1", "--known-hosts", known];
    // The bastions are logged in to: nobody does that on an unknown key without a yes.
    let said = fixture.fleet(&args);
    assert_eq!(said.code, Some(3), "{said:?}");
    let told = said.stderr.matches("the bastion bastion cannot be used: the host key of ").count();
    assert!(told >= 3 && !std::path::Path::new(known).exists(), "{said:?}");
    let said = fixture.fleet(&[&args[..], &["--yes"]].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    let recorded = std::fs::read_to_string(known).unwrap();
    for name in ["inner1 ", "inner2 ", "deep1 ", "bastion2 "] {
        assert_eq!(recorded.lines().filter(|line| line.starts_with(name)).count(), 1, "{name}: {recorded}");
    }
    let said = fixture.fleet(&[
        "ping",
        "-i",
        "hosts-inner.toml",
        "-w",
        "deep1",
        "--known-hosts",
        known,
        "--host-key",
        "strict",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
}
