//! Hosts behind bastions and commands: OpenSSH's sshd as the bastion, simulated hosts and sshd behind it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet::op::{Get, Put};
use fleet::pool::RunControl;
use fleet::{Class, ErrorKind, Exec, Host, HostKeyPolicy, HostResult, Identity, Outputs, Phase, Route};
use fleet_sim::{HostPlan, Mode};
use socket2::{Domain, Socket, Type};

use super::Ground as Bastion;
use crate::fixture::Sshd;
use crate::ground::{Ground, exec, fanout, pool, run, stdout};

/// An sshd that takes the key of the simulated hosts, as a bastion.
fn gate(ground: &Ground, config: &[&str]) -> (Sshd, Host) {
    let public = std::fs::read_to_string(ground.key.path.with_extension("pub")).unwrap();
    let builder = Sshd::builder().authorized_keys(&public);
    let sshd = config.iter().fold(builder, |builder, line| builder.config(line)).start();
    let mut host = Host::new("gate", "127.0.0.1");
    host.port = sshd.port();
    host.user = sshd.user();
    host.auth.identities.push(Identity::File(ground.key.path.clone()));
    host.known_hosts = vec![ground.path("known_hosts")];
    host.timeouts.connect = Duration::from_secs(20);
    (sshd, host)
}

fn behind(bastion: &Arc<Host>, mut host: Host) -> Host {
    host.route = Route::Jump(Arc::clone(bastion));
    host
}

/// Returns every simulated host, behind a bastion.
fn all_behind(ground: &Ground, bastion: &Arc<Host>) -> Vec<Arc<Host>> {
    ground.sim.hosts().iter().map(|host| Arc::new(behind(bastion, ground.host(host)))).collect()
}

fn logins(sshd: &Sshd) -> usize {
    sshd.log().matches("Accepted publickey").count()
}

fn reason<T>(result: &HostResult<T>) -> String {
    result.error().expect("an error").chain()
}

#[test]
fn a_thousand_hosts_share_one_connection_to_their_bastion() {
    let ground = Ground::start(Ground::healthy(1000));
    let (sshd, gate) = gate(&ground, &["MaxStartups 10:30:100"]);
    let hosts = all_behind(&ground, &Arc::new(gate));
    let results = pool().fanout(fanout(256)).build().map(&hosts, Exec::new("true"));
    for result in &results {
        assert!(result.is_ok(), "{}: {:?}", result.host().name, result.error());
        assert_eq!(result.report.attempts, 1);
    }
    assert_eq!((results.len(), logins(&sshd)), (1000, 1), "{}", sshd.log());
    let log = sshd.log();
    assert!(!log.contains("drop connection") && !log.contains("MaxStartups"), "{log}");
}

#[test]
fn a_chain_of_bastions_carries_commands_and_files_exactly() {
    let (first, second, inner) = (Bastion::start(), Bastion::start(), Bastion::start());
    let named = |name: &str, mut host: Host| {
        host.name = name.to_owned();
        host
    };
    let first_hop = Arc::new(named("first", first.host()));
    let second_hop = Arc::new(behind(&first_hop, named("second", second.host())));
    let host = || behind(&second_hop, inner.host());
    let result = exec(host(), "head -c 20000000 /dev/zero; echo err >&2; exit 7");
    let output = result.outcome.as_ref().unwrap();
    assert_eq!((output.stdout.len(), output.ended.code()), (20_000_000, Some(7)));
    assert!([&first, &second, &inner].iter().all(|ground| logins(&ground.sshd) == 1));
    let log = second.sshd.log();
    assert!(log.contains("Accepted publickey for"), "{log}");

    let dir = tempfile::tempdir().unwrap();
    let original: Vec<u8> = (0..9_000_001u32).map(|number| ((number * 31) >> 7) as u8).collect();
    std::fs::write(dir.path().join("file"), &original).unwrap();
    let there = dir.path().join("there");
    let put = Put::new(&[dir.path().join("file")], there.to_str().unwrap()).unwrap();
    assert!(run(host(), put).is_ok());
    assert!(std::fs::read(&there).unwrap() == original);
    assert!(run(host(), Get::new(there.to_str().unwrap(), dir.path().join("back")).unwrap()).is_ok());
    assert!(std::fs::read(dir.path().join("back/local/there")).unwrap() == original);
}

