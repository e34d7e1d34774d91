//! Host certificates and changed keys, as ssh judges them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleet::event::{HostKeyAction, Note};
use fleet::known_hosts::Verdict;
use fleet::op::Scan;
use fleet::ssh::KeyScan;
use fleet::{Class, ErrorKind, Host, HostKeyPolicy, Phase, Pool};
use tempfile::TempDir;

use super::{Ground, keygen};
use crate::ground::{exec, exec_with_notes, run_in};

/// A server with a host certificate, and the authority that made it.
struct Certified {
    ground: Ground,
    authority: String,
    /// Where the authority's key is.
    dir: TempDir,
}

impl Certified {
    /// Starts a server whose key of `kind` was signed with these arguments of `ssh-keygen -s`.
    fn start(kind: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ca, authority) = keygen(dir.path(), "ca", &["-t", "ed25519", "-N", "", "-C", ""]);
        let (key, _) = keygen(dir.path(), "host", &["-t", kind, "-N", "", "-C", ""]);
        sign(&ca, args, &key);
        let lines = format!("HostKey {0}\nHostCertificate {0}-cert.pub", key.display());
        let ground = Ground::with(|builder| builder.host_keys(&[]).config(&lines));
        Self { ground, authority: authority.trim().to_owned(), dir }
    }

    fn host(&self) -> Host {
        let mut host = self.ground.host();
        host.host_key = HostKeyPolicy::Strict;
        host
    }

    /// Returns the server's own key, `TYPE BASE64`.
    fn key(&self) -> String {
        fs::read_to_string(self.dir.path().join("host.pub")).unwrap().trim().to_owned()
    }

    /// The name that known_hosts has for the server.
    fn name(&self) -> String {
        self.ground.host().known_hosts_name()
    }

    fn know(&self, text: &str) {
        fs::write(self.known_hosts(), text).unwrap();
    }

    fn known_hosts(&self) -> PathBuf {
        self.ground.dir.path().join("known_hosts")
    }

    /// Tells whether ssh lets itself be led to the server, under the strictest policy.
    fn ssh_agrees(&self) -> bool {
        let port = self.ground.sshd.port().to_string();
        let known_hosts = format!("UserKnownHostsFile={}", self.known_hosts().display());
        let options = ["StrictHostKeyChecking=yes", "BatchMode=yes", "GlobalKnownHostsFile=none", &known_hosts];
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &port]).arg("-i").arg(&self.ground.key);
        options.iter().for_each(|option| {
            ssh.args(["-o", option]);
        });
        ssh.args(["127.0.0.1", "true"]).output().unwrap().status.success()
    }

    /// Asserts that a login is refused because of the key, and returns why.
    fn refusal(&self, host: Host) -> String {
        let result = exec(host, "true");
        let error = result.error().unwrap();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::HostKey, Some(Phase::HostKey)), "{error:?}");
        error.to_string()
    }
}

fn sign(ca: &Path, args: &[&str], key: &Path) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.arg("-q").arg("-s").arg(ca).args(["-I", "id"]).args(args).arg(key.with_extension("pub"));
    assert!(keygen.status().unwrap().success());
}

#[test]
fn a_certificate_of_a_known_authority_is_enough() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let certified = Certified::start(kind, &["-h", "-n", "127.0.0.1,other"]);
        let name = certified.name();
        for hosts in ["127.0.0.1", &name, "127.0.*", "[127.0.0.1]:*"] {
            certified.know(&format!("@cert-authority {hosts} {}\n", certified.authority));
            let (result, notes) = exec_with_notes(certified.host(), "true");
            assert_eq!(result.class(), Class::Ok, "{kind} for {hosts}: {result:?}");
            assert!(notes.is_empty(), "{notes:?}");
            assert!(certified.ssh_agrees(), "{kind} for {hosts}");
        }
        let text = fs::read_to_string(certified.known_hosts()).unwrap();
        assert_eq!(text.lines().count(), 1, "nothing is recorded: {text}");
    }
}

