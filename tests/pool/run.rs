//! Runs: order of events, results, fanout, turns, retries, panics, local limits.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use fleet::event::{Note, StopReason};
use fleet::fake::{FakeTransport, Reply};
use fleet::op::{Job, from_fn};
use fleet::{
    Class, Error, ErrorKind, Event, EventKind, Exec, Host, Operation, Outputs, Phase, Ping, Pool, Result, RunControl,
    Session, Stop, Stream, Threshold, Wave,
};

use super::{Log, assert_nothing_left, boom, hosts, ms, n};

#[test]
fn events_come_in_order_and_nothing_after_a_hosts_end() {
    let fake = FakeTransport::new();
    for number in 0..20 {
        fake.host(&format!("h{number}")).on("x", Reply::new().stdout("a").stderr("b").stdout("c").code(number % 2));
    }
    let pool = Pool::builder(fake.clone()).fanout(n(4)).phase_events(true).build();
    let mut log = Log::default();
    let summary = pool.run(&hosts(20), Exec::new("x"), &RunControl::new(), &mut [&mut log]);

    let kinds = log.kinds();
    assert!(matches!(kinds.first(), Some(EventKind::Started { op, hosts: 20, fanout: 4 }) if op == "exec"));
    let Some(EventKind::RunFinished(told)) = kinds.last() else { panic!("{:?}", kinds.last()) };
    assert_eq!(told, &summary);
    assert_eq!((summary.of(Class::Ok), summary.of(Class::Failed), summary.exit_code()), (10, 10, 1));

    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    for kind in &kinds {
        let word = match kind {
            EventKind::Phase { phase, .. } => phase.to_string(),
            EventKind::Output { stream, bytes, .. } => {
                format!("{} {}", stream.as_str(), String::from_utf8_lossy(bytes))
            }
            EventKind::Finished(_) => "finished".to_owned(),
            _ => continue,
        };
        told.entry(kind.host().unwrap().name.clone()).or_default().push(word);
    }
    assert_eq!(told.len(), 20);
    for (host, words) in told {
        let expected = [
            "resolve",
            "connect",
            "banner",
            "key exchange",
            "host key",
            "login",
            "running",
            "stdout a",
            "stderr b",
            "stdout c",
            "finished",
        ];
        assert_eq!(words, expected, "{host}");
    }
    assert_nothing_left(&fake);
}

#[test]
fn nobody_is_told_what_nobody_wants() {
    let fake = FakeTransport::new();
    fake.host("h0").on("x", Reply::new().stdout("a"));
    let pool = Pool::builder(fake).output_events(false).build();
    let mut log = Log::default();
    pool.run(&hosts(1), Exec::new("x"), &RunControl::new(), &mut [&mut log]);
    assert_eq!(log.kinds().len(), 3, "{:?}", log.kinds());
}

#[test]
fn no_hosts_are_done_at_once() {
    let pool = Pool::builder(FakeTransport::new()).build();
    let mut log = Log::default();
    let summary = pool.run(&[], Ping, &RunControl::new(), &mut [&mut log]);
    assert_eq!((summary.hosts, summary.exit_code(), log.kinds().len()), (0, 0, 2));
    assert!(pool.map(&[], Ping).is_empty());
    assert!(pool.imap_unordered(&[], Ping).next().is_none());
    assert!(pool.imap(&[], Ping).next().is_none());
}

#[test]
fn map_keeps_the_order_of_the_hosts_and_borrows() {
    let names = Mutex::new(Vec::new());
    let pool = Pool::builder(FakeTransport::new()).fanout(n(3)).build();
    let hosts = hosts(30);
    let results = pool.map(
        &hosts,
        from_fn("name", |_: &mut dyn Session, job: &Job<'_>| {
            names.lock().unwrap().push(job.host.name.clone());
            Ok((job.index, job.total, job.host.name.clone()))
        }),
    );
    for (index, (result, host)) in results.iter().zip(&hosts).enumerate() {
        assert_eq!(result.value(), Some(&(index, 30, host.name.clone())));
        assert!(Arc::ptr_eq(result.host(), host));
    }
    assert_eq!(names.into_inner().unwrap().len(), 30);
}

#[test]
fn the_fanout_is_reached_and_never_exceeded() {
    let fake = FakeTransport::new();
    let pool = Pool::builder(fake.clone()).fanout(n(4)).build();
    let barrier = Barrier::new(4);
    let results = pool.map(
        &hosts(12),
        from_fn("meet", |_: &mut dyn Session, _: &Job<'_>| {
            barrier.wait();
            Ok(())
        }),
    );
    assert!(results.iter().all(|result| result.is_ok()));
    assert_eq!(fake.peak_sessions(), 4);
}

