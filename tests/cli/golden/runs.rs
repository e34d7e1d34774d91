//! Everything that a run writes. One host at a time, so that the order is given.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use fleet_sim::{Canned, Fault, HostPlan, Logins, Method, Mode};

use crate::ground::{Ground, PASSWORD};

/// A host with this answer to every command.
fn canned(name: &str, canned: Canned) -> HostPlan {
    HostPlan::new().name(name).mode(Mode::Canned(canned))
}

/// A host that does well.
fn well(name: &str) -> HostPlan {
    canned(name, Canned::new("fine\n"))
}

fn faulty(name: &str, fault: Fault) -> HostPlan {
    well(name).fault(fault)
}

/// Two hosts with real shells.
fn two() -> Ground {
    Ground::unknown(vec![HostPlan::new().name("web01"), HostPlan::new().name("db1")])
}

#[test]
fn exec_in_text() {
    let both = canned("db1", Canned::new("one\n\ntwo").stderr("careful\n", 1));
    Ground::unknown(vec![well("web01"), both])
        .fleet
        .run(&["exec", "-w", "web01", "-v", "x"])
        .run(&["exec", "-f", "1", "x"])
        .run(&["exec", "-f", "1", "-N", "x"])
        .run(&["exec", "-f", "1", "-q", "x"])
        .run(&["exec", "-f", "1", "--color", "always", "x"])
        .run(&["exec", "-w", "web01", "-vv", "x"])
        .golden("exec_text");
}

#[test]
fn exec_in_json() {
    let both = canned("db1", Canned::new(b"one\n\n\xfftwo").stderr("careful\n", 1).exit(3));
    Ground::unknown(vec![well("web01"), both])
        .fleet
        .run(&["exec", "-f", "1", "--format", "json", "x"])
        .run(&["exec", "-w", "db1", "--format", "json", "-v", "x"])
        .run(&["exec", "-w", "db1", "--format", "json", "-q", "x"])
        .golden("exec_json");
}

#[test]
fn a_banner_is_shown_with_v() {
    let logins = Logins::password("ops", PASSWORD).methods([Method::KeyboardInteractive]);
    Ground::unknown(vec![well("web01").banner("Authorised use only.\n\x1b[31mreally\n").logins(logins)])
        .fleet
        .env("WORD", PASSWORD)
        .run(&["ping", "--password-from", "env:WORD"])
        .run(&["ping", "--password-from", "env:WORD", "-v"])
        .run(&["ping", "--password-from", "env:WORD", "--format", "json"])
        .golden("banner");
}

