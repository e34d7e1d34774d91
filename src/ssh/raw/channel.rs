//! Channels: one remote process each.

use std::ffi::{CStr, c_char, c_int, c_ulong};

use libssh2_sys as ffi;

use super::{
    Failure, Link, Step, c_len, libssh2_channel_has_exit_status, libssh2_channel_signal_ex, libssh2_poll_channel_read,
    misuse,
};
use crate::transport::Pty;

/// The window for what a process writes, in bytes: libssh2's default.
const WINDOW: u32 = 2 * 1024 * 1024;

/// The largest packet taken, in bytes: what RFC 4253 section 6.1 says every side must take.
const PACKET: u32 = 32 * 1024;

/// A channel of one [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ssh) struct ChannelId(pub(super) usize);

/// How the server said that a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ssh) enum Exit {
    Code(i32),
    Signal(String),
    NotSent,
}

impl Link {
    /// Opens a session channel. Only one open may be under way at a time.
    pub(in crate::ssh) fn open_channel(&mut self) -> Step<ChannelId> {
        let kind = b"session";
        let lent = self.lend();
        // SAFETY: the session is live and `kind` outlives the call; there is no message.
        let channel = unsafe {
            ffi::libssh2_channel_open_ex(self.raw, kind.as_ptr().cast(), 7, WINDOW, PACKET, std::ptr::null(), 0)
        };
        drop(lent);
        self.keep_channel(channel)
    }

    /// Asks the server to connect to an address, and opens a channel to it (RFC 4254 section 7.2, `direct-tcpip`). Only one
    /// open may be under way at a time; until it is answered, the same address has to be given again.
    pub(in crate::ssh) fn open_tunnel(&mut self, address: &str, port: u16, window: u32) -> Step<ChannelId> {
        let kind = b"direct-tcpip";
        let mut message = Vec::with_capacity(address.len() + 32);
        let text = |message: &mut Vec<u8>, text: &str| -> Result<(), Failure> {
            message.extend_from_slice(&c_len(text.as_bytes())?.to_be_bytes());
            message.extend_from_slice(text.as_bytes());
            Ok(())
        };
        text(&mut message, address)?;
        message.extend_from_slice(&u32::from(port).to_be_bytes());
        // Where it comes from; servers log it.
        text(&mut message, "127.0.0.1")?;
        message.extend_from_slice(&0u32.to_be_bytes());
        let len = c_len(&message)?;
        let lent = self.lend();
        // SAFETY: the session is live; `kind` and `message` outlive the call, which copies what it keeps or sends it whole.
        let channel = unsafe {
            ffi::libssh2_channel_open_ex(
                self.raw,
                kind.as_ptr().cast(),
                12,
                window,
                PACKET,
                message.as_ptr().cast(),
                len,
            )
        };
        drop(lent);
        self.keep_channel(channel)
    }

