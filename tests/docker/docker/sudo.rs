//! sudo as Debian has it: with and without a password, with a terminal of its own (`use_pty`) and without, with a ticket.

use std::time::Duration;

use crate::fixture::{Fixture, Said, fixture};

/// Those with a password, with `use_pty` and without, and those without one.
const HOSTS: [&str; 4] = ["pw1", "pw2", "key1", "key2"];
const NAMES: &str = "pw1,pw2,key1,key2";

/// Runs a command on all of them by sudo, with these flags too.
fn by_sudo(fixture: &Fixture, flags: &[&str], command: &str) -> Said {
    fixture.fleet(&[&["exec", "-i", "hosts.toml", "-w", NAMES, "--sudo"], flags, &[command]].concat())
}

/// Checks that each host wrote just this.
fn assert_all_wrote(said: &Said, lines: &[&str]) {
    for host in HOSTS {
        let start = format!("{host}: ");
        let wrote: Vec<&str> = said.stdout.lines().filter_map(|line| line.strip_prefix(&start)).collect();
        assert_eq!(wrote, lines, "{host}: {said:?}");
    }
}

#[test]
fn commands_run_as_another_user_with_exact_streams() {
    let fixture = fixture();
    // The first password that an account gives on a host comes after sudo's lecture.
    let said = by_sudo(&fixture, &[], "id -un; echo \"it's $HOME\"; pwd; cat; echo err >&2; exit 7");
    assert_all_wrote(&said, &["root", "it's /root", "/home/ops"]);
    assert_eq!((said.code, said.lines("").len()), (Some(1), 9), "{said:?}");
    for host in HOSTS {
        assert!(said.stderr.contains(&format!("{host}: err\n")), "{said:?}");
        assert!(said.stderr.contains(&format!("fleet: {host}: failed: exit status 7\n")), "{said:?}");
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    std::fs::write(fixture.path("bytes"), &bytes).unwrap();
    let said = by_sudo(&fixture, &["--stdin", "bytes", "--become-user", "nobody"], "id -un; cksum");
    let sum = std::process::Command::new("cksum").stdin(std::fs::File::open(fixture.path("bytes")).unwrap()).output();
    assert_all_wrote(&said, &["nobody", String::from_utf8(sum.unwrap().stdout).unwrap().trim()]);
    assert_eq!((said.code, said.lines("").len()), (Some(0), 1), "{said:?}");
    let said =
        by_sudo(&fixture, &["--pty", "--env", "A=b c"], "id -un; test -t 0 && test -t 1; echo $? $A; cat; exit 5");
    assert_all_wrote(&said, &["root", "0 b c"]);
    assert_eq!(said.lines("fleet: ").iter().filter(|line| line.ends_with("exit status 5")).count(), 4, "{said:?}");
}

#[test]
fn scripts_run_as_another_user_and_leave_no_file() {
    let fixture = fixture();
    let text = "#!/bin/bash\nid -un; echo \"$0 $*\"; ls -A /tmp | grep -c '^.fleet'; cat; exit 6\n";
    fixture.write("script.sh", &format!("{text}#{}", "x".repeat(5_000)));
    fixture.write("lines", "one\ntwo");
    for flags in [&["--stdin", "lines"][..], &["--pty"]] {
        let start = ["script", "-i", "hosts.toml", "-w", NAMES, "--sudo", "--become-user", "nobody"];
        let said = fixture.fleet(&[&start[..], flags, &["script.sh", "a", "b c"]].concat());
        let lines = ["nobody", "/dev/fd/9 a b c", "0", "one", "two"];
        assert_all_wrote(&said, if flags[0] == "--pty" { &lines[..3] } else { &lines });
        assert_eq!(said.code, Some(1), "{said:?}");
    }
}

#[test]
fn a_refusal_says_why_and_a_wrong_password_is_no_flood() {
    let fixture = fixture();
    fixture.write("bare.toml", &fixture.read("hosts.toml").replace("become_password", "passphrase"));
    let said = fixture.fleet(&["exec", "-i", "bare.toml", "-w", "kbd1,key3", "--sudo", "echo ran"]);
    assert_eq!((said.code, &*said.stdout), (Some(1), "key3: ran\n"), "{said:?}");
    for line in [
        "fleet: kbd1: failed: sudo wants a password, and none was given",
        "hint: -K asks for it once; become_password = \"env:NAME\" in the inventory gives one to each host",
    ] {
        assert!(said.lines(line).contains(&line), "{said:?}");
    }
    let said = fixture.fleet(&["exec", "-i", "hosts.toml", "-w", "pw3", "--sudo", "echo ran"]);
    assert_eq!(said.lines("fleet: pw3: "), ["fleet: pw3: failed: ops is not in the sudoers file"], "{said:?}");
    fixture.write("wrong-sudo", "not the password\n");
    let wrong = ["--sudo", "--become-password-from", "file:wrong-sudo", "echo ran"];
    let said = fixture.fleet(&[&["exec", "-i", "hosts.toml", "-w", "pw[1-3],kbd1"], &wrong[..]].concat());
    assert_eq!((said.code, &*said.stdout), (Some(3), ""), "{said:?}");
    let refused = said.stderr.matches(": failed: the sudo password was refused\n").count();
    assert_eq!(refused, 3, "{said:?}");
    assert!(
        said.stderr.contains("not tried: the password of ops was refused 3 times, and nowhere accepted"),
        "{said:?}"
    );
}

#[test]
fn a_ticket_that_is_still_good_needs_no_password() {
    let fixture = fixture();
    let ticket = "echo 'Defaults timestamp_type=global' >/etc/sudoers.d/ticket";
    fixture.on("pw1", ticket);
    fixture.on("pw2", ticket);
    fixture.write("lines", "one\ntwo\n");
    let start = ["exec", "-i", "hosts.toml", "-w", "pw1,pw2", "--sudo"];
    let first = fixture.fleet(&[&start[..], &["true"]].concat());
    fixture.write("wrong-sudo", "not the password\n");
    // What is not asked for is not sent: the command would read it.
    let flags = ["--stdin", "lines", "--become-password-from", "file:wrong-sudo"];
    let second = fixture.fleet(&[&start[..], &flags, &["cat"]].concat());
    for host in ["pw1", "pw2"] {
        fixture.on(host, "rm /etc/sudoers.d/ticket; rm -rf /run/sudo/ts");
    }
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{first:?} {second:?}");
    for host in ["pw1", "pw2"] {
        assert!(second.stdout.contains(&format!("{host}: one\n{host}: two\n")), "{second:?}");
    }
}

/// Starts a command of several processes by sudo on all hosts, and stops it by a signal once it has run for a while.
fn stop(fixture: &Fixture, flags: &[&str], signal: &str) -> Said {
    let command = "echo begun; setsid sleep 4000 & sleep 4000 & trap '' TERM; sleep 4000 | cat";
    let start = ["exec", "-i", "hosts.toml", "-w", NAMES, "--sudo", "--kill-after", "1s"];
    let run = fixture.start(&[&start[..], flags, &[command]].concat(), HOSTS.len());
    // What is promised begins when the commands have run for a second, on a machine that is not busy.
    std::thread::sleep(Duration::from_secs(2));
    for host in HOSTS {
        // Their shell, and sudo, name them too.
        let all = fixture.processes_with(host, "sleep 4000");
        assert_eq!(all.iter().filter(|line| line.ends_with(" sleep 4000")).count(), 3, "{all:?}");
        let password = fixture.read("password");
        assert!(fixture.processes_with(host, password.trim()).is_empty(), "no process shows the password");
    }
    run.signal(signal);
    run.finish()
}

fn assert_nothing_left(fixture: &Fixture) {
    for host in HOSTS {
        fixture.assert_no_processes_with(host, "sleep 4000");
        fixture.assert_no_processes_with(host, "fleet-watch");
        fixture.assert_no_processes_with(host, "fleet-guard");
    }
}

#[test]
fn an_interrupt_ends_what_runs_as_another_user() {
    let fixture = fixture();
    for user in ["root", "nobody"] {
        // With nothing queued the first is already the second.
        let said = stop(&fixture, &["--become-user", user], "INT");
        assert_eq!(said.code, Some(130), "{said:?}");
        for host in HOSTS {
            let line = format!("fleet: {host}: cancelled: stopped, remote process killed");
            assert!(said.lines("fleet: ").contains(&&*line), "{said:?}");
        }
        assert_nothing_left(&fixture);
    }
}

#[test]
fn nothing_that_runs_as_another_user_outlives_a_fleet_that_is_killed() {
    let fixture = fixture();
    fixture.write("lines", "one\n");
    for flags in [&[][..], &["--stdin", "lines"], &["--pty"]] {
        stop(&fixture, flags, "KILL");
        assert_nothing_left(&fixture);
    }
}

#[test]
fn a_daemon_that_was_started_by_sudo_lives_on_and_its_watcher_does_not() {
    let fixture = fixture();
    let command = "nohup sleep 4100 >/dev/null 2>&1 </dev/null & sleep 1; echo over";
    let said = by_sudo(&fixture, &[], command);
    assert_all_wrote(&said, &["over"]);
    for host in HOSTS {
        fixture.assert_no_processes_with(host, "fleet-watch");
        assert_eq!(fixture.processes_with(host, "sleep 4100").len(), 1, "{host}");
        fixture.on(host, "pkill -f 'sleep 410[0]'");
    }
}
