//! Against OpenSSH's sshd on loopback: what must hold with the real server.

mod bastions;
mod copy_id;
mod files;
mod guard;
mod host_keys;
mod inputs;
mod keywords;
mod limits;
mod logins;
mod scripts;
mod terminals;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use fleet::op::{Context, Get, Put};
use fleet::{Class, ErrorKind, Exec, ExitStatus, Host, HostKeyPolicy, Identity, Phase, Secret};
use tempfile::TempDir;

use crate::fixture::{Builder, Sshd};
use crate::ground::{exec, fanout, pool, run, stderr, stdout};

/// Makes a key with ssh-keygen and returns its path and public line.
fn keygen(dir: &Path, name: &str, args: &[&str]) -> (PathBuf, String) {
    let path = dir.join(name);
    let made = Command::new("ssh-keygen").arg("-q").args(args).arg("-f").arg(&path).status().unwrap();
    assert!(made.success());
    let public = fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
    (path, public)
}

pub(crate) struct Ground {
    dir: TempDir,
    key: PathBuf,
    sshd: Sshd,
}

impl Ground {
    pub(crate) fn start() -> Self {
        Self::with(|builder| builder)
    }

    fn with(configure: impl FnOnce(Builder) -> Builder) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (key, public) = keygen(dir.path(), "id", &["-t", "ed25519", "-N", ""]);
        let sshd = configure(Sshd::builder().authorized_keys(&public)).start();
        Self { dir, key, sshd }
    }

    pub(crate) fn host(&self) -> Host {
        let mut host = Host::new("local", "127.0.0.1");
        host.port = self.sshd.port();
        host.user = self.sshd.user();
        host.auth.identities.push(Identity::File(self.key.clone()));
        host.known_hosts = vec![self.dir.path().join("known_hosts")];
        host.timeouts.connect = Duration::from_secs(30);
        host
    }
}

#[test]
fn streams_status_and_signal_are_told_apart() {
    let ground = Ground::start();
    let result = exec(ground.host(), "echo out; echo err >&2; exit 7");
    assert_eq!((stdout(&result).as_str(), stderr(&result).as_str()), ("out\n", "err\n"));
    assert_eq!(result.value().unwrap().code(), Some(7));
    let result = exec(ground.host(), "kill -KILL $$");
    assert_eq!(result.value().unwrap().ended.status, ExitStatus::Signal("KILL".into()));
}

#[test]
fn a_command_finds_its_variables_and_directory() {
    let ground = Ground::start();
    let context = Context::new().env("A", "it's\n!\\").cwd("/usr").export_host(true);
    let result =
        run(ground.host(), Exec::new("printf '%s|' \"$A\" \"$PWD\" $FLEET_HOST; kill -KILL $$").within(context));
    assert_eq!(stdout(&result), "it's\n!\\|/usr|local|");
    assert_eq!(result.value().unwrap().ended.status, ExitStatus::Signal("KILL".into()));
}

#[test]
fn both_streams_flood_at_once() {
    let ground = Ground::start();
    let result = exec(ground.host(), "head -c 5242880 /dev/zero & head -c 5242880 /dev/zero >&2; wait");
    assert_eq!((result.report.facts.stdout_bytes, result.report.facts.stderr_bytes), (5_242_880, 5_242_880));
}

#[test]
fn keys_of_every_type_and_form_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let forms: &[&[&str]] = &[&["-N", ""], &["-N", "", "-m", "PEM"], &["-N", "", "-m", "PKCS8"], &["-N", "swordfish"]];
    let types: &[&[&str]] = &[
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
    ];
    let mut keys = Vec::new();
    let mut lines = String::new();
    for (number, args) in types.iter().flat_map(|kind| forms.iter().map(|form| [*kind, *form].concat())).enumerate() {
        let (path, public) = keygen(dir.path(), &format!("key{number}"), &args);
        lines.push_str(&public);
        keys.push((args, path));
    }
    let ground = Ground::with(|builder| builder.authorized_keys(&lines));
    for (args, path) in keys {
        let mut host = ground.host();
        host.auth.identities = vec![Identity::File(path)];
        host.auth.passphrase = Some(Secret::from("swordfish"));
        let result = exec(host, "true");
        assert_eq!(result.class(), Class::Ok, "{args:?}: {result:?}");
    }
}

#[test]
fn a_wrong_passphrase_says_so_and_contacts_nobody_for_the_login() {
    let dir = tempfile::tempdir().unwrap();
    let (path, public) = keygen(dir.path(), "key", &["-t", "ed25519", "-N", "right"]);
    let ground = Ground::with(|builder| builder.authorized_keys(&public));
    let mut host = ground.host();
    host.auth.identities = vec![Identity::File(path.clone())];
    host.auth.passphrase = Some(Secret::from("wrong"));
    let failed = fleet::SshTransport::new().load_keys(&[Arc::new(host.clone())]);
    assert_eq!(failed[0].1.to_string(), format!("wrong passphrase for key {}", path.display()));
    let result = exec(host, "true");
    assert_eq!(result.class(), Class::Unreachable);
    assert_eq!(result.error().unwrap().phase(), Some(Phase::Login));
}

