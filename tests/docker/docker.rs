mod bastions;
mod copy_id;
mod logins;
mod sudo;

use std::time::{Duration, Instant};

use crate::fixture::fixture;

/// The published hosts, as `docker/hosts.toml` lists them.
const HOSTS: [&str; 9] = ["pw1", "pw2", "pw3", "key1", "key2", "key3", "kbd1", "two1", "bastion"];

#[test]
fn every_kind_of_login_works() {
    let fixture = fixture();
    let said = fixture.fleet(&["exec", "-i", "hosts.toml", "df"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for host in HOSTS {
        assert_eq!(said.stdout.matches(&format!("{host}: Filesystem ")).count(), 1, "{said:?}");
    }
    assert!(said.stderr.starts_with("fleet: 9 hosts: 9 ok in ") && said.stderr.lines().count() == 1, "{said:?}");
    for (host, method) in [("pw1", "password"), ("kbd1", "keyboard-interactive/pam"), ("key1", "publickey")] {
        let log = fixture.log(host);
        assert!(log.contains(&format!("Accepted {method} for ops from ")), "{host}: {log}");
    }
    // Nothing more to say the second time.
    let again = fixture.fleet(&["exec", "-i", "hosts.toml", "-q", "true"]);
    assert_eq!((again.code, &*again.stdout, &*again.stderr), (Some(0), "", ""));
}

#[test]
fn a_file_goes_to_all_hosts_and_comes_back_the_same() {
    let fixture = fixture();
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let original = std::fs::read(readme).unwrap();
    let said = fixture.fleet(&["put", "-i", "hosts.toml", readme, "/tmp/readme"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = fixture.fleet(&["get", "-i", "hosts.toml", "/tmp/readme", "out/"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for host in HOSTS {
        assert!(std::fs::read(fixture.path("out").join(host).join("readme")).unwrap() == original, "{host}");
    }
    assert_eq!(std::fs::read_dir(fixture.path("out")).unwrap().count(), HOSTS.len());
}

#[test]
fn each_failure_is_one_clear_line_and_hinders_nobody() {
    let mut fixture = fixture();
    let port = fixture.ports()["key1"];
    let broken = fixture.read("hosts.toml").replace("[hosts.pw1]\n", "[hosts.pw1]\npassword = \"file:wrong\"\n");
    fixture.write(
        "broken.toml",
        &(broken + "\n[hosts.unnamed]\naddress = \"no-such-host.invalid\"\nidentity = \"id_rsa\"\n"),
    );
    fixture.write("wrong", "not the password\n");
    fixture.disturb();
    fixture.docker(&["kill"], "key1");
    let said = fixture.fleet(&["exec", "-i", "broken.toml", "echo fine"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    let mut fine: Vec<&str> = said.stdout.lines().collect();
    fine.sort_unstable();
    assert_eq!(fine, ["bastion", "kbd1", "key2", "key3", "pw2", "pw3", "two1"].map(|host| format!("{host}: fine")));
    let refused = format!("fleet: key1: unreachable: cannot connect to 127.0.0.1:{port}: connection refused");
    assert_eq!(said.lines("fleet: key1: "), [refused]);
    assert_eq!(
        said.lines("fleet: pw1: "),
        ["fleet: pw1: unreachable: login refused for ops: the password (the server offers publickey, password)"]
    );
    let unnamed = said.lines("fleet: unnamed: ");
    assert!(unnamed.len() == 1 && unnamed[0].contains("no-such-host.invalid"), "{said:?}");
    assert!(said.stderr.contains("fleet: 10 hosts: 7 ok, 3 unreachable in "), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 4, "{said:?}");
}

#[test]
fn host_keys_stay_through_down_and_up() {
    let fixture = fixture();
    let keys = |file: &str| {
        let said = fixture.fleet(&["ping", "-i", "hosts.toml", "--format", "json", "--known-hosts", file]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let mut keys: Vec<String> =
            said.events("host_key").iter().map(|event| format!("{} {}", event["host"], event["fingerprint"])).collect();
        keys.sort();
        keys
    };
    let before = keys("known-before");
    assert_eq!(before.len(), HOSTS.len());
    let ports = fixture.ports();
    // Where all runs already, nothing changes.
    let known = fixture.read("known-before");
    let inventory = fixture.read("hosts.toml");
    fixture.up();
    assert_eq!(fixture.read("hosts.toml"), inventory);
    let said = fixture.fleet(&["ping", "-i", "hosts.toml", "-q", "--known-hosts", "known-before"]);
    assert_eq!((said.code, &*said.stderr, fixture.read("known-before")), (Some(0), "", known));

    fixture.down();
    fixture.up();
    assert_eq!(keys("known-after"), before);
    // What was known is still right, but for the ports, which are chosen anew.
    let mut moved = fixture.read("known-before");
    for (host, port) in fixture.ports() {
        moved = moved.replace(&format!("[127.0.0.1]:{} ", ports[&host]), &format!("[127.0.0.1]:{port}! "));
    }
    let moved = moved.replace('!', "");
    fixture.write("known-moved", &moved);
    let strict = ["ping", "-i", "hosts.toml", "-q", "--host-key", "strict", "--known-hosts", "known-moved"];
    let said = fixture.fleet(&strict);
    assert_eq!((said.code, &*said.stderr, fixture.read("known-moved")), (Some(0), "", moved));
}

#[test]
fn a_time_limit_ends_every_remote_process() {
    let fixture = fixture();
    let hosts = ["key1", "pw1", "kbd1"];
    let args = ["exec", "-i", "hosts.toml", "-w", "key1,pw1,kbd1", "--format", "json", "-u", "2s"];
    let said = fixture.fleet(&[&args[..], &["echo begun; sleep 1000 & sleep 1000 | cat"]].concat());
    assert_eq!(said.code, Some(124), "{said:?}");
    assert_eq!(said.events("output").len(), hosts.len(), "{said:?}");
    let finished = said.events("finished");
    assert_eq!(finished.len(), hosts.len());
    for event in finished {
        assert_eq!((&event["status"], &event["killed"]), (&"timed_out".into(), &"killed".into()), "{event}");
        assert_eq!(event["error"], "command timed out after 2s, remote process killed");
    }
    for host in hosts {
        fixture.assert_no_processes(host);
    }
}

#[test]
fn the_second_interrupt_ends_every_remote_process() {
    let fixture = fixture();
    let args = ["exec", "-i", "hosts.toml", "-w", "key1,key2,key3", "-f", "2"];
    let mut run = fixture.start(&[&args[..], &["echo begun; sleep 1000 & sleep 1000 | cat"]].concat(), 2);
    assert!(!fixture.processes("key1").is_empty());
    run.signal("INT");
    let running = run.error_line();
    assert!(running.starts_with("fleet: running 2: key[1-2] (longest "), "{running}");
    assert_eq!(run.error_line(), "fleet: stopping: no new hosts; 2 still running: key[1-2]; press again to end them\n");
    run.signal("INT");
    let said = run.finish();
    assert_eq!(said.code, Some(130), "{said:?}");
    assert!(said.stderr.contains("fleet: 3 hosts: 0 ok, 2 cancelled, 1 not started in "), "{said:?}");
    for host in ["key1", "key2", "key3"] {
        fixture.assert_no_processes(host);
    }
}

#[test]
fn nothing_outlives_a_fleet_that_is_killed() {
    let fixture = fixture();
    let hosts = ["key1", "pw1", "kbd1"];
    let args = ["exec", "-i", "hosts.toml", "-w", "key1,pw1,kbd1"];
    let run = fixture.start(&[&args[..], &["echo begun; setsid sleep 1000 & sleep 1000 | cat"]].concat(), 3);
    // What is promised begins when the commands have run for a second, on a machine that is not busy.
    std::thread::sleep(Duration::from_secs(2));
    assert!(hosts.iter().all(|host| fixture.processes(host).len() >= 4));
    run.signal("KILL");
    run.finish();
    for host in hosts {
        fixture.assert_no_processes(host);
    }
}

#[test]
fn a_sudo_that_asks_for_nothing_ends_too() {
    let fixture = fixture();
    let args = ["exec", "-i", "hosts.toml", "-w", "key1,key2", "echo begun; sudo sleep 1000 | cat"];
    for signal in ["TERM", "KILL"] {
        let run = fixture.start(&args, 2);
        std::thread::sleep(Duration::from_secs(2));
        assert!(!fixture.processes_with("key1", "sleep 1000").is_empty());
        run.signal(signal);
        let said = run.finish();
        if signal == "TERM" {
            assert!(said.stderr.contains("fleet: key1: cancelled: stopped, remote process killed\n"), "{said:?}");
        }
        for host in ["key1", "key2"] {
            fixture.assert_no_processes_with(host, "sleep 1000");
        }
    }
}

#[test]
fn a_daemon_whose_command_ended_lives_on() {
    let fixture = fixture();
    let command = "nohup sleep 1234 >/dev/null 2>&1 & sleep 1; echo over";
    let said = fixture.fleet(&["exec", "-i", "hosts.toml", "-w", "key3", command]);
    assert_eq!((said.code, &*said.stdout), (Some(0), "key3: over\n"), "{said:?}");
    let since = Instant::now();
    while !fixture.processes_with("key3", "fleet-guard").is_empty() {
        assert!(since.elapsed() < Duration::from_secs(5), "the guard stays");
    }
    assert_eq!(fixture.processes("key3"), ["S    sleep 1234"]);
    assert_eq!(fixture.fleet(&["exec", "-i", "hosts.toml", "-w", "key3", "pkill -x sleep"]).code, Some(0));
    fixture.assert_no_processes("key3");
}

#[test]
fn a_termination_ends_every_remote_process() {
    let fixture = fixture();
    let args = ["exec", "-i", "hosts.toml", "-w", "key1,pw1", "echo begun; sleep 1000 & sleep 1000 | cat"];
    let run = fixture.start(&args, 2);
    run.signal("TERM");
    let said = run.finish();
    assert_eq!(said.code, Some(143), "{said:?}");
    assert_eq!(said.lines("fleet: stopping: "), ["fleet: stopping: terminated: ending 2 hosts: key1,pw1"]);
    for host in ["key1", "pw1"] {
        fixture.assert_no_processes(host);
    }
}

#[test]
fn a_frozen_host_is_unreachable_in_time() {
    let mut fixture = fixture();
    fixture.disturb();
    fixture.docker(&["pause"], "pw2");
    let begun = Instant::now();
    let said = fixture.fleet(&["exec", "-i", "hosts-direct.toml", "-w", "pw2,key2", "-t", "2s", "echo fine"]);
    assert_eq!((said.code, &*said.stdout), (Some(3), "key2: fine\n"), "{said:?}");
    // The kernel still accepts for it.
    assert_eq!(said.lines("fleet: pw2: "), ["fleet: pw2: unreachable: banner timed out after 2s"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{said:?}");
}

#[test]
fn a_host_that_freezes_ends_at_the_time_limit() {
    let mut fixture = fixture();
    fixture.disturb();
    let run = fixture.start(
        &["exec", "-i", "hosts-direct.toml", "-w", "key1,key2", "-u", "4s", "echo begun; sleep 3; echo over"],
        2,
    );
    fixture.docker(&["pause"], "key1");
    let said = run.finish();
    assert_eq!(said.code, Some(124), "{said:?}");
    assert!(said.stdout.ends_with("key2: over\n") && !said.stdout.contains("key1: over"), "{said:?}");
    let lines = said.lines("fleet: key1: ");
    assert!(
        lines.len() == 1 && lines[0].starts_with("fleet: key1: timed out: command timed out after 4s, "),
        "{said:?}"
    );
    assert!(!lines[0].contains("process killed"), "nobody can know that: {said:?}");
}

#[test]
fn a_host_that_loses_its_network_ends_at_the_time_limit() {
    let mut fixture = fixture();
    let run =
        fixture.start(&["exec", "-i", "hosts-direct.toml", "-w", "key3,pw3", "-u", "4s", "echo begun; sleep 3"], 2);
    fixture.disconnect("key3");
    let said = run.finish();
    assert_eq!(said.code, Some(124), "{said:?}");
    let lines = said.lines("fleet: key3: ");
    assert!(
        lines.len() == 1 && lines[0].starts_with("fleet: key3: timed out: command timed out after 4s, "),
        "{said:?}"
    );
    assert!(said.stderr.contains("fleet: 2 hosts: 1 ok, 1 timed out in "), "{said:?}");
}

#[test]
fn a_host_that_dies_is_lost() {
    let mut fixture = fixture();
    fixture.disturb();
    let run = fixture.start(&["exec", "-i", "hosts-direct.toml", "-w", "pw1,pw3", "echo begun; sleep 3; echo over"], 2);
    fixture.docker(&["kill"], "pw1");
    let said = run.finish();
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.stdout.ends_with("pw3: over\n"), "{said:?}");
    let lines = said.lines("fleet: pw1: ");
    assert!(lines.len() == 1 && lines[0].starts_with("fleet: pw1: lost: "), "{said:?}");
    assert!(said.stderr.contains("fleet: 2 hosts: 1 ok, 1 lost in "), "{said:?}");
}

#[test]
fn sshd_that_ends_is_lost_too() {
    let mut fixture = fixture();
    fixture.disturb();
    let run = fixture.start(&["exec", "-i", "hosts.toml", "-w", "key2", "echo begun; sleep 1000"], 1);
    fixture.docker(&["restart", "-t", "0"], "key2");
    let said = run.finish();
    assert_eq!(said.code, Some(3), "{said:?}");
    assert_eq!(said.lines("fleet: key2: lost: ").len(), 1, "{said:?}");
}