#[test]
fn a_host_submitted_twice_has_two_results() {
    let fake = FakeTransport::new();
    let pool = Pool::builder(fake.clone()).build();
    let host = &hosts(1)[0];
    let submitted = vec![Arc::clone(host); 5];
    let mut log = Log::default();
    let summary = pool.run(&submitted, Ping, &RunControl::new(), &mut [&mut log]);
    assert_eq!(summary.of(Class::Ok), 5);
    let mut indices: Vec<_> = log.finished().iter().map(|report| report.index).collect();
    indices.sort_unstable();
    assert_eq!(indices, [0, 1, 2, 3, 4]);
    assert_eq!(fake.attempts("h0"), 5);
}

#[test]
fn a_report_tells_how_long_each_phase_took() {
    let fake = FakeTransport::new();
    fake.host("h0").connect_delay(ms(20)).on("x", Reply::new().pause(ms(20)));
    let pool = Pool::builder(fake).fanout(n(1)).build();
    let results = pool.map(&[hosts(1), hosts(1)].concat(), Exec::new("x"));
    for result in &results {
        let took = |phase| result.report.phases.iter().find(|(known, _)| *known == phase).map(|(_, took)| *took);
        assert!(took(Phase::Connect).unwrap() >= ms(20));
        assert!(took(Phase::Running).unwrap() >= ms(20));
        assert!(took(Phase::KeyExchange).is_some() && took(Phase::Login).is_some());
        assert!(result.report.duration >= ms(40));
        assert_eq!(result.report.attempts, 1);
    }
    assert!(results[1].report.queued >= ms(40));
}

#[test]
fn a_panic_is_that_hosts_result_with_its_phase() {
    let fake = FakeTransport::new();
    fake.host("h0").panics("in connect");
    fake.host("h1").on("x", Reply::new().stdout("a").panic("in session"));
    let pool = Pool::builder(fake.clone()).build();
    let op = from_fn("op", |session: &mut dyn Session, job: &Job<'_>| {
        if job.index == 2 {
            boom();
        }
        Exec::new("x").run(session, job)
    });
    let results = pool.map(&hosts(4), op);
    let told = |index: usize| {
        let error = results[index].error().unwrap();
        (error.kind(), error.phase().unwrap(), error.to_string(), results[index].class())
    };
    assert_eq!(told(0), (ErrorKind::Panic, Phase::Banner, "panicked: in connect".to_owned(), Class::Error));
    assert_eq!(told(1), (ErrorKind::Panic, Phase::Running, "panicked: in session".to_owned(), Class::Error));
    assert_eq!(told(2), (ErrorKind::Panic, Phase::Running, "panicked: boom".to_owned(), Class::Error));
    assert!(results[3].is_ok());
    assert_nothing_left(&fake);
}

#[test]
fn a_panic_of_the_callers_callback_aborts_the_run_and_goes_on() {
    let fake = FakeTransport::new();
    fake.host("h1").otherwise(Reply::new().hang());
    fake.host("h2").otherwise(Reply::new().hang());
    let pool = Pool::builder(fake.clone()).build();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        pool.run_with(&hosts(3), Exec::new("x"), &RunControl::new(), Outputs::new(), |_| boom());
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"boom"));
    assert_nothing_left(&fake);
}

/// Hosts behind one address, each of which takes `delay` to connect to.
fn behind_one_address(fake: &FakeTransport, count: usize, delay: Duration, timeout: Duration) -> Vec<Arc<Host>> {
    let host = |number| {
        let name = format!("h{number}");
        fake.host(&name).connect_delay(delay);
        let mut host = Host::new(name, "10.0.0.1");
        host.timeouts.connect = timeout;
        Arc::new(host)
    };
    (0..count).map(host).collect()
}

#[test]
fn turns_to_one_address_are_limited() {
    let fake = FakeTransport::new();
    let hosts = behind_one_address(&fake, 30, ms(5), ms(60_000));
    let pool = Pool::builder(fake.clone()).starts_per_address(n(3)).build();
    assert!(pool.map(&hosts, Ping).iter().all(|result| result.is_ok()));
    assert_eq!(fake.peak_logins(), (3, 3));
}

#[test]
fn waiting_for_a_turn_is_not_charged() {
    let fake = FakeTransport::new();
    let hosts = behind_one_address(&fake, 30, ms(20), ms(500));
    let pool = Pool::builder(fake).starts_per_address(n(1)).build();
    let results = pool.map(&hosts, Ping);
    assert!(results.iter().all(|result| result.is_ok()), "{results:?}");
    assert!(results.iter().any(|result| result.report.queued >= ms(500)));
}