#[test]
fn what_a_bastion_cannot_reach_is_that_hosts_failure_alone() {
    let ground = Ground::start(Ground::healthy(3));
    let (_sshd, gate) = gate(&ground, &[]);
    let gate = Arc::new(gate);
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut hosts = all_behind(&ground, &gate);
    let mut dead = ground.first();
    dead.name = "dead".to_owned();
    dead.port = closed.port();
    dead.address = "127.0.0.1".to_owned();
    hosts.insert(1, Arc::new(behind(&gate, dead)));
    let mut unknown = ground.first();
    unknown.name = "unknown".to_owned();
    unknown.address = "no-such-host.invalid".to_owned();
    hosts.push(Arc::new(behind(&gate, unknown)));
    let results = pool().build().map(&hosts, Exec::new("true"));
    let told: Vec<_> = results.iter().filter(|result| !result.is_ok()).map(reason).collect();
    let port = closed.port();
    assert_eq!(told[0], format!("the bastion gate cannot connect to 127.0.0.1:{port}: connect failed"));
    assert!(told[1].starts_with("the bastion gate cannot connect to no-such-host.invalid:"), "{told:?}");
    assert_eq!(told.len(), 2);
    assert!(
        results
            .iter()
            .filter(|result| !result.is_ok())
            .all(|result| { (result.class(), result.report.phase()) == (Class::Unreachable, Some(Phase::Connect)) })
    );
}

#[test]
fn a_bastion_that_forwards_nothing_says_so() {
    let ground = Ground::start(Ground::healthy(1));
    let (_sshd, gate) = gate(&ground, &["AllowTcpForwarding no"]);
    let result = exec(behind(&Arc::new(gate), ground.first()), "true");
    let error = result.error().unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Connect, Some(Phase::Connect)));
    assert!(error.to_string().ends_with(": administratively prohibited"), "{error}");
}

#[test]
fn a_bastion_that_refuses_the_login_is_asked_once_for_all_hosts() {
    let ground = Ground::start(Ground::healthy(40));
    let stranger = fleet_sim::FixtureKey::generate(fleet_sim::KeyKind::Ed25519, ground.path("stranger")).unwrap();
    let (sshd, mut gate) = gate(&ground, &[]);
    gate.auth.identities = vec![Identity::File(stranger.path)];
    let hosts = all_behind(&ground, &Arc::new(gate));
    let results = pool().fanout(fanout(7)).build().map(&hosts, Exec::new("true"));
    for result in &results {
        assert_eq!((result.class(), result.report.phase()), (Class::Unreachable, Some(Phase::Connect)));
        let told = reason(result);
        assert!(told.starts_with("the bastion gate cannot be used: login refused for"), "{told}");
    }
    assert_eq!((results.len(), sshd.log().matches("Connection from").count()), (40, 1), "{}", sshd.log());
}

#[test]
fn the_key_of_a_host_behind_a_bastion_is_judged() {
    let ground = Ground::start(Ground::healthy(2));
    let (_sshd, gate) = gate(&ground, &[]);
    let gate = Arc::new(gate);
    // What is known of one is presented by the other.
    let [a, b] = [0, 1].map(|index| ground.host(&ground.sim.hosts()[index]));
    assert!(exec(behind(&gate, a.clone()), "true").is_ok());
    let mut posing = behind(&gate, b);
    posing.host_key_alias = Some(a.known_hosts_name());
    let error = exec(posing, "true").error().unwrap().clone();
    assert_eq!(error.kind(), ErrorKind::HostKey);
    // So is the bastion's own.
    let mut strict = (*gate).clone();
    strict.host_key = HostKeyPolicy::Strict;
    strict.known_hosts = vec![ground.path("none")];
    let told = reason(&exec(behind(&Arc::new(strict), a), "true"));
    assert!(told.starts_with("the bastion gate cannot be used: the host key of"), "{told}");
}

