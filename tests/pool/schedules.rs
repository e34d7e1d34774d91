//! Random schedules: whatever fails, stops or panics when, every host has exactly one result and nothing is left behind.
//!
//! A failing schedule prints its seed; `FLEET_SEED=N` runs that one alone.

use std::collections::{HashMap, HashSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use fleet::event::{HostReport, Recorder, StopReason};
use fleet::fake::{FakeTransport, Reply};
use fleet::op::Job;
use fleet::{
    Class, Error, ErrorKind, Event, EventKind, Exec, Host, HostResult, Operation, Outcome, Outputs, Phase, Pool,
    Result, RunControl, Session, Sink, Stop, Stream, Summary, Threshold, Wave,
};

use super::{Log, boom, n};

/// Runs `schedule` on many seeds. One that hangs is told by its seed, too.
pub(super) fn many(count: u64, schedule: impl Fn(&mut Rng)) {
    let only = std::env::var("FLEET_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = fastrand::u64(..u64::MAX / 2);
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => first..first + count,
    };
    let (current, is_over) = (Mutex::new((first, Instant::now())), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let (seed, since) = *current.lock().unwrap();
                if since.elapsed() > Duration::from_secs(60) {
                    eprintln!("the schedule of FLEET_SEED={seed} hangs");
                    std::process::abort();
                }
                std::thread::park_timeout(Duration::from_millis(50));
            }
        });
        for seed in seeds {
            *current.lock().unwrap() = (seed, Instant::now());
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| schedule(&mut Rng::with_seed(seed)))) {
                eprintln!("the schedule of FLEET_SEED={seed} failed");
                is_over.store(true, Ordering::SeqCst);
                resume_unwind(panic);
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
}

/// What an operation does, beside what its host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Twist {
    None,
    Panic,
    Fail,
    LocalLimit,
    PanicInFacts,
}

#[derive(Debug)]
struct Value(Twist);

impl Outcome for Value {
    fn facts(&self) -> fleet::event::Facts {
        if self.0 == Twist::PanicInFacts {
            boom();
        }
        fleet::event::Facts::new(Class::Ok)
    }
}

#[derive(Clone)]
struct Op {
    twists: Arc<HashMap<String, Twist>>,
    limits_left: Arc<AtomicUsize>,
    is_idempotent: bool,
}

impl Op {
    fn twist(&self, host: &Host) -> Twist {
        *self.twists.get(&host.name).unwrap()
    }
}

impl Operation for Op {
    type Output = Value;

    fn name(&self) -> &str {
        "op"
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<Value> {
        let twist = self.twist(job.host);
        let is_left = |left: usize| left.checked_sub(1);
        match twist {
            Twist::Panic => boom(),
            Twist::Fail => return Err(Error::failed("no")),
            Twist::LocalLimit if self.limits_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_left).is_ok() => {
                return Err(Error::new(ErrorKind::LocalLimit, "no descriptors"));
            }
            _ => {}
        }
        let ended = Exec::new("x").run(session, job)?.ended;
        match ended.facts().class {
            Class::Ok => Ok(Value(twist)),
            Class::TimedOut => Err(Error::new(ErrorKind::Timeout, "timed out").in_phase(Phase::Running)),
            class => Err(Error::new(ErrorKind::Operation, format!("{class}")).in_phase(Phase::Running)),
        }
    }

    fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
}

/// A schedule's hosts and pool.
struct World {
    fake: FakeTransport,
    hosts: Vec<Arc<Host>>,
    op: Op,
    pool: Pool,
    fanout: usize,
    starts: usize,
    handshakes: Option<usize>,
    /// Hosts that can only end well unless the run is stopped.
    good: HashSet<String>,
    /// Hosts that cannot end well.
    bad: HashSet<String>,
    is_quiet: bool,
}

fn short(rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.u64(0..800))
}