#[test]
fn handshakes_are_limited_in_the_whole_pool() {
    let fake = FakeTransport::new();
    for number in 0..12 {
        fake.host(&format!("h{number}")).connect_delay(ms(3));
    }
    let pool = Pool::builder(fake.clone()).handshakes(n(2)).build();
    let (hosts, more) = (hosts(12), hosts(12));
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(pool.map(&hosts, Ping).iter().all(|result| result.is_ok())));
        scope.spawn(|| assert!(pool.map(&more, Ping).iter().all(|result| result.is_ok())));
    });
    assert_eq!(fake.peak_logins().1, 2);
}

#[test]
fn drops_before_the_login_are_tried_again_and_nothing_else_is() {
    let fake = FakeTransport::new();
    fake.host("h0").drops(2);
    fake.host("h1").drops(3);
    fake.host("h2").fails(ErrorKind::Connect, Phase::Connect);
    fake.host("h3").fails(ErrorKind::Login, Phase::Login);
    fake.host("h4").fails_first(1, ErrorKind::Protocol, Phase::Banner);
    fake.host("h5").on("x", Reply::new().lose());
    let pool = Pool::builder(fake).retry_delay(ms(1)).build();
    let mut log = Log::default();
    let summary = pool.run(&hosts(6), Exec::new("x"), &RunControl::new(), &mut [&mut log]);
    let mut reports = log.finished();
    reports.sort_by_key(|report| report.index);
    let told: Vec<_> = reports.iter().map(|report| (report.class(), report.attempts)).collect();
    let expected = [
        (Class::Ok, 3),
        (Class::Unreachable, 3),
        (Class::Unreachable, 1),
        (Class::Unreachable, 1),
        (Class::Ok, 2),
        (Class::Lost, 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(summary.exit_code(), 3);
    let retries = log.notes().into_iter().filter(|note| matches!(note, Note::Retrying { .. })).count();
    assert_eq!(retries, 5);
}

#[test]
fn a_wait_that_the_connect_timeout_cannot_hold_is_not_begun() {
    let fake = FakeTransport::new();
    fake.host("h0").drops(1);
    let pool = Pool::builder(fake).retry_delay(ms(3_600_000)).build();
    let result = pool.map(&hosts(1), Ping).remove(0);
    assert_eq!(result.error().unwrap().kind(), ErrorKind::Disconnected);
    assert_eq!(result.class(), Class::Unreachable);
}

#[test]
fn a_local_limit_lowers_the_fanout_and_blames_no_host() {
    let fake = FakeTransport::new();
    fake.limit_sessions(3);
    let pool = Pool::builder(fake.clone()).fanout(n(10)).build();
    let log = Log::default();
    let op = from_fn("op", |_: &mut dyn Session, _: &Job<'_>| {
        super::until(|| !log.warnings().is_empty());
        Ok(())
    });
    let summary = pool.run(&hosts(40), op, &RunControl::new(), &mut [&mut log.clone()]);
    assert_eq!(summary.of(Class::Ok), 40);
    assert_eq!(log.warnings().len(), 1, "{:?}", log.warnings());
    assert_eq!(fake.peak_sessions(), 3);
    assert!(log.finished().iter().all(|report| report.attempts == 1));
}

#[test]
fn a_local_limit_that_stays_is_an_error_of_each_host() {
    let fake = FakeTransport::new();
    fake.limit_sessions(0);
    let pool = Pool::builder(fake).fanout(n(5)).build();
    let mut log = Log::default();
    let summary = pool.run(&hosts(20), Ping, &RunControl::new(), &mut [&mut log]);
    assert_eq!((summary.of(Class::Error), summary.exit_code()), (20, 70));
    assert_eq!(log.warnings().len(), 1);
}

/// Hits a local limit the first time it runs on a host.
struct Limited {
    is_idempotent: bool,
    runs: AtomicUsize,
}

impl Operation for Limited {
    type Output = ();

    fn name(&self) -> &str {
        "limited"
    }

    fn run(&self, _: &mut dyn Session, _: &Job<'_>) -> Result<()> {
        match self.runs.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Error::new(ErrorKind::LocalLimit, "no descriptors left")),
            _ => Ok(()),
        }
    }

    fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
}

#[test]
fn an_operation_that_began_is_run_again_only_if_that_does_no_harm() {
    let pool = Pool::builder(FakeTransport::new()).build();
    for (is_idempotent, runs, errors) in [(true, 3, 0), (false, 2, 1)] {
        let op = Limited { is_idempotent, runs: AtomicUsize::new(0) };
        let results = pool.map(&hosts(2), &op);
        assert_eq!(op.runs.load(Ordering::SeqCst), runs);
        assert_eq!(results.iter().filter(|result| result.class() == Class::Error).count(), errors);
    }
}