/// Passes bytes on to a server until it is cut.
struct Relay {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&streams);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { return };
                kept.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, streams }
    }

    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_bastion_that_dies_takes_only_its_own_hosts_with_it() {
    let ground = Ground::start((0..6).map(|_| HostPlan::new().mode(Mode::Shell)).collect());
    let (sshd, mut gate) = gate(&ground, &[]);
    let relay = Relay::start(sshd.port());
    gate.port = relay.address.port();
    let mut hosts = all_behind(&ground, &Arc::new(gate));
    let direct = Arc::new(ground.host(&ground.sim.hosts()[5]));
    hosts[5] = direct;
    let go = ground.path("go");
    let command = format!("echo up; while [ ! -e {} ]; do sleep 0.05; done; echo done", go.display());
    let pool = pool().build();
    let mut up = 0;
    let mut results = Vec::new();
    let mut sink = |event: &fleet::Event| {
        if let fleet::EventKind::Output { .. } = &event.kind {
            up += 1;
            if up == 6 {
                relay.cut();
            }
        }
        if let fleet::EventKind::Finished(report) = &event.kind
            && report.class() == Class::Lost
        {
            // The one that is reached directly goes on until all others are told lost.
            results.push(report.host.name.clone());
            if results.len() == 5 {
                std::fs::write(&go, "").unwrap();
            }
        }
        Ok(())
    };
    let mut ended = Vec::new();
    let outputs = Outputs::new().sink(&mut sink);
    pool.run_with(&hosts, Exec::new(command), &RunControl::new(), outputs, |one| ended.push(one));
    assert_eq!(ended.len(), 6);
    for result in &ended {
        if result.host().name == hosts[5].name {
            assert_eq!((result.is_ok(), stdout(result)), (true, "up\ndone\n".to_owned()));
        } else {
            assert_eq!((result.class(), result.report.phase()), (Class::Lost, Some(Phase::Running)));
            let told = reason(result);
            assert!(told.starts_with("the connection to the bastion gate ended: "), "{told}");
        }
    }
    // Whoever comes next gets a new connection.
    let results = pool.map(&hosts, Exec::new("true"));
    assert!(results.iter().all(HostResult::is_ok));
    assert_eq!(logins(&sshd), 2);
}

/// A port of 127.0.0.1 that takes no more connections: a SYN stays unanswered.
fn deaf() -> (u16, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = vec![listener];
    // What is not connected within a moment finds the queue full.
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let is_full = client.connect_timeout(&address, Duration::from_millis(300)).is_err();
        held.push(client);
        if is_full {
            return (address.as_socket().unwrap().port(), held);
        }
    }
}

#[test]
fn targets_that_never_answer_hold_nobody_else_up() {
    let ground = Ground::start(Ground::healthy(60));
    let (sshd, gate) = gate(&ground, &["MaxStartups 10:30:100"]);
    let gate = Arc::new(gate);
    let (port, _held) = deaf();
    let mut hosts = Vec::new();
    for number in 0..12 {
        let mut stuck = ground.first();
        stuck.name = format!("stuck{number}");
        stuck.address = "127.0.0.1".to_owned();
        stuck.port = port;
        stuck.timeouts.connect = Duration::from_secs(20);
        hosts.push(Arc::new(behind(&gate, stuck)));
    }
    hosts.extend(all_behind(&ground, &gate));
    let mut ended = Vec::new();
    let (control, outputs) = (RunControl::new(), Outputs::new());
    let pool = pool().starts_per_address(fanout(100)).build();
    pool.run_with(&hosts, Exec::new("true"), &control, outputs, |result| ended.push(result));
    assert_eq!(ended.len(), 72);
    // Whoever answers is done before the first that does not is given up.
    let (answering, stuck) = ended.split_at(60);
    for result in answering {
        assert!(result.is_ok(), "{}: {:?}", result.host().name, result.error());
    }
    for result in stuck {
        assert_eq!(reason(result), "connect timed out after 20s, behind the bastion gate");
        assert_eq!(result.report.phase(), Some(Phase::Connect));
        // One after the other they would take minutes.
        assert!(result.report.duration + result.report.queued < Duration::from_secs(60), "{result:?}");
    }
    let log = sshd.log();
    assert!((2..=32).contains(&logins(&sshd)) && !log.contains("drop connection"), "{log}");
}

