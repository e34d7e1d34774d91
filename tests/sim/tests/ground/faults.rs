//! Every fault, seen from the client's side: from the bare connection, from OpenSSH, or from a russh client.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Ground, wait_until};
use fleet_sim::{Fault, HostPlan, Mode, SimHost};
use russh::client::{self, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{ChannelMsg, Disconnect, Sig};

fn faulty(fault: Fault) -> Ground {
    Ground::one(HostPlan::new().fault(fault))
}

fn dial(host: &SimHost) -> TcpStream {
    TcpStream::connect(host.address()).unwrap()
}

/// How long to wait for what must come, and for what must not.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(200);

/// Reads `len` bytes at least; then until the end, or until nothing more comes (then `false`).
fn read_all(tcp: &mut TcpStream, len: usize) -> (Vec<u8>, bool) {
    let mut got = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        tcp.set_read_timeout(Some(if got.len() < len { LONG } else { SHORT })).unwrap();
        match tcp.read(&mut chunk) {
            Ok(0) => return (got, true),
            Ok(n) => got.extend(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (got, false),
            Err(error) => panic!("{error}"),
        }
        if got.len() >= 1 << 20 {
            return (got, false);
        }
    }
}

#[test]
fn before_the_key_exchange() {
    let cases: [(Fault, &[u8], bool); 4] = [
        (Fault::Silent, b"", false),
        (Fault::GarbageBanner, b"220 mail.example.com ESMTP\r\n500 what?\r\n", true),
        (Fault::StallKex { kexinit: false }, b"SSH-2.0-FleetSim_0.1\r\n", false),
        (Fault::CutBeforeLogin { times: 1 }, b"", true),
    ];
    for (fault, expected, closed) in cases {
        let ground = faulty(fault.clone());
        let host = &ground.sim.hosts()[0];
        let mut tcp = dial(host);
        tcp.write_all(b"SSH-2.0-test\r\n").unwrap();
        let len = expected.len() + usize::from(closed);
        assert_eq!(read_all(&mut tcp, len), (expected.to_vec(), closed), "{fault}");
        if !closed {
            assert_eq!(host.stats().unauthenticated, 1, "{fault}");
        }
        drop(tcp);
        wait_until("the connection is closed", || host.stats().open == 0);
    }
}

#[test]
fn a_key_exchange_that_stops_after_the_proposal() {
    let ground = faulty(Fault::StallKex { kexinit: true });
    let (got, closed) = read_all(&mut dial(&ground.sim.hosts()[0]), 28);
    assert!(got.starts_with(b"SSH-2.0-FleetSim_0.1\r\n\0\0\0") && got[27] == 20 && !closed, "{got:?}");
    let mut ssh = ground.client("ssh", &ground.sim.hosts()[0], &["-v"]);
    let mut child = ssh.arg("true").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("expecting SSH2_MSG_KEX_ECDH_REPLY")));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn banners_without_end() {
    for newline in [true, false] {
        let ground = faulty(Fault::EndlessBanner { newline });
        let (got, _) = read_all(&mut dial(&ground.sim.hosts()[0]), 1 << 20);
        assert!(got.len() >= 1 << 20);
        assert_eq!(got.contains(&b'\n'), newline);
    }
}

#[test]
fn the_first_connections_are_cut_and_the_next_works() {
    let ground = faulty(Fault::CutBeforeLogin { times: 2 });
    let host = &ground.sim.hosts()[0];
    let codes: Vec<_> = (0..3).map(|_| ground.ssh(host, "exit 5").status.code().unwrap()).collect();
    assert_eq!(codes, [255, 255, 5]);
}

#[test]
fn more_unauthenticated_connections_than_allowed_are_told_so() {
    let ground = Ground::one(HostPlan::new().max_startups(2));
    let host = &ground.sim.hosts()[0];
    let waiting = [dial(host), dial(host)];
    wait_until("two connections wait", || host.stats().unauthenticated == 2);
    let mut third = dial(host);
    assert_eq!(read_all(&mut third, 100), (b"Exceeded MaxStartups\r\n".to_vec(), true));
    drop(waiting);
    wait_until("none waits", || host.stats().unauthenticated == 0);
    assert_eq!(ground.ssh(host, "exit 5").status.code(), Some(5));
    assert_eq!((host.stats().startups_refused, host.stats().peak_unauthenticated), (1, 2));
}

