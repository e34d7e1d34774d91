//! Hosts that misbehave: the right status and phase, in time, and nobody else is held up.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::pool::RunControl;
use fleet::{Class, ErrorKind, Event, EventKind, Exec, Host, Phase};
use fleet_sim::{Canned, Fault, HostPlan, Mode};

use crate::ground::{Ground, exec, fanout, pool, run_in, stdout};

/// A host that misbehaves, and what must be said of it.
struct Case {
    plan: HostPlan,
    class: Class,
    kind: Option<ErrorKind>,
    phase: Option<Phase>,
}

/// Both the connection and the command may take so long: healthy hosts must not notice.
const DEADLINE: Duration = Duration::from_secs(8);

fn cases() -> Vec<Case> {
    let answer = || HostPlan::new().mode(Mode::canned("ok\n"));
    let on_the_way = |fault, kind, phase| Case {
        plan: answer().fault(fault),
        class: Class::Unreachable,
        kind: Some(kind),
        phase: Some(phase),
    };
    let result = |plan, class, phase| Case { plan, class, kind: None, phase };
    let flood = |stdout: u64, stderr: u64| {
        let canned = Canned::new([b'o'; 1024]).times(stdout).stderr([b'e'; 1024], stderr);
        HostPlan::new().mode(Mode::Canned(canned))
    };
    vec![
        on_the_way(Fault::Silent, ErrorKind::Timeout, Phase::Banner),
        on_the_way(Fault::GarbageBanner, ErrorKind::Protocol, Phase::Banner),
        on_the_way(Fault::EndlessBanner { newline: true }, ErrorKind::Protocol, Phase::Banner),
        on_the_way(Fault::EndlessBanner { newline: false }, ErrorKind::Protocol, Phase::Banner),
        on_the_way(Fault::StallKex { kexinit: false }, ErrorKind::Timeout, Phase::KeyExchange),
        on_the_way(Fault::StallKex { kexinit: true }, ErrorKind::Timeout, Phase::KeyExchange),
        on_the_way(Fault::StallLogin, ErrorKind::Timeout, Phase::Login),
        on_the_way(Fault::CutBeforeLogin { times: 100 }, ErrorKind::Disconnected, Phase::Banner),
        Case {
            plan: answer().fault(Fault::StallChannel),
            class: Class::TimedOut,
            kind: Some(ErrorKind::Timeout),
            phase: Some(Phase::Channel),
        },
        Case {
            plan: answer().fault(Fault::CutOutput { after_bytes: 100_000 }),
            class: Class::Lost,
            kind: Some(ErrorKind::Disconnected),
            phase: Some(Phase::Running),
        },
        result(answer().fault(Fault::StallOutput), Class::TimedOut, Some(Phase::Running)),
        result(answer().fault(Fault::EndlessOutput), Class::TimedOut, Some(Phase::Running)),
        result(answer().fault(Fault::NoExitStatus), Class::Failed, None),
        result(answer().fault(Fault::ExitSignal { name: "SEGV".into() }), Class::Failed, None),
        result(flood(0, 5 * 1024), Class::Ok, None),
        result(flood(5 * 1024, 5 * 1024), Class::Ok, None),
    ]
}

#[test]
fn each_fault_among_200_hosts_has_its_status_and_phase_and_holds_nobody_up() {
    let cases = cases();
    let mut plans = Ground::healthy(200);
    for (at, case) in cases.iter().enumerate() {
        plans.insert(at * 12, case.plan.clone());
    }
    let ground = Ground::start(plans);
    let reach = |host| {
        let mut reached = ground.host(host);
        reached.timeouts.connect = DEADLINE;
        reached.retries = 0;
        Arc::new(reached)
    };
    let hosts: Vec<Arc<Host>> = ground.sim.hosts().iter().map(reach).collect();
    let start = Instant::now();
    let mut last_healthy = Duration::ZERO;
    let mut reports = Vec::new();
    let mut sink = |event: &Event| {
        if let EventKind::Finished(report) = &event.kind {
            let is_healthy = report.index % 12 != 0 || report.index / 12 >= cases.len();
            if is_healthy {
                assert!(report.is_ok(), "{report:?}");
                last_healthy = start.elapsed();
            }
            reports.push(Arc::clone(report));
        }
        Ok(())
    };
    let pool = pool().fanout(fanout(hosts.len())).timeout(DEADLINE).kill_after(Duration::from_millis(500)).build();
    let op = Exec::new("x").capture(false);
    let summary = pool.run(&hosts, op, &RunControl::new(), &mut [&mut sink]);
    assert_eq!(summary.failed_sink, None);
    assert_eq!(reports.len(), hosts.len());
    assert_eq!(summary.exit_code(), 124);
    assert!(last_healthy < DEADLINE, "a healthy host waited {last_healthy:?} for the faulty ones");
    for (at, case) in cases.iter().enumerate() {
        let fault = &case.plan.fault;
        let report = reports.iter().find(|report| report.index == at * 12).unwrap();
        assert_eq!(report.class(), case.class, "{fault:?}: {report:?}");
        assert_eq!(report.error.as_ref().map(fleet::Error::kind), case.kind, "{fault:?}");
        assert_eq!(report.phase(), case.phase, "{fault:?}: {report:?}");
        let within = if case.kind == Some(ErrorKind::Protocol) { DEADLINE } else { DEADLINE * 2 + DEADLINE / 2 };
        assert!(report.duration < within, "{fault:?} took {:?}", report.duration);
    }
    let facts = |at: usize| &reports.iter().find(|report| report.index == at * 12).unwrap().facts;
    assert_eq!(facts(13).signal.as_deref(), Some("SEGV"));
    assert_eq!((facts(14).stdout_bytes, facts(14).stderr_bytes), (0, 5 * 1024 * 1024));
    assert_eq!((facts(15).stdout_bytes, facts(15).stderr_bytes), (5 * 1024 * 1024, 5 * 1024 * 1024));
}