#[test]
fn an_alias_is_the_name_that_a_certificate_is_for() {
    let certified = Certified::start("ed25519", &["-h", "-n", "cluster"]);
    certified.know(&format!("@cert-authority cluster,127.0.0.1 {}\n", certified.authority));
    let mut host = certified.host();
    let why = certified.refusal(host.clone());
    assert!(why.ends_with("is for cluster, not for 127.0.0.1"), "{why}");
    assert!(!certified.ssh_agrees());
    host.host_key_alias = Some("Cluster".to_owned());
    assert_eq!(exec(host, "true").class(), Class::Ok);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_taken_for_its_key() {
    let certified = Certified::start("ed25519", &["-h", "-n", "127.0.0.1"]);
    let (_, other) = keygen(certified.dir.path(), "other", &["-t", "ed25519", "-N", ""]);
    certified.know(&format!("@cert-authority * {other}"));
    let why = certified.refusal(certified.host());
    assert!(why.contains("is not in known_hosts: ssh-ed25519 SHA256:"), "{why}");
    assert!(!certified.ssh_agrees());
    let mut host = certified.host();
    host.host_key = HostKeyPolicy::AcceptNew;
    let (result, notes) = exec_with_notes(host, "true");
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    assert!(matches!(notes[..], [Note::HostKey { action: HostKeyAction::Recorded, .. }]), "{notes:?}");
    let text = fs::read_to_string(certified.known_hosts()).unwrap();
    assert_eq!(text, format!("@cert-authority * {other}{} {}\n", certified.name(), certified.key()), "its plain key");
    assert_eq!(exec(certified.host(), "true").class(), Class::Ok);
    assert!(certified.ssh_agrees());
}

#[test]
fn a_certificate_that_is_not_valid_says_why() {
    let cases: [(&[&str], &str); 6] = [
        (&["-h", "-n", "127.0.0.1", "-V", "20200101000000Z:20210101000000Z"], "expired at 2021-01-01T00:00:00Z"),
        (
            &["-h", "-n", "127.0.0.1", "-V", "20980101000000Z:20990101000000Z"],
            "is not valid before 2098-01-01T00:00:00Z",
        ),
        (&["-h", "-n", "a,b"], "is for a, b, not for 127.0.0.1"),
        (&["-n", "127.0.0.1"], "is not a host's"),
        (&["-h"], "names no host"),
        (&["-h", "-n", "127.0.0.1", "-O", "critical:x@example=1"], "has an option that no host's certificate may have"),
    ];
    for (args, expected) in cases {
        let certified = Certified::start("ed25519", args);
        let authority = format!("@cert-authority 127.0.0.1 {}\n", certified.authority);
        certified.know(&authority);
        let mut host = certified.host();
        // Nor would it be accepted as a new key: its authority would vouch for what is valid.
        host.host_key = HostKeyPolicy::AcceptNew;
        let why = certified.refusal(host.clone());
        let place = format!("by the authority of {}:1, ", certified.known_hosts().display());
        assert!(why.ends_with(&format!("{place}{expected}")), "{why}");
        assert_eq!(fs::read_to_string(certified.known_hosts()).unwrap(), authority);
        // The key itself may be known all the same.
        certified.know(&format!("{authority}{} {}\n", certified.name(), certified.key()));
        let (result, notes) = exec_with_notes(host, "true");
        assert_eq!(result.class(), Class::Ok, "{result:?}");
        assert!(matches!(&notes[..], [Note::Warning(text)] if text.ends_with(expected)), "{notes:?}");
        assert!(certified.ssh_agrees(), "{args:?}");
    }
}

#[test]
fn a_revoked_authority_and_a_revoked_key_are_refused_whatever_else_is_said() {
    let certified = Certified::start("ed25519", &["-h", "-n", "127.0.0.1"]);
    let known = format!("@cert-authority * {}\n{} {}\n", certified.authority, certified.name(), certified.key());
    for (revoked, expected) in
        [(&certified.authority, "the authority of the host key of "), (&certified.key(), "the host key of ")]
    {
        certified.know(&format!("{known}@revoked * {revoked}\n"));
        let mut host = certified.host();
        host.host_key = HostKeyPolicy::Off;
        let why = certified.refusal(host);
        assert!(why.starts_with(expected) && why.contains(" is revoked ("), "{why}");
        assert!(why.contains(&format!("{}:3", certified.known_hosts().display())), "{why}");
        assert!(!certified.ssh_agrees());
    }
}

#[test]
fn a_server_without_a_certificate_is_asked_for_its_key() {
    let ground = Ground::start();
    let (_, authority) = keygen(ground.dir.path(), "ca", &["-t", "rsa", "-b", "2048", "-N", ""]);
    let text = format!("@cert-authority * {authority}{}", ground.sshd.known_hosts());
    fs::write(ground.dir.path().join("known_hosts"), text).unwrap();
    let mut host = ground.host();
    host.host_key = HostKeyPolicy::Strict;
    assert_eq!(exec(host, "true").class(), Class::Ok);
}

#[test]
fn a_changed_key_is_refused_and_a_look_at_it_may_take_it() {
    let (old, new) = (Ground::start(), Ground::with(|builder| builder.host_keys(&["ed25519", "ecdsa"])));
    let name = new.host().known_hosts_name();
    let path = new.dir.path().join("known_hosts");
    fs::write(&path, format!("{name} {}\n", old.sshd.host_keys()[0])).unwrap();
    let result = exec(new.host(), "true");
    let why = result.error().unwrap().to_string();
    assert!(why.contains("has CHANGED") && why.matches("ssh-ed25519 SHA256:").count() == 2, "{why}");
    assert!(why.contains(&format!("{}:1", path.display())), "{why}");

    let look = |scan: KeyScan| run_in(Pool::builder(scan), new.host(), Scan);
    let result = look(KeyScan::new());
    assert_eq!((result.class(), result.error().unwrap().to_string()), (Class::Unreachable, why));
    let result = look(KeyScan::new().replacing(["local"]));
    let presented = result.value().unwrap();
    assert!(matches!(&presented.verdict, Verdict::Changed(known) if known.place.line == 1), "{presented:?}");
    let log = new.sshd.log();
    assert!(!log.contains("Accepted"), "nobody logged in: {log}");
    fs::write(&path, format!("{name} {}\n", new.sshd.host_keys()[1])).unwrap();
    let result = look(KeyScan::new());
    let presented = result.value().unwrap();
    assert_eq!((presented.key_type(), &presented.verdict), ("ecdsa-sha2-nistp256", &Verdict::Match), "the known one");
    fs::write(&path, "").unwrap();
    assert_eq!(look(KeyScan::new().strict()).class(), Class::Unreachable);
    assert_eq!(look(KeyScan::new()).value().unwrap().verdict, Verdict::Unknown);
    assert_eq!(fs::read_to_string(&path).unwrap(), "", "a look records nothing");
}