/// Connects standard input and output to a port, as `nc` does.
fn pipe_to(port: u16) -> String {
    format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3 & cat >&3; kill $!'")
}

#[test]
fn a_proxy_command_is_the_connection() {
    let bastion = Bastion::start();
    let mut host = bastion.host();
    host.route = Route::Command(pipe_to(host.port));
    // The name is never resolved here.
    host.address = "no-such-host.invalid".to_owned();
    let result = exec(host.clone(), "head -c 3000000 /dev/zero; exit 3");
    let output = result.outcome.as_ref().unwrap();
    assert_eq!((output.stdout.len(), output.ended.code()), (3_000_000, Some(3)));
    let known = std::fs::read_to_string(&host.known_hosts[0]).unwrap();
    assert!(known.starts_with(&format!("[no-such-host.invalid]:{} ", host.port)), "{known}");
}

#[test]
fn a_proxy_command_that_fails_says_why_and_leaves_no_process() {
    let mut host = Host::new("a", "b");
    for (command, told) in [
        (
            "sh -c 'echo no way >&2; exit 7'",
            "the ProxyCommand `sh -c 'echo no way >&2; exit 7'` ended with status 7: no way",
        ),
        ("kill -9 $$; x", "the ProxyCommand `kill -9 $$; x` was ended by a signal"),
        ("/no/such/program", "the ProxyCommand `/no/such/program` ended with status 12"),
    ] {
        host.route = Route::Command(command.to_owned());
        let result = exec(host.clone(), "true");
        let said = reason(&result);
        assert!(said.starts_with(told), "{said}");
        assert_eq!((result.class(), result.report.attempts), (Class::Unreachable, 1), "{said}");
    }
    // However much it says, and where what it started outlives it.
    host.route = Route::Command("sh -c 'yes no way | head -c 2999997 >&2; exit 7'".to_owned());
    assert!(reason(&exec(host.clone(), "true")).ends_with("ended with status 7: no way"));
    // One that says nothing is ended at the timeout, with all it started.
    let mark = format!("{}.{}", 86_000, std::process::id());
    host.timeouts.connect = Duration::from_millis(300);
    host.route = Route::Command(format!("sh -c 'sleep {mark} | sleep {mark}'"));
    assert_eq!(exec(host.clone(), "true").report.phase(), Some(Phase::Banner));
    host.route = Route::Command(format!("sh -c 'sleep {mark} & exit 0'"));
    assert!(exec(host, "true").error().is_some());
    let is_left = || {
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            command.starts_with(format!("sleep\0{mark}").as_bytes())
        })
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_left() {
        assert!(Instant::now() < deadline, "a process is left");
        std::thread::yield_now();
    }
}

#[test]
fn a_transport_that_is_dropped_ends_its_bastions() {
    let ground = Ground::start(Ground::healthy(1));
    let (sshd, gate) = gate(&ground, &[]);
    let host = Arc::new(behind(&Arc::new(gate), ground.first()));
    let pool = pool().build();
    assert!(pool.map(&[host], Exec::new("true"))[0].is_ok());
    drop(pool);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !sshd.log().contains("Received disconnect") && !sshd.log().contains("Connection closed") {
        assert!(Instant::now() < deadline, "{}", sshd.log());
        std::thread::yield_now();
    }
}
