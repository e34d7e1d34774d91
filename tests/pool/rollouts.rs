//! Random rollouts: waves that never overlap, thresholds that are exact, and the share of equal outputs that each wave needs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use fleet::event::StopReason;
use fleet::fake::{FakeTransport, Reply};
use fleet::{
    Class, ErrorKind, Event, EventKind, Exec, Host, Outputs, Phase, Pool, RunControl, Sink, Stop, Threshold, Wave,
};

use super::schedules::many;
use super::{Log, n};

/// Stops the run at its event number `at`.
struct StopAt {
    at: usize,
    heard: usize,
    stop: Stop,
    control: RunControl,
}

impl Sink for StopAt {
    fn handle(&mut self, _: &Event) -> std::io::Result<()> {
        self.heard += 1;
        if self.heard == self.at {
            self.control.stop(self.stop, StopReason::Interrupt);
        }
        Ok(())
    }
}

/// One rollout, and what is known of it beforehand.
struct Rollout {
    fake: FakeTransport,
    hosts: Vec<Arc<Host>>,
    /// What each host writes, where it has a status.
    outputs: HashMap<String, &'static str>,
    fanout: usize,
    threshold: Option<Threshold>,
    waves: Vec<Wave>,
    same_output: Option<u8>,
    retry_op: u32,
}

fn rollout(rng: &mut Rng) -> Rollout {
    let fake = FakeTransport::new();
    let count = rng.usize(1..16);
    let mut outputs = HashMap::new();
    // Some fleets are well, others are not.
    let ills = rng.usize(0..12);
    let hosts: Vec<Arc<Host>> = (0..count)
        .map(|number| {
            let mut host = Host::new(format!("h{number:02}"), "10.1.0.1");
            host.retries = rng.u32(0..2);
            let told = fake.host(&host.name);
            let output = if rng.usize(0..4) == 0 { "odd\n" } else { "usual\n" };
            let reply = Reply::new().stdout(output);
            match rng.usize(0..40) {
                ill if ill >= ills => drop(told.otherwise(reply)),
                0 => drop(told.fails(ErrorKind::Connect, Phase::Connect).otherwise(reply)),
                1 => drop(told.drops(rng.usize(1..3)).otherwise(reply)),
                2 | 3 => drop(told.otherwise(reply.lose())),
                4 => drop(told.otherwise(reply.hang())),
                _ => drop(told.otherwise(reply.code(1))),
            }
            outputs.insert(host.name.clone(), output);
            Arc::new(host)
        })
        .collect();
    let threshold = match rng.usize(0..3) {
        0 => None,
        1 => Some(Threshold::Count(rng.usize(0..4))),
        _ => Some(Threshold::Percent(rng.u8(0..60))),
    };
    let wave = |rng: &mut Rng| if rng.bool() { Wave::Count(rng.usize(0..8)) } else { Wave::Percent(rng.u8(0..=100)) };
    let waves = (0..rng.usize(0..4)).map(|_| wave(rng)).collect();
    Rollout {
        fake,
        hosts,
        outputs,
        fanout: rng.usize(1..7),
        threshold,
        waves,
        same_output: rng.bool().then(|| rng.u8(1..=100)),
        retry_op: rng.u32(0..3),
    }
}

impl Rollout {
    fn pool(&self, rng: &mut Rng) -> Pool {
        let builder = Pool::builder(self.fake.clone())
            .fanout(n(self.fanout))
            .retry_delay(Duration::from_micros(rng.u64(0..50)))
            .kill_after(Duration::from_millis(1))
            // What hangs has to end; what does not must never come near.
            .timeout(Duration::from_millis(3))
            .retry_op(self.retry_op)
            .phase_events(true)
            .same_output(self.same_output)
            .rollout(self.waves.iter().copied());
        match self.threshold {
            Some(threshold) => builder.max_fail(threshold).build(),
            None => builder.build(),
        }
    }

    /// Says how the rule of `--max-fail` reads in DESIGN section 8.
    fn is_crossed(&self, failures: usize) -> bool {
        match self.threshold {
            None => false,
            Some(Threshold::Count(limit)) => failures > limit,
            Some(Threshold::Percent(percent)) => failures * 100 > usize::from(percent) * self.hosts.len(),
        }
    }

