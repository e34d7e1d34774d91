//! Keywords of ssh_config that have no other word in fleet: from the line of a file to what sshd sees.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::event::Note;
use fleet::inventory::{Inventory, LocalSecrets, Overrides, Target};
use fleet::ssh_config::{Local, SshConfig};
use fleet::{AgentUse, Class, ErrorKind, Host, HostResult, Phase, Secret};
use fleet_sim::{HostPlan, Logins, Method};

use super::{Ground, keygen};
use crate::ground::{self, PASSWORD, exec, exec_with_notes, stdout};

/// Resolves the host `local` as a file describes it.
fn resolve(text: &str) -> fleet::Result<Host> {
    let inventory = Inventory::parse("[hosts.local]\n", Path::new("hosts.toml")).unwrap();
    let mut overrides = Overrides::default();
    overrides.ssh_config = Some(Arc::new(SshConfig::parse(text, Path::new("config"), Local::from_system())?));
    let resolved = inventory.resolve(&[Target::named("local")], &overrides, &mut LocalSecrets::new())?;
    assert_eq!(resolved.warnings, [""; 0]);
    Ok(Host::clone(&resolved.hosts[0]))
}

impl Ground {
    /// Returns the host as a file describes it that also says `lines`.
    fn described(&self, lines: &str) -> Host {
        let (port, user, dir) = (self.sshd.port(), self.sshd.user(), self.dir.path().display());
        let mut host = resolve(&format!(
            "{lines}\nHostName 127.0.0.1\nPort {port}\nUser {user}\nUserKnownHostsFile {dir}/known_hosts\nIdentityFile {}\n",
            self.key.display()
        ))
        .unwrap();
        host.timeouts.connect = Duration::from_secs(30);
        host
    }

    /// Waits until the server has logged something.
    fn logs(&self, what: &str) {
        let start = Instant::now();
        while !self.sshd.log().contains(what) {
            assert!(start.elapsed() < Duration::from_secs(20), "no \"{what}\" in {}", self.sshd.log());
            std::thread::yield_now();
        }
    }
}

fn error<T>(result: &HostResult<T>) -> (ErrorKind, Option<Phase>, String) {
    let error = result.error().expect("an error");
    (error.kind(), error.phase(), error.chain())
}

