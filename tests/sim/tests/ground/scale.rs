//! Many hosts, and the binary.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Ground, text, wait_until};
use fleet_sim::{HostPlan, Logins, Mode, Sim, SimConfig};

#[test]
fn a_thousand_hosts_have_addresses_of_their_own_and_one_port() {
    let plan = HostPlan::new().mode(Mode::canned("")).logins(Logins::password("ops", "secret"));
    let sim = Sim::start(SimConfig::uniform(1000, plan).password_ref("env:SIM_PASSWORD")).unwrap();
    let addresses: BTreeSet<_> = sim.hosts().iter().map(|host| host.address().ip()).collect();
    assert_eq!(addresses.len(), 1000);
    assert!(sim.hosts().iter().all(|host| host.address().port() == sim.port()));
    let open: Vec<TcpStream> = sim.hosts().iter().map(|host| TcpStream::connect(host.address()).unwrap()).collect();
    wait_until("all are connected", || sim.stats().unauthenticated == 1000);
    drop(open);
    wait_until("none is connected", || sim.stats().open == 0);
    assert_eq!(sim.stats().peak_unauthenticated, 1000);
    let inventory: toml::Table = sim.inventory().parse().unwrap();
    assert_eq!(inventory["hosts"].as_table().unwrap().len(), 1000);
    assert_eq!(inventory["defaults"]["user"].as_str(), Some("ops"));
    assert_eq!(inventory["defaults"]["password"].as_str(), Some("env:SIM_PASSWORD"));
    assert_eq!(sim.known_hosts().lines().count(), 1000);
}

/// The binary, its inventory, and its last words when standard input ends.
fn with_binary(args: &[&str], check: impl FnOnce(&Path, &toml::Table)) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fleet-sim"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut path = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut path).unwrap();
    let path = Path::new(path.trim());
    let inventory: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    check(path, &inventory);
    drop(child.stdin.take());
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(child.wait().unwrap().success(), "{words}");
    words
}

fn ssh(inventory: &toml::Table, name: &str) -> Command {
    let mut command = Command::new("ssh");
    let (defaults, host) = (&inventory["defaults"], &inventory["hosts"][name]);
    command
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", defaults["known_hosts"].as_str().unwrap()))
        .args(["-i", defaults["identity"].as_str().unwrap()])
        .args(["-p", &host["port"].to_string()])
        .args(["-l", defaults["user"].as_str().unwrap()])
        .arg(host["address"].as_str().unwrap())
        .env_remove("SSH_AUTH_SOCK")
        .stdin(Stdio::null());
    command
}

#[test]
fn the_binary_serves_until_its_input_ends_and_leaves_nothing() {
    let mut dir = None;
    let words = with_binary(&["--hosts", "3", "--fault", "refuse-exec=2", "--seed", "5"], |path, inventory| {
        let codes: Vec<_> = ["sim0001", "sim0002", "sim0003"]
            .iter()
            .map(|name| ssh(inventory, name).arg("exit 9").output().unwrap().status.code().unwrap())
            .collect();
        assert_eq!(codes.iter().filter(|code| **code == 9).count(), 1, "{codes:?}");
        dir = path.parent().map(Path::to_owned);
    });
    let expected = "fleet-sim: 3 connections (at most 1 at once, 1 of them unauthenticated), 3 logins (0 refused), 1 commands, 0 sftp\n";
    assert_eq!(words, expected);
    assert!(!dir.unwrap().exists());
}

#[test]
fn a_scenario_file_has_groups() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    let scenario = "seed = 1\n[[hosts]]\ncount = 12\nname = 'web[..]'\nmode = 'canned'\nstdout = 'x'\ntimes = 3\nrtt = '5ms'\n\
                    [[hosts]]\nname = 'db'\nfault = 'no-exit-status'\n";
    std::fs::File::create(&file).unwrap().write_all(scenario.as_bytes()).unwrap();
    with_binary(&["--scenario", file.to_str().unwrap()], |_, inventory| {
        assert_eq!(inventory["hosts"].as_table().unwrap().len(), 13);
        let done = ssh(inventory, "web07").arg("x").output().unwrap();
        assert_eq!(text(&done.stdout), "xxx");
        assert_eq!(ssh(inventory, "db").arg("true").output().unwrap().status.code(), Some(255));
    });
}

/// Not for every run: `FLEET_SIM_HOSTS=5000 FLEET_SIM_RTT=100ms cargo test -p fleet-sim -- --ignored --nocapture crowd`.
#[test]
#[ignore = "a measurement"]
fn a_crowd_logs_in_at_once() {
    let hosts = std::env::var("FLEET_SIM_HOSTS").map_or(1000, |count| count.parse().unwrap());
    let mut plan = HostPlan::new().mode(Mode::canned("ok\n"));
    plan.rtt = std::env::var("FLEET_SIM_RTT").ok().map(|rtt| fleet_sim::parse_duration(&rtt).unwrap());
    let began = Instant::now();
    let ground = Ground::of(vec![plan; hosts]);
    let started = began.elapsed();
    let cpu = cpu_of_this_process();
    let began = Instant::now();
    crate::faults::run(async {
        let all = ground.sim.hosts().iter().map(|host| crate::faults::log_in_and_run(&ground, host));
        for one in all.map(tokio::spawn).collect::<Vec<_>>() {
            one.await.unwrap();
        }
    });
    let stats = ground.sim.stats();
    println!(
        "{hosts} hosts started in {started:?}; all done in {:?}, {:?} CPU with the clients'; {stats:?}",
        began.elapsed(),
        cpu_of_this_process() - cpu
    );
}

fn cpu_of_this_process() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_wrong_argument_is_said_in_one_line() {
    let done = Command::new(env!("CARGO_BIN_EXE_fleet-sim")).args(["--fault", "nonsense=1"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).starts_with("fleet-sim: unknown fault nonsense; known: silent, "), "{done:?}");
}
