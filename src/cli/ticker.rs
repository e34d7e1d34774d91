//! A thread that draws now and then, until nobody needs it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fleet::{Error, ErrorKind};

/// Draws in a thread of its own, so that a busy run draws no more often than an idle one. Dropped, it waits for the thread's
/// end, which comes at once.
pub(crate) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// When it is time to draw.
pub(crate) struct Ticks(Receiver<()>);

impl Ticks {
    /// Waits so long, or less if the end has come: then it returns `false`.
    pub(crate) fn wait(&self, period: Duration) -> bool {
        self.0.recv_timeout(period) == Err(RecvTimeoutError::Timeout)
    }
}

impl Ticker {
    /// Starts the thread; `what` it shows is for the error if there can be none.
    pub(crate) fn start(name: &str, what: &str, draw: impl FnOnce(&Ticks) + Send + 'static) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let draw = move || draw(&Ticks(stopped));
        let thread = thread::Builder::new().name(name.to_owned()).spawn(draw).map_err(|error| {
            Error::new(ErrorKind::LocalLimit, format!("cannot start the thread that shows {what}")).caused_by(error)
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Drawing is never worth a failure.
            let _ = thread.join();
        }
    }
}