#[test]
fn a_flood_before_the_login_is_cut_short() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut host = Host::new("flood", "127.0.0.1");
    host.port = listener.local_addr().unwrap().port();
    host.retries = 0;
    let flood = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"SSH-2.0-flood\r\n").unwrap();
        // SSH_MSG_IGNORE, as it stands before the key exchange (RFC 4253 section 6), for as long as it is read.
        let packets = [0, 0, 0, 12, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(4096);
        while client.write_all(&packets).is_ok() {}
    });
    let result = exec(host, "true");
    let error = result.error().unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Protocol, Some(Phase::KeyExchange)), "{error:?}");
    assert_eq!(error.to_string(), "the server sent 4 MiB before the login");
    flood.join().unwrap();
}

#[test]
fn garbage_before_the_banner_is_quoted() {
    let ground = Ground::one(HostPlan::new().max_startups(0));
    let mut host = ground.first();
    host.retries = 0;
    let error = exec(host, "true").error().unwrap().to_string();
    assert_eq!(error, "the server said \"Exceeded MaxStartups\" instead of SSH");
}

#[test]
fn a_drop_before_the_login_is_tried_again() {
    let ground = Ground::one(HostPlan::new().fault(Fault::CutBeforeLogin { times: 2 }));
    let result = exec(ground.first(), "true");
    assert_eq!(result.class(), Class::Ok);
    assert_eq!(result.report.attempts, 3);
}

#[test]
fn a_stalled_channel_times_out_in_its_phase() {
    let ground = Ground::one(HostPlan::new().fault(Fault::StallChannel));
    let mut host = ground.first();
    host.timeouts.connect = Duration::from_secs(1);
    let result = exec(host, "true");
    assert_eq!(result.class(), Class::TimedOut);
    assert_eq!(result.error().unwrap().to_string(), "channel timed out after 1s");
}

#[test]
fn what_came_before_a_cut_is_delivered_and_the_host_is_lost() {
    for fault in [Fault::CutOutput { after_bytes: 300_000 }, Fault::ResetOutput { after_bytes: 300_000 }] {
        let ground = Ground::one(HostPlan::new().fault(fault.clone()));
        let seen = std::sync::atomic::AtomicU64::new(0);
        let op = fleet::op::from_fn("exec", |session, job| {
            job.exec(session, "head -c 5000000 /dev/zero", &mut |_, bytes| {
                seen.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            })
        });
        let result = run_in(pool(), ground.first(), op);
        assert_eq!(result.class(), Class::Lost, "{fault:?}: {result:?}");
        let error = result.error().unwrap();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Disconnected, Some(Phase::Running)));
        // How much of it is the kernels' affair: a server that closes with input unread resets what it had not sent yet.
        assert!(seen.into_inner() > 0, "{fault:?}: {error:?}");
    }
}

#[test]
fn a_dead_connection_is_noticed_by_its_silence() {
    let ground = Ground::one(HostPlan::new().fault(Fault::FreezeOutput { after_bytes: 100_000 }));
    let mut host = ground.first();
    host.timeouts.alive_interval = Duration::from_secs(2);
    host.timeouts.alive_count = 1;
    let result = exec(host, "head -c 5000000 /dev/zero; sleep 1000");
    assert_eq!(result.class(), Class::Lost);
    assert_eq!(result.error().unwrap().to_string(), "no sign of life for 2s");
}

#[test]
fn a_quiet_command_on_a_live_host_is_left_alone() {
    let ground = Ground::one(HostPlan::new());
    let mut host = ground.first();
    host.timeouts.alive_interval = Duration::from_secs(2);
    host.timeouts.alive_count = 2;
    assert_eq!(stdout(&exec(host, "sleep 9; echo done")), "done\n");
}

#[test]
fn a_closed_port_and_an_unknown_name_are_told_apart() {
    let ground = Ground::one(HostPlan::new());
    let mut host = ground.first();
    host.port = {
        let listener = std::net::TcpListener::bind((host.address.as_str(), 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    let result = exec(host.clone(), "true");
    let error = result.error().unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Connect, Some(Phase::Connect)));
    assert_eq!(error.to_string(), format!("cannot connect to {}:{}: connection refused", host.address, host.port));
    assert_eq!(result.report.attempts, 1, "a refused connection is not retried");
    host.address = "no-such-host.invalid".to_owned();
    let result = exec(host, "true");
    let error = result.error().unwrap();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Resolve, Some(Phase::Resolve)));
    assert_eq!(error.to_string(), "cannot resolve no-such-host.invalid");
}
