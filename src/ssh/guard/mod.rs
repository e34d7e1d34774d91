//! The guard of a session: a small shell on the same host that ends what the session runs when the session's end is not
//! its own doing (LIBSSH2.md section 13).
//!
//! It opens without anybody waiting for it, beside the commands, and is dismissed when the last of them ended by itself.

use std::time::{Duration, Instant};

use super::error::Fault;
use super::raw::ChannelId;
use super::wait::Driver;
use crate::budget::Budget;
use crate::error::Result;
use crate::transport::{GuardState, MAX_GUARD_NAME, one_line};

/// How long a command runs before it gets a guard: short ones never pay for one.
const AFTER: Duration = Duration::from_millis(300);

/// How long the end of a session waits for a dismissed guard to be gone. sshd forgets what it has not yet handed on when the
/// client disconnects: the word that dismisses the guard may be in it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How much may come before a guard's words, in bytes: a login's shell may write something of its own.
const HEARD: usize = 64 * 1024;

/// The longest time between TERM and KILL: a year, which a shell can still count in.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many pieces of it are read at once: commands have to be heard too.
const READS: usize = 16;

/// Why there is none where its words do not come, as with a forced command.
const SOMETHING_ELSE: &str = "the login ran something else in its place";

/// What it runs; one statement a line, comments on lines of their own.
const SCRIPT: &str = include_str!("guard.sh");

/// What a guard finds when it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// The first command of the connection.
    First,
    /// A later one.
    Later,
    /// A later one that runs by sudo.
    Sudo,
}

impl Since {
    fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Later => "later",
            Self::Sudo => "sudo",
        }
    }
}

/// Makes the command that starts a guard, for any login shell. It has `SSH_CONNECTION` in its environment.
pub(super) fn command(kill_after: Duration, since: Since, name: &str) -> String {
    let script = one_line(SCRIPT);
    let tenths = kill_after.min(LONGEST).as_millis().div_ceil(100);
    let since = since.as_str();
    format!("exec sh -c '{script}' fleet-guard {tenths} {since} {name}")
}

/// How far a guard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is no channel.
    Away,
    Opening,
    Starting(ChannelId),
    Here(ChannelId),
    /// It was told to go, and goes by itself.
    Leaving(ChannelId),
    /// It never had a reason to stay, or is none: its channel is closed from this side.
    Closing(ChannelId),
}