#[test]
fn by_sudo() {
    let dir = tempfile::tempdir().unwrap();
    let plan = |name: &str, mode: &str| {
        let plan = HostPlan::new().name(name).env("PATH", crate::sudo::install(dir.path())).env("FAKE_SUDO", mode);
        plan.env("FAKE_SUDO_PASSWORD", PASSWORD)
    };
    let plans = vec![plan("web01", "lecture"), plan("db1", "nopasswd"), plan("gate", "stranger")];
    let Ground { fleet, sim: _sim } = Ground::start(plans);
    let fleet = fleet
        .secret("right", PASSWORD)
        .secret("wrong", "not it")
        .configure("db1", "become = \"sudo\"\nbecome_user = \"postgres\"");
    let given = ["--sudo", "--become-password-from", "file:right"];
    let run = |words: &[&'static str]| [&["exec", "-f", "1", "-w", "web01,db1,gate"], &given[..], words].concat();
    fleet
        .run(&run(&["echo $USER; echo err >&2"]))
        .run(&run(&["--become-user", "www", "-q", "echo $USER"]))
        .run(&run(&["--dry-run", "id"]))
        .run(&["exec", "-w", "db1", "echo $USER"])
        .run(&["exec", "-w", "db1", "--become", "none", "echo $USER"])
        .run(&["exec", "-w", "db1", "--dry-run", "--format", "json", "id"])
        .run(&["exec", "-w", "web01", "--sudo", "id"])
        .run(&["exec", "-w", "web01", "--sudo", "--become-password-from", "file:wrong", "id"])
        .run(&["exec", "-w", "web01", "--sudo", "--format", "json", "id"])
        .run(&["exec", "-w", "web01", "--become-user", "www", "id"])
        .run(&["exec", "-w", "web01", "-K", "id"])
        .run(&["exec", "-w", "web01", "-K", "--sudo", "id"])
        .run(&["exec", "-w", "web01", "--become", "su", "id"])
        .run(&["exec", "-w", "web01", "--sudo", "--become-password-from", "hunter2", "id"])
        .run(&["put", "-w", "web01", "--sudo", "right", "there"])
        .golden("sudo");
}

#[test]
fn ping() {
    two()
        .fleet
        .run(&["ping", "-f", "1"])
        .run(&["ping", "-f", "1", "-v"])
        .run(&["ping", "-f", "1", "-q"])
        .run(&["ping", "-f", "1", "--format", "json"])
        .golden("ping");
}

#[test]
fn put_and_get() {
    let Ground { fleet, sim: _sim } = two();
    let fleet = fleet
        .file("motd", "welcome\n")
        .file("site/index.html", "<p>")
        .file("site/img/a.svg", "<svg/>")
        .run(&["put", "-f", "1", "motd", "motd.new"])
        .run(&["put", "-f", "1", "--format", "json", "motd", "motd.new"])
        .run(&["put", "-w", "db1", "site", "motd", "into"])
        .run(&["exec", "-w", "db1", "mkdir into && find . | sort"])
        .run(&["put", "-w", "db1", "site", "motd", "into"])
        .run(&["get", "-f", "1", "motd.new", "out"])
        .run(&["get", "-w", "db1", "--format", "json", "into", "out"])
        .run(&["get", "-q", "-f", "1", "into", "out"])
        .run(&["put", "-f", "1", "-v", "motd", "no/such/place"]);
    let got = |name: &str| std::fs::read_to_string(fleet.dir().join("out").join(name)).unwrap();
    assert_eq!((got("web01/motd.new"), got("db1/motd.new")), ("welcome\n".into(), "welcome\n".into()));
    assert_eq!((got("db1/into/site/img/a.svg"), got("db1/into/motd")), ("<svg/>".into(), "welcome\n".into()));
    fleet.golden("put_get");
}

#[test]
fn each_status() {
    let Ground { fleet, sim } = Ground::unknown(vec![
        well("healthy"),
        canned("unhappy", Canned::new("").stderr("no such unit\n", 1).exit(4)),
        faulty("crashing", Fault::ExitSignal { name: "SEGV".into() }),
        faulty("mute", Fault::NoExitStatus),
        faulty("no-channel", Fault::RefuseChannel),
        faulty("no-exec", Fault::RefuseExec),
        faulty("mailer", Fault::GarbageBanner),
        faulty("overloaded", Fault::CutBeforeLogin { times: 100 }),
        well("locked").logins(Logins::password("ops", "something else")),
        well("down"),
    ]);
    let down = sim.host("down").unwrap().address();
    let text = std::fs::read_to_string(fleet.dir().join("hosts.toml")).unwrap();
    let there = format!("address = \"{}\"\nport = {}", down.ip(), down.port());
    // Nobody listens on port 1.
    let mut fleet = fleet
        .file("hosts.toml", &text.replace(&there, "address = \"127.0.0.1\"\nport = 1"))
        .env("FLEET_RETRIES", "0")
        .env("FLEET_FANOUT", "1");
    let names: Vec<String> = sim.hosts().iter().map(|host| host.name().to_owned()).collect();
    for name in names {
        fleet = fleet.run(&["exec", "-w", &name, "x"]);
    }
    fleet.run(&["exec", "x"]).run(&["exec", "-q", "x"]).run(&["exec", "--format", "json", "x"]).golden("statuses");
}

#[test]
fn time_limits() {
    // It takes its time to end, so that the stop is told first.
    let lingering = "exec 2>&-; trap 'sleep 0.5; exit 3' TERM; while :; do sleep 0.1; done";
    let slow = |name: &str| canned(name, Canned::new("late\n").delay(Duration::from_secs(600)));
    Ground::unknown(vec![faulty("silent", Fault::Silent), HostPlan::new().name("shell"), slow("slow"), well("well")])
        .fleet
        .run(&["exec", "-w", "silent", "-t", "1", "x"])
        .run(&["exec", "-w", "shell", "-u", "1", "echo begun; sleep 1000"])
        .run(&["exec", "-w", "shell", "-u", "1", "--format", "json", "echo begun; sleep 1000"])
        .run(&["exec", "-w", "shell", "--idle-timeout", "1", "echo begun; sleep 1000"])
        .run(&["exec", "-w", "shell,slow,well", "-f", "1", "--deadline", "1", lingering])
        .run(&["exec", "-w", "shell,slow,well", "-f", "1", "--deadline", "1", "--format", "json", lingering])
        .golden("time_limits");
}

#[test]
fn thresholds() {
    let broken = |name: &str| canned(name, Canned::default().exit(1));
    let hosts = vec![well("a"), broken("b"), well("c"), broken("d"), well("e1"), well("e2"), well("e10")];
    Ground::unknown(hosts)
        .fleet
        .run(&["exec", "-f", "1", "--max-fail", "1", "x"])
        .run(&["exec", "-f", "1", "--max-fail", "2", "x"])
        .run(&["exec", "-f", "1", "--max-fail", "10%", "x"])
        .run(&["exec", "-f", "1", "--fail-fast", "x"])
        .run(&["exec", "-f", "1", "--fail-fast", "-q", "x"])
        .run(&["exec", "-f", "1", "--fail-fast", "--format", "json", "x"])
        .golden("thresholds");
}

#[test]
fn rollouts() {
    let odd = canned("c", Canned::new("other\n").exit(2));
    let hosts = vec![well("a"), well("b"), odd, well("d")];
    Ground::unknown(hosts)
        .fleet
        .run(&["exec", "-f", "1", "--rollout", "1,50%", "--splay", "1ms", "x"])
        .run(&["exec", "-f", "1", "--rollout", "1,3", "--fail-fast", "x"])
        .run(&["exec", "-f", "1", "--rollout", "3", "--same-output", "80%", "x"])
        .run(&["exec", "-f", "1", "--rollout", "3", "--same-output", "60", "--format", "json", "x"])
        .run(&["ping", "-f", "1", "--rollout", "2", "-q"])
        .run(&["exec", "--rollout", "0,5", "x"])
        .run(&["exec", "--rollout", "101%", "x"])
        .run(&["exec", "--same-output", "101%", "x"])
        .run(&["exec", "--same-output", "80%", "x"])
        .run(&["exec", "--rollout", "1,10%,5%", "x"])
        .run(&["exec", "--confirm", "x"])
        .run(&["exec", "--rollout", "1", "--confirm", "x"])
        .run(&["ping", "--same-output", "80%"])
        .golden("rollouts");
}

#[test]
fn order() {
    Ground::unknown(vec![well("n10"), well("n9"), well("a")])
        .fleet
        .run(&["exec", "-f", "1", "x"])
        .run(&["exec", "-f", "1", "--order", "name", "x"])
        .run(&["exec", "-f", "1", "-w", "a,n10", "x"])
        .run(&["exec", "-f", "1", "-w", "a,n9,a", "x"])
        .golden("order");
}

#[test]
fn many_failures_are_grouped() {
    let mut hosts: Vec<HostPlan> = (1..=6).map(|n| canned(&format!("web{n:02}"), Canned::default().exit(2))).collect();
    hosts.extend((1..=3).map(|n| faulty(&format!("db{n}"), Fault::GarbageBanner)));
    hosts.push(well("ok"));
    Ground::unknown(hosts).fleet.run(&["exec", "-f", "1", "--retries", "0", "x"]).golden("many_failures");
}

#[test]
fn retries() {
    Ground::unknown(vec![faulty("shaky", Fault::CutBeforeLogin { times: 1 })])
        .fleet
        .run(&["ping", "-v"])
        .golden("retries");
}

#[test]
fn host_keys() {
    let Ground { fleet, sim } = Ground::unknown(vec![well("a"), well("b")]);
    let fleet = fleet
        .run(&["ping", "-f", "1", "--host-key", "strict"])
        .run(&["ping", "-w", "a"])
        .run(&["ping", "-f", "1", "--host-key", "strict"])
        .run(&["ping", "-f", "1", "--host-key", "off", "--known-hosts", "none"]);
    assert!(!fleet.dir().join("none").exists());
    sim.host("a").unwrap().set_fault(Some(Fault::WrongHostKey));
    fleet
        .run(&["ping", "-f", "1"])
        .run(&["ping", "-w", "a", "--format", "json"])
        .run(&["ping", "-w", "a", "--host-key", "off"])
        .golden("host_keys");
}

#[test]
fn keys_that_cannot_be_used_stop_all_before_anybody_is_contacted() {
    let Ground { fleet, sim } = Ground::start(vec![well("a"), well("b")]);
    let fleet = fleet
        .encrypted_key("locked", "open sesame")
        .secret("wrong", "open simsalabim\n")
        .file("nonsense", "this is no key\n")
        .configure("b", "passphrase = \"file:wrong\"");
    let fleet = fleet
        .run(&["exec", "-I", "missing", "x"])
        .run(&["exec", "-I", "locked", "x"])
        .run(&["exec", "-w", "b", "-I", "locked", "x"])
        .run(&["exec", "-I", "nonsense", "x"])
        .run(&["put", "-I", "missing", "wrong", "there"])
        .run(&["get", "-I", "missing", "there", "out"])
        .run(&["ping", "-I", "missing"]);
    assert_eq!(sim.stats().connections, 0);
    fleet.golden("keys");
}

#[test]
fn keys_that_are_warned_about() {
    let Ground { fleet, sim: _sim } = Ground::start(vec![well("a"), well("b")]);
    let path = fleet.dir().join("key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    fleet
        .env("WORD", PASSWORD)
        .run(&["ping"])
        .run(&["ping", "-q"])
        .run(&["ping", "-I", "key", "-I", "missing"])
        .run(&["ping", "-I", "missing", "--password-from", "env:WORD"])
        .golden("key_warnings");
}

#[test]
fn nothing_to_do() {
    let Ground { fleet, sim } = two();
    let fleet = fleet
        .run(&["exec", "-w", "web01", "-x", "web01", "x"])
        .run(&["exec", "-w", "web1", "x"])
        .run(&["exec", "-g", "web", "x"])
        .run(&["put", "missing", "there"])
        .run(&["get", "there", "hosts.toml"]);
    assert_eq!(sim.stats().connections, 0);
    fleet.golden("nothing");
}

#[test]
fn a_wrong_password() {
    let hosts = ["a", "b"].map(|name| well(name).logins(Logins::password("ops", PASSWORD)));
    Ground::unknown(hosts.into())
        .fleet
        .secret("wrong", "sesame\n")
        .secret("right", &format!("{PASSWORD}\n"))
        .configure("b", "password = \"file:right\"")
        .configure("a", "password = \"file:wrong\"")
        .run(&["ping", "-f", "1"])
        .run(&["ping", "-w", "a", "--password-from", "file:right"])
        .run(&["ping", "-w", "a", "--password-from", "cmd:cat missing"])
        .golden("wrong_password");
}