fn world(rng: &mut Rng) -> World {
    let fake = FakeTransport::new();
    let kinds = rng.usize(0..10);
    let distinct: Vec<_> = (0..kinds)
        .map(|number| {
            let mut host = Host::new(format!("h{number}"), format!("10.1.0.{}", rng.usize(0..3)));
            host.retries = rng.u32(0..3);
            host.timeouts.connect = Duration::from_secs(30);
            host
        })
        .collect();
    let (mut good, mut bad) = (HashSet::new(), HashSet::new());
    let mut twists = HashMap::new();
    for host in &distinct {
        let told = fake.host(&host.name);
        let told = if rng.bool() { told.connect_delay(short(rng)) } else { told };
        let what = rng.usize(0..14);
        let mut reply = Reply::new();
        for _ in 0..rng.usize(0..4) {
            let stream = if rng.bool() { Stream::Stdout } else { Stream::Stderr };
            reply = match (stream, rng.bool()) {
                (_, true) => reply.pause(short(rng)),
                (Stream::Stdout, _) => reply.stdout("line\n"),
                (Stream::Stderr, _) => reply.stderr("line\n"),
            };
        }
        let (told, reply) = match what {
            0 => (told.drops(rng.usize(1..4)), reply),
            1 => (told.fails(ErrorKind::Connect, Phase::Connect), reply),
            2 => (told.fails(ErrorKind::Login, Phase::Login), reply),
            3 => (told.panics("in connect"), reply),
            4 => (told, reply.panic("in session")),
            5 => (told, reply.lose()),
            6 => (told, reply.code(1)),
            7 => (told, reply.hang()),
            8 => (told, reply.endless(Stream::Stdout, "y\n")),
            9 => (told, reply.refused()),
            _ => (told, reply),
        };
        let twist = match rng.usize(0..12) {
            0 => Twist::Panic,
            1 => Twist::Fail,
            2 => Twist::LocalLimit,
            3 => Twist::PanicInFacts,
            _ => Twist::None,
        };
        told.otherwise(reply);
        match (what, twist) {
            (10.., Twist::None) => drop(good.insert(host.name.clone())),
            // Drops are over after some attempts, and local limits when no more are left.
            (0 | 10.., Twist::None | Twist::LocalLimit) => {}
            _ => drop(bad.insert(host.name.clone())),
        }
        twists.insert(host.name.clone(), twist);
    }
    let distinct: Vec<_> = distinct.into_iter().map(Arc::new).collect();
    // Some hosts are submitted more than once.
    let mut hosts = distinct.clone();
    for _ in 0..rng.usize(0..3) {
        hosts.extend(distinct.get(rng.usize(0..=kinds)).cloned());
    }
    rng.shuffle(&mut hosts);
    if rng.usize(0..6) == 0 {
        fake.limit_sessions(rng.usize(1..4));
    }
    let (fanout, starts) = (rng.usize(1..7), rng.usize(1..4));
    let handshakes = rng.bool().then(|| rng.usize(1..4));
    let mut pool = Pool::builder(fake.clone())
        .fanout(n(fanout))
        .starts_per_address(n(starts))
        .handshakes(handshakes.map(n))
        .retry_delay(Duration::from_micros(rng.u64(0..500)))
        .kill_after(Duration::from_millis(1))
        // What hangs has to end.
        .timeout(Duration::from_millis(rng.u64(1..4)))
        .retry_op(rng.u32(0..3))
        .phase_events(rng.bool());
    let mut is_quiet = true;
    if rng.usize(0..5) == 0 {
        pool = pool.deadline(Duration::from_micros(rng.u64(0..6000)));
        is_quiet = false;
    }
    if rng.usize(0..4) == 0 {
        let threshold = if rng.bool() { Threshold::Count(rng.usize(0..4)) } else { Threshold::Percent(rng.u8(0..100)) };
        pool = pool.max_fail(threshold);
        is_quiet = false;
    }
    if rng.usize(0..5) == 0 {
        pool = pool.splay(short(rng));
    }
    if rng.usize(0..4) == 0 {
        pool = pool.rollout([Wave::Count(rng.usize(0..3)), Wave::Percent(rng.u8(0..=100))]);
    }
    let op = Op {
        twists: Arc::new(twists),
        limits_left: Arc::new(AtomicUsize::new(rng.usize(0..6))),
        is_idempotent: rng.bool(),
    };
    World { fake, hosts, op, pool: pool.build(), fanout, starts, handshakes, good, bad, is_quiet }
}

