//! Ctrl-C, SIGTERM and SIGHUP: the first Ctrl-C drains, the second ends what runs, the third leaves at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use fleet::Stop;
use fleet::event::StopReason;
use fleet::pool::RunControl;
use fleet::{Error, ErrorKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

use super::running;
use super::screen::Screen;

/// Whether Ctrl-C ends the program as it does every other; set up when it first must not.
static ENDS_BY_INTERRUPT: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Does something during which Ctrl-C must not end the program: it would leave the terminal as a prompt has set it.
pub(crate) fn without_interrupt<T>(act: impl FnOnce() -> T) -> T {
    let ends = ENDS_BY_INTERRUPT.get_or_init(|| {
        let ends = Arc::new(AtomicBool::new(true));
        if ignored() & (1 << (SIGINT - 1)) == 0 {
            // Without it Ctrl-C acts as ever: no reason not to ask.
            let _ = flag::register_conditional_default(SIGINT, Arc::clone(&ends));
        }
        ends
    });
    ends.store(false, Ordering::SeqCst);
    let value = act();
    ends.store(true, Ordering::SeqCst);
    value
}

/// Listens to signals on a thread of its own until it is dropped.
pub(crate) struct Listener {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Starts to listen for a run.
    pub(crate) fn start(control: RunControl, screen: Screen) -> Result<Self, Error> {
        let cannot = |error| Error::new(ErrorKind::LocalLimit, "cannot listen to signals").caused_by(error);
        let ignored = ignored();
        let wanted: Vec<i32> =
            [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0).collect();
        // A limit on the size of files (ulimit -f) is then an error of the write that meets it, as a full disk is.
        flag::register(SIGXFSZ, Arc::default()).map_err(cannot)?;
        let mut signals = Signals::new(wanted).map_err(cannot)?;
        if let Some(ends) = ENDS_BY_INTERRUPT.get() {
            ends.store(false, Ordering::SeqCst);
        }
        let handle = signals.handle();
        let listen = move || {
            let mut stage = Stage::Running;
            for signal in &mut signals {
                stage = hear(signal, stage, &control, &screen);
            }
        };
        let thread = thread::Builder::new().name("fleet-signals".to_owned()).spawn(listen).map_err(cannot)?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

/// How far the stopping is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Draining,
    Aborting,
}

fn hear(signal: i32, stage: Stage, control: &RunControl, screen: &Screen) -> Stage {
    let (reason, code) = match signal {
        SIGTERM => (StopReason::Terminate, 143),
        SIGHUP => (StopReason::Hangup, 129),
        _ => (StopReason::Interrupt, 130),
    };
    // With nothing queued, or draining already, another drain would change nothing.
    let may_drain = control.queued() > 0 && control.stopped().is_none();
    if stage == Stage::Running && reason == StopReason::Interrupt {
        // Before the stop, which changes it and is told beside it.
        for line in running::lines(control) {
            screen.say(&line);
        }
    }
    match stage {
        Stage::Running if reason == StopReason::Interrupt && may_drain => {
            control.stop(Stop::Drain, reason);
            Stage::Draining
        }
        Stage::Running | Stage::Draining => {
            control.stop(Stop::Abort, reason);
            Stage::Aborting
        }
        Stage::Aborting => {
            screen.abandon();
            leave(code);
            Stage::Aborting
        }
    }
}

#[expect(clippy::exit, reason = "the third signal leaves at once: whatever hangs, hangs no longer")]
fn leave(code: i32) {
    std::process::exit(code);
}

/// Returns the set of signals that were ignored when the program started, as `nohup` and background jobs have it.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_nothing_queued_the_first_press_ends_what_runs() {
        let control = RunControl::new();
        assert!(hear(SIGINT, Stage::Running, &control, &Screen::new()) == Stage::Aborting);
        assert_eq!(control.stopped(), Some((Stop::Abort, StopReason::Interrupt)));
    }

    #[test]
    fn a_termination_never_drains() {
        let control = RunControl::new();
        assert!(hear(SIGTERM, Stage::Draining, &control, &Screen::new()) == Stage::Aborting);
        assert_eq!(control.stopped(), Some((Stop::Abort, StopReason::Terminate)));
    }
}
