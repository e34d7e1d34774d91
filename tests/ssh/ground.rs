//! Hosts to test against, and a run over them.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet::event::Note;
use fleet::pool::RunControl;
use fleet::{
    Event, EventKind, Exec, ExecOutput, Host, HostResult, Identity, Operation, Pool, PoolBuilder, Secret, SshTransport,
};
use fleet_sim::{FixtureKey, HostPlan, KeyKind, Logins, Mode, Sim, SimConfig, SimHost};
use tempfile::TempDir;

/// A simulator, the key that its hosts accept, and a known_hosts file of its own.
pub(crate) struct Ground {
    pub(crate) dir: TempDir,
    pub(crate) key: FixtureKey,
    pub(crate) sim: Sim,
}

pub(crate) const PASSWORD: &str = "correct horse";

impl Ground {
    /// Starts one host per plan; every plan gets the account `ops` with the key and the password, unless it has one.
    pub(crate) fn start(plans: Vec<HostPlan>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("id_ed25519")).unwrap();
        let plans = plans.into_iter().map(|plan| {
            let logins = Logins::key("ops", &key).with_password("ops", PASSWORD);
            if plan.logins.users.is_empty() { HostPlan { logins, ..plan } } else { plan }
        });
        let sim = Sim::start(SimConfig::of(plans.collect())).unwrap();
        Self { dir, key, sim }
    }

    /// Starts one host.
    pub(crate) fn one(plan: HostPlan) -> Self {
        Self::start(vec![plan])
    }

    /// Starts `count` hosts that answer at once.
    pub(crate) fn healthy(count: usize) -> Vec<HostPlan> {
        (0..count).map(|_| HostPlan::new().mode(Mode::canned("ok\n"))).collect()
    }

    /// Waits until no process of a host is left: what was killed ends when it next runs.
    pub(crate) fn assert_no_process_is_left(&self) {
        let since = Instant::now();
        while let left = self.sim.processes()
            && !left.is_empty()
        {
            assert!(since.elapsed() < Duration::from_secs(15), "{left:?} still run");
        }
    }

    /// Returns how fleet reaches a host, by the key.
    pub(crate) fn host(&self, host: &SimHost) -> Host {
        let mut reached = self.bare(host);
        reached.auth.identities.push(Identity::File(self.key.path.clone()));
        reached
    }

    /// Returns how fleet reaches a host, by a password.
    pub(crate) fn host_by_password(&self, host: &SimHost, password: &str) -> Host {
        let mut reached = self.bare(host);
        reached.auth.password = Some(Secret::from(password));
        reached
    }

    /// Returns a host without a way to log in.
    pub(crate) fn bare(&self, host: &SimHost) -> Host {
        let mut reached = Host::new(host.name(), host.address().ip().to_string());
        reached.port = host.address().port();
        reached.user = "ops".to_owned();
        reached.known_hosts = vec![self.dir.path().join("known_hosts")];
        reached.timeouts.connect = Duration::from_secs(20);
        reached
    }

    /// Returns every host, reached by the key.
    pub(crate) fn hosts(&self) -> Vec<Arc<Host>> {
        self.sim.hosts().iter().map(|host| Arc::new(self.host(host))).collect()
    }

    /// Returns the first host, reached by the key.
    pub(crate) fn first(&self) -> Host {
        self.host(&self.sim.hosts()[0])
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn home(&self) -> &Path {
        self.sim.hosts()[0].home()
    }
}

pub(crate) fn pool() -> PoolBuilder {
    Pool::builder(SshTransport::new()).retry_delay(Duration::from_millis(10))
}

/// Runs an operation on one host.
pub(crate) fn run<O: Operation>(host: Host, op: O) -> HostResult<O::Output> {
    run_in(pool(), host, op)
}

/// Runs an operation on one host, by a pool of one's own.
pub(crate) fn run_in<O: Operation>(pool: PoolBuilder, host: Host, op: O) -> HostResult<O::Output> {
    pool.build().map(&[Arc::new(host)], op).pop().expect("one result")
}

/// Runs a command on one host.
pub(crate) fn exec(host: Host, command: &str) -> HostResult<ExecOutput> {
    run(host, Exec::new(command))
}

/// Runs a command on one host and returns its notes too.
pub(crate) fn exec_with_notes(host: Host, command: &str) -> (HostResult<ExecOutput>, Vec<Note>) {
    run_with_notes(host, Exec::new(command))
}

/// Runs an operation on one host and returns its notes too.
pub(crate) fn run_with_notes<O: Operation>(host: Host, op: O) -> (HostResult<O::Output>, Vec<Note>) {
    let notes = Mutex::new(Vec::new());
    let mut result = None;
    let mut sink = |event: &Event| {
        if let EventKind::Note { note, .. } = &event.kind {
            notes.lock().unwrap().push(note.clone());
        }
        Ok(())
    };
    let outputs = fleet::Outputs::new().sink(&mut sink);
    pool().build().run_with(&[Arc::new(host)], op, &RunControl::new(), outputs, |one| result = Some(one));
    (result.expect("one result"), notes.into_inner().unwrap())
}

pub(crate) fn fanout(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

/// What a command wrote to standard output.
pub(crate) fn stdout(result: &HostResult<ExecOutput>) -> String {
    result.outcome.as_ref().expect("a value").stdout.text().unwrap()
}

/// What a command wrote to standard error.
pub(crate) fn stderr(result: &HostResult<ExecOutput>) -> String {
    result.outcome.as_ref().expect("a value").stderr.text().unwrap()
}
