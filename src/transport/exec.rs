//! The one loop that runs a command to its end, on any session.

use std::time::{Duration, Instant};

use super::feed::Feed;
use super::sudo::Talk;
use super::{
    Ended, ExecLimits, ExecRequest, ExitStatus, GuardState, KillReason, KillResult, Killed, ProcId, Session,
    SessionEvent, Signal,
};
use crate::budget::{Budget, Exceeded};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Stream;

/// How long a process that is about to be killed may still report that it has ended by itself.
const LAST_LOOK: Duration = Duration::from_millis(10);

/// How much longer a guard may take to say what is left after KILL: it may have begun late, and gives up 1 s after its KILL.
const LAST_WORD: Duration = Duration::from_secs(3);

/// How long sudo may take to end once its standard input is closed: it lets whoever guesses wrong wait.
const LAST_REFUSAL: Duration = Duration::from_secs(5);

/// How far a command is.
struct Progress<'a> {
    id: ProcId,
    /// What is said before the command, which is no output of it.
    talk: Option<Talk<'a>>,
    stdout_bytes: u64,
    stderr_bytes: u64,
    max_output_bytes: Option<u64>,
    guard: Guard,
}

/// What is known of the guard over a command.
#[derive(Default)]
struct Guard {
    /// Whether it can still answer.
    is_there: bool,
    is_watching: bool,
    is_asked: bool,
    /// What it said last: whether nothing of the command is left.
    is_all_gone: Option<bool>,
    /// Why there is none.
    absent: Option<String>,
}

impl Guard {
    fn hear(&mut self, state: GuardState) {
        match state {
            GuardState::Watching => self.is_watching = true,
            GuardState::Absent(why) => {
                self.is_there = false;
                self.absent = Some(why);
            }
            GuardState::Gone => self.is_all_gone = Some(true),
            GuardState::Left => self.is_all_gone = Some(false),
        }
    }

    fn is_awaited(&self) -> bool {
        self.is_there && self.is_asked && self.is_all_gone.is_none()
    }

    /// Asks it to end the command, where it is there.
    fn ask<S: Session + ?Sized>(&mut self, session: &mut S, id: ProcId) {
        if self.is_there {
            // A failure of the session shows at once in what is asked of it next.
            self.is_asked = session.end_by_guard(id).unwrap_or(false);
            self.is_all_gone = None;
        }
    }
}

impl Progress<'_> {
    fn is_talking(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| !talk.is_over())
    }

    /// Counts what came and cuts off what is past the limit; returns the limit once it is passed.
    fn take(&mut self, stream: Stream, bytes: &mut Vec<u8>) -> Option<u64> {
        let before = self.stdout_bytes + self.stderr_bytes;
        match stream {
            Stream::Stdout => self.stdout_bytes += bytes.len() as u64,
            Stream::Stderr => self.stderr_bytes += bytes.len() as u64,
        }
        let limit = self.max_output_bytes?;
        let room = usize::try_from(limit.saturating_sub(before)).unwrap_or(usize::MAX);
        let is_passed = bytes.len() > room;
        bytes.truncate(room);
        is_passed.then_some(limit)
    }

    /// Says of an end what is known of the guard.
    fn finish(&mut self, mut ended: Ended, killed: Option<Killed>) -> Ended {
        ended.killed = killed;
        ended.unguarded = self.guard.absent.take();
        if self.talk.is_some() {
            (ended.stdout_bytes, ended.stderr_bytes) = (self.stdout_bytes, self.stderr_bytes);
        }
        ended
    }
}

pub(super) fn run<S: Session + ?Sized>(
    session: &mut S,
    request: &ExecRequest,
    limits: &ExecLimits,
    budget: &Budget,
    on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
) -> Result<Ended> {
    let mut talk = request.sudo.as_ref().map(|sudo| Talk::new(sudo, request.pty.is_some()));
    let id = match &mut talk {
        Some(talk) => {
            talk.wait_to_begin(session, budget)?;
            let by_sudo = talk.request(request, session, limits);
            session.start(&by_sudo, budget)?
        }
        None => session.start(request, budget)?,
    };
    let is_there = limits.guard && session.guard(id, limits.kill_after);
    let guard = Guard { is_there, ..Guard::default() };
    let max_output_bytes = limits.max_output_bytes;
    let mut progress = Progress { id, talk, stdout_bytes: 0, stderr_bytes: 0, max_output_bytes, guard };
    let mut feed = Feed::new(request.input.as_ref());
    let mut last_output = Instant::now();
    loop {
        if let Some(talk) = progress.talk.as_mut().filter(|talk| !talk.is_over()) {
            if let Err(error) = talk.speak(session, id, budget) {
                give_up(session, &mut progress);
                return Err(error);
            }
            if talk.is_waiting() {
                last_output = Instant::now();
            }
        } else {
            match feed.give(session, id, budget) {
                Ok(true) => last_output = Instant::now(),
                Ok(false) => {}
                Err(error) => {
                    end(session, KillReason::Cancelled, limits, &mut progress, on_output);
                    return Err(error);
                }
            }
        }
        let narrowed = limits.idle.map(|idle| budget.narrowed(idle.saturating_sub(last_output.elapsed())));
        let event = match &progress.talk {
            Some(talk) if talk.is_waiting() => talk.pump(session, budget),
            _ => feed.pump(session, narrowed.as_ref().unwrap_or(budget)),
        };
        let reason = match event {
            Ok(Some(SessionEvent::Ended { id: ended_id, ended })) if ended_id == id => {
                return match progress.talk.as_mut().filter(|talk| !talk.is_over()) {
                    Some(talk) => Err(talk.ended(&ended)),
                    None => Ok(progress.finish(ended, None)),
                };
            }
            Ok(Some(SessionEvent::Output { id: from, stream, bytes })) if from == id => {
                let Some(mut bytes) = heard(session, request, &mut progress, stream, bytes)? else {
                    last_output = Instant::now();
                    continue;
                };
                let passed = progress.take(stream, &mut bytes);
                if !bytes.is_empty()
                    && let Err(error) = on_output(stream, bytes)
                {
                    // Nobody takes the output any more: the process must not run on for nobody.
                    end(session, KillReason::Cancelled, limits, &mut progress, &mut |_, _| Ok(()));
                    return Err(error);
                }
                last_output = Instant::now();
                match passed {
                    Some(limit) => KillReason::MaxOutput(limit),
                    None => continue,
                }
            }
            Ok(Some(SessionEvent::Guard(state))) => {
                progress.guard.hear(state);
                continue;
            }
            Ok(Some(SessionEvent::Window { id: from })) if from == id => {
                feed.hear_window();
                continue;
            }
            Ok(_) => continue,
            Err(error) => why_stopped(&error, limits, budget).ok_or(error)?,
        };
        return Ok(end(session, reason, limits, &mut progress, on_output));
    }
}

