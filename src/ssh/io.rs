//! The bytes between libssh2 and a socket: what the SEND and RECV callbacks do.
//!
//! libssh2 loops inside its calls for as long as bytes come, and loses what it has queued when a read fails. So it is
//! told as little as possible: a read never fails (the end of the connection is noted and shown as "nothing yet"), a
//! turn ends after [`TURN_BYTES`], and a write is always taken whole. Whoever drives libssh2 asks [`Io::broken`] when it
//! wants more bytes.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use socket2::Socket;

use super::proposal::{FirstPacket, Proposal};
use crate::error::ErrorKind;

/// How many bytes libssh2 may take in one call before it has to come up for air.
const TURN_BYTES: usize = 256 * 1024;

/// How many bytes a server may send before its `SSH-` line (RFC 4253 section 4.2 sets no limit; a flood is one).
const PREAMBLE_LIMIT: usize = 64 * 1024;

/// How much of what came before the `SSH-` line is kept to be shown.
const PREAMBLE_KEPT: usize = 512;

/// How much is read at once while libssh2 asks for single bytes.
const READ_AHEAD: usize = 4096;

/// What a server did before it said `SSH-`.
#[derive(Debug, Default)]
pub(super) struct Preamble {
    text: Vec<u8>,
    total: usize,
    line: Vec<u8>,
    is_over: bool,
}

impl Preamble {
    fn take(&mut self, byte: u8) {
        self.total += 1;
        if self.text.len() < PREAMBLE_KEPT {
            self.text.push(byte);
        }
        if byte == b'\n' {
            self.is_over = self.line.starts_with(b"SSH-");
            self.line.clear();
        } else if self.line.len() < 4 {
            self.line.push(byte);
        }
    }

    /// Tells whether more came than any honest server sends.
    pub(super) fn is_flood(&self) -> bool {
        !self.is_over && self.total >= PREAMBLE_LIMIT
    }

    /// Returns the first line that is not empty, without control characters.
    pub(super) fn first_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.text);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(printable(line))
    }
}

/// Cuts a text from a server to a line's length, without control characters.
pub(super) fn printable(text: &str) -> String {
    let mut line: String = text.chars().filter(|char| !char.is_control()).take(200).collect();
    line.truncate(line.trim_end().len());
    line
}

/// A connection to a host, and what it goes through, if that can tell why it ended.
pub(super) struct Reached {
    socket: Socket,
    way: Option<Box<dyn Way>>,
}

/// What a connection goes through: a bastion, a command.
pub(super) trait Way: Send {
    /// Tells why the connection ended, where that is not the server's doing.
    fn last_words(&self) -> Option<(ErrorKind, String)>;

    /// Names it.
    fn name(&self) -> String;
}

impl Reached {
    /// A connection that goes through something.
    pub(super) fn through(socket: Socket, way: Box<dyn Way>) -> Self {
        Self { socket, way: Some(way) }
    }
}

impl From<Socket> for Reached {
    fn from(socket: Socket) -> Self {
        Self { socket, way: None }
    }
}

impl AsRawFd for Reached {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A socket as libssh2 sees it.
pub(super) struct Io {
    socket: Socket,
    way: Option<Box<dyn Way>>,
    read_ahead: Vec<u8>,
    read_ahead_at: usize,
    preamble: Preamble,
    first: FirstPacket,
    out: Vec<u8>,
    out_at: usize,
    turn_left: usize,
    is_held: bool,
    ended: Option<Ending>,
    disconnect: Option<String>,
    received: u64,
    last_received: Instant,
    is_closed: bool,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The server closed it.
    Closed,
    /// It failed.
    Failed(io::Error),
}

impl Io {
    pub(super) fn new(Reached { socket, way }: Reached) -> Self {
        Self {
            socket,
            way,
            read_ahead: Vec::new(),
            read_ahead_at: 0,
            preamble: Preamble::default(),
            first: FirstPacket::default(),
            out: Vec::new(),
            out_at: 0,
            turn_left: TURN_BYTES,
            is_held: false,
            ended: None,
            disconnect: None,
            received: 0,
            last_received: Instant::now(),
            is_closed: false,
        }
    }

    /// Begins a call into libssh2.
    pub(super) fn begin_turn(&mut self) {
        self.turn_left = TURN_BYTES;
    }

    /// Has libssh2 make do with what it has: it takes as many bytes as there are, whether or not anybody wants them yet.
    pub(super) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Tells whether libssh2 was stopped only because its turn was over: it may go on at once.
    pub(super) fn is_turn_over(&self) -> bool {
        self.turn_left == 0
    }

    /// Tells how the connection ended, once it did; everything that came before has been handed out.
    pub(super) fn broken(&self) -> Option<&Ending> {
        self.ended.as_ref()
    }

    /// Names what the connection goes through.
    pub(super) fn through(&self) -> Option<String> {
        self.way.as_ref().map(|way| way.name())
    }

    /// Tells why the connection ended, where what it goes through knows.
    pub(super) fn last_words(&self) -> Option<(ErrorKind, String)> {
        self.way.as_ref()?.last_words()
    }

    /// Returns what the server said when it disconnected (RFC 4253 section 11.1).
    pub(super) fn disconnect_message(&self) -> Option<&str> {
        self.disconnect.as_deref()
    }