#[test]
fn a_slow_banner_and_one_that_is_not_waited_for() {
    let ground = faulty(Fault::SlowBanner { delay: Duration::from_millis(400) });
    let host = &ground.sim.hosts()[0];
    let began = Instant::now();
    assert_eq!(ground.ssh(host, "exit 5").status.code(), Some(5));
    assert!(began.elapsed() >= Duration::from_millis(400));
    drop(dial(host));
    wait_until("the connection is closed", || host.stats().open == 0);
}

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn connect(ground: &Ground) -> Handle<Trusting> {
    let host = &ground.sim.hosts()[0];
    client::connect(Arc::default(), host.address(), Trusting).await.unwrap()
}

async fn log_in(ground: &Ground) -> Handle<Trusting> {
    let mut session = connect(ground).await;
    let key = PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(&ground.key.path, None).unwrap()), None);
    assert!(session.authenticate_publickey("ops", key).await.unwrap().success());
    session
}

/// Logs in and runs a command to its end.
pub(crate) fn log_in_and_run(ground: &Ground, host: &SimHost) -> impl Future<Output = ()> + Send + 'static {
    let (key, address) = (ground.key.path.clone(), host.address());
    async move {
        let key = PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(key, None).unwrap()), None);
        let mut session = client::connect(Arc::default(), address, Trusting).await.unwrap();
        assert!(session.authenticate_publickey("ops", key).await.unwrap().success());
        let mut channel = session.channel_open_session().await.unwrap();
        channel.exec(true, "x").await.unwrap();
        let mut code = None;
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::ExitStatus { exit_status } = message {
                code = Some(exit_status);
            }
        }
        assert_eq!(code, Some(0));
    }
}