impl World {
    fn check_limits(&self) {
        assert_eq!(self.fake.open_sessions(), 0, "sessions are left open");
        assert!(self.fake.peak_sessions() <= self.fanout, "{} > {}", self.fake.peak_sessions(), self.fanout);
        let (to_one, in_all) = self.fake.peak_logins();
        assert!(to_one <= self.starts, "{to_one} > {}", self.starts);
        assert!(self.handshakes.is_none_or(|limit| in_all <= limit), "{in_all} > {:?}", self.handshakes);
    }

    fn check_reports(&self, reports: &[Arc<HostReport>], was_stopped: bool) {
        let mut indices: Vec<_> = reports.iter().map(|report| report.index).collect();
        indices.sort_unstable();
        assert_eq!(indices, (0..self.hosts.len()).collect::<Vec<_>>(), "not one result for each host");
        for report in reports {
            assert!(Arc::ptr_eq(&report.host, self.hosts.get(report.index).unwrap()));
            if was_stopped || !self.is_quiet {
                continue;
            }
            assert!(!matches!(report.class(), Class::NotStarted | Class::Cancelled), "{report:?}");
            let class = report.class();
            if self.good.contains(&report.host.name) {
                // A loaded machine may need longer than a command's timeout, and be at its limit.
                assert!(matches!(class, Class::Ok | Class::TimedOut | Class::Error), "{report:?}");
            }
            if self.bad.contains(&report.host.name) {
                assert!(class != Class::Ok, "{report:?}");
            }
        }
    }
}

/// Stops the run, fails or panics at its event number `at`.
struct Trouble {
    at: usize,
    heard: usize,
    what: usize,
    control: RunControl,
}

impl Trouble {
    fn new(rng: &mut Rng, control: &RunControl) -> Self {
        Self { at: rng.usize(0..40), heard: 0, what: rng.usize(0..8), control: control.clone() }
    }