    /// Notes what the server said when it disconnected.
    pub(super) fn set_disconnect(&mut self, message: &[u8]) {
        self.disconnect = Some(printable(&String::from_utf8_lossy(message)));
    }

    pub(super) fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// Tells whether the server's `SSH-` line has come.
    pub(super) fn is_banner_over(&self) -> bool {
        self.preamble.is_over
    }

    /// Returns the algorithms that the server proposes, once they have come.
    pub(super) fn proposal(&self) -> Option<Proposal> {
        self.first.proposal()
    }

    /// Forgets the proposal: what was agreed on stays so.
    pub(super) fn forget_proposal(&mut self) {
        self.first.forget();
    }

    /// Returns how many bytes libssh2 has taken.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Returns how many bytes wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.out.len() - self.out_at
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Shuts the connection down; from now on libssh2 writes into nothing and reads nothing.
    pub(super) fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            self.flush();
            // The peer may be gone already, which is what is wanted.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Takes bytes to be sent; always all of them.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.is_closed || self.ended.is_some() {
            return;
        }
        let taken = if self.unsent() == 0 { self.write_some(bytes) } else { 0 };
        if let Some(rest) = bytes.get(taken..) {
            self.out.extend_from_slice(rest);
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        while self.unsent() > 0 && self.ended.is_none() {
            let out = std::mem::take(&mut self.out);
            let written = out.get(self.out_at..).map_or(0, |rest| self.write_some(rest));
            self.out = out;
            self.out_at += written;
            if written == 0 {
                return;
            }
        }
        self.out.clear();
        self.out_at = 0;
        // A transfer's backlog is not kept as empty space for the rest of the session.
        self.out.shrink_to(READ_AHEAD);
    }

    fn write_some(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.socket.send_with_flags(rest, libc::MSG_NOSIGNAL) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // What the server sent before it hung up is still to be read.
                    if self.ended.is_none() {
                        self.drain_into_read_ahead();
                        self.ended = Some(Ending::Failed(error));
                    }
                    return bytes.len();
                }
            }
        }
        written
    }

    /// Hands received bytes to libssh2. `None` means "nothing yet", and 0 the end: only after [`close`](Self::close), so
    /// that libssh2 waits for nothing when it frees what it has.
    pub(super) fn receive(&mut self, buffer: &mut [MaybeUninit<u8>]) -> Option<usize> {
        if self.is_closed {
            return Some(0);
        }
        if self.turn_left == 0 || self.is_held {
            return None;
        }
        let wanted = buffer.len().min(self.turn_left);
        let buffer = buffer.get_mut(..wanted)?;
        if self.preamble.is_flood() {
            return None;
        }
        let is_looked_at = !self.first.is_complete();
        if self.read_ahead_at == self.read_ahead.len() && is_looked_at && !self.fill() {
            return None;
        }
        let count = if self.read_ahead_at < self.read_ahead.len() {
            self.take_read_ahead(buffer)
        } else {
            self.read_socket(buffer)?
        };
        if is_looked_at && let Some(bytes) = self.read_ahead.get(self.read_ahead_at - count..self.read_ahead_at) {
            for byte in bytes {
                if self.preamble.is_over {
                    self.first.take(*byte);
                } else {
                    self.preamble.take(*byte);
                }
            }
        }
        self.turn_left -= count;
        self.received += count as u64;
        Some(count)
    }

    fn take_read_ahead(&mut self, buffer: &mut [MaybeUninit<u8>]) -> usize {
        let Some(ready) = self.read_ahead.get(self.read_ahead_at..) else { return 0 };
        let count = ready.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(ready) {
            slot.write(*byte);
        }
        self.read_ahead_at += count;
        count
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; READ_AHEAD];
        let Some(count) = self.read_chunk(&mut chunk) else { return false };
        self.read_ahead.clear();
        self.read_ahead_at = 0;
        self.read_ahead.extend(chunk.iter().take(count));
        true
    }

    fn drain_into_read_ahead(&mut self) {
        let mut rest: Vec<u8> = self.read_ahead.split_off(self.read_ahead_at.min(self.read_ahead.len()));
        let mut chunk = [0; READ_AHEAD];
        while rest.len() < TURN_BYTES {
            let Some(count) = self.read_chunk(&mut chunk) else { break };
            rest.extend(chunk.iter().take(count));
        }
        self.read_ahead = rest;
        self.read_ahead_at = 0;
    }

    fn read_chunk(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.read_with(|socket| Read::read(&mut &*socket, buffer))
    }

    fn read_socket(&mut self, buffer: &mut [MaybeUninit<u8>]) -> Option<usize> {
        self.read_with(|socket| socket.recv(buffer))
    }

    fn read_with(&mut self, mut read: impl FnMut(&Socket) -> io::Result<usize>) -> Option<usize> {
        if self.ended.is_some() {
            return None;
        }
        loop {
            match read(&self.socket) {
                Ok(0) => self.ended = Some(Ending::Closed),
                Ok(count) => {
                    self.last_received = Instant::now();
                    return Some(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.ended = Some(Ending::Failed(error)),
            }
            return None;
        }
    }
}
