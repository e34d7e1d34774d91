//! A stream with a round trip: every byte arrives late, none is held back longer, bandwidth is not limited.
//!
//! What is in flight is bounded by the SSH windows of the connection, not here.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

/// A stream whose bytes take `one_way` in each direction.
#[derive(Debug)]
pub(crate) struct Delayed<S> {
    one_way: Duration,
    inner: ReadHalf<S>,
    arriving: VecDeque<(Instant, Bytes)>,
    at_end: bool,
    alarm: Pin<Box<Sleep>>,
    leaving: Option<mpsc::UnboundedSender<(Instant, Bytes)>>,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Delayed<S> {
    pub(crate) fn new(stream: S, one_way: Duration) -> Self {
        let (inner, write) = tokio::io::split(stream);
        let (leaving, queue) = mpsc::unbounded_channel();
        tokio::spawn(deliver(queue, write));
        Self {
            one_way,
            inner,
            arriving: VecDeque::new(),
            at_end: false,
            alarm: Box::pin(sleep_until(Instant::now())),
            leaving: Some(leaving),
        }
    }

    /// Takes everything that the socket holds and stamps it with its time of arrival.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        while !self.at_end {
            let mut buf = ReadBuf::new(&mut chunk);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Pending => break,
                Poll::Ready(result) => result?,
            }
            if buf.filled().is_empty() {
                self.at_end = true;
            }
            let bytes = Bytes::copy_from_slice(buf.filled());
            self.arriving.push_back((Instant::now() + self.one_way, bytes));
        }
        Ok(())
    }
}

async fn deliver<S: AsyncWrite>(mut queue: mpsc::UnboundedReceiver<(Instant, Bytes)>, mut write: WriteHalf<S>) {
    while let Some((due, bytes)) = queue.recv().await {
        sleep_until(due).await;
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The peer may be gone: there is nobody to tell.
    let _ = write.shutdown().await;
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> AsyncRead for Delayed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_fill(cx)?;
        let Some((due, bytes)) = self.arriving.front_mut() else {
            return if self.at_end { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let due = *due;
        if due > Instant::now() {
            self.alarm.as_mut().reset(due);
            ready!(self.alarm.as_mut().poll(cx));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let n = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes.split_to(n));
        if !bytes.has_remaining() {
            self.arriving.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> AsyncWrite for Delayed<S> {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let due = Instant::now() + self.one_way;
        let sent = match &self.leaving {
            Some(queue) => queue.send((due, Bytes::copy_from_slice(buf))).is_ok(),
            None => false,
        };
        if sent { Poll::Ready(Ok(buf.len())) } else { Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.leaving = None;
        Poll::Ready(Ok(()))
    }
}
