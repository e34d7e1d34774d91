//! What stops a run: thresholds, drains, aborts, deadlines, failing outputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleet::event::{Recorder, StopReason};
use fleet::fake::{FakeTransport, Reply};
use fleet::op::{Job, from_fn};
use fleet::{
    Class, Error, ErrorKind, Event, EventKind, Exec, Host, Outputs, Phase, Ping, Pool, RunControl, Session, Stop,
    Summary, Threshold,
};

use super::{Log, assert_nothing_left, boom, hosts, ms, n, until};

fn stops(log: &Log) -> Vec<(Stop, StopReason, usize)> {
    let stopping = |kind| match kind {
        EventKind::Stopping { stop, reason, running } => Some((stop, reason, running.len())),
        _ => None,
    };
    log.kinds().into_iter().filter_map(stopping).collect()
}

fn counts(summary: &Summary) -> [usize; 8] {
    Class::ALL.map(|class| summary.of(class))
}

#[test]
fn a_threshold_is_exact() {
    for (threshold, hosts_in_all, failed) in [
        (Threshold::Count(0), 10, 1),
        (Threshold::Count(2), 10, 3),
        (Threshold::Percent(20), 10, 3),
        (Threshold::Percent(50), 3, 2),
        (Threshold::Count(10), 10, 10),
    ] {
        let fake = FakeTransport::new();
        for number in 0..hosts_in_all {
            fake.host(&format!("h{number}")).otherwise(Reply::new().code(1));
        }
        let pool = Pool::builder(fake.clone()).fanout(n(1)).max_fail(threshold).build();
        let mut log = Log::default();
        let summary = pool.run(&hosts(hosts_in_all), Exec::new("x"), &RunControl::new(), &mut [&mut log]);
        let left = hosts_in_all - failed;
        assert_eq!((summary.of(Class::Failed), summary.of(Class::NotStarted)), (failed, left), "{threshold:?}");
        assert_eq!(fake.calls().len(), failed);
        let is_crossed = left > 0;
        assert_eq!(summary.stopped_by, is_crossed.then_some(StopReason::Threshold));
        assert_eq!(summary.exit_code(), if is_crossed { 4 } else { 1 });
        if is_crossed {
            assert_eq!(stops(&log), [(Stop::Drain, StopReason::Threshold, 0)]);
        }
    }
}

#[test]
fn the_failure_that_stops_a_run_is_told_before_the_stop() {
    let pool = Pool::builder(FakeTransport::new()).fanout(n(1)).max_fail(Threshold::Count(0)).build();
    let control = RunControl::new();
    let is_telling = AtomicUsize::new(0);
    let op = from_fn("op", |_: &mut dyn Session, job: &Job<'_>| match &*job.host.name {
        "h1" => {
            until(|| is_telling.load(Ordering::SeqCst) == 1);
            Err(Error::new(ErrorKind::Refused, "no").in_phase(Phase::Running))
        }
        _ => Ok(()),
    });
    let mut log = Log::default();
    // While the first result is being told, the second comes and stops the run.
    let mut slow = |event: &Event| {
        if let EventKind::Finished(report) = &event.kind
            && report.host.name == "h0"
        {
            is_telling.store(1, Ordering::SeqCst);
            until(|| control.stopped().is_some());
        }
        Ok(())
    };
    pool.run(&hosts(3), op, &control, &mut [&mut slow, &mut log]);
    let told: Vec<String> = log
        .kinds()
        .iter()
        .filter_map(|kind| match kind {
            EventKind::Finished(report) => Some(report.host.name.clone()),
            EventKind::Stopping { .. } => Some("stopping".to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["h0", "h1", "stopping", "h2"]);
}

#[test]
fn a_threshold_crossed_by_the_last_host_says_so_too() {
    let fake = FakeTransport::new();
    fake.host("h0").fails(ErrorKind::Login, Phase::Login);
    let pool = Pool::builder(fake).max_fail(Threshold::Count(0)).build();
    let summary = pool.run(&hosts(1), Ping, &RunControl::new(), &mut []);
    assert_eq!((summary.stopped_by, summary.exit_code()), (Some(StopReason::Threshold), 4));
}

#[test]
fn a_drain_lets_what_runs_end_and_starts_no_more() {
    let pool = Pool::builder(FakeTransport::new()).fanout(n(3)).build();
    let control = RunControl::new();
    let inside = AtomicUsize::new(0);
    let op = from_fn("op", |_: &mut dyn Session, _: &Job<'_>| {
        inside.fetch_add(1, Ordering::SeqCst);
        until(|| inside.load(Ordering::SeqCst) == 3);
        control.stop(Stop::Drain, StopReason::Terminate);
        Ok(())
    });
    let mut log = Log::default();
    let summary = pool.run(&hosts(10), op, &control, &mut [&mut log]);
    assert_eq!(counts(&summary), [3, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!((summary.stopped_by, summary.exit_code()), (Some(StopReason::Terminate), 143));
    let stops = stops(&log);
    assert!(matches!(stops.as_slice(), [(Stop::Drain, StopReason::Terminate, _)]), "{stops:?}");
    assert_eq!((control.running(), control.queued()), (0, 0));
    for report in log.finished().iter().filter(|report| report.class() == Class::NotStarted) {
        let error = report.error.as_ref().unwrap();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Cancelled, Some(Phase::Queued)));
        assert_eq!(report.attempts, 0);
    }
}

