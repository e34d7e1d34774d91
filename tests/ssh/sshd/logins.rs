//! Agents, certificates and logins of several steps, against OpenSSH's sshd and ssh-agent.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{AgentUse, Class, ErrorKind, Exec, Host, Identity, Phase, SshTransport};
use fleet_sim::{FixtureKey, HostPlan, KeyKind, Logins, Mode};
use tempfile::TempDir;

use super::keygen;
use crate::fixture::{Builder, Sshd};
use crate::ground::{self, exec, fanout, pool};

/// A real ssh-agent on a socket of its own; ended when it is dropped.
pub(super) struct Agent {
    child: Child,
    pub(super) socket: PathBuf,
}

impl Agent {
    pub(super) fn start(dir: &Path) -> Self {
        let socket = dir.join("agent.sock");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self { child, socket };
        let start = Instant::now();
        // `ssh-add -l` says 1 for an agent without keys, 2 for none.
        while agent.ssh_add().arg("-l").output().unwrap().status.code() == Some(2) {
            assert!(start.elapsed() < Duration::from_secs(20), "ssh-agent does not listen");
            std::thread::yield_now();
        }
        agent
    }

    fn ssh_add(&self) -> Command {
        let mut command = Command::new("ssh-add");
        command.env("SSH_AUTH_SOCK", &self.socket).stdin(Stdio::null());
        command
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Adds a key without the certificate that stands beside it.
    pub(super) fn add_key_alone(&self, key: &Path, dir: &Path) {
        let alone = dir.join("alone");
        fs::copy(key, &alone).unwrap();
        self.add(&alone);
        fs::remove_file(alone).unwrap();
    }

    pub(super) fn add(&self, key: &Path) {
        let added = self.ssh_add().arg("-q").arg(key).output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn host(sshd: &Sshd, dir: &TempDir) -> Host {
    let mut host = Host::new("local", "127.0.0.1");
    host.port = sshd.port();
    host.user = sshd.user();
    host.known_hosts = vec![dir.path().join("known_hosts")];
    host.timeouts.connect = Duration::from_secs(30);
    host
}

fn sshd(configure: impl FnOnce(Builder) -> Builder) -> Sshd {
    configure(Sshd::builder()).start()
}

/// Signs `NAME.pub` for `user`, as `NAME-cert.pub`.
pub(super) fn sign(dir: &Path, authority: &Path, name: &str, user: &str, validity: &str) {
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-I", "test", "-n", user, "-V", validity, "-s"])
        .arg(authority)
        .arg(dir.join(format!("{name}.pub")))
        .status();
    assert!(signed.unwrap().success());
}

const TYPES: [&[&str]; 5] = [
    &["-t", "ed25519", "-N", ""],
    &["-t", "ecdsa", "-b", "256", "-N", ""],
    &["-t", "ecdsa", "-b", "384", "-N", ""],
    &["-t", "ecdsa", "-b", "521", "-N", ""],
    &["-t", "rsa", "-b", "2048", "-N", ""],
];

mod agent {
    use super::*;

    #[test]
    fn keys_of_every_type_sign_through_an_agent() {
        for (number, args) in TYPES.iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let agent = Agent::start(dir.path());
            let (path, public) = keygen(dir.path(), &format!("key{number}"), args);
            agent.add(&path);
            fs::remove_file(&path).unwrap();
            let sshd = sshd(|builder| builder.authorized_keys(&public));
            let mut host = host(&sshd, &dir);
            host.auth.agent = AgentUse::On(agent.socket.clone());
            let result = exec(host, "true");
            assert_eq!(result.class(), Class::Ok, "{args:?}: {result:?}");
        }
    }

    #[test]
    fn the_right_key_goes_first_and_its_private_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        for number in 0..4 {
            agent.add(&keygen(dir.path(), &format!("other{number}"), &["-t", "ed25519", "-N", ""]).0);
        }
        let (path, public) = keygen(dir.path(), "mine", &["-t", "ed25519", "-N", ""]);
        agent.add(&path);
        fs::write(&path, "not a key").unwrap();
        let sshd = sshd(|builder| builder.authorized_keys(&public).config("MaxAuthTries 1"));
        for named in [path, dir.path().join("mine.pub")] {
            let mut host = host(&sshd, &dir);
            host.auth.agent = AgentUse::On(agent.socket.clone());
            host.auth.identities = vec![Identity::File(named)];
            let result = exec(host, "true");
            assert_eq!(result.class(), Class::Ok, "{result:?}");
        }
    }

    #[test]
    fn a_key_in_the_agent_needs_no_passphrase() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        let (path, public) = keygen(dir.path(), "id", &["-t", "rsa", "-b", "2048", "-N", ""]);
        agent.add(&path);
        let locked = Command::new("ssh-keygen").args(["-q", "-p", "-P", "", "-N", "secret", "-f"]).arg(&path).status();
        assert!(locked.unwrap().success());
        fs::remove_file(dir.path().join("id.pub")).unwrap();
        let sshd = sshd(|builder| builder.authorized_keys(&public));
        let mut host = host(&sshd, &dir);
        host.auth.identities = vec![Identity::File(path)];
        let transport = SshTransport::new();
        assert!(!transport.agent_has(&host, &host.auth.identities[0]));
        assert_eq!(transport.load_keys(&[Arc::new(host.clone())]).len(), 1);
        host.auth.agent = AgentUse::OnlyConfigured(agent.socket.clone());
        assert!(transport.agent_has(&host, &host.auth.identities[0]));
        assert_eq!(transport.load_keys(&[Arc::new(host.clone())]).len(), 0);
        assert_eq!(exec(host, "true").class(), Class::Ok);
    }

