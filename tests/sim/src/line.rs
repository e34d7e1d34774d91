//! The TCP stream of one connection, with a switch: it can be cut, reset or frozen, at once or after some bytes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// How a connection ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Closed as by `close`: what was written arrives.
    Cut,
    /// Closed with a TCP reset.
    Reset,
    /// Not closed: nothing moves any more.
    Freeze,
}

#[derive(Debug, Default)]
struct State {
    end: Option<End>,
    fuse: Option<Fuse>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Fuse {
    bytes_left: u64,
    both_ways: bool,
    end: End,
}

/// The switch of a [`Line`].
#[derive(Debug)]
pub(crate) struct Control {
    tcp: Arc<TcpStream>,
    state: Mutex<State>,
}

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection now.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state();
        self.apply(&mut state, end);
        for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Lets a frozen connection go on.
    pub(crate) fn thaw(&self) {
        let mut state = self.state();
        if state.end == Some(End::Freeze) {
            state.end = None;
            for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
                waker.wake();
            }
        }
    }

    fn apply(&self, state: &mut State, end: End) {
        state.fuse = None;
        if matches!(state.end, Some(End::Cut | End::Reset)) {
            return;
        }
        state.end = Some(end);
        let socket = socket2::SockRef::from(&*self.tcp);
        // A failure means that the peer is gone already.
        match end {
            End::Cut => {
                let _ = socket.shutdown(std::net::Shutdown::Write);
            }
            End::Reset => {
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            End::Freeze => {}
        }
    }

    /// Ends the connection after `bytes` more bytes to the client, or with `both_ways` to and from it.
    pub(crate) fn end_after(&self, bytes: u64, both_ways: bool, end: End) {
        if bytes == 0 {
            return self.end(end);
        }
        self.state().fuse = Some(Fuse { bytes_left: bytes, both_ways, end });
    }

    fn burn(&self, bytes: usize, reading: bool) {
        let mut state = self.state();
        let Some(fuse) = &mut state.fuse else { return };
        if reading && !fuse.both_ways {
            return;
        }
        fuse.bytes_left = fuse.bytes_left.saturating_sub(bytes as u64);
        if fuse.bytes_left == 0 {
            let end = fuse.end;
            self.apply(&mut state, end);
        }
    }

    /// Waits until the client closed its side, without reading.
    pub(crate) async fn peer_gone(&self) {
        loop {
            match self.tcp.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => {}
                _ => return,
            }
            // Unread bytes keep the socket readable: only asking again tells when it is closed.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A TCP stream behind a [`Control`].
#[derive(Debug)]
pub(crate) struct Line {
    tcp: Arc<TcpStream>,
    control: Arc<Control>,
}

impl Line {
    pub(crate) fn new(tcp: TcpStream) -> (Self, Arc<Control>) {
        let tcp = Arc::new(tcp);
        let control = Arc::new(Control { tcp: Arc::clone(&tcp), state: Mutex::default() });
        let line = Self { tcp, control: Arc::clone(&control) };
        (line, control)
    }

    /// Notes who waits, and says how far it may go: an end, or how many bytes.
    fn gate(&self, cx: &Context<'_>, reading: bool) -> Poll<io::Result<usize>> {
        let mut state = self.control.state();
        let slot = if reading { &mut state.reader } else { &mut state.writer };
        match slot {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            slot => *slot = Some(cx.waker().clone()),
        }
        match (state.end, &state.fuse) {
            (Some(End::Freeze), _) => Poll::Pending,
            (Some(End::Cut | End::Reset), _) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            (None, Some(fuse)) => Poll::Ready(Ok(fuse.bytes_left.min(1 << 20) as usize)),
            (None, None) => Poll::Ready(Ok(usize::MAX)),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.gate(cx, true))?;
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    self.control.burn(n, true);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let limit = ready!(self.gate(cx, false))?;
        let buf = buf.get(..limit).unwrap_or(buf);
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(buf) {
                Ok(n) => {
                    self.control.burn(n, false);
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.tcp).shutdown(std::net::Shutdown::Write))
    }
}
