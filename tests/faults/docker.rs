//! The faults that containers have: one host frozen and one cut off its network in the middle of each operation.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fleet::{EventKind, Host, Identity, Secret};

use crate::fixture::{Turn, fixture};
use crate::ground::Ground;
use crate::matrix::{Doing, Fault, Place};
use crate::run::{FILE, Plan, content, healthy, limited, patient, turn};

/// How long each step may take on a faulty host. Until then it has to be frozen or cut off.
const LIMIT: Duration = Duration::from_secs(6);

/// How long sshd may take to notice that fleet is gone: three times its `ClientAliveInterval`, and what ends the command.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is promised of a connection that ends without a word begins when the command has run for a second.
const COMMAND: &str = "[ ! -e slow ] || { sleep 2; echo begun; sleep 1000 & sleep 1000 | cat; }";

/// Prepares a container, as root: sshd notices soon that a client is gone, and a file takes 15 s either way.
const PREPARE: &str = r#"
set -e
cat >/slow-sftp <<'END'
#!/bin/sh
slow='while (sysread(STDIN, $b, 2048)) { syswrite(STDOUT, $b); select(undef, undef, undef, 0.1) }'
perl -e "$slow" | /usr/lib/openssh/sftp-server | perl -e "$slow"
END
chmod 755 /slow-sftp
sed -i 's|^Subsystem sftp .*|Subsystem sftp /slow-sftp|' /etc/ssh/sshd_config
echo 'ClientAliveInterval 2' >>/etc/ssh/sshd_config
head -c 300000 /dev/zero >/home/ops/file
touch /home/ops/slow
kill -HUP "$(cat /run/sshd.pid)"
"#;

fn container(doing: Doing, fault: Fault) -> &'static str {
    match (doing, fault) {
        (Doing::Exec, Fault::Frozen) => "key1",
        (Doing::Put, Fault::Frozen) => "key2",
        (Doing::Get, Fault::Frozen) => "key3",
        (Doing::Exec, Fault::CutOff) => "pw1",
        (Doing::Put, Fault::CutOff) => "pw2",
        (Doing::Get, Fault::CutOff) => "pw3",
        _ => unreachable!("the simulator has these"),
    }
}

fn all() -> impl Iterator<Item = (Doing, Fault)> {
    Doing::ALL.iter().flat_map(|doing| Fault::all_of(Place::Docker).map(|fault| (*doing, fault)))
}

/// Returns how fleet reaches a container by its own address: a published port goes through a proxy, which never freezes.
fn reached(fixture: &Turn, ground: &Ground, name: &str) -> Host {
    let inventory: toml::Table = fixture.read("hosts-direct.toml").parse().unwrap();
    let mut host = Host::new(name, inventory["hosts"][name]["address"].as_str().unwrap());
    host.user = "ops".to_owned();
    host.known_hosts = vec![ground.path("known_hosts")];
    host.auth.identities.push(Identity::File(fixture.path("id_ed25519")));
    if name.starts_with("pw") {
        host.auth.identities.clear();
        host.auth.password = Some(Secret::from(fixture.read("password").trim()));
    }
    host
}

/// Waits until sshd answers again.
fn wait_for_sshd(host: &Host) {
    let since = Instant::now();
    let answers = || {
        let mut stream = std::net::TcpStream::connect((host.address.as_str(), 22))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        std::io::Read::read_exact(&mut stream, &mut [0; 4])
    };
    while let Err(error) = answers() {
        assert!(since.elapsed() < PATIENCE, "{}: {error}", host.name);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until nothing of the login runs any more, sshd's part for it included.
fn assert_nothing_is_left(fixture: &Turn, name: &str) {
    let since = Instant::now();
    loop {
        let left = fixture.on(name, "ps -u ops -o stat=,args= | grep -v ^Z || true");
        if left.is_empty() {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{name} still runs {left}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn check(doing: Doing, fixture: &mut Turn) {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(FILE), content()).unwrap();
    let ground = Ground::start(healthy(doing, home.path()));
    std::fs::write(ground.path(FILE), content()).unwrap();
    let faulty: Vec<(Fault, Arc<Host>)> = Fault::all_of(Place::Docker)
        .map(|fault| (fault, limited(reached(fixture, &ground, container(doing, fault)), LIMIT)))
        .collect();
    let run = Plan {
        doing,
        command: COMMAND,
        ground: &ground,
        healthy: ground.sim.hosts().iter().map(|host| patient(ground.host(host))).collect(),
        faulty: faulty.clone(),
        limit: LIMIT,
    };
    let (begun, begins) = mpsc::channel();
    let mut waiting = faulty;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            run.run(move |event| {
                // The first that is heard of the middle: output, or bytes of the file.
                let (EventKind::Output { host, .. } | EventKind::Transfer { host, .. }) = &event.kind else { return };
                if let Some(at) = waiting.iter().position(|(_, faulty)| Arc::ptr_eq(faulty, host)) {
                    begun.send(waiting.swap_remove(at).0).unwrap();
                }
            });
        });
        for fault in begins {
            match fault {
                Fault::Frozen => fixture.docker(&["pause"], container(doing, fault)),
                _ => fixture.disconnect(container(doing, fault)),
            }
        }
    });
}

#[test]
fn a_frozen_and_a_cut_off_host_under_every_operation() {
    let _turn = turn();
    let mut fixture = fixture();
    fixture.disturb();
    let ground = Ground::start(Vec::new());
    for (doing, fault) in all() {
        fixture.on(container(doing, fault), PREPARE);
    }
    for (doing, fault) in all() {
        wait_for_sshd(&reached(&fixture, &ground, container(doing, fault)));
    }
    for doing in Doing::ALL {
        check(*doing, &mut fixture);
    }
    for (doing, fault) in all() {
        match fault {
            Fault::Frozen => fixture.docker(&["unpause"], container(doing, fault)),
            _ => fixture.reconnect(container(doing, fault)),
        }
    }
    for (doing, fault) in all() {
        assert_nothing_is_left(&fixture, container(doing, fault));
    }
}