/// The one guard of a session, there or not.
pub(super) struct Guard {
    stage: Stage,
    /// When the next one is to be opened.
    due: Option<Instant>,
    kill_after: Duration,
    /// What tells it from all others on the host, and from those that the session had before.
    name: u64,
    wanted: u16,
    is_ready: bool,
    is_dismissed: bool,
    /// Whether it is to end the processes now.
    is_asked: bool,
    heard: Vec<u8>,
    said: Option<GuardState>,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Away,
            due: None,
            kill_after: Duration::ZERO,
            name: fastrand::u64(..),
            wanted: 0,
            is_ready: false,
            is_dismissed: false,
            is_asked: false,
            heard: Vec::new(),
            said: None,
        }
    }

    fn is_active(&self) -> bool {
        self.stage != Stage::Away && !self.is_dismissed
    }

    /// Wants a guard in 300 ms; one that is active already stays.
    pub(super) fn want(&mut self, kill_after: Duration) {
        if !self.is_active() && self.due.is_none() {
            self.kill_after = kill_after;
            self.wanted = self.wanted.wrapping_add(1);
            self.due = Instant::now().checked_add(AFTER);
            self.is_asked = false;
        }
    }

    /// Returns the name of the one that [`want`](Self::want) gives a process now.
    pub(super) fn name(&self) -> String {
        let is_new = !self.is_active() && self.due.is_none();
        self.name_of(self.wanted.wrapping_add(u16::from(is_new)))
    }

    fn name_of(&self, number: u16) -> String {
        let mut name = format!("fg{:07x}{number:04x}", self.name & 0x0fff_ffff);
        name.truncate(MAX_GUARD_NAME);
        name
    }

    /// Returns when something has to be done unless something comes before.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.stage == Stage::Away)
    }

    /// Asks it to end the processes, opening it at once if need be, and tells whether it may answer.
    pub(super) fn ask(&mut self, driver: &mut Driver) -> Result<bool, Fault> {
        if self.due.is_some() {
            self.due = Some(Instant::now());
        } else if self.is_active() {
            self.said = None;
            if self.is_ready {
                self.tell(driver, b"kill\n")?;
            }
        } else {
            return Ok(false);
        }
        self.is_asked = true;
        Ok(true)
    }

    /// Tells whether it was asked to end the processes and has not answered.
    pub(super) fn is_at_work(&self) -> bool {
        self.is_asked && self.is_active()
    }

    /// Lets it go without ending anything.
    pub(super) fn dismiss(&mut self, driver: &mut Driver) -> Result<(), Fault> {
        self.due = None;
        if self.is_active() {
            self.is_dismissed = true;
            if let Stage::Here(channel) = self.stage {
                if self.is_ready {
                    self.tell(driver, b"done\n")?;
                    self.stage = Stage::Leaving(channel);
                } else {
                    // The end of its input before any word ends nothing.
                    self.stage = Stage::Closing(channel);
                }
            }
        }
        Ok(())
    }

    /// Writes a word; the channel's window has room for all of them.
    fn tell(&mut self, driver: &mut Driver, word: &'static [u8]) -> Result<(), Fault> {
        if let Stage::Here(channel) = self.stage {
            match driver.try_step(|link| link.write(channel, word)) {
                // It is gone already: the end of its output says so.
                Ok(_) | Err(Fault::Refused(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Gets as far as it gets without waiting, and returns what became of it, if something did.
    ///
    /// # Errors
    /// When the connection ended. What goes wrong on the guard's own channel concerns nobody else.
    pub(super) fn step(&mut self, driver: &mut Driver, since: Since) -> Result<Option<GuardState>> {
        match self.advance(driver, since) {
            Ok(()) => {}
            Err(Fault::Refused(_)) => {
                self.give_up("its channel failed");
                self.stage = Stage::Away;
            }
            Err(Fault::Error(error)) => return Err(error),
        }
        Ok(self.said.take())
    }

    fn advance(&mut self, driver: &mut Driver, since: Since) -> Result<(), Fault> {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.due = None;
            self.is_ready = false;
            self.is_dismissed = false;
            self.heard.clear();
            self.stage = Stage::Opening;
        }
        if self.stage == Stage::Opening {
            self.open(driver)?;
        }
        if let Stage::Starting(channel) = self.stage {
            self.start(driver, channel, since)?;
        }
        if let Stage::Here(channel) | Stage::Leaving(channel) = self.stage {
            self.listen(driver, channel)?;
        }
        if let Stage::Closing(channel) = self.stage
            && driver.try_step(|link| link.free_channel(channel))?.is_some()
        {
            self.stage = Stage::Away;
        }
        Ok(())
    }

    /// Waits until no opening of a channel is under way: libssh2 has room for one.
    pub(super) fn settle(&mut self, driver: &mut Driver, budget: &Budget) -> Result<(), Fault> {
        while self.stage == Stage::Opening {
            self.open(driver)?;
            if self.stage == Stage::Opening {
                driver.wait(budget)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, driver: &mut Driver) -> Result<(), Fault> {
        match driver.try_step(|link| link.open_channel()) {
            Ok(None) => {}
            Ok(Some(channel)) => self.stage = Stage::Starting(channel),
            Err(Fault::Refused(_)) => {
                self.give_up("the server refused another channel");
                self.stage = Stage::Away;
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    fn start(&mut self, driver: &mut Driver, channel: ChannelId, since: Since) -> Result<(), Fault> {
        let command = command(self.kill_after, since, &self.name_of(self.wanted));
        match driver.try_step(|link| link.exec(channel, command.as_bytes())) {
            Ok(None) => {}
            Ok(Some(())) if self.is_dismissed => self.stage = Stage::Closing(channel),
            Ok(Some(())) => self.stage = Stage::Here(channel),
            Err(Fault::Refused(_)) => {
                self.give_up("the server refused another command");
                self.stage = Stage::Closing(channel);
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// Tells that there is none, if one is wanted.
    fn give_up(&mut self, why: &str) {
        if self.is_active() {
            self.is_dismissed = true;
            self.said = Some(GuardState::Absent(why.to_owned()));
        }
    }

    fn listen(&mut self, driver: &mut Driver, channel: ChannelId) -> Result<(), Fault> {
        let mut buffer = [0; 1024];
        // What it says on standard error is nothing to us, but unread it would fill the window.
        for stream in [1, 0] {
            for _ in 0..READS {
                let count = driver.try_step(|link| link.read(channel, stream, &mut buffer))?.unwrap_or(0);
                if count == 0 {
                    break;
                }
                if stream == 0 && self.is_active() {
                    self.heard.extend_from_slice(buffer.get(..count).unwrap_or_default());
                }
            }
        }
        if self.is_active() {
            self.understand(driver, channel)?;
        }
        if self.stage == Stage::Closing(channel)
            || driver.try_step(|link| link.is_eof(channel).map(Some))? != Some(true)
        {
            return Ok(());
        }
        self.give_up(if self.is_ready { "it ended early" } else { SOMETHING_ELSE });
        self.stage = Stage::Closing(channel);
        Ok(())
    }

    /// Takes in what it said, line by line.
    fn understand(&mut self, driver: &mut Driver, channel: ChannelId) -> Result<(), Fault> {
        if self.heard.len() > HEARD {
            self.give_up(SOMETHING_ELSE);
            self.stage = Stage::Closing(channel);
            return Ok(());
        }
        let Some(end) = self.heard.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let lines: Vec<u8> = self.heard.drain(..=end).collect();
        for line in lines.split(|byte| *byte == b'\n') {
            // What the login's shell wrote before it may lack the end of its line.
            if line.ends_with(b"fleet-guard ready") {
                self.is_ready = true;
                self.said = Some(GuardState::Watching);
                self.tell(driver, if self.is_asked { b"kill\n" } else { b"watch\n" })?;
            } else if line.ends_with(b"fleet-guard unable") {
                self.give_up("it cannot tell what belongs to this connection");
                self.stage = Stage::Closing(channel);
            } else if self.is_ready && line == b"fleet-guard gone" {
                self.answer(GuardState::Gone);
            } else if self.is_ready && line == b"fleet-guard left" {
                self.answer(GuardState::Left);
            }
        }
        Ok(())
    }

    fn answer(&mut self, state: GuardState) {
        self.is_asked = false;
        self.said = Some(state);
    }

    /// Waits for one that was told to go to be gone, for at most 2 s.
    pub(super) fn farewell(&mut self, driver: &mut Driver) {
        if !matches!(self.stage, Stage::Leaving(_)) {
            return;
        }
        let budget = Budget::grace(FAREWELL);
        loop {
            // When the connection fails there is nobody to be waited for.
            let has_stepped = self.step(driver, Since::Later).is_ok();
            if !has_stepped || !matches!(self.stage, Stage::Leaving(_)) || driver.wait(&budget).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