    fn hear(&mut self) -> io::Result<()> {
        self.heard += 1;
        if self.heard != self.at {
            return Ok(());
        }
        match self.what {
            0 => Err(io::Error::other("full")),
            1 => boom(),
            2 => {
                self.control.stop(Stop::Drain, StopReason::Interrupt);
                Ok(())
            }
            3 => {
                self.control.stop(Stop::Abort, StopReason::Terminate);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Sink for Trouble {
    fn handle(&mut self, _: &Event) -> io::Result<()> {
        self.hear()
    }
}

impl Recorder for Trouble {
    fn record(&mut self, _: &[Event]) -> io::Result<()> {
        self.hear()
    }
}

fn check_events(log: &Log, world: &World, summary: &Summary) {
    let kinds = log.kinds();
    let is_end = |kind: &EventKind| matches!(kind, EventKind::RunFinished(_));
    assert!(matches!(kinds.first(), Some(EventKind::Started { .. })));
    assert!(kinds.last().is_some_and(is_end) && kinds.iter().filter(|kind| is_end(kind)).count() == 1);
    let mut stops = Vec::new();
    let mut left: HashMap<&str, usize> = HashMap::new();
    for host in &world.hosts {
        *left.entry(&host.name).or_default() += 1;
    }
    for kind in &kinds {
        if let EventKind::Stopping { stop, .. } = kind {
            assert!(stops.last().is_none_or(|last| last < stop), "a stop is told twice");
            stops.push(*stop);
        }
        let Some(host) = kind.host() else { continue };
        let left = left.get_mut(host.name.as_str()).unwrap();
        assert!(*left > 0, "{} is heard of after its end: {kind:?}", host.name);
        if matches!(kind, EventKind::Finished(_)) {
            *left -= 1;
        }
    }
    assert_eq!(summary.hosts, world.hosts.len());
    for class in Class::ALL {
        assert_eq!(log.finished().iter().filter(|report| report.class() == class).count(), summary.of(class));
    }
}

#[test]
fn every_host_of_a_run_has_one_result() {
    many(1200, |rng| {
        let world = world(rng);
        let control = RunControl::new();
        let (log, mut trouble) = (Log::default(), Trouble::new(rng, &control));
        let mut recording = Trouble::new(rng, &control);
        let mut outputs = Outputs::new();
        if rng.bool() {
            outputs = outputs.recorder(&mut recording);
        }
        if rng.bool() {
            outputs = outputs.sink(&mut trouble);
        }
        let mut log_sink = log.clone();
        outputs = outputs.sink(&mut log_sink);
        let stop_after = (rng.usize(0..4) == 0).then(|| (short(rng), rng.bool(), rng.bool()));
        let mut results = Vec::new();
        let summary = std::thread::scope(|scope| {
            if let Some((delay, is_abort, is_pools)) = stop_after {
                let (control, pool) = (control.clone(), &world.pool);
                scope.spawn(move || {
                    std::thread::sleep(delay);
                    let stop = if is_abort { Stop::Abort } else { Stop::Drain };
                    if is_pools {
                        pool.cancel_token().stop(stop);
                    } else {
                        control.cancel_token().stop(stop);
                    }
                });
            }
            world.pool.run_with(&world.hosts, &world.op, &control, outputs, |result| results.push(result.report))
        });
        check_events(&log, &world, &summary);
        let was_stopped = control.stopped().is_some();
        world.check_reports(&log.finished(), was_stopped);
        world.check_reports(&results, was_stopped);
        world.check_limits();
        assert_eq!((control.running(), control.queued()), (0, 0));
        drop(world.pool);
    });
}

#[test]
fn every_host_of_an_iterator_has_one_result() {
    many(650, |rng| {
        let world = world(rng);
        let take = if rng.bool() { usize::MAX } else { rng.usize(0..6) };
        let stop = (rng.usize(0..5) == 0).then(|| if rng.bool() { Stop::Drain } else { Stop::Abort });
        let mut reports = Vec::new();
        let mut see = |control: &RunControl, result: Option<HostResult<Value>>| {
            if let (Some(stop), 2) = (stop, reports.len()) {
                control.stop(stop, StopReason::Interrupt);
            }
            result.map(|result| reports.push(result.report)).is_some()
        };
        let mut taken = 0;
        if rng.bool() {
            let mut results = world.pool.imap_unordered(&world.hosts, world.op.clone());
            while taken < take && see(&results.control().clone(), results.next()) {
                taken += 1;
            }
        } else {
            let mut results = world.pool.imap(&world.hosts, world.op.clone());
            while taken < take && see(&results.control().clone(), results.next()) {
                taken += 1;
            }
            assert!(reports.is_sorted_by_key(|report| report.index));
        }
        if take == usize::MAX {
            world.check_reports(&reports, stop.is_some());
        }
        world.check_limits();
    });
}

#[test]
fn every_job_has_one_result() {
    many(650, |rng| {
        let world = world(rng);
        let calls = Arc::new(Mutex::new(HashMap::new()));
        let mut handles = Vec::new();
        for (index, host) in world.hosts.iter().enumerate() {
            let (calls, is_panic) = (Arc::clone(&calls), rng.usize(0..5) == 0);
            let callback = move |result: &HostResult<Value>| {
                *calls.lock().unwrap().entry(index).or_insert(0) += 1;
                assert!(Arc::strong_count(&result.report) > 0);
                if is_panic {
                    boom();
                }
            };
            let handle = world.pool.apply_async(host, world.op.clone(), callback).unwrap();
            match rng.usize(0..6) {
                0 => drop(handle.cancel()),
                1 => continue,
                _ => {}
            }
            handles.push((is_panic, handle));
        }
        let World { pool, .. } = world;
        let pool = match rng.usize(0..5) {
            0 => {
                drop(pool);
                None
            }
            1 => {
                pool.terminate();
                Some(pool)
            }
            2 => {
                pool.join().unwrap();
                assert!(handles.iter().all(|(_, handle)| handle.ready()));
                Some(pool)
            }
            _ => Some(pool),
        };
        for (is_panic, handle) in handles {
            if rng.usize(0..4) == 0 {
                handle.cancel();
                handle.cancel();
            }
            let result = handle.get();
            assert!(!is_panic || result.error().map(Error::kind) == Some(ErrorKind::Panic));
        }
        if let Some(pool) = pool {
            pool.join().unwrap();
        }
        assert!(calls.lock().unwrap().values().all(|count| *count == 1));
        assert_eq!(calls.lock().unwrap().len(), world.hosts.len());
        assert_eq!(world.fake.open_sessions(), 0);
    });
}