/// What a command's channel says, in words; data as its length.
///
/// Waits long for the `least` bytes and words, and a moment for more.
async fn story(ground: &Ground, command: &str, least: (u64, usize)) -> (u64, Vec<String>) {
    let session = log_in(ground).await;
    let mut channel = session.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    let (mut bytes, mut words) = (0, Vec::new());
    loop {
        let patience = if bytes < least.0 || words.len() < least.1 { LONG } else { SHORT };
        let Ok(Some(message)) = tokio::time::timeout(patience, channel.wait()).await else { break };
        match message {
            ChannelMsg::Data { data } => bytes += data.len() as u64,
            ChannelMsg::ExitStatus { exit_status } => words.push(format!("status {exit_status}")),
            ChannelMsg::ExitSignal { signal_name, .. } => words.push(format!("signal {signal_name:?}")),
            ChannelMsg::Success => words.push("success".to_owned()),
            ChannelMsg::Failure => words.push("failure".to_owned()),
            ChannelMsg::Eof => words.push("eof".to_owned()),
            ChannelMsg::Close => words.push("close".to_owned()),
            _ => {}
        }
        if bytes > 8 << 20 {
            words.push("enough".to_owned());
            break;
        }
    }
    if session.is_closed() {
        words.push("lost".to_owned());
    }
    drop(session.disconnect(Disconnect::ByApplication, "", "").await);
    (bytes, words)
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

#[test]
fn output_and_endings() {
    let kill = || Fault::ExitSignal { name: "KILL".to_owned() };
    let cases: Vec<(Option<Fault>, &str, u64, &[&str])> = vec![
        (None, "echo x; exit 3", 2, &["success", "status 3", "eof", "close"]),
        (None, "kill -TERM $$", 0, &["success", "signal TERM", "eof", "close"]),
        (Some(Fault::NoExitStatus), "echo x", 2, &["success", "eof", "close"]),
        (Some(kill()), "echo x", 2, &["success", "signal KILL", "eof", "close"]),
        (Some(Fault::RefuseExec), "echo x", 0, &["failure"]),
        (Some(Fault::StallOutput), "echo x", 30, &["success"]),
        (Some(Fault::EndlessOutput), "echo x", 8 << 20, &["success", "enough"]),
    ];
    for (fault, command, bytes, expected) in cases {
        let ground = Ground::one(HostPlan { fault: fault.clone(), ..HostPlan::new() });
        let (got, words) = run(story(&ground, command, (bytes, expected.len())));
        assert_eq!(words, expected, "{fault:?}");
        assert!(got >= bytes && got < bytes + (1 << 16), "{fault:?}: {got}");
    }
}

#[test]
fn connections_that_end_amid_output() {
    let after_bytes = 200_000;
    let cases = [
        (Fault::CutOutput { after_bytes }, true),
        (Fault::ResetOutput { after_bytes }, true),
        (Fault::FreezeOutput { after_bytes }, false),
    ];
    for (fault, lost) in cases {
        let ground = faulty(fault.clone());
        let host = &ground.sim.hosts()[0];
        let (got, words) = run(story(&ground, "x", (100_000, 1)));
        assert!(got > 0 && got <= after_bytes, "{fault}: {got}");
        assert_eq!(words.contains(&"lost".to_owned()), lost, "{fault}: {words:?}");
        assert!(!words.contains(&"eof".to_owned()), "{fault}: {words:?}");
        assert_eq!(host.stats().open, u64::from(!lost), "{fault}");
    }
}

#[test]
fn channels_that_are_refused_or_never_answered() {
    run(async {
        let ground = faulty(Fault::RefuseChannel);
        assert!(log_in(&ground).await.channel_open_session().await.is_err());
        let ground = faulty(Fault::StallChannel);
        let session = log_in(&ground).await;
        let opening = session.channel_open_session();
        assert!(tokio::time::timeout(SHORT, opening).await.is_err());
    });
}

#[test]
fn a_login_that_is_never_answered() {
    let ground = faulty(Fault::StallLogin);
    let host = &ground.sim.hosts()[0];
    run(async {
        let mut session = connect(&ground).await;
        let asking = session.authenticate_password("ops", "x");
        assert!(tokio::time::timeout(SHORT, asking).await.is_err());
    });
    wait_until("the connection is closed", || host.stats().open == 0);
    assert_eq!(host.stats().unauthenticated, 0);
}

#[test]
fn a_connection_holds_ten_sessions_and_answers_keepalives() {
    let ground = Ground::one(HostPlan::new());
    run(async {
        let session = log_in(&ground).await;
        let mut channels = Vec::new();
        for _ in 0..10 {
            channels.push(session.channel_open_session().await.unwrap());
        }
        assert!(session.channel_open_session().await.is_err());
        let mut first = channels.remove(0);
        first.exec(true, "true").await.unwrap();
        while let Some(message) = first.wait().await {
            if matches!(message, ChannelMsg::Close) {
                break;
            }
        }
        session.channel_open_session().await.unwrap();
        session.send_ping().await.unwrap();
    });
}

#[test]
fn a_signal_goes_to_the_whole_group_of_its_command_only() {
    let ground = Ground::one(HostPlan::new());
    let host = &ground.sim.hosts()[0];
    run(async {
        let session = log_in(&ground).await;
        let mut one = session.channel_open_session().await.unwrap();
        let other = session.channel_open_session().await.unwrap();
        one.exec(true, "sleep 1000 | sleep 1000").await.unwrap();
        other.exec(true, "sleep 1000 | sleep 1000").await.unwrap();
        wait_until("six processes run", || host.processes().len() == 6);
        one.signal(Sig::TERM).await.unwrap();
        let mut signal = None;
        while let Some(message) = one.wait().await {
            if let ChannelMsg::ExitSignal { signal_name, .. } = message {
                signal = Some(format!("{signal_name:?}"));
            }
        }
        assert_eq!(signal.as_deref(), Some("TERM"));
        wait_until("three processes are left", || host.processes().len() == 3);
    });
    assert_eq!(host.stats().signals, 1);
}

#[test]
fn stdin_that_nobody_reads_holds_up_nothing_else() {
    let ground = Ground::one(HostPlan::new());
    run(async {
        let session = log_in(&ground).await;
        let deaf = session.channel_open_session().await.unwrap();
        deaf.exec(true, "sleep 1000").await.unwrap();
        let flood = vec![0; 6 << 20];
        let sending = deaf.data(&flood[..]);
        let mut other = session.channel_open_session().await.unwrap();
        let working = async {
            other.exec(true, "echo x").await.unwrap();
            while let Some(message) = other.wait().await {
                if matches!(message, ChannelMsg::ExitStatus { exit_status: 0 }) {
                    return;
                }
            }
            panic!("no status");
        };
        let both = async { tokio::join!(sending, working) };
        tokio::time::timeout(Duration::from_secs(8), both).await.unwrap().0.unwrap();
    });
}

#[test]
fn open_connections_can_be_cut_frozen_and_thawed() {
    let ground = Ground::one(HostPlan::new().mode(Mode::canned("in\n")));
    let host = &ground.sim.hosts()[0];
    run(async {
        let session = log_in(&ground).await;
        host.freeze_all();
        let mut opening = Box::pin(session.channel_open_session());
        assert!(tokio::time::timeout(SHORT, &mut opening).await.is_err());
        host.thaw_all();
        opening.await.unwrap();
        host.disconnect_all();
        assert!(session.channel_open_session().await.is_err());
    });
    wait_until("the connection is closed", || host.stats().open == 0);
}