/// Takes the talk out of what came; at its end, what was kept open for it is closed.
///
/// # Errors
/// When sudo refuses; then it is gone, or will be.
fn heard<S: Session + ?Sized>(
    session: &mut S,
    request: &ExecRequest,
    progress: &mut Progress<'_>,
    stream: Stream,
    bytes: Vec<u8>,
) -> Result<Option<Vec<u8>>> {
    let Some(talk) = progress.talk.as_mut().filter(|talk| !talk.is_over()) else { return Ok(Some(bytes)) };
    let rest = talk.hear(stream, bytes);
    let is_over = talk.is_over();
    if rest.is_err() {
        give_up(session, progress);
    } else if is_over && !request.stdin {
        // A failure of the session shows at once in what is asked of it next.
        let _ = session.close_stdin(progress.id);
    }
    rest
}

/// Lets sudo go, which ends when nobody answers it.
fn give_up<S: Session + ?Sized>(session: &mut S, progress: &mut Progress<'_>) {
    // What becomes of it changes nothing any more.
    let _ = session.close_stdin(progress.id);
    let _ = drain(session, &Budget::grace(LAST_REFUSAL), progress, &mut None, &mut |_, _| Ok(()));
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
///
/// The server is asked to signal it, and so is the guard, which finds what the server does not reach.
fn end<S: Session + ?Sized>(
    session: &mut S,
    reason: KillReason,
    limits: &ExecLimits,
    progress: &mut Progress<'_>,
    on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
) -> Ended {
    let mut ended = None;
    if progress.is_talking() {
        // sudo ends when nobody answers it. A failure of the session shows at once in what is asked of it next.
        let _ = session.close_stdin(progress.id);
    }
    let look = drain(session, &Budget::grace(LAST_LOOK), progress, &mut ended, on_output);
    if let Some(ended) = ended.take() {
        return progress.finish(ended, Some(Killed { reason, result: KillResult::AlreadyGone }));
    }
    if look.is_ok() {
        // Whatever fails here, the connection is gone: nothing more can be known.
        let _ = kill(session, limits, progress, &mut ended, on_output);
    }
    let result = match (&ended, progress.guard.is_all_gone) {
        (None, _) | (Some(_), Some(false)) => KillResult::NotConfirmed,
        (Some(_), Some(true) | None) => KillResult::Killed,
    };
    let ended = ended.unwrap_or_else(|| Ended::new(ExitStatus::NotSent, progress.stdout_bytes, progress.stderr_bytes));
    progress.finish(ended, Some(Killed { reason, result }))
}

fn kill<S: Session + ?Sized>(
    session: &mut S,
    limits: &ExecLimits,
    progress: &mut Progress<'_>,
    ended: &mut Option<Ended>,
    on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
) -> Result<()> {
    progress.guard.ask(session, progress.id);
    session.signal(progress.id, Signal::Term)?;
    drain(session, &Budget::grace(limits.kill_after), progress, ended, on_output)?;
    if ended.is_none() {
        if !progress.guard.is_awaited() {
            // It found nothing, or could not end it all: what it could not see then, it may see now.
            progress.guard.ask(session, progress.id);
        }
        session.signal(progress.id, Signal::Kill)?;
    } else if !(progress.guard.is_awaited() && progress.guard.is_watching) {
        return Ok(());
    }
    let grace =
        if progress.guard.is_awaited() { limits.kill_after.saturating_add(LAST_WORD) } else { limits.kill_after };
    drain(session, &Budget::grace(grace), progress, ended, on_output)
}

/// Delivers output, but for what is said before a command, until the process has ended and the guard has said so, or the grace period is over.
fn drain<S: Session + ?Sized>(
    session: &mut S,
    grace: &Budget,
    progress: &mut Progress<'_>,
    ended: &mut Option<Ended>,
    on_output: &mut dyn FnMut(Stream, Vec<u8>) -> Result<()>,
) -> Result<()> {
    while ended.is_none() || progress.guard.is_awaited() {
        match session.pump(grace) {
            Ok(SessionEvent::Ended { id, ended: how }) if id == progress.id => *ended = Some(how),
            Ok(SessionEvent::Output { id, stream, mut bytes }) if id == progress.id => {
                if progress.is_talking() {
                    bytes.clear();
                }
                progress.take(stream, &mut bytes);
                if !bytes.is_empty() {
                    on_output(stream, bytes)?;
                }
                if grace.exceeded().is_some() {
                    return Ok(());
                }
            }
            Ok(SessionEvent::Guard(state)) => progress.guard.hear(state),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Timeout => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
