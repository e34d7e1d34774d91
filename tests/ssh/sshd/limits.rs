//! sshd's own limits, and what is said where they are met.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use fleet::event::Note;
use fleet::op::Get;
use fleet::pool::RunControl;
use fleet::transport::{ExecRequest, SessionEvent};
use fleet::{Class, ErrorKind, Event, EventKind, Exec, Phase, op};

use super::Ground;
use crate::ground::{exec, pool, run};

const REFUSED: &str = "the server refused to open a channel, as sshd does past its MaxSessions";

#[test]
fn a_channel_beyond_max_sessions_is_refused_in_clear_words() {
    let ground = Ground::with(|builder| builder.config("MaxSessions 1"));
    assert_eq!(exec(ground.host(), "true").class(), Class::Ok);
    // While one command runs, another channel on the same connection is one too many.
    let two = op::from_fn("two", |session, job| {
        let mut request = ExecRequest::new("cat");
        request.stdin = true;
        let first = session.start(&request, job.budget)?;
        let error = session.start(&request, job.budget).expect_err("one too many");
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Refused, Some(Phase::Channel)), "{error}");
        // The connection and the first command go on.
        assert!(session.is_alive());
        session.write(first, b"word\n")?;
        loop {
            if let SessionEvent::Output { bytes, .. } = session.pump(job.budget)? {
                assert_eq!(bytes, b"word\n");
                return Err::<(), _>(error);
            }
        }
    });
    let result = run(ground.host(), two);
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    let reason = result.report.reason().unwrap();
    assert!(reason.starts_with(REFUSED), "{reason}");
}

#[test]
fn no_channel_at_all_is_refused_in_clear_words() {
    let ground = Ground::with(|builder| builder.config("MaxSessions 0"));
    let result = exec(ground.host(), "true");
    assert_eq!(result.class(), Class::Failed, "{result:?}");
    let reason = result.report.reason().unwrap();
    assert!(reason.starts_with(REFUSED), "{reason}");
}

#[test]
fn what_speaks_in_place_of_the_sftp_server_is_told_from_one_that_ends() {
    for (server, said) in [
        (
            "/bin/echo welcome to this host",
            "something else than the SFTP server answered: a forced command, or a login shell ",
        ),
        ("/bin/false", "the SFTP server ended at once, or something else spoke in its place"),
    ] {
        let ground = Ground::with(|builder| builder.config(&format!("Subsystem sftp {server}")));
        let result = run(ground.host(), Get::new("x", ground.dir.path().join("out")).unwrap());
        assert_eq!(result.class(), Class::Failed, "{server}: {result:?}");
        let reason = result.report.reason().unwrap();
        assert!(reason.starts_with(said), "{server}: {reason}");
    }
}

#[test]
fn a_run_goes_on_when_a_held_connection_makes_room() {
    let ground = Ground::with(|builder| builder.config("MaxStartups 1:100:1"));
    // One connection that never logs in fills sshd.
    let held = TcpStream::connect(("127.0.0.1", ground.sshd.port())).unwrap();
    let mut banner = String::new();
    BufReader::new(&held).read_line(&mut banner).unwrap();
    assert!(banner.starts_with("SSH-2.0-"), "{banner}");
    let held = Mutex::new(Some(held));
    let retries = Mutex::new(Vec::new());
    let mut sink = |event: &Event| {
        if let EventKind::Note { note: Note::Retrying { error, .. }, .. } = &event.kind {
            retries.lock().unwrap().push(error.chain());
            drop(held.lock().unwrap().take());
        }
        Ok(())
    };
    let outputs = fleet::Outputs::new().sink(&mut sink);
    let mut host = ground.host();
    // sshd must first notice that the held one is gone.
    host.retries = 20;
    let mut result = None;
    pool().build().run_with(&[Arc::new(host)], Exec::new("true"), &RunControl::new(), outputs, |one| {
        result = Some(one);
    });
    let result = result.unwrap();
    assert_eq!(result.class(), Class::Ok, "{result:?}");
    assert!(result.report.attempts > 1, "{result:?}");
    let retries = retries.into_inner().unwrap();
    assert!(!retries.is_empty() && retries.len() as u32 == result.report.attempts - 1, "{retries:?}");
}
