//! Hosts that misbehave, each in its own way; what all have in common is the matrix's (tests/faults).

use std::io::Write;
use std::time::Duration;

use fleet::{Class, ErrorKind, Host, Phase};
use fleet_sim::{Fault, HostPlan};

use crate::ground::{Ground, exec, pool, run_in, stdout};

#[test]
fn variants_of_faults_before_the_login_have_their_phase() {
    for (fault, kind, phase) in [
        (Fault::EndlessBanner { newline: true }, ErrorKind::Protocol, Phase::Banner),
        (Fault::StallKex { kexinit: false }, ErrorKind::Timeout, Phase::KeyExchange),
        (Fault::CutBeforeLogin { times: 100 }, ErrorKind::Disconnected, Phase::Banner),
    ] {
        let ground = Ground::one(HostPlan::new().fault(fault.clone()));
        let mut host = ground.first();
        host.timeouts.connect = Duration::from_secs(3);
        host.retries = 0;
        let result = exec(host, "true");
        let error = result.error().unwrap();
        assert_eq!((error.kind(), error.phase()), (kind, Some(phase)), "{fault}: {error:?}");
        assert_eq!(result.class(), Class::Unreachable, "{fault}");
    }
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