#[test]
fn the_algorithms_of_a_file_are_agreed_on() {
    let ground = Ground::with(|builder| builder.host_keys(&["ed25519", "rsa"]).config("LogLevel DEBUG1"));
    let host = ground.described(
        "Ciphers aes128-ctr\nMACs umac-64@openssh.com,hmac-sha2-512\nKexAlgorithms ^ecdh-sha2-nistp384\n\
         HostKeyAlgorithms rsa-sha2-256",
    );
    let result = exec(host, "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    ground.logs("kex: algorithm: ecdh-sha2-nistp384");
    ground.logs("kex: host key algorithm: rsa-sha2-256");
    ground.logs("kex: client->server cipher: aes128-ctr MAC: hmac-sha2-512 ");
    ground.logs("kex: server->client cipher: aes128-ctr MAC: hmac-sha2-512 ");
}

#[test]
fn a_key_type_that_known_hosts_has_goes_before_the_file_s_order() {
    let ground = Ground::with(|builder| builder.host_keys(&["ed25519", "rsa"]).config("LogLevel DEBUG1"));
    let lines = ground.sshd.known_hosts();
    let rsa = lines.lines().find(|line| line.contains("ssh-rsa")).unwrap();
    fs::write(ground.dir.path().join("known_hosts"), format!("{rsa}\n")).unwrap();
    let result =
        exec(ground.described("HostKeyAlgorithms ssh-ed25519,rsa-sha2-512\nStrictHostKeyChecking yes"), "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    ground.logs("kex: host key algorithm: rsa-sha2-512");
}

#[test]
fn where_nothing_is_agreed_on_both_offers_are_told() {
    let server = "KexAlgorithms curve25519-sha256\nCiphers aes256-ctr\nMACs hmac-sha2-256,hmac-sha1";
    let ground = Ground::with(|builder| builder.config(server));
    for (line, told) in [
        (
            "Ciphers aes128-ctr,aes192-ctr",
            "no cipher in common: the server offers aes256-ctr; fleet offers aes128-ctr, aes192-ctr",
        ),
        (
            "MACs hmac-sha2-512",
            "no MAC in common: the server offers hmac-sha2-256, hmac-sha1; fleet offers hmac-sha2-512",
        ),
        (
            "KexAlgorithms ecdh-sha2-nistp256",
            "no key exchange in common: the server offers curve25519-sha256; fleet offers ecdh-sha2-nistp256",
        ),
        (
            "HostKeyAlgorithms rsa-sha2-512",
            "no host key in common: the server offers ssh-ed25519; fleet offers rsa-sha2-512",
        ),
    ] {
        let result = exec(ground.described(line), "true");
        assert_eq!((result.class(), result.report.attempts), (Class::Unreachable, 1), "{line}: {result:?}");
        let (kind, phase, text) = error(&result);
        assert_eq!((kind, phase, text.as_str()), (ErrorKind::Protocol, Some(Phase::KeyExchange), told), "{line}");
    }
    assert_eq!(exec(ground.described("Ciphers -aes128-*"), "true").class(), Class::Ok);
}

#[test]
fn an_old_server_is_told_by_what_it_offers() {
    for (server, told) in [
        (
            "KexAlgorithms diffie-hellman-group14-sha1,diffie-hellman-group1-sha1",
            "no key exchange in common: the server offers diffie-hellman-group14-sha1, diffie-hellman-group1-sha1; \
             fleet offers ",
        ),
        ("HostKeyAlgorithms ssh-rsa", "no host key in common: the server offers ssh-rsa; fleet offers "),
        ("Ciphers 3des-cbc", "no cipher in common: the server offers 3des-cbc; fleet offers "),
        (
            "Ciphers aes128-ctr\nMACs hmac-sha1,umac-64@openssh.com",
            "no MAC in common: the server offers hmac-sha1, umac-64@openssh.com; fleet offers hmac-sha2-256, ",
        ),
    ] {
        let ground = Ground::with(|builder| builder.host_keys(&["rsa"]).config(server));
        let result = exec(ground.described(""), "true");
        assert_eq!((result.class(), result.report.attempts), (Class::Unreachable, 1), "{server}: {result:?}");
        let (kind, phase, text) = error(&result);
        assert_eq!((kind, phase), (ErrorKind::Protocol, Some(Phase::KeyExchange)), "{server}: {text}");
        assert!(text.starts_with(told), "{server}: {text}");
        assert!(!text.contains("ext-info") && !text.contains("kex-strict"), "{server}: {text}");
    }
}

#[test]
fn a_cipher_with_a_mac_of_its_own_needs_no_other() {
    let ground = Ground::with(|builder| builder.config("MACs hmac-sha2-256"));
    for cipher in ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"] {
        let result = exec(ground.described(&format!("MACs hmac-sha2-512\nCiphers {cipher}")), "true");
        assert_eq!(result.class(), Class::Ok, "{cipher}: {result:?}");
    }
}

#[test]
fn signatures_that_are_not_accepted_are_not_offered() {
    let dir = tempfile::tempdir().unwrap();
    let (rsa, public) = keygen(dir.path(), "rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
    let ground =
        Ground::with(|builder| builder.authorized_keys(&public).config("LogLevel DEBUG1").config("MaxAuthTries 1"));
    let named = format!("IdentityFile {}\nPubkeyAcceptedAlgorithms rsa-sha2-256", rsa.display());
    let result = exec(ground.described(&named), "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    ground.logs("test pkalg rsa-sha2-256 ");
    let (kind, _, text) = error(&exec(ground.described("PubkeyAcceptedAlgorithms rsa-*"), "true"));
    assert_eq!(kind, ErrorKind::Login, "{text}");
    assert!(text.starts_with("nothing to log in with"), "{text}");
}

#[test]
fn a_certificate_that_is_named_logs_in_with_the_key_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = keygen(dir.path(), "ca", &["-t", "ed25519", "-N", ""]);
    let (mine, _) = keygen(dir.path(), "mine", &["-t", "ed25519", "-N", ""]);
    let (other, _) = keygen(dir.path(), "other", &["-t", "ed25519", "-N", ""]);
    let trusted = format!("TrustedUserCAKeys {}", dir.path().join("ca.pub").display());
    let ground = Ground::with(|builder| builder.config(&trusted).config("MaxAuthTries 3"));
    for (name, user) in [("mine", &*ground.sshd.user()), ("other", "somebody-else")] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-I", "test", "-n", user, "-s"]).arg(&authority).arg(dir.path().join(format!("{name}.pub")));
        assert!(keygen.status().unwrap().success());
        fs::create_dir_all(dir.path().join("certs")).unwrap();
        fs::rename(dir.path().join(format!("{name}-cert.pub")), dir.path().join("certs").join(name)).unwrap();
    }
    let lines = |which: &[&str]| -> String {
        let named = which.iter().map(|name| format!("CertificateFile {}/certs/{name}\n", dir.path().display()));
        named.collect::<String>() + &format!("IdentityFile {}\nIdentityFile {}", other.display(), mine.display())
    };
    let mut without = ground.described(&lines(&[]));
    without.auth.identities.pop();
    assert_eq!(error(&exec(without, "true")).0, ErrorKind::Login);
    let mut host = ground.described(&lines(&["other", "mine"]));
    // The key that the server knows: it must not be what lets in.
    host.auth.identities.pop();
    // "other" with its certificate and without are two tries, "mine" with its certificate the third.
    let result = exec(host, "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    ground.logs("Accepted publickey for");
    ground.logs("ED25519-CERT");

    // One that is for no key at hand is not offered; one that will not do is named.
    let mut host = ground.described(&lines(&["mine"]));
    host.auth.identities.truncate(1);
    fs::write(dir.path().join("certs/broken"), "not a certificate").unwrap();
    for (name, args) in [("old", &["-V", "20200101:20200102"][..]), ("host", &["-h"])] {
        let public = dir.path().join(format!("{name}.pub"));
        fs::copy(dir.path().join("other.pub"), &public).unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-I", "test", "-n", "x"]).args(args).arg("-s").arg(&authority).arg(public);
        assert!(keygen.status().unwrap().success());
        fs::rename(dir.path().join(format!("{name}-cert.pub")), dir.path().join("certs").join(name)).unwrap();
    }
    host.auth.certificates.extend(["broken", "old", "host"].map(|name| dir.path().join("certs").join(name)));
    let (kind, _, text) = error(&exec(host, "true"));
    assert_eq!(kind, ErrorKind::Login);
    assert!(
        text.starts_with(&format!("login refused for {}: key {} (", ground.sshd.user(), other.display())),
        "{text}"
    );
    let certs = dir.path().join("certs").display().to_string();
    let reasons = format!(
        "; certificate {certs}/broken is no certificate that can be read; certificate {certs}/old has expired; \
         certificate {certs}/host is the certificate of a host"
    );
    assert!(text.ends_with(&reasons), "{text}");
}

#[test]
fn a_certificate_that_is_named_logs_in_with_a_key_of_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, _) = keygen(dir.path(), "ca", &["-t", "ed25519", "-N", ""]);
    let (mine, _) = keygen(dir.path(), "mine", &["-t", "ed25519", "-N", ""]);
    let trusted = format!("TrustedUserCAKeys {}", dir.path().join("ca.pub").display());
    let ground = Ground::with(|builder| builder.config(&trusted).config("MaxAuthTries 1"));
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-I", "test", "-n", &ground.sshd.user(), "-s"]).arg(&authority).arg(dir.path().join("mine.pub"));
    assert!(keygen.status().unwrap().success());
    let agent = super::logins::Agent::start(dir.path());
    agent.add_key_alone(&mine, dir.path());
    let mut host = ground.described(&format!("CertificateFile {}/mine-cert.pub", dir.path().display()));
    host.auth.identities.clear();
    host.auth.agent = AgentUse::OnlyConfigured(agent.socket().to_owned());
    let result = exec(host, "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    ground.logs("ED25519-CERT");
}

#[test]
fn only_preferred_methods_are_tried_and_in_their_order() {
    let methods = vec![Method::PublicKey, Method::Password, Method::KeyboardInteractive];
    let start = || {
        let ground = ground::Ground::one(HostPlan::new());
        let logins = Logins::key("ops", &ground.key).with_password("ops", PASSWORD).methods(methods.clone());
        ground::Ground::one(HostPlan::new().logins(logins))
    };
    // The key of another ground: refused wherever it is offered.
    for (line, refused_keys, by_password, by_answer) in [
        ("", 1, 1, 0),
        ("PreferredAuthentications publickey,keyboard-interactive,password", 1, 0, 1),
        ("PreferredAuthentications gssapi-with-mic,password,publickey", 0, 1, 0),
        ("PreferredAuthentications keyboard-interactive,publickey", 0, 0, 1),
        ("PasswordAuthentication no", 1, 0, 1),
        ("PasswordAuthentication no\nPubkeyAuthentication no", 0, 0, 1),
        ("KbdInteractiveAuthentication no\nPreferredAuthentications keyboard-interactive,password", 0, 1, 0),
    ] {
        let ground = start();
        let auth = resolve(&format!("{line}\nIdentityFile none")).unwrap().auth;
        let mut host = ground.first();
        host.auth.methods = auth.methods;
        host.auth.password = Some(Secret::from(PASSWORD));
        let result = exec(host, "true");
        assert_eq!(result.class(), Class::Ok, "{line}: {result:?}");
        let stats = ground.sim.stats();
        let seen = (stats.publickey.refused, stats.password.accepted, stats.keyboard_interactive.accepted);
        assert_eq!(seen, (refused_keys, by_password, by_answer), "{line}: {stats:?}");
    }
    let ground = start();
    let mut host = ground.first();
    host.auth.methods = resolve("PreferredAuthentications keyboard-interactive,password").unwrap().auth.methods;
    host.auth.password = Some(Secret::from("wrong"));
    assert_eq!(error(&exec(host, "true")).0, ErrorKind::Login);
    let stats = ground.sim.stats();
    assert_eq!((stats.password.refused, stats.keyboard_interactive.refused), (0, 1), "{stats:?}");
}

#[test]
fn the_environment_is_set_as_far_as_the_server_allows() {
    let ground = Ground::with(|builder| builder.config("AcceptEnv FLEET_*"));
    let host = ground.described("SetEnv FLEET_A=1 \"FLEET_B=two words\" OTHER=3 FLEET_A=4");
    let (result, notes) = exec_with_notes(host, "echo \"$FLEET_A-$FLEET_B-$OTHER\"");
    assert_eq!(stdout(&result), "1-two words-\n");
    let details: Vec<_> =
        notes.iter().filter_map(|note| if let Note::Detail(text) = note { Some(text) } else { None }).collect();
    assert_eq!(details, ["the server does not set OTHER"]);
}

#[test]
fn addresses_of_the_wanted_family_are_dialled_from_the_wanted_address() {
    let ground = Ground::start();
    let host = ground.described("AddressFamily inet\nBindAddress 127.0.0.9");
    let result = exec(host, "echo $SSH_CLIENT");
    assert!(stdout(&result).starts_with("127.0.0.9 "), "{result:?}");

    let (kind, phase, text) = error(&exec(ground.described("AddressFamily inet6"), "true"));
    assert_eq!((kind, phase), (ErrorKind::Resolve, Some(Phase::Resolve)));
    assert_eq!(text, "127.0.0.1 has no IPv6 address, and no other may be used");

    let to = format!("127.0.0.1:{}", ground.sshd.port());
    // 192.0.2.0/24 is for documentation (RFC 5737): this machine has none of it.
    for (address, text) in [
        ("192.0.2.1", format!("cannot connect to {to} from 192.0.2.1: cannot assign requested address")),
        ("::1", format!("cannot connect to {to} from ::1: it is of another address family")),
    ] {
        let result = exec(ground.described(&format!("BindAddress {address}")), "true");
        assert_eq!(error(&result), (ErrorKind::Usage, Some(Phase::Connect), text));
        assert_eq!((result.class(), result.report.attempts), (Class::Unreachable, 1));
    }
}

#[test]
fn a_refused_connection_is_tried_as_often_as_said() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut host = resolve(&format!("HostName 127.0.0.1\nPort {closed}\nConnectionAttempts 2")).unwrap();
    let (result, notes) = exec_with_notes(host.clone(), "true");
    let retries = notes.iter().filter(|note| matches!(note, Note::Retrying { attempt: 1, .. })).count();
    assert_eq!((error(&result).0, retries, result.report.attempts), (ErrorKind::Connect, 1, 1));
    // Within the connect timeout.
    host.connection_attempts = 1_000_000;
    host.timeouts.connect = Duration::from_millis(500);
    let (result, notes) = exec_with_notes(host, "true");
    assert_eq!((error(&result).0, notes.len()), (ErrorKind::Connect, 0));
}

