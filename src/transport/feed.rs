//! What a process gets on its standard input, as fast as it takes it.

use super::{ProcId, Session, SessionEvent};
use crate::budget::{Budget, CancelToken, Stop};
use crate::error::Result;
use crate::spool::{Input, Piece};

/// How much is given at once, in bytes: what libssh2 takes in one packet, or more.
const CHUNK: usize = 32 * 1024;

/// One process's place in an input.
pub(super) struct Feed<'a> {
    input: Option<&'a Input>,
    position: u64,
    chunk: Vec<u8>,
    /// What of the chunk was given.
    given: usize,
    state: State,
}

enum State {
    /// It may take some.
    Open,
    /// It takes none now.
    Full,
    /// There is nothing for it yet; the token is stopped when there is.
    Waiting(CancelToken),
    Done,
}

impl<'a> Feed<'a> {
    pub(super) fn new(input: Option<&'a Input>) -> Self {
        let state = if input.is_some() { State::Open } else { State::Done };
        Self { input, position: 0, chunk: Vec::new(), given: 0, state }
    }

    /// Hears that the process takes some again.
    pub(super) fn hear_window(&mut self) {
        if matches!(self.state, State::Full) {
            self.state = State::Open;
        }
    }

    /// Gives what there is and is taken, and tells whether that was anything.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub(super) fn give<S: Session + ?Sized>(&mut self, session: &mut S, id: ProcId, budget: &Budget) -> Result<bool> {
        let mut gave = false;
        if matches!(&self.state, State::Waiting(woken) if woken.is_aborted()) {
            self.state = State::Open;
        }
        while let (State::Open, Some(input)) = (&self.state, self.input) {
            if self.given == self.chunk.len() && !self.refill(input, budget)? {
                continue;
            }
            let rest = self.chunk.get(self.given..).unwrap_or_default();
            match if rest.is_empty() { session.close_stdin(id).map(|()| 0) } else { session.write(id, rest) } {
                // Its end was told, or it closed its input; a session that failed says so in the next wait.
                Ok(_) if rest.is_empty() => self.end(),
                Err(_) => self.end(),
                Ok(0) => self.state = State::Full,
                Ok(taken) => {
                    self.given += taken;
                    gave = true;
                }
            }
        }
        Ok(gave)
    }

    fn end(&mut self) {
        self.state = State::Done;
        self.chunk = Vec::new();
    }

    /// Takes the next piece of the input, an empty one at its end, and tells whether there is one.
    fn refill(&mut self, input: &Input, budget: &Budget) -> Result<bool> {
        self.chunk.resize(CHUNK, 0);
        let mut woken = None;
        let waker = || {
            let token = budget.cancel_token().child();
            woken = Some(token.clone());
            Box::new(move || token.stop(Stop::Abort)) as Box<dyn FnOnce() + Send>
        };
        let piece = input.read_at(self.position, &mut self.chunk, waker)?;
        let len = match piece {
            Piece::Bytes(count) => count,
            Piece::End | Piece::Pending => 0,
        };
        self.chunk.truncate(len);
        self.given = 0;
        self.position += len as u64;
        if let Some(token) = woken {
            self.state = State::Waiting(token);
        }
        Ok(piece != Piece::Pending)
    }

    /// Waits for the session, or for more input; `None` is the latter.
    pub(super) fn pump<S: Session + ?Sized>(&self, session: &mut S, budget: &Budget) -> Result<Option<SessionEvent>> {
        let State::Waiting(woken) = &self.state else { return session.pump(budget).map(Some) };
        match session.pump(&budget.with_token(woken.clone())) {
            Err(_) if woken.is_aborted() && !budget.cancel_token().is_aborted() => Ok(None),
            event => event.map(Some),
        }
    }
}
