//! What a client sent on a channel and nobody has taken yet.
//!
//! russh widens the client's window as soon as data arrives, and handing it on through a bounded queue would hold up every
//! other channel (and this channel's own output). So the queue takes everything, and past one window's worth it only slows
//! the connection down, for each message by 1 ms a waiting MiB and at most 50 ms, unless somebody takes something.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

/// The size of a channel's window.
pub(crate) const WINDOW_BYTES: u32 = 2 << 20;

const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    at_end: bool,
}

/// A queue of bytes from a client, with an end.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    taken: Notify,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes; drops them after the end.
    pub(crate) async fn push(&self, data: &[u8]) {
        let waiting_bytes = {
            let mut state = self.state();
            if state.at_end {
                return;
            }
            state.bytes += data.len();
            state.queue.push_back(Bytes::copy_from_slice(data));
            state.bytes as u64
        };
        self.arrived.notify_one();
        if waiting_bytes > u64::from(WINDOW_BYTES) {
            let patience = Duration::from_millis(waiting_bytes >> 20).min(PATIENCE);
            // Late is as good as taken: the point was to wait.
            let _ = tokio::time::timeout(patience, self.taken.notified()).await;
        }
    }

    /// Says that nothing follows.
    pub(crate) fn finish(&self) {
        self.state().at_end = true;
        self.arrived.notify_one();
    }

    /// Says that nobody takes anything any more.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.at_end = true;
        state.queue.clear();
        state.bytes = 0;
        drop(state);
        self.taken.notify_one();
    }

    /// Takes the next bytes; `None` at the end. For one reader.
    pub(crate) async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state();
                if let Some(bytes) = state.queue.pop_front() {
                    state.bytes -= bytes.len();
                    drop(state);
                    self.taken.notify_one();
                    return Some(bytes);
                }
                if state.at_end {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }
}
