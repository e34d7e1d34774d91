//! One simulator with a client key, and the OpenSSH client to talk to it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fleet_sim::{FixtureKey, HostPlan, KeyKind, Logins, Sim, SimConfig, SimHost};

/// A running simulator whose hosts accept one key.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) sim: Sim,
    pub(crate) key: FixtureKey,
    known_hosts: PathBuf,
    dir: tempfile::TempDir,
}

impl Ground {
    /// One host; a plan without logins gets the key of user `ops`.
    pub(crate) fn one(plan: HostPlan) -> Self {
        Self::of(vec![plan])
    }

    /// Several hosts.
    pub(crate) fn of(mut plans: Vec<HostPlan>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("id")).unwrap();
        for plan in &mut plans {
            if plan.logins.users.is_empty() {
                plan.logins = Logins::key("ops", &key);
            }
        }
        let sim = Sim::start(SimConfig::of(plans)).unwrap();
        let known_hosts = dir.path().join("known_hosts");
        sim.write_known_hosts(&known_hosts).unwrap();
        Self { sim, key, known_hosts, dir }
    }

    /// The `ssh` or `sftp` client for a host, with strict host keys and no configuration of the user's.
    pub(crate) fn client(&self, program: &str, host: &SimHost, options: &[&str]) -> Command {
        let all = [&["-o", "BatchMode=yes"], options].concat();
        self.client_as(program, host, &all)
    }

    fn client_as(&self, program: &str, host: &SimHost, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(["-F", "none", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts.display()))
            .arg("-i")
            .arg(&self.key.path)
            .arg(if program == "ssh" { "-p" } else { "-P" })
            .arg(host.address().port().to_string())
            .args(options)
            .arg(format!("ops@{}", host.address().ip()))
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::null());
        command
    }

    /// A directory for the test's own files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts other hosts with the same key.
    pub(crate) fn restart(&mut self, plans: Vec<HostPlan>) {
        self.sim = Sim::start(SimConfig::of(plans)).unwrap();
        self.sim.write_known_hosts(&self.known_hosts).unwrap();
    }

    /// Runs one command, answering every question of the login with this password.
    pub(crate) fn ssh_with_password(&self, host: &SimHost, password: &str, command: &str) -> Output {
        let askpass = self.dir.path().join("askpass");
        let staged = self.dir.path().join("askpass.new");
        std::fs::write(&staged, format!("#!/bin/sh\necho '{password}'\n")).unwrap();
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::rename(&staged, &askpass).unwrap();
        let options = ["-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1"];
        self.client_as("ssh", host, &options)
            .arg(command)
            .env("SSH_ASKPASS", askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .output()
            .unwrap()
    }

    /// Runs one command.
    pub(crate) fn ssh(&self, host: &SimHost, command: &str) -> Output {
        self.client("ssh", host, &[]).arg(command).output().unwrap()
    }
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for something that happens soon.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