#[test]
fn host_keys_of_every_type_are_recorded_and_recognised() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let ground = Ground::with(|builder| builder.host_keys(&[kind]));
        assert_eq!(exec(ground.host(), "true").class(), Class::Ok, "{kind}");
        let mut host = ground.host();
        host.host_key = HostKeyPolicy::Strict;
        assert_eq!(exec(host, "true").class(), Class::Ok, "{kind} recorded by us");
        let file = fs::read_to_string(ground.dir.path().join("known_hosts")).unwrap();
        assert_eq!(file.trim(), ground.sshd.known_hosts().trim(), "{kind}: as ssh would write it");
    }
}

#[test]
fn ssh_reads_what_fleet_recorded() {
    let ground = Ground::start();
    assert_eq!(exec(ground.host(), "true").class(), Class::Ok);
    let port = ground.sshd.port().to_string();
    let known_hosts = format!("UserKnownHostsFile={}", ground.dir.path().join("known_hosts").display());
    let ssh = Command::new("ssh")
        .args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", &known_hosts, "-p", &port])
        .arg("-i")
        .arg(&ground.key)
        .args(["127.0.0.1", "true"])
        .output()
        .unwrap();
    assert!(ssh.status.success(), "{}", String::from_utf8_lossy(&ssh.stderr));
}

#[test]
fn a_rekey_in_mid_transfer_loses_nothing() {
    let ground = Ground::with(|builder| builder.config("RekeyLimit 1M"));
    let local = ground.dir.path().join("local");
    let bytes: Vec<u8> = (0..12_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(&local, &bytes).unwrap();
    let remote = ground.dir.path().join("remote");
    let path = remote.as_os_str().as_encoded_bytes();
    let put = run(ground.host(), Put::new(std::slice::from_ref(&local), path).unwrap());
    assert_eq!(put.class(), Class::Ok, "{put:?}");
    assert!(fs::read(&remote).unwrap() == bytes);
    let get = run(ground.host(), Get::new(path, ground.dir.path().join("out")).unwrap());
    assert_eq!(get.class(), Class::Ok, "{get:?}");
    assert!(fs::read(ground.dir.path().join("out/local/remote")).unwrap() == bytes);
    let result = exec(ground.host(), "head -c 12000000 /dev/zero");
    assert_eq!(result.report.facts.stdout_bytes, 12_000_000);
}

#[test]
fn a_mode_is_kept_and_permission_denied_is_named() {
    let ground = Ground::start();
    let local = ground.dir.path().join("script");
    fs::write(&local, "x").unwrap();
    fs::set_permissions(&local, fs::Permissions::from_mode(0o640)).unwrap();
    let remote = ground.dir.path().join("copy");
    assert!(run(ground.host(), Put::new(&[local], remote.as_os_str().as_encoded_bytes()).unwrap()).is_ok());
    assert_eq!(fs::metadata(&remote).unwrap().permissions().mode() & 0o7777, 0o640);
    let result = run(ground.host(), Get::new("/proc/self/mem/x", ground.dir.path().join("out")).unwrap());
    assert_eq!(result.class(), Class::Failed);
    assert_eq!(result.error().unwrap().kind(), ErrorKind::RemoteFile);
}

#[test]
fn a_login_refused_too_often_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let ground = Ground::with(|builder| builder.config("MaxAuthTries 2"));
    let mut host = ground.host();
    host.auth.identities = (0..4)
        .map(|number| Identity::File(keygen(dir.path(), &format!("k{number}"), &["-t", "ed25519", "-N", ""]).0))
        .collect();
    let result = exec(host, "true");
    let error = result.error().unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Login, Some(Phase::Login)));
    assert!(error.to_string().contains("Too many authentication failures"), "{error}");
    assert_eq!(result.report.attempts, 1);
}

#[test]
fn default_max_startups_never_drops_a_connection() {
    let ground = Ground::with(|builder| builder.config("MaxStartups 10:30:100"));
    let hosts: Vec<_> = (0..40).map(|_| Arc::new(ground.host())).collect();
    let results = pool().fanout(fanout(40)).build().map(&hosts, Exec::new("true"));
    assert!(results.iter().all(|result| result.is_ok() && result.report.attempts == 1), "{results:?}");
}

#[test]
fn a_forced_command_and_a_missing_shell_give_their_own_status() {
    let ground = Ground::with(|builder| builder.config("ForceCommand echo forced; exit 5"));
    let result = exec(ground.host(), "true");
    assert_eq!(stdout(&result), "forced\n");
    assert_eq!(result.value().unwrap().code(), Some(5));
}
