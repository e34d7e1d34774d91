//! Enter, pressed while a run goes on: shows who is still running.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread::{self, JoinHandle};

use fleet::pool::RunControl;
use fleet::{Error, ErrorKind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};

use super::screen::Screen;
use super::{running, stdin};

/// How often is looked whether the program has come to the foreground, in milliseconds.
const GLANCE_MS: u16 = 500;

/// Listens on a thread of its own until it is dropped.
pub(crate) struct Watcher {
    /// Closed, it ends the thread's wait.
    wake: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to listen, where standard input is the terminal that the program belongs to and nothing else reads it.
    ///
    /// # Errors
    /// `LocalLimit` when there is no descriptor or thread left.
    pub(crate) fn start(control: RunControl, screen: Screen) -> Result<Option<Self>, Error> {
        let cannot = |error| Error::new(ErrorKind::LocalLimit, "cannot listen to the terminal").caused_by(error);
        // Of another terminal than its own a program has no foreground.
        let is_own = io::stdin().is_terminal() && rustix::termios::tcgetpgrp(io::stdin()).is_ok();
        if !is_own || stdin::claim("the keys that are pressed").is_err() {
            return Ok(None);
        }
        // Opened anew: not to wait is then a matter of this descriptor, and not of the shell's.
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open("/dev/tty");
        let Ok(terminal) = open else { return Ok(None) };
        let (wait, wake) = io::pipe().map_err(cannot)?;
        let listen = move || {
            // In the background a read would stop the program; so it fails.
            let mut stops = SigSet::empty();
            stops.add(Signal::SIGTTIN);
            if stops.thread_block().is_ok() {
                listen(&terminal, &wait, &control, &screen);
            }
        };
        let thread = thread::Builder::new().name("fleet-enter".to_owned()).spawn(listen).map_err(cannot)?;
        Ok(Some(Self { wake: Some(wake), thread: Some(thread) }))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

fn listen(terminal: &File, wait: &PipeReader, control: &RunControl, screen: &Screen) {
    loop {
        let is_ours = is_foreground(terminal);
        let mut ready = vec![PollFd::new(wait.as_fd(), PollFlags::POLLIN)];
        // What is typed while another program is in the foreground is that one's.
        let timeout = if is_ours { PollTimeout::NONE } else { PollTimeout::from(GLANCE_MS) };
        if is_ours {
            ready.push(PollFd::new(terminal.as_fd(), PollFlags::POLLIN));
        }
        if poll(&mut ready, timeout).is_err() {
            // A signal came in between.
            continue;
        }
        let mut happened = ready.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if happened.next().is_some_and(|flags| !flags.is_empty()) {
            return;
        }
        let Some(flags) = happened.next().filter(|flags| !flags.is_empty()) else { continue };
        if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return;
        }
        if !is_foreground(terminal) {
            continue;
        }
        match typed(terminal) {
            Typed::Enter => {
                screen.enter_pressed();
                show(control, screen);
            }
            Typed::Nothing => {}
            Typed::Text => return,
        }
    }
}

/// What waits to be read.
enum Typed {
    Enter,
    Nothing,
    /// What is meant for whoever comes next, such as the shell's next command.
    Text,
}

/// Takes a line that is empty, and nothing else.
fn typed(mut terminal: &File) -> Typed {
    // The terminal hands out whole lines: the end of an empty one is a single byte, Ctrl-D none.
    match rustix::io::ioctl_fionread(terminal) {
        Ok(0 | 1) => {}
        _ => return Typed::Text,
    }
    let mut byte = [0];
    match terminal.read(&mut byte) {
        Ok(1) if byte == *b"\n" => Typed::Enter,
        Ok(_) => Typed::Nothing,
        // Another program has read it or come to the foreground (`EIO`), or the terminal is gone, which the next wait tells.
        Err(_) => Typed::Nothing,
    }
}

fn is_foreground(terminal: &File) -> bool {
    rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn show(control: &RunControl, screen: &Screen) {
    let lines = running::lines(control);
    if lines.is_empty() {
        screen.say("no host is running");
    }
    for line in lines {
        screen.say(&line);
    }
    match control.queued() {
        0 => {}
        1 => screen.say("1 host waits"),
        queued => screen.say(&format!("{queued} hosts wait")),
    }
}