#[test]
fn a_server_that_comes_up_meanwhile_is_reached_by_the_next_attempt() {
    let ground = Ground::start();
    // The port is closed until the first attempt was refused; then a relay to the server listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut host = ground.described("ConnectionAttempts 20");
    let server = (host.address.clone(), host.port);
    host.port = port.port();
    let mut relays = Vec::new();
    let mut sink = |event: &fleet::Event| {
        if let fleet::EventKind::Note { note: Note::Retrying { .. }, .. } = &event.kind
            && relays.is_empty()
        {
            let listener = TcpListener::bind(port)?;
            let server = server.clone();
            relays.push(std::thread::spawn(move || {
                let (client, _) = listener.accept().unwrap();
                let server = std::net::TcpStream::connect(server).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let up = std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let (mut from, mut to) = (server, client);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
                up.join().unwrap();
            }));
        }
        Ok(())
    };
    let mut result = None;
    let outputs = fleet::Outputs::new().sink(&mut sink);
    ground::pool().build().run_with(
        &[Arc::new(host)],
        fleet::Exec::new("true"),
        &fleet::pool::RunControl::new(),
        outputs,
        |one| result = Some(one),
    );
    assert_eq!(result.unwrap().class(), Class::Ok);
    relays.pop().expect("a first attempt").join().unwrap();
}