#[test]
fn an_abort_ends_what_runs_wherever_it_is() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().hang());
    fake.host("h1").connect_delay(ms(3_600_000));
    fake.host("h2").connect_delay(ms(3_600_000));
    // One of h1 and h2 waits for its turn behind the other.
    let mut submitted: Vec<Host> = hosts(4).iter().map(|host| (**host).clone()).collect();
    for host in &mut submitted {
        host.timeouts.connect = ms(7_200_000);
    }
    submitted[2].address = submitted[1].address.clone();
    let submitted: Vec<_> = submitted.into_iter().map(Arc::new).collect();
    let pool = Pool::builder(fake.clone()).fanout(n(3)).starts_per_address(n(1)).phase_events(true).build();
    let control = RunControl::new();
    let (stopper, seen) = (control.clone(), AtomicUsize::new(0));
    let mut sink = |event: &Event| {
        if let EventKind::Phase { host, phase } = &event.kind
            && (host.name.as_str(), *phase) == ("h0", Phase::Running)
        {
            stopper.stop(Stop::Drain, StopReason::Interrupt);
            seen.fetch_add(1, Ordering::SeqCst);
        }
        if let EventKind::Stopping { stop: Stop::Drain, .. } = &event.kind {
            stopper.stop(Stop::Abort, StopReason::Interrupt);
        }
        Ok(())
    };
    let mut log = Log::default();
    let summary = pool.run(&submitted, Exec::new("x"), &control, &mut [&mut sink, &mut log]);
    let mut reports = log.finished();
    reports.sort_by_key(|report| report.index);
    let classes: Vec<_> = reports.iter().map(|report| report.class()).collect();
    assert_eq!(classes, [Class::Cancelled, Class::Cancelled, Class::Cancelled, Class::NotStarted]);
    assert_eq!(summary.exit_code(), 130);
    let stops = stops(&log);
    assert_eq!(stops.iter().map(|(stop, ..)| *stop).collect::<Vec<_>>(), [Stop::Drain, Stop::Abort]);
    assert_nothing_left(&fake);
}

#[test]
fn a_drain_lets_a_host_that_waits_for_its_turn_go_on() {
    let fake = FakeTransport::new();
    let submitted: Vec<_> = (0..3).map(|number| Arc::new(Host::new(format!("h{number}"), "10.0.0.1"))).collect();
    for host in &submitted {
        fake.host(&host.name).connect_delay(ms(200));
    }
    let control = RunControl::new();
    let pool = Pool::builder(fake).starts_per_address(n(1)).build();
    let stopper = control.clone();
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            until(|| stopper.running() == 3);
            stopper.stop(Stop::Drain, StopReason::Interrupt);
        });
        pool.run(&submitted, Ping, &control, &mut [])
    });
    assert_eq!(summary.of(Class::Ok), 3);
}

#[test]
fn a_stop_ends_the_wait_for_another_attempt() {
    for (stop, class) in [(Stop::Abort, Class::Cancelled), (Stop::Drain, Class::Unreachable)] {
        let fake = FakeTransport::new();
        fake.host("h0").drops(1);
        let mut host = Host::new("h0", "10.0.0.1");
        host.timeouts.connect = Duration::from_secs(1 << 20);
        let control = RunControl::new();
        let stopper = control.clone();
        let mut sink = |event: &Event| {
            if let EventKind::Note { .. } = &event.kind {
                stopper.stop(stop, StopReason::Interrupt);
            }
            Ok(())
        };
        let pool = Pool::builder(fake).retry_delay(Duration::from_secs(3600)).build();
        let summary = pool.run(&[Arc::new(host)], Ping, &control, &mut [&mut sink]);
        assert_eq!(summary.of(class), 1, "{summary:?}");
    }
}