#[test]
fn a_slow_sink_does_not_make_commands_time_out() {
    let fake = FakeTransport::new();
    let chunks = (0..2000).fold(Reply::new(), |reply, _| reply.stdout("line\n"));
    fake.host("h0").on("x", chunks);
    let pool = Pool::builder(fake).timeout(ms(400)).build();
    let mut count = 0;
    let mut slow = |event: &Event| {
        if matches!(event.kind, EventKind::Output { .. }) {
            count += 1;
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    };
    let summary = pool.run(&hosts(1), Exec::new("x").capture(false), &RunControl::new(), &mut [&mut slow]);
    assert_eq!(summary.of(Class::Ok), 1);
    assert!(summary.duration > ms(800));
    assert_eq!(count, 2000);
}

#[test]
fn waiting_for_a_worker_is_not_charged() {
    let fake = FakeTransport::new();
    for number in 0..30 {
        fake.host(&format!("h{number}")).on("x", Reply::new().pause(ms(20)));
    }
    let pool = Pool::builder(fake).fanout(n(1)).timeout(ms(500)).build();
    let results = pool.map(&hosts(30), Exec::new("x"));
    assert!(results.iter().all(|result| result.is_ok()));
    assert!(results[29].report.queued >= ms(500));
}

#[test]
fn limits_end_a_command_and_say_so() {
    let fake = FakeTransport::new();
    fake.host("h0").otherwise(Reply::new().hang());
    fake.host("h1").otherwise(Reply::new().endless(Stream::Stdout, vec![b'y'; 1000]));
    fake.host("h2").otherwise(Reply::new().hang().ignores_signals());
    fake.host("h3").otherwise(Reply::new().hang().ignores_kill());
    let pool = Pool::builder(fake.clone()).timeout(ms(300)).max_output_bytes(10_000).kill_after(ms(100)).build();
    let results = pool.map(&hosts(4), Exec::new("x"));
    let told: Vec<_> = results.iter().map(|result| (result.class(), result.report.facts.killed.unwrap())).collect();
    let expected = [
        (Class::TimedOut, "killed"),
        (Class::Failed, "killed"),
        (Class::TimedOut, "killed"),
        (Class::TimedOut, "not confirmed"),
    ];
    assert_eq!(told, expected);
    assert_eq!(results[1].report.reason().unwrap(), "wrote more than 10000 bytes, remote process killed");
    assert_nothing_left(&fake);
}

#[test]
fn the_recorder_has_a_batch_before_any_sink() {
    #[derive(Clone, Default)]
    struct Order(Arc<Mutex<Vec<(&'static str, usize)>>>);
    impl fleet::event::Recorder for Order {
        fn record(&mut self, batch: &[Event]) -> std::io::Result<()> {
            self.0.lock().unwrap().push(("recorded", batch.len()));
            Ok(())
        }
    }
    impl fleet::Sink for Order {
        fn handle(&mut self, _: &Event) -> std::io::Result<()> {
            self.0.lock().unwrap().push(("shown", 1));
            Ok(())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.lock().unwrap().push(("flushed", 0));
            Ok(())
        }
    }
    let order = Order::default();
    let (mut recorder, mut sink) = (order.clone(), order.clone());
    let pool = Pool::builder(FakeTransport::new()).build();
    let results = order.clone();
    let outputs = Outputs::new().recorder(&mut recorder).sink(&mut sink);
    pool.run_with(&hosts(50), Ping, &RunControl::new(), outputs, |_| {
        results.0.lock().unwrap().push(("result", 1));
    });
    let (mut recorded, mut shown, mut results) = (0, 0, 0);
    for (what, count) in order.0.lock().unwrap().iter() {
        match *what {
            "recorded" => {
                assert_eq!((recorded, shown), (shown, recorded));
                recorded += count;
            }
            "shown" => shown += 1,
            "flushed" => assert_eq!(shown, recorded),
            _ => {
                results += 1;
                assert!(results < shown && shown == recorded);
            }
        }
    }
    assert_eq!((recorded, results), (52, 50));
}

#[test]
fn an_operation_whose_connection_ends_is_run_again_if_that_does_no_harm() {
    for (is_idempotent, retry_op, drops, class, attempts) in [
        (true, 2, 2, Class::Ok, 3),
        (true, 1, 2, Class::Lost, 2),
        (false, 2, 1, Class::Lost, 1),
        (true, 0, 1, Class::Lost, 1),
    ] {
        let pool = Pool::builder(FakeTransport::new()).retry_op(retry_op).retry_delay(ms(1)).build();
        let op = Lossy { is_idempotent, drops, runs: AtomicUsize::new(0) };
        let mut log = Log::default();
        pool.run(&hosts(1), op, &RunControl::new(), &mut [&mut log]);
        let report = log.finished().remove(0);
        assert_eq!((report.class(), report.attempts), (class, attempts));
        assert_eq!(log.notes().len() as u32, attempts - 1);
    }
}

/// Loses its connection the first times it runs.
struct Lossy {
    is_idempotent: bool,
    drops: usize,
    runs: AtomicUsize,
}

impl Operation for Lossy {
    type Output = ();

    fn name(&self) -> &str {
        "lossy"
    }

    fn run(&self, _: &mut dyn Session, _: &Job<'_>) -> Result<()> {
        let is_over = self.runs.fetch_add(1, Ordering::SeqCst) >= self.drops;
        if is_over { Ok(()) } else { Err(Error::new(ErrorKind::Disconnected, "the connection ended")) }
    }

    fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
}

#[test]
fn a_wave_begins_when_the_one_before_it_ended() {
    let fake = FakeTransport::new();
    let pool = Pool::builder(fake).rollout([Wave::Count(1), Wave::Percent(30)]).build();
    let done = AtomicUsize::new(0);
    let results = pool.map(
        &hosts(10),
        from_fn("op", |_: &mut dyn Session, job: &Job<'_>| {
            let before = done.load(Ordering::SeqCst);
            let wave = match job.index {
                0 => 0,
                1..3 => 1,
                _ => 3,
            };
            assert!(before >= wave, "host {} began after {before}", job.index);
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }),
    );
    assert!(results.iter().all(|result| result.is_ok()), "{results:?}");
}

#[test]
fn a_wave_that_fails_is_the_last() {
    let fake = FakeTransport::new();
    fake.host("h2").fails(ErrorKind::Login, Phase::Login);
    let pool = Pool::builder(fake).fanout(n(1)).rollout([Wave::Count(3)]).max_fail(Threshold::Count(0)).build();
    let summary = pool.run(&hosts(10), Ping, &RunControl::new(), &mut []);
    assert_eq!((summary.of(Class::Ok), summary.of(Class::Unreachable)), (2, 1));
    assert_eq!((summary.of(Class::NotStarted), summary.exit_code()), (7, 4));
}

#[test]
fn a_splay_is_queued_time_and_ended_by_a_stop() {
    let fake = FakeTransport::new();
    let pool = Pool::builder(fake.clone()).splay(ms(40)).build();
    let results = pool.map(&hosts(20), Ping);
    assert!(results.iter().all(|result| result.is_ok()));
    assert!(results.iter().any(|result| result.report.queued >= ms(5)));

    let pool = Pool::builder(fake).splay(ms(3_600_000_000)).build();
    let control = RunControl::new();
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            super::until(|| control.running() == 3);
            control.stop(Stop::Drain, StopReason::Interrupt);
        });
        pool.run(&hosts(3), Ping, &control, &mut [])
    });
    assert_eq!(summary.of(Class::NotStarted), 3);
}