    #[test]
    fn only_configured_leaves_the_other_keys_alone() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        let (path, public) = keygen(dir.path(), "id", &["-t", "ed25519", "-N", ""]);
        agent.add(&path);
        let sshd = sshd(|builder| builder.authorized_keys(&public));
        let mut host = host(&sshd, &dir);
        host.auth.agent = AgentUse::OnlyConfigured(agent.socket.clone());
        let error = exec(host, "true").error().unwrap().to_string();
        assert!(error.starts_with("nothing to log in with"), "{error}");
    }

    #[test]
    fn too_many_keys_are_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        for number in 0..4 {
            agent.add(&keygen(dir.path(), &format!("other{number}"), &["-t", "ed25519", "-N", ""]).0);
        }
        let sshd = sshd(|builder| builder.config("MaxAuthTries 2"));
        let mut host = host(&sshd, &dir);
        host.auth.agent = AgentUse::On(agent.socket.clone());
        let result = exec(host, "true");
        let error = result.error().unwrap();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Login, Some(Phase::Login)));
        let error = error.to_string();
        assert!(error.starts_with(&format!("login refused for {}: the agent's key SHA256:", sshd.user())), "{error}");
        assert!(error.ends_with(", then the server disconnected: Too many authentication failures"), "{error}");
    }

    #[test]
    fn an_agent_that_is_not_there_is_named_and_the_key_file_does() {
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = keygen(dir.path(), "id", &["-t", "ed25519", "-N", ""]);
        let sshd = sshd(|builder| builder.authorized_keys(&public));
        let mut host = host(&sshd, &dir);
        let socket = dir.path().join("nothing.sock");
        host.auth.agent = AgentUse::On(socket.clone());
        let error = exec(host.clone(), "true").error().unwrap().to_string();
        assert!(error.contains(&format!("; the SSH agent {} cannot be reached", socket.display())), "{error}");
        host.auth.identities = vec![Identity::File(path)];
        assert_eq!(exec(host, "true").class(), Class::Ok);
    }

    /// Answers each connection by `answer`, one message at a time.
    fn imitate(socket: &Path, answer: impl Fn(u8) -> Option<Vec<u8>> + Send + Sync + 'static) {
        let listener = UnixListener::bind(socket).unwrap();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    let mut head = [0; 4];
                    while stream.read_exact(&mut head).is_ok() {
                        let mut message = vec![0; u32::from_be_bytes(head) as usize];
                        stream.read_exact(&mut message).unwrap();
                        let Some(answer) = answer(message[0]) else { return };
                        if answer.is_empty() {
                            continue;
                        }
                        stream.write_all(&(answer.len() as u32).to_be_bytes()).unwrap();
                        stream.write_all(&answer).unwrap();
                    }
                });
            }
        });
    }

    /// An agent's list with one key.
    fn list(public: &str) -> Vec<u8> {
        use base64::Engine as _;
        let blob = base64::engine::general_purpose::STANDARD.decode(public.split(' ').nth(1).unwrap()).unwrap();
        let mut list = vec![12, 0, 0, 0, 1];
        list.extend((blob.len() as u32).to_be_bytes());
        list.extend(blob);
        list.extend([0; 4]);
        list
    }

    #[test]
    fn an_agent_that_hangs_ends_in_the_login_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let (_, public) = keygen(dir.path(), "id", &["-t", "ed25519", "-N", ""]);
        let sshd = sshd(|builder| builder.authorized_keys(&public));
        let keys = list(&public);
        imitate(&dir.path().join("mute"), |_| Some(Vec::new()));
        imitate(&dir.path().join("slow"), move |kind| Some(if kind == 11 { keys.clone() } else { Vec::new() }));
        for name in ["mute", "slow"] {
            let socket = dir.path().join(name);
            let mut host = host(&sshd, &dir);
            host.timeouts.connect = Duration::from_secs(2);
            host.auth.agent = AgentUse::On(socket.clone());
            let result = exec(host, "true");
            let error = result.error().unwrap();
            assert_eq!((error.kind(), error.phase()), (ErrorKind::Timeout, Some(Phase::Login)), "{name}: {error}");
            assert!(error.chain().contains(&format!("{} does not answer", socket.display())), "{}", error.chain());
        }
    }

    #[test]
    fn an_agent_that_refuses_or_vanishes_is_named_and_the_key_file_does() {
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = keygen(dir.path(), "id", &["-t", "ed25519", "-N", ""]);
        let sshd = sshd(|builder| builder.authorized_keys(&public));
        let keys = list(&public);
        let more = keys.clone();
        imitate(&dir.path().join("refuses"), move |kind| Some(if kind == 11 { keys.clone() } else { vec![5] }));
        imitate(&dir.path().join("vanishes"), move |kind| (kind == 11).then(|| more.clone()));
        imitate(&dir.path().join("garbles"), |_| Some(vec![12, 255, 255, 255, 255, 9]));
        for (name, words) in [
            ("refuses", "refused to sign with key SHA256:"),
            ("vanishes", "ended the connection"),
            ("garbles", "no agent's answer"),
        ] {
            let mut host = host(&sshd, &dir);
            host.auth.agent = AgentUse::On(dir.path().join(name));
            let result = exec(host.clone(), "true");
            let error = result.error().unwrap();
            assert_eq!(error.kind(), ErrorKind::Login, "{name}: {error}");
            assert!(error.to_string().contains(words), "{name}: {error}");
            host.auth.identities = vec![Identity::File(path.clone())];
            assert_eq!(exec(host, "true").class(), Class::Ok, "{name}");
        }
    }

    #[test]
    fn a_thousand_hosts_log_in_through_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Agent::start(dir.path());
        let key = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("id")).unwrap();
        agent.add(&key.path);
        let plan = || HostPlan::new().mode(Mode::canned("ok\n")).logins(Logins::key("ops", &key));
        let ground = ground::Ground::start((0..1000).map(|_| plan()).collect());
        let hosts: Vec<_> = ground
            .sim
            .hosts()
            .iter()
            .map(|simulated| {
                let mut host = ground.bare(simulated);
                host.auth.agent = AgentUse::On(agent.socket.clone());
                Arc::new(host)
            })
            .collect();
        let results = pool().fanout(fanout(256)).build().map(&hosts, Exec::new("true"));
        let bad: Vec<_> = results.iter().filter(|result| result.class() != Class::Ok).take(3).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(results.len(), 1000);
    }
}

