//! Commands, logins and jump hosts, with the real OpenSSH client.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Ground, text, wait_until};
use fleet_sim::{Canned, Fault, FixtureKey, HostPlan, KeyKind, Logins, Method, Mode};

#[test]
fn a_command_has_output_a_status_and_a_home() {
    let ground = Ground::one(HostPlan::new());
    let host = &ground.sim.hosts()[0];
    let done = ground.ssh(host, "echo out; echo err >&2; pwd; exit 3");
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    assert_eq!(text(&done.stdout), format!("out\n{}\n", host.home().display()));
    assert_eq!(text(&done.stderr), "err\n");
    let stats = host.stats();
    assert_eq!((stats.connections, stats.logins, stats.commands), (1, 1, 1));
    assert_eq!((stats.publickey.accepted, stats.publickey.refused), (1, 0));
    assert_eq!(stats.peak_unauthenticated, 1);
    wait_until("the connection is closed", || host.stats().open == 0);
}

#[test]
fn the_environment_is_clean_and_the_shell_leads_its_session() {
    let ground = Ground::one(HostPlan::new().env("EXTRA", "1"));
    let host = &ground.sim.hosts()[0];
    let mut ssh = ground.client("ssh", host, &["-o", "SetEnv=LANG=C.UTF-8 LC_ALL=C FOO=bar"]);
    let done = ssh.arg("env; ps -o pid=,pgid=,sid= -p $$").output().unwrap();
    let stdout = text(&done.stdout);
    let mut names: Vec<&str> = stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let expected =
        ["EXTRA", "HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "PWD", "SHELL", "SSH_CLIENT", "SSH_CONNECTION", "USER"];
    assert_eq!(names, expected);
    let address = host.address();
    assert!(stdout.contains(&format!(" {} {}\n", address.ip(), address.port())), "{stdout}");
    let ids: Vec<&str> = stdout.lines().last().unwrap().split_whitespace().collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
}

#[test]
fn standard_input_comes_back_whole_through_cat() {
    let ground = Ground::one(HostPlan::new());
    let mut child = ground
        .client("ssh", &ground.sim.hosts()[0], &[])
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut stdin = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let mut got = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(sent == got, "{} of {} bytes", got.len(), sent.len());
}

#[test]
fn canned_output_is_repeated_and_has_a_status() {
    let canned = Canned::new("0123456789\n").times(500_000).stderr("oops\n", 2).exit(7);
    let ground = Ground::one(HostPlan::new().mode(Mode::Canned(canned)));
    let host = &ground.sim.hosts()[0];
    let done = ground.ssh(host, "whatever");
    assert_eq!(done.status.code(), Some(7));
    assert_eq!(done.stdout.len(), 5_500_000);
    assert_eq!(text(&done.stderr), "oops\noops\n");
    assert!(!host.home().exists());
}

#[test]
fn a_command_outlives_its_connection_and_ends_with_the_simulator() {
    let ground = Ground::one(HostPlan::new());
    let host = ground.sim.hosts()[0].clone();
    let mut ssh = ground.client("ssh", &host, &[]).arg("setsid sleep 1000 & sleep 1000; true").spawn().unwrap();
    wait_until("three processes run", || host.processes().len() == 3);
    // The processes may be seen before the simulator has counted their shell.
    wait_until("the shell is counted", || host.stats().live_processes == 1);
    ssh.kill().unwrap();
    ssh.wait().unwrap();
    wait_until("the connection is closed", || host.stats().open == 0);
    // Not at once: a process that is just becoming another program has no environment to be known by.
    wait_until("all three live on", || host.processes().len() == 3);
    drop(ground);
    assert_eq!(host.processes(), Vec::<i32>::new());
}

#[test]
fn the_status_comes_when_the_shell_ends_and_the_close_when_its_pipes_do() {
    let ground = Ground::one(HostPlan::new());
    let began = Instant::now();
    let done = ground.ssh(&ground.sim.hosts()[0], "(sleep 0.5; echo late) & exit 4");
    assert_eq!((done.status.code(), text(&done.stdout)), (Some(4), "late\n".to_owned()));
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[test]
fn passwords_are_asked_for_in_both_ways_and_counted() {
    for method in [Method::Password, Method::KeyboardInteractive] {
        let logins = Logins::password("ops", "secret").methods([method]);
        let ground = Ground::one(HostPlan::new().logins(logins).mode(Mode::canned("in\n")));
        let host = &ground.sim.hosts()[0];
        assert_eq!(ground.ssh_with_password(host, "wrong", "x").status.code(), Some(255));
        let done = ground.ssh_with_password(host, "secret", "x");
        assert_eq!(text(&done.stdout), "in\n", "{done:?}");
        let stats = host.stats();
        let counts = match method {
            Method::Password => stats.password,
            _ => stats.keyboard_interactive,
        };
        assert_eq!(counts.accepted, 1, "{method:?}");
        assert!(counts.refused >= 1, "{method:?}");
        assert_eq!(stats.logins, 1);
    }
}

#[test]
fn a_key_and_a_password_may_both_be_required() {
    let mut ground = Ground::one(HostPlan::new());
    let logins = Logins::key("ops", &ground.key)
        .with_password("ops", "secret")
        .methods([Method::PublicKey, Method::Password])
        .all_required();
    ground.restart(vec![HostPlan::new().logins(logins).mode(Mode::canned("in\n"))]);
    let host = &ground.sim.hosts()[0];
    assert_eq!(ground.ssh(host, "x").status.code(), Some(255));
    assert_eq!(text(&ground.ssh_with_password(host, "secret", "x").stdout), "in\n");
}

#[test]
fn an_unknown_user_and_an_unknown_key_are_refused() {
    let ground = Ground::one(HostPlan::new().logins(Logins::password("ops", "secret").methods([Method::PublicKey])));
    let host = &ground.sim.hosts()[0];
    let done = ground.ssh(host, "true");
    assert_eq!(done.status.code(), Some(255));
    assert!(text(&done.stderr).contains("Permission denied (publickey)"), "{done:?}");
    assert_eq!((host.stats().logins, host.stats().publickey.refused), (0, 1));
}

#[test]
fn host_keys_of_both_kinds_are_those_that_known_hosts_names() {
    let plan = HostPlan::new().host_keys([KeyKind::EcdsaP256, KeyKind::Ed25519]).mode(Mode::canned("in\n"));
    let ground = Ground::one(plan);
    let host = &ground.sim.hosts()[0];
    for algorithm in ["ssh-ed25519", "ecdsa-sha2-nistp256"] {
        let option = format!("HostKeyAlgorithms={algorithm}");
        let done = ground.client("ssh", host, &["-o", &option]).arg("x").output().unwrap();
        assert_eq!(text(&done.stdout), "in\n", "{algorithm}: {done:?}");
    }
    host.set_fault(Some(Fault::WrongHostKey));
    let done = ground.ssh(host, "x");
    assert!(text(&done.stderr).contains("Host key verification failed"), "{done:?}");
}

#[test]
fn a_banner_is_shown_before_the_login() {
    let ground = Ground::one(HostPlan::new().banner("be good\r\n").mode(Mode::canned("")));
    let done = ground.ssh(&ground.sim.hosts()[0], "x");
    assert_eq!(text(&done.stderr).trim(), "be good");
}

#[test]
fn a_host_can_be_a_jump_host() {
    let ground = Ground::of(vec![HostPlan::new(), HostPlan::new()]);
    let [bastion, inner] = ground.sim.hosts() else { panic!() };
    let proxy = format!("{:?}", ground.client("ssh", bastion, &["-W", "%h:%p"]));
    let proxy = proxy.rsplit("env -u SSH_AUTH_SOCK ").next().unwrap().replace('"', "");
    let option = format!("ProxyCommand={proxy}");
    let done = ground.client("ssh", inner, &["-o", &option]).arg("echo $SSH_CONNECTION").output().unwrap();
    assert!(text(&done.stdout).contains(&inner.address().ip().to_string()), "{done:?}");
    assert_eq!((bastion.stats().commands, inner.stats().commands), (0, 1));
}

#[test]
fn a_link_with_a_round_trip_is_slow_and_loses_nothing() {
    let rtt = Duration::from_millis(40);
    let ground = Ground::one(HostPlan::new().rtt(rtt));
    let began = Instant::now();
    let done = ground.ssh(&ground.sim.hosts()[0], "head -c 3000000 /dev/zero");
    assert_eq!(done.stdout.len(), 3_000_000);
    assert!(began.elapsed() > rtt * 6, "{:?}", began.elapsed());
}

#[test]
fn rsa_keys_log_in() {
    let mut ground = Ground::one(HostPlan::new());
    let path = ground.dir().join("rsa");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "3072", "-N", "", "-f"]).arg(&path).status().unwrap();
    assert!(made.success());
    ground.key = FixtureKey::existing(path).unwrap();
    ground.restart(vec![HostPlan::new().logins(Logins::key("ops", &ground.key)).mode(Mode::canned("in\n"))]);
    assert_eq!(text(&ground.ssh(&ground.sim.hosts()[0], "x").stdout), "in\n");
}