#[test]
fn the_deadline_times_out_what_runs_and_starts_no_more() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().hang());
    fake.host("h1").connect_delay(ms(3_600_000));
    let pool = Pool::builder(fake.clone()).fanout(n(2)).deadline(ms(300)).max_fail(Threshold::Count(0)).build();
    let mut log = Log::default();
    let summary = pool.run(&hosts(5), Exec::new("x"), &RunControl::new(), &mut [&mut log]);
    assert_eq!(counts(&summary), [0, 0, 0, 0, 2, 0, 0, 3]);
    assert_eq!((summary.stopped_by, summary.exit_code()), (Some(StopReason::Deadline), 124));
    let stops = stops(&log);
    assert!(matches!(stops.as_slice(), [(Stop::Abort, StopReason::Deadline, _)]), "{stops:?}");
    for report in log.finished().iter().filter(|report| report.class() == Class::NotStarted) {
        assert_eq!(report.error.as_ref().unwrap().kind(), ErrorKind::Deadline);
    }
    assert_nothing_left(&fake);
}

#[test]
fn a_run_that_was_stopped_before_it_began_starts_nothing() {
    let fake = FakeTransport::new();
    let pool = Pool::builder(fake.clone()).build();
    let control = RunControl::new();
    control.stop(Stop::Drain, StopReason::Hangup);
    let summary = pool.run(&hosts(3), Ping, &control, &mut []);
    assert_eq!((summary.of(Class::NotStarted), summary.exit_code()), (3, 129));
    assert_eq!(fake.attempts("h0"), 0);
}

#[test]
fn a_terminated_pool_stops_its_runs_now_and_later() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().hang());
    let pool = Pool::builder(fake.clone()).build();
    let summary = std::thread::scope(|scope| {
        let run = scope.spawn(|| pool.run(&hosts(1), Exec::new("x"), &RunControl::new(), &mut []));
        until(|| !fake.calls().is_empty());
        pool.terminate();
        run.join().unwrap()
    });
    assert_eq!((summary.of(Class::Cancelled), summary.exit_code()), (1, 130));
    assert_eq!(pool.map(&hosts(1), Ping).remove(0).class(), Class::NotStarted);
}

#[test]
fn a_sink_that_fails_is_closed_and_the_others_hear_everything() {
    for panics in [false, true] {
        let pool = Pool::builder(FakeTransport::new()).fanout(n(1)).build();
        let mut heard = 0;
        let mut failing = |_: &Event| {
            heard += 1;
            match (heard, panics) {
                (3, true) => boom(),
                (3, false) => Err(std::io::Error::other("disk full")),
                _ => Ok(()),
            }
        };
        let mut log = Log::default();
        let summary = pool.run(&hosts(2000), Ping, &RunControl::new(), &mut [&mut failing, &mut log]);
        assert_eq!(heard, 3);
        assert_eq!(log.finished().len(), 2000);
        assert!(summary.of(Class::NotStarted) > 0);
        assert_eq!((summary.stopped_by, summary.exit_code()), (Some(StopReason::Output), 70));
        let why = if panics { "an output panicked: boom" } else { "disk full" };
        assert_eq!(summary.failed_sink.as_deref(), Some(why));
    }
}

#[test]
fn a_recorder_that_fails_is_closed_and_the_sinks_hear_everything() {
    struct Full(usize);
    impl Recorder for Full {
        fn record(&mut self, _: &[Event]) -> std::io::Result<()> {
            self.0 += 1;
            Err(std::io::Error::other("journal full"))
        }
    }
    let pool = Pool::builder(FakeTransport::new()).build();
    let (mut recorder, mut log) = (Full(0), Log::default());
    let outputs = Outputs::new().recorder(&mut recorder).sink(&mut log);
    let summary = pool.run_with(&hosts(5), Ping, &RunControl::new(), outputs, |_| {});
    assert_eq!(summary.failed_sink.as_deref(), Some("journal full"));
    assert_eq!((recorder.0, log.finished().len(), summary.of(Class::NotStarted)), (1, 5, 5));
}

#[test]
fn a_sink_may_stop_the_run_while_every_worker_waits_for_it() {
    let fake = FakeTransport::new();
    for number in 0..8 {
        fake.host(&format!("h{number}")).otherwise(Reply::new().endless(fleet::Stream::Stdout, "y\n"));
    }
    let pool = Pool::builder(fake.clone()).kill_after(ms(50)).build();
    let control = RunControl::new();
    let (stopper, mut heard) = (control.clone(), 0);
    let mut sink = |_: &Event| {
        heard += 1;
        if heard == 2000 {
            stopper.stop(Stop::Abort, StopReason::Output);
        }
        Ok(())
    };
    let summary = pool.run(&hosts(8), Exec::new("yes").capture(false), &control, &mut [&mut sink]);
    assert_eq!(summary.of(Class::Cancelled), 8);
    assert_nothing_left(&fake);
}
