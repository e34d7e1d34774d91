//! One run over healthy and faulty hosts, and what must hold of every such run.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet::event::HostReport;
use fleet::op::{Get, Put};
use fleet::pool::RunControl;
use fleet::{Event, EventKind, Exec, Host, Sink};
use fleet_sim::{HostPlan, Mode};

use crate::ground::{Ground, fanout, pool};
use crate::matrix::{Doing, Fault};

/// How many hosts are well.
pub(crate) const HEALTHY: usize = 200;

/// The file that is put and fetched, in a host's home.
pub(crate) const FILE: &str = "file";

/// How long what is left behind may take to end. Nothing waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other run goes on in this process: threads and descriptors are counted in all of it.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of the file.
pub(crate) fn content() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(4);
    (0..300_000).map(|_| random.u8(..)).collect()
}

/// Plans healthy hosts, some of which run real shells. What is fetched is in their common `home`.
pub(crate) fn healthy(doing: Doing, home: &Path) -> Vec<HostPlan> {
    let plan = |number: usize| {
        let plan = HostPlan::new();
        let plan = if number.is_multiple_of(50) { plan } else { plan.mode(Mode::canned("ok\n")) };
        if doing == Doing::Get { plan.home(home) } else { plan }
    };
    (0..HEALTHY).map(plan).collect()
}

/// A host that must not be held up by the others.
pub(crate) fn patient(mut host: Host) -> Arc<Host> {
    host.timeouts.connect = Duration::from_secs(60);
    host.retries = 0;
    Arc::new(host)
}

/// A faulty host, which is given so long for each step.
pub(crate) fn limited(mut host: Host, limit: Duration) -> Arc<Host> {
    host.timeouts.connect = limit;
    host.retries = 0;
    Arc::new(host)
}

/// Threads and descriptors of this process.
#[derive(Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
}

impl Held {
    fn now() -> Self {
        let count = |dir| std::fs::read_dir(dir).unwrap().count();
        Self { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd") }
    }

    /// Tells whether it is no more than another: what the simulator had not ended yet when that was counted may be gone.
    fn is_within(&self, other: &Self) -> bool {
        self.threads <= other.threads && self.descriptors <= other.descriptors
    }
}

/// What is done, where, and with what limits.
pub(crate) struct Plan<'a> {
    pub(crate) doing: Doing,
    /// What `Exec` runs.
    pub(crate) command: &'a str,
    /// Holds the file to put and takes what is fetched.
    pub(crate) ground: &'a Ground,
    pub(crate) healthy: Vec<Arc<Host>>,
    pub(crate) faulty: Vec<(Fault, Arc<Host>)>,
    /// How long a command or a transfer may take.
    pub(crate) limit: Duration,
}

impl Plan<'_> {
    /// Runs it, hands every event to `watch`, and checks each host's result and that nothing is left in this process.
    pub(crate) fn run(&self, mut watch: impl FnMut(&Event) + Send) {
        // What the first run of a process makes once is not left behind by the second.
        self.perform(&self.healthy[..1], &mut |_: &Event| Ok(()));
        self.wait_until("the first connection is closed", || self.ground.sim.stats().open == 0);
        let before = Held::now();

        let mut hosts = self.healthy.clone();
        let step = hosts.len() / self.faulty.len();
        for (number, (_, host)) in self.faulty.iter().enumerate() {
            hosts.insert(number * (step + 1), Arc::clone(host));
        }
        let mut reports: Vec<Arc<HostReport>> = Vec::new();
        self.perform(&hosts, &mut |event: &Event| {
            watch(event);
            if let EventKind::Finished(report) = &event.kind {
                reports.push(Arc::clone(report));
            }
            Ok(())
        });
        assert_eq!(reports.len(), hosts.len(), "one result for each host");
        self.check(&reports);
        self.wait_until("every connection is closed", || self.ground.sim.stats().open == 0);
        self.wait_until("nothing runs on the hosts", || self.ground.sim.processes().is_empty());
        self.wait_until(&format!("no more is held than before: {before:?}"), || Held::now().is_within(&before));
    }

    fn perform(&self, hosts: &[Arc<Host>], sink: &mut dyn Sink) {
        let pool =
            pool().fanout(fanout(hosts.len())).timeout(self.limit).kill_after(Duration::from_millis(500)).build();
        let control = RunControl::new();
        let local = self.ground.path(FILE);
        let summary = match self.doing {
            Doing::Exec => pool.run(hosts, Exec::new(self.command).capture(false), &control, &mut [sink]),
            Doing::Put => pool.run(hosts, Put::new(&[local], FILE).unwrap(), &control, &mut [sink]),
            Doing::Get => pool.run(hosts, Get::new(FILE, self.ground.path("out")).unwrap(), &control, &mut [sink]),
        };
        assert_eq!(summary.failed_sink, None);
    }

    fn check(&self, reports: &[Arc<HostReport>]) {
        let place = |host: &Arc<Host>| reports.iter().position(|report| Arc::ptr_eq(&report.host, host)).unwrap();
        let mut first_deadline = usize::MAX;
        for (fault, host) in &self.faulty {
            let report = &reports[place(host)];
            fault.check(self.doing, report);
            if report.duration >= self.limit {
                first_deadline = first_deadline.min(place(host));
            }
            // A host's own limits, one after the other, and what it takes to end a command; never some minutes.
            assert!(report.duration < 3 * self.limit + PATIENCE, "{fault:?} took {:?}", report.duration);
            assert!(!self.arrived(host), "{fault:?}: a part of a file has its name");
        }
        assert!(first_deadline < reports.len());
        for host in &self.healthy {
            let report = &reports[place(host)];
            assert!(report.is_ok(), "{report:?}");
            assert!(place(host) < first_deadline, "{} waited for the faulty hosts: {report:?}", host.name);
            assert_eq!(self.arrived(host), self.doing != Doing::Exec, "{}", host.name);
        }
    }

    /// Tells whether a host's file arrived, which then is whole.
    fn arrived(&self, host: &Host) -> bool {
        let path = match (self.doing, self.ground.sim.host(&host.name)) {
            (Doing::Get, _) => self.ground.path("out").join(&host.name).join(FILE),
            (Doing::Put, Some(simulated)) => simulated.home().join(FILE),
            (Doing::Put, None) | (Doing::Exec, _) => return false,
        };
        match std::fs::read(path) {
            Ok(bytes) => {
                assert!(bytes == content(), "{}: the file is not whole", host.name);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::NotFound);
                false
            }
        }
    }

    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < PATIENCE, "{:?}: never so: {what}; now {:?}", self.doing, Held::now());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