#[test]
fn what_leaves_nothing_stops_before_anything_is_contacted() {
    for (text, message) in [
        (
            "\nCiphers 3des-cbc",
            "config:2: Ciphers 3des-cbc leaves nothing that is supported: there are chacha20-poly1305@openssh.com, ",
        ),
        (
            "MACs umac-64@openssh.com",
            "config:1: MACs umac-64@openssh.com leaves nothing that is supported: there are hmac-sha2-256, ",
        ),
        (
            "KexAlgorithms -*",
            "config:1: KexAlgorithms -* leaves nothing that is supported: there are mlkem768x25519-sha256, ",
        ),
        (
            "HostKeyAlgorithms ssh-dss",
            "config:1: HostKeyAlgorithms ssh-dss leaves nothing that is supported: there are ssh-ed25519, ",
        ),
        (
            "PreferredAuthentications gssapi-with-mic",
            "config:1: PreferredAuthentications gssapi-with-mic leaves no way to log in: there are publickey, ",
        ),
        ("Ciphers +", "config:1: Ciphers: a name is missing"),
        ("AddressFamily inet4", "config:1: AddressFamily: \"inet4\" is not one of inet, inet6, any"),
        ("ConnectionAttempts x", "config:1: ConnectionAttempts: \"x\" is no whole number"),
    ] {
        let error = resolve(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().starts_with(message), "{error}");
    }
}
