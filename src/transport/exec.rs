//! The one loop that runs a command to its end, on any session.

use std::time::{Duration, Instant};

use super::{
    Ended, ExecLimits, ExecRequest, ExitStatus, KillReason, KillResult, Killed, ProcId, Session, SessionEvent, Signal,
};
use crate::budget::{Budget, Exceeded};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Stream;

/// How long a process that is about to be killed may still report that it has ended by itself.
const LAST_LOOK: Duration = Duration::from_millis(10);

struct Progress {
    stdout_bytes: u64,
    stderr_bytes: u64,
}

impl Progress {
    fn add(&mut self, stream: Stream, len: usize) {
        match stream {
            Stream::Stdout => self.stdout_bytes += len as u64,
            Stream::Stderr => self.stderr_bytes += len as u64,
        }
    }

    fn total(&self) -> u64 {
        self.stdout_bytes + self.stderr_bytes
    }
}

pub(super) fn run<S: Session + ?Sized>(
    session: &mut S,
    request: &ExecRequest,
    limits: &ExecLimits,
    budget: &Budget,
    on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
) -> Result<Ended> {
    let id = session.start(request, budget)?;
    let mut progress = Progress { stdout_bytes: 0, stderr_bytes: 0 };
    let mut last_output = Instant::now();
    loop {
        let event = match limits.idle {
            None => session.pump(budget),
            Some(idle) => session.pump(&budget.narrowed(idle.saturating_sub(last_output.elapsed()))),
        };
        let reason = match event {
            Ok(SessionEvent::Ended { id: ended_id, ended }) if ended_id == id => return Ok(ended),
            Ok(SessionEvent::Output { id: from, stream, bytes }) if from == id => {
                progress.add(stream, bytes.len());
                if limits.max_output_bytes.is_some_and(|limit| progress.total() > limit) {
                    KillReason::MaxOutput(limits.max_output_bytes.unwrap_or(0))
                } else {
                    if let Err(error) = on_output(stream, bytes) {
                        // Nobody takes the output any more: the process must not run on for nobody.
                        end(session, id, KillReason::Cancelled, limits, &mut progress, &mut |_, _| Ok(()));
                        return Err(error);
                    }
                    last_output = Instant::now();
                    continue;
                }
            }
            Ok(_) => continue,
            Err(error) => why_stopped(&error, limits, budget).ok_or(error)?,
        };
        let keep = !matches!(reason, KillReason::MaxOutput(_));
        let mut discard = |_, _| Ok(());
        return Ok(end(session, id, reason, limits, &mut progress, if keep { on_output } else { &mut discard }));
    }
}

/// Tells why a wait ended, if it was the budget or the idle limit and not the session.
fn why_stopped(error: &Error, limits: &ExecLimits, budget: &Budget) -> Option<KillReason> {
    match error.kind() {
        ErrorKind::Timeout | ErrorKind::Deadline | ErrorKind::Cancelled => match budget.exceeded() {
            Some(Exceeded::Cancelled) => Some(KillReason::Cancelled),
            Some(Exceeded::Deadline) => Some(KillReason::Deadline),
            Some(Exceeded::Timeout(limit)) => Some(KillReason::Timeout(limit)),
            None => limits.idle.map(KillReason::Idle),
        },
        _ => None,
    }
}

/// Ends a process: TERM, a grace period, KILL, another one. What it still writes is delivered meanwhile.
fn end<S: Session + ?Sized>(
    session: &mut S,
    id: ProcId,
    reason: KillReason,
    limits: &ExecLimits,
    progress: &mut Progress,
    on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
) -> Ended {
    let steps = [
        (None, LAST_LOOK, KillResult::AlreadyGone),
        (Some(Signal::Term), limits.kill_after, KillResult::Killed),
        (Some(Signal::Kill), limits.kill_after, KillResult::Killed),
    ];
    for (signal, grace, result) in steps {
        if signal.is_some_and(|signal| session.signal(id, signal).is_err()) {
            break;
        }
        match drain(session, id, &Budget::grace(grace), progress, on_output) {
            Ok(Some(ended)) => return Ended { killed: Some(Killed { reason, result }), ..ended },
            Ok(None) => {}
            Err(_) => break,
        }
    }
    let mut ended = Ended::new(ExitStatus::NotSent, progress.stdout_bytes, progress.stderr_bytes);
    ended.killed = Some(Killed { reason, result: KillResult::NotConfirmed });
    ended
}

/// Delivers output until the process ends or the grace period does.
fn drain<S: Session + ?Sized>(
    session: &mut S,
    id: ProcId,
    grace: &Budget,
    progress: &mut Progress,
    on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
) -> Result<Option<Ended>> {
    loop {
        match session.pump(grace) {
            Ok(SessionEvent::Ended { id: ended_id, ended }) if ended_id == id => return Ok(Some(ended)),
            Ok(SessionEvent::Output { id: from, stream, bytes }) if from == id => {
                progress.add(stream, bytes.len());
                on_output(stream, bytes)?;
                if grace.exceeded().is_some() {
                    return Ok(None);
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Timeout => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
