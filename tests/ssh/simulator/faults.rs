//! Hosts that misbehave: the right status and phase, in time, and nobody else is held up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::pool::RunControl;
use fleet::{Class, ErrorKind, Event, EventKind, Exec, Host, Phase};
use fleet_sim::{Fault, HostPlan, Mode};

use crate::ground::{Ground, exec, fanout, pool, run_in, stdout};

/// The faults that show before a login, and what each must be called.
fn faults_on_the_way() -> Vec<(Fault, ErrorKind, Phase)> {
    vec![
        (Fault::Silent, ErrorKind::Timeout, Phase::Banner),
        (Fault::GarbageBanner, ErrorKind::Protocol, Phase::Banner),
        (Fault::EndlessBanner { newline: true }, ErrorKind::Protocol, Phase::Banner),
        (Fault::EndlessBanner { newline: false }, ErrorKind::Protocol, Phase::Banner),
        (Fault::StallKex { kexinit: false }, ErrorKind::Timeout, Phase::KeyExchange),
        (Fault::StallKex { kexinit: true }, ErrorKind::Timeout, Phase::KeyExchange),
        (Fault::StallLogin, ErrorKind::Timeout, Phase::Login),
        (Fault::CutBeforeLogin { times: 100 }, ErrorKind::Disconnected, Phase::Banner),
    ]
}

#[test]
fn each_fault_before_the_login_ends_in_its_phase_and_holds_nobody_up() {
    let faults = faults_on_the_way();
    let mut plans = Ground::healthy(200);
    for (at, (fault, ..)) in faults.iter().enumerate() {
        plans.insert(at * 20, HostPlan::new().mode(Mode::canned("ok\n")).fault(fault.clone()));
    }
    let ground = Ground::start(plans);
    let deadline = Duration::from_secs(8);
    let hosts: Vec<Arc<Host>> = ground
        .sim
        .hosts()
        .iter()
        .map(|host| {
            let mut reached = ground.host(host);
            reached.timeouts.connect = deadline;
            reached.retries = 0;
            Arc::new(reached)
        })
        .collect();
    let start = Instant::now();
    let mut last_healthy = Duration::ZERO;
    let mut reports = Vec::new();
    let mut sink = |event: &Event| {
        if let EventKind::Finished(report) = &event.kind {
            if report.is_ok() {
                last_healthy = start.elapsed();
            }
            reports.push(Arc::clone(report));
        }
        Ok(())
    };
    let summary =
        pool().fanout(fanout(hosts.len())).build().run(&hosts, Exec::new("x"), &RunControl::new(), &mut [&mut sink]);
    assert_eq!(summary.of(Class::Ok), 200);
    assert_eq!(summary.of(Class::Unreachable), faults.len());
    assert_eq!(summary.exit_code(), 3);
    assert!(last_healthy < deadline, "a healthy host waited {last_healthy:?} for the faulty ones");
    for (at, (fault, kind, phase)) in faults.iter().enumerate() {
        let report = reports.iter().find(|report| report.index == at * 20).unwrap();
        let error = report.error.as_ref().unwrap();
        assert_eq!((error.kind(), error.phase()), (*kind, Some(*phase)), "{fault:?}: {error:?}");
        if *kind == ErrorKind::Timeout {
            assert_eq!(error.to_string(), format!("{phase} timed out after 8s"));
            assert!(report.duration < deadline + Duration::from_secs(3), "{fault:?} took {:?}", report.duration);
        }
    }
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