    /// Tells whether the hosts from one place to another gave equal results often enough.
    fn are_same(&self, log: &Log, places: std::ops::Range<usize>) -> bool {
        let Some(wanted) = self.same_output.filter(|_| !self.waves.is_empty()) else { return true };
        let hosts = places.len();
        let mut counts: HashMap<(i32, &str), usize> = HashMap::new();
        for report in log.finished().iter().filter(|report| places.contains(&report.index)) {
            if let Some(code) = report.facts.exit_code {
                *counts.entry((code, *self.outputs.get(&report.host.name).unwrap())).or_default() += 1;
            }
        }
        counts.values().max().unwrap_or(&0) * 100 >= usize::from(wanted) * hosts
    }

    fn check(&self, log: &Log, stopped_by: Option<StopReason>, is_cancelled: bool) {
        // A rollout of one wave is none, and is not told.
        let count = self.hosts.len();
        let first = self.waves.iter().map(|wave| wave.reach(count)).find(|reach| *reach > 0).unwrap_or(count);
        let (mut reached, mut before) = (if first == count { count } else { 0 }, 0);
        let (mut ended, mut failures, mut after_crossing) = (0, 0, 0);
        for kind in log.kinds() {
            match &kind {
                EventKind::Wave { begins, reaches, .. } => {
                    assert_eq!(ended, reached, "a wave begins before the one before has ended");
                    assert!(!self.is_crossed(failures), "a wave begins behind the threshold");
                    assert!(
                        reached == 0 || self.are_same(log, before..reached),
                        "a wave begins in spite of other outputs"
                    );
                    assert_eq!(reached + begins, *reaches);
                    (before, reached) = (reached, *reaches);
                }
                EventKind::Finished(report) if report.class() == Class::NotStarted => {}
                EventKind::Finished(report) => {
                    ended += 1;
                    after_crossing += usize::from(self.is_crossed(failures));
                    failures += usize::from(report.class().is_failure());
                }
                _ => {}
            }
            if let Some(host) = kind.host() {
                let place = self.hosts.iter().position(|other| Arc::ptr_eq(other, host)).unwrap();
                let is_left_out = matches!(&kind, EventKind::Finished(end) if end.class() == Class::NotStarted);
                assert!(is_left_out || place < reached, "{} is of a later wave: {kind:?}", host.name);
            }
        }
        assert!(after_crossing < self.fanout, "{after_crossing} more hosts, at most {} at once", self.fanout);
        if is_cancelled {
            return;
        }
        let is_late = ended < self.hosts.len();
        match stopped_by {
            Some(StopReason::Threshold) => assert!(self.is_crossed(failures), "stopped at {failures} failures"),
            Some(StopReason::Rollout) => assert!(is_late && !self.are_same(log, before..reached)),
            other => assert_eq!((other, is_late), (None, false), "it ends for a reason"),
        }
        assert!(!self.is_crossed(failures) || stopped_by == Some(StopReason::Threshold), "{failures} failures");
    }
}

fn schedule(rng: &mut Rng) {
    let rollout = rollout(rng);
    let pool = rollout.pool(rng);
    let control = RunControl::new();
    let mut log = Log::default();
    let stop = if rng.bool() { Stop::Drain } else { Stop::Abort };
    let mut canceller = StopAt { at: rng.usize(1..60), heard: 0, stop, control: control.clone() };
    let is_cancelled = rng.usize(0..5) == 0;
    let mut outputs = Outputs::new();
    let kept = log.clone();
    outputs = outputs.sink(&mut log);
    if is_cancelled {
        outputs = outputs.sink(&mut canceller);
    }
    let summary = pool.run_with(&rollout.hosts, Idempotent, &control, outputs, |_| {});
    let mut places: Vec<usize> = kept.finished().iter().map(|report| report.index).collect();
    places.sort_unstable();
    assert_eq!(places, (0..rollout.hosts.len()).collect::<Vec<_>>(), "not one result for each host");
    assert!(rollout.fake.peak_sessions() <= rollout.fanout);
    assert_eq!(rollout.fake.open_sessions(), 0);
    rollout.check(&kept, summary.stopped_by, is_cancelled);
}

#[test]
fn waves_never_overlap_and_thresholds_are_exact() {
    // They mostly wait: for a command that hangs, for another attempt.
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| many(750, schedule));
        }
    });
}

/// A command that may be run again.
struct Idempotent;

impl fleet::Operation for Idempotent {
    type Output = fleet::ExecOutput;

    fn name(&self) -> &str {
        "exec"
    }

    fn run(&self, session: &mut dyn fleet::Session, job: &fleet::Job<'_>) -> fleet::Result<fleet::ExecOutput> {
        Exec::new("x").run(session, job)
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}