    fn keep_channel(&mut self, channel: *mut ffi::LIBSSH2_CHANNEL) -> Step<ChannelId> {
        let Some(channel) = self.pointer(channel)? else { return Ok(None) };
        let free = self.channels.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.channels.push(None);
            self.channels.len() - 1
        });
        if let Some(slot) = self.channels.get_mut(index) {
            *slot = Some(channel);
        }
        Ok(Some(ChannelId(index)))
    }

    fn channel(&self, id: ChannelId) -> Result<*mut ffi::LIBSSH2_CHANNEL, Failure> {
        self.channels.get(id.0).copied().flatten().ok_or_else(|| misuse("the channel is closed"))
    }

    /// Requests that a variable is set for the command (RFC 4254 section 6.4); takes a round trip.
    pub(in crate::ssh) fn set_env(&mut self, id: ChannelId, name: &str, value: &str) -> Step<()> {
        let channel = self.channel(id)?;
        let (name_len, value_len) = (c_len(name.as_bytes())?, c_len(value.as_bytes())?);
        let lent = self.lend();
        // SAFETY: a live channel; both texts outlive the call and are passed with their lengths.
        let rc = unsafe {
            // The names are C strings only in libssh2's type: it takes as many bytes as it is told.
            ffi::libssh2_channel_setenv_ex(channel, name.as_ptr().cast(), name_len, value.as_ptr().cast(), value_len)
        };
        drop(lent);
        self.step(rc, ())
    }

    /// Requests a pseudo-terminal (RFC 4254 section 6.2) with encoded modes; takes a round trip.
    pub(in crate::ssh) fn request_pty(&mut self, id: ChannelId, pty: &Pty, modes: &[u8]) -> Step<()> {
        let channel = self.channel(id)?;
        let term = pty.term.as_bytes();
        let (term_len, modes_len) = (c_len(term)?, c_len(modes)?);
        let (columns, rows) = (c_int::from(pty.columns), c_int::from(pty.rows));
        let lent = self.lend();
        // SAFETY: a live channel; both texts outlive the call, are passed with their lengths and copied. No size in pixels.
        let rc = unsafe {
            ffi::libssh2_channel_request_pty_ex(
                channel,
                term.as_ptr().cast(),
                term_len,
                modes.as_ptr().cast(),
                modes_len,
                columns,
                rows,
                0,
                0,
            )
        };
        drop(lent);
        self.step(rc, ())
    }

    /// Requests `exec` with a command line (RFC 4254 section 6.5).
    pub(in crate::ssh) fn exec(&mut self, id: ChannelId, command: &[u8]) -> Step<()> {
        let channel = self.channel(id)?;
        let request = b"exec";
        let len = c_len(command)?;
        let lent = self.lend();
        // SAFETY: a live channel; both texts outlive the call and are passed with their lengths.
        let rc = unsafe {
            ffi::libssh2_channel_process_startup(channel, request.as_ptr().cast(), 4, command.as_ptr().cast(), len)
        };
        drop(lent);
        self.step(rc, ())
    }

    /// Reads what the process wrote to a stream: 0 is standard output, 1 standard error. 0 bytes: the end.
    pub(in crate::ssh) fn read(&mut self, id: ChannelId, stream: c_int, buffer: &mut [u8]) -> Step<usize> {
        let channel = self.channel(id)?;
        let lent = self.lend();
        // SAFETY: a live channel; the buffer is written within its length.
        let count = unsafe {
            ffi::libssh2_channel_read_ex(channel, stream, buffer.as_mut_ptr().cast::<c_char>(), buffer.len())
        };
        drop(lent);
        self.count(count)
    }

    /// Returns how many bytes of a channel, of all its streams, wait in the queue.
    pub(in crate::ssh) fn queued(&self, id: ChannelId) -> Result<c_ulong, Failure> {
        let channel = self.channel(id)?;
        let mut queued = 0;
        // SAFETY: a live channel; `queued` outlives the call; what the window was at first is not asked for.
        unsafe { ffi::libssh2_channel_window_read_ex(channel, &raw mut queued, std::ptr::null_mut()) };
        Ok(queued)
    }

    /// Tells whether bytes of a channel wait in the queue; reads none from the connection.
    pub(in crate::ssh) fn has_data(&mut self, id: ChannelId) -> Result<bool, Failure> {
        let channel = self.channel(id)?;
        // SAFETY: a live channel.
        Ok(unsafe { libssh2_poll_channel_read(channel, 0) } > 0)
    }

    /// Writes to the process's standard input and returns how much was taken.
    pub(in crate::ssh) fn write(&mut self, id: ChannelId, bytes: &[u8]) -> Step<usize> {
        let channel = self.channel(id)?;
        let lent = self.lend();
        // SAFETY: a live channel; the bytes outlive the call.
        let count = unsafe { ffi::libssh2_channel_write_ex(channel, 0, bytes.as_ptr().cast(), bytes.len()) };
        drop(lent);
        self.count(count)
    }

    /// Returns how many bytes the server takes for the process at the moment.
    pub(in crate::ssh) fn write_window(&self, id: ChannelId) -> Result<c_ulong, Failure> {
        let channel = self.channel(id)?;
        // SAFETY: a live channel; what the window was at first is not asked for.
        Ok(unsafe { ffi::libssh2_channel_window_write_ex(channel, std::ptr::null_mut()) })
    }

    pub(super) fn count(&self, count: isize) -> Step<usize> {
        match usize::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => self.step(c_int::try_from(count).unwrap_or(ffi::LIBSSH2_ERROR_PROTO), 0),
        }
    }

    /// Tells the process that its standard input is at its end.
    pub(in crate::ssh) fn send_eof(&mut self, id: ChannelId) -> Step<()> {
        let channel = self.channel(id)?;
        let lent = self.lend();
        // SAFETY: a live channel.
        let rc = unsafe { ffi::libssh2_channel_send_eof(channel) };
        drop(lent);
        self.step(rc, ())
    }

    /// Tells whether the server ended both streams and everything was read.
    pub(in crate::ssh) fn is_eof(&mut self, id: ChannelId) -> Result<bool, Failure> {
        let channel = self.channel(id)?;
        let _lent = self.lend();
        // SAFETY: a live channel.
        Ok(unsafe { ffi::libssh2_channel_eof(channel) } != 0)
    }

    /// Waits for the server to close the channel, after its end of file.
    pub(in crate::ssh) fn wait_closed(&mut self, id: ChannelId) -> Step<()> {
        let channel = self.channel(id)?;
        let lent = self.lend();
        // SAFETY: a live channel.
        let rc = unsafe { ffi::libssh2_channel_wait_closed(channel) };
        drop(lent);
        self.step(rc, ())
    }

    /// Sends the process a signal (RFC 4254 section 6.9); no answer is asked for.
    pub(in crate::ssh) fn send_signal(&mut self, id: ChannelId, name: &str) -> Step<()> {
        let channel = self.channel(id)?;
        let lent = self.lend();
        // SAFETY: a live channel; the name is passed with its length.
        let rc = unsafe { libssh2_channel_signal_ex(channel, name.as_ptr().cast(), name.len()) };
        drop(lent);
        self.step(rc, ())
    }

    /// Returns how the process ended, as far as the server has said.
    pub(in crate::ssh) fn exit(&mut self, id: ChannelId) -> Result<Exit, Failure> {
        let channel = self.channel(id)?;
        Ok(self.exit_of(channel))
    }

    /// Does so for a live channel of this session.
    pub(super) fn exit_of(&self, channel: *mut ffi::LIBSSH2_CHANNEL) -> Exit {
        if let Some(signal) = self.exit_signal(channel) {
            return Exit::Signal(signal);
        }
        // SAFETY: a live channel.
        if unsafe { libssh2_channel_has_exit_status(channel) } == 0 {
            return Exit::NotSent;
        }
        // SAFETY: a live channel.
        Exit::Code(unsafe { ffi::libssh2_channel_get_exit_status(channel) })
    }

    fn exit_signal(&self, channel: *mut ffi::LIBSSH2_CHANNEL) -> Option<String> {
        let mut name: *mut c_char = std::ptr::null_mut();
        let mut len = 0;
        let unwanted = std::ptr::null_mut();
        let no_len = std::ptr::null_mut();
        // SAFETY: a live channel; unwanted parts may be null (libssh2_channel_get_exit_signal(3)).
        let rc = unsafe {
            ffi::libssh2_channel_get_exit_signal(
                channel,
                &raw mut name,
                &raw mut len,
                unwanted,
                no_len,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        if rc != 0 || name.is_null() {
            return None;
        }
        // SAFETY: a C string that is ours now, allocated by libssh2's allocator, which is freed below.
        let text = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        // SAFETY: see above; the pointer is not used again.
        unsafe { ffi::libssh2_free(self.raw, name.cast()) };
        Some(text)
    }

    /// Frees a channel and forgets it; after the server closed it this takes no waiting.
    pub(in crate::ssh) fn free_channel(&mut self, id: ChannelId) -> Step<()> {
        let channel = self.channel(id)?;
        let lent = self.lend();
        // SAFETY: a live channel, forgotten below unless it says "again".
        let rc = unsafe { ffi::libssh2_channel_free(channel) };
        drop(lent);
        if rc != ffi::LIBSSH2_ERROR_EAGAIN
            && let Some(slot) = self.channels.get_mut(id.0)
        {
            *slot = None;
        }
        self.step(rc, ())
    }
}