mod certificate {
    use super::*;

    /// Starts a server that knows no key, only an authority, and returns the authority too.
    fn trusting(dir: &Path, lines: &str) -> (Sshd, PathBuf) {
        let (authority, _) = keygen(dir, "ca", &["-t", "ed25519", "-N", ""]);
        let trusted = format!("TrustedUserCAKeys {}", dir.join("ca.pub").display());
        (sshd(|builder| builder.config(&trusted).config("MaxAuthTries 1").authorized_keys(lines)), authority)
    }

    #[test]
    fn one_beside_a_key_of_any_type_logs_in() {
        let dir = tempfile::tempdir().unwrap();
        let (sshd, authority) = trusting(dir.path(), "");
        for (number, args) in TYPES.iter().enumerate() {
            let name = format!("key{number}");
            let (path, _) = keygen(dir.path(), &name, args);
            sign(dir.path(), &authority, &name, &sshd.user(), "always:forever");
            let mut host = host(&sshd, &dir);
            host.auth.identities = vec![Identity::File(path)];
            let result = exec(host, "true");
            assert_eq!(result.class(), Class::Ok, "{args:?}: {result:?}");
        }
    }

    #[test]
    fn one_of_any_type_logs_in_through_an_agent() {
        for (number, args) in TYPES.iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let (sshd, authority) = trusting(dir.path(), "");
            let agent = Agent::start(dir.path());
            let name = format!("key{number}");
            let (path, _) = keygen(dir.path(), &name, args);
            // The agent has the key alone: the certificate is the file's.
            agent.add(&path);
            sign(dir.path(), &authority, &name, &sshd.user(), "always:forever");
            let mut host = host(&sshd, &dir);
            host.auth.agent = AgentUse::On(agent.socket.clone());
            host.auth.identities = vec![Identity::File(path.clone())];
            let result = exec(host.clone(), "true");
            assert_eq!(result.class(), Class::Ok, "{args:?}, a file: {result:?}");
            // Now it has both, and there is no file.
            agent.add(&path);
            host.auth.identities.clear();
            let result = exec(host, "true");
            assert_eq!(result.class(), Class::Ok, "{args:?}, the agent's: {result:?}");
        }
    }

    #[test]
    fn the_plain_key_does_where_the_certificate_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = keygen(dir.path(), "id", &["-t", "ed25519", "-N", ""]);
        let (sshd, authority) = trusting(dir.path(), &public);
        // Expired: not even offered, or the one try would be gone.
        sign(dir.path(), &authority, "id", &sshd.user(), "20200101:20200102");
        let mut one = host(&sshd, &dir);
        one.auth.identities = vec![Identity::File(path)];
        let result = exec(one, "true");
        assert_eq!(result.class(), Class::Ok, "{result:?}");
        // For somebody else: offered and refused.
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = keygen(dir.path(), "id", &["-t", "ed25519", "-N", ""]);
        let (authority, _) = keygen(dir.path(), "ca", &["-t", "ed25519", "-N", ""]);
        sign(dir.path(), &authority, "id", "somebody-else", "always:forever");
        let sshd = super::sshd(|builder| builder.authorized_keys(&public));
        let mut one = host(&sshd, &dir);
        one.auth.identities = vec![Identity::File(path)];
        let result = exec(one, "true");
        assert_eq!(result.class(), Class::Ok, "{result:?}");
    }
}

#[test]
fn two_keys_in_two_steps_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let (first, one) = keygen(dir.path(), "first", &["-t", "ed25519", "-N", ""]);
    let (second, two) = keygen(dir.path(), "second", &["-t", "ed25519", "-N", ""]);
    let sshd =
        sshd(|builder| builder.authorized_keys(&(one + &two)).config("AuthenticationMethods publickey,publickey"));
    let mut host = host(&sshd, &dir);
    host.auth.identities = vec![Identity::File(first), Identity::File(second)];
    let result = exec(host, "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
}
