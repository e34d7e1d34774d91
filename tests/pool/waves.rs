//! Rollouts: what is told of waves, and what keeps the next from beginning.

use fleet::event::StopReason;
use fleet::fake::{FakeTransport, Reply};
use fleet::pool::WaveEnd;
use fleet::{Class, EventKind, Exec, Outputs, Pool, RunControl, Stop, Summary, Wave};

use super::{Log, hosts, n};

fn waves(log: &Log) -> Vec<[usize; 3]> {
    let wave = |kind| match kind {
        EventKind::Wave { number, begins, reaches } => Some([number, begins, reaches]),
        _ => None,
    };
    log.kinds().into_iter().filter_map(wave).collect()
}

fn counts(summary: &Summary) -> [usize; 3] {
    [Class::Ok, Class::Failed, Class::NotStarted].map(|class| summary.of(class))
}

#[test]
fn each_wave_is_told_once_and_those_that_reach_no_further_are_none() {
    let rollout = [Wave::Count(1), Wave::Count(1), Wave::Percent(10), Wave::Percent(45), Wave::Count(99)];
    let pool = Pool::builder(FakeTransport::new()).rollout(rollout).build();
    let mut log = Log::default();
    let summary = pool.run(&hosts(20), Exec::new("x"), &RunControl::new(), &mut [&mut log]);
    assert_eq!(counts(&summary), [20, 0, 0]);
    assert_eq!(waves(&log), [[1, 1, 1], [2, 1, 2], [3, 7, 9], [4, 11, 20]]);
    // A run of one wave has nothing to tell.
    for pool in [Pool::builder(FakeTransport::new()), Pool::builder(FakeTransport::new()).rollout([Wave::Percent(100)])]
    {
        let mut log = Log::default();
        pool.build().run(&hosts(3), Exec::new("x"), &RunControl::new(), &mut [&mut log]);
        assert_eq!(waves(&log), Vec::<[usize; 3]>::new());
    }
}

#[test]
fn whoever_decides_between_waves_ends_the_run() {
    let fake = FakeTransport::new();
    fake.host("h1").otherwise(Reply::new().code(1));
    let pool = Pool::builder(fake.clone()).rollout([Wave::Count(2), Wave::Count(5)]).build();
    let mut asked = Vec::new();
    let mut decide = |end: &WaveEnd| {
        asked.push(*end);
        assert_eq!(fake.open_sessions(), 0);
        end.number < 2
    };
    let outputs = Outputs::new().between_waves(&mut decide);
    let summary = pool.run_with(&hosts(8), Exec::new("x"), &RunControl::new(), outputs, |_| {});
    assert_eq!((counts(&summary), summary.stopped_by), ([4, 1, 3], Some(StopReason::Rollout)));
    assert_eq!(summary.exit_code(), 4);
    let asked: Vec<_> = asked.iter().map(|end| [end.number, end.done, end.failures, end.next, end.hosts]).collect();
    assert_eq!(asked, [[1, 2, 1, 3, 8], [2, 5, 1, 3, 8]]);
}

#[test]
fn nobody_is_asked_in_a_run_that_was_stopped() {
    let pool = Pool::builder(FakeTransport::new()).rollout([Wave::Count(1)]).build();
    let control = RunControl::new();
    let stop = control.clone();
    let mut decide = |_: &WaveEnd| panic!("nobody is asked");
    let mut sink = |event: &fleet::Event| {
        if let EventKind::Finished(_) = event.kind {
            stop.stop(Stop::Drain, StopReason::Interrupt);
        }
        Ok(())
    };
    let outputs = Outputs::new().sink(&mut sink).between_waves(&mut decide);
    let summary = pool.run_with(&hosts(3), Exec::new("x"), &control, outputs, |_| {});
    assert_eq!((counts(&summary), summary.exit_code()), ([1, 0, 2], 130));
}

#[test]
fn a_wave_whose_hosts_differ_too_much_is_the_last() {
    for (percent, differing, passes) in [(100, 0, true), (100, 1, false), (75, 1, true), (76, 1, false), (50, 2, true)]
    {
        let fake = FakeTransport::new();
        for number in 0..4 {
            // In pieces of other sizes: what counts is the whole.
            let reply = match number {
                _ if number >= 4 - differing => Reply::new().stdout(format!("odd {number}\n")),
                0 => Reply::new().stdout("sa").stdout("me\n").stderr("warned"),
                _ => Reply::new().stdout("same\n").stderr("warned"),
            };
            fake.host(&format!("h{number}")).otherwise(reply);
        }
        let pool = Pool::builder(fake).fanout(n(3)).rollout([Wave::Count(4)]).same_output(percent).build();
        let mut log = Log::default();
        let summary = pool.run(&hosts(6), Exec::new("x"), &RunControl::new(), &mut [&mut log]);
        let same = 4 - differing;
        if passes {
            assert_eq!((counts(&summary), summary.stopped_by), ([6, 0, 0], None));
        } else {
            assert_eq!((counts(&summary), summary.stopped_by), ([4, 0, 2], Some(StopReason::Rollout)));
            let warning = format!("wave 1: {same} of 4 hosts gave the same output, less than {percent}%");
            assert_eq!(log.warnings(), [warning]);
        }
    }
}

#[test]
fn a_status_of_its_own_is_another_output_and_none_is_like_no_other() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().code(1));
    fake.host("h1").fails(fleet::ErrorKind::Connect, fleet::Phase::Connect);
    let pool = Pool::builder(fake).rollout([Wave::Count(4)]).same_output(51).build();
    let summary = pool.run(&hosts(6), Exec::new("x"), &RunControl::new(), &mut []);
    assert_eq!((summary.of(Class::NotStarted), summary.stopped_by), (2, Some(StopReason::Rollout)));
}