#[test]
fn a_control_tells_who_is_in_flight_and_where() {
    let fake = FakeTransport::new();
    fake.host("h0").on("wait", Reply::new().hang());
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.2"].into_iter().enumerate();
    let submitted: Vec<_> =
        addresses.map(|(number, address)| Arc::new(Host::new(format!("h{number}"), address))).collect();
    for host in submitted.iter().skip(1) {
        fake.host(&host.name).connect_delay(ms(3_600_000_000));
    }
    let control = RunControl::new();
    let pool = Pool::builder(fake).starts_per_address(n(1)).build();
    let seen = || -> Vec<(String, Phase)> {
        control.in_flight().into_iter().map(|flight| (flight.host.name.clone(), flight.phase)).collect()
    };
    let names = |phases: [Phase; 3]| ["h0", "h1", "h2"].map(str::to_owned).into_iter().zip(phases).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            super::until(|| {
                let seen = seen();
                // Which of the others has the only turn is open.
                seen == names([Phase::Running, Phase::Connect, Phase::Queued])
                    || seen == names([Phase::Running, Phase::Queued, Phase::Connect])
            });
            control.stop(Stop::Abort, StopReason::Interrupt);
        });
        pool.run(&submitted, Exec::new("wait"), &control, &mut [])
    });
    assert_eq!(control.in_flight().len(), 0);
}
