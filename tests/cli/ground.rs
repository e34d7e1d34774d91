//! Simulated hosts and the inventory that leads to them.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fleet_sim::{Fault, FixtureKey, HostPlan, KeyKind, Logins, Sim, SimConfig};

use super::Fleet;

pub(crate) const PASSWORD: &str = "correct horse";

/// A simulator, and a place to run the binary in whose `hosts.toml` names its hosts.
pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
    pub(crate) sim: Sim,
}

impl Ground {
    /// Starts hosts whose account `ops` has a key and a password, unless their plans name accounts.
    pub(crate) fn start(plans: Vec<HostPlan>) -> Self {
        let fleet = Fleet::new();
        let path = |name: &str| -> PathBuf { fleet.dir().join(name) };
        let key = FixtureKey::generate(KeyKind::Ed25519, path("key")).unwrap();
        let logins = Logins::key("ops", &key).with_password("ops", PASSWORD);
        let plans =
            plans.into_iter().map(|plan| if plan.logins.users.is_empty() { plan.logins(logins.clone()) } else { plan });
        let mut config = SimConfig::of(plans.collect()).identity(path("key")).known_hosts(path("known_hosts"));
        config.inventory.user = Some("ops".to_owned());
        let sim = Sim::start(config).unwrap();
        sim.write_inventory(path("hosts.toml")).unwrap();
        sim.write_known_hosts(path("known_hosts")).unwrap();
        Self { fleet, sim }
    }

    /// Starts hosts whose keys nobody knows yet.
    pub(crate) fn unknown(plans: Vec<HostPlan>) -> Self {
        let ground = Self::start(plans);
        std::fs::write(ground.fleet.dir().join("known_hosts"), "").unwrap();
        ground
    }

    /// Starts hosts with real shells and these names.
    pub(crate) fn named(names: &[&str]) -> Self {
        Self::start(names.iter().map(|name| HostPlan::new().name(*name)).collect())
    }

    /// Starts hosts with real shells, `sim0001` and so on.
    pub(crate) fn healthy(count: usize) -> Self {
        Self::start(vec![HostPlan::new(); count])
    }

    /// Starts one host for each fault, and a healthy one before them.
    pub(crate) fn faulty(faults: &[&str]) -> Self {
        let fault = |name: &&str| HostPlan::new().fault(name.parse::<Fault>().unwrap());
        Self::start(std::iter::once(HostPlan::new()).chain(faults.iter().map(fault)).collect())
    }

    /// Waits until no host runs anything.
    pub(crate) fn assert_no_processes(&self) {
        assert_no_processes(&self.sim);
    }

    /// Starts the binary with its outputs piped.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        Running::start(self.fleet.command(args))
    }
}

/// Waits until no host runs anything: what was killed ends when it next runs.
pub(crate) fn assert_no_processes(sim: &Sim) {
    let since = Instant::now();
    while let processes = sim.processes()
        && !processes.is_empty()
    {
        assert!(since.elapsed() < Duration::from_secs(5), "{processes:?} still run");
    }
}

/// A run of the binary that goes on.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdout: Box<dyn BufRead>,
    pub(crate) stderr: Box<dyn BufRead>,
}

impl Running {
    /// Starts a command with its outputs piped.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout: Box::new(stdout), stderr: Box::new(stderr) }
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Returns the code of a run that has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    /// Waits for the end and returns the code and what is left of both outputs.
    pub(crate) fn finish(mut self) -> Output {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.stdout.read_to_end(&mut stdout).unwrap();
        self.stderr.read_to_end(&mut stderr).unwrap();
        Output { status: self.child.wait().unwrap(), stdout, stderr }
    }
}

/// Reads the next line.
pub(crate) fn line(from: &mut dyn BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}
