//! SFTP: one service per session, files and directories by index.

use std::ffi::{c_char, c_int, c_long, c_ulong};

use libssh2_sys as ffi;

use super::{
    Exit, Failure, Link, Step, c_len, libssh2_sftp_get_channel, libssh2_sftp_posix_rename_ex, libssh2_sftp_statvfs,
    misuse,
};

/// An open remote file or directory of one [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ssh) struct HandleId(pub(in crate::ssh) usize);

/// An open remote file or directory.
pub(super) struct Handle {
    pub(super) raw: *mut ffi::LIBSSH2_SFTP_HANDLE,
    /// How far it has been read, in bytes.
    position: u64,
    /// Whether each piece is asked for only when the one before it has come.
    is_stepwise: bool,
}

/// What to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ssh) enum Opened {
    Read,
    CreateNew(u32),
    Truncate(u32),
    Directory,
}

/// The attributes a server sent, each only where it did.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ssh) struct Attrs {
    pub(in crate::ssh) size: Option<u64>,
    pub(in crate::ssh) permissions: Option<u32>,
    pub(in crate::ssh) mtime: Option<u64>,
}

/// How many bytes are read at once where each piece is waited for: libssh2 asks for four times as many, and that is one packet
/// of the 30,000 bytes it can have.
const STEP: usize = 7_500;

/// Flags that no server sends.
const NOT_WRITTEN: c_ulong = c_ulong::MAX;

fn attrs_from(raw: &ffi::LIBSSH2_SFTP_ATTRIBUTES) -> Attrs {
    let has = |flag: c_ulong| raw.flags & flag != 0;
    Attrs {
        size: has(ffi::LIBSSH2_SFTP_ATTR_SIZE).then_some(raw.filesize),
        permissions: has(ffi::LIBSSH2_SFTP_ATTR_PERMISSIONS).then(|| u32::try_from(raw.permissions).unwrap_or(0)),
        mtime: has(ffi::LIBSSH2_SFTP_ATTR_ACMODTIME).then_some(raw.mtime),
    }
}

fn empty_attrs() -> ffi::LIBSSH2_SFTP_ATTRIBUTES {
    ffi::LIBSSH2_SFTP_ATTRIBUTES { flags: 0, filesize: 0, uid: 0, gid: 0, permissions: 0, atime: 0, mtime: 0 }
}

fn attrs_to(mode: Option<u32>, mtime: Option<u64>) -> ffi::LIBSSH2_SFTP_ATTRIBUTES {
    let mut raw = empty_attrs();
    if let Some(mode) = mode {
        raw.flags |= ffi::LIBSSH2_SFTP_ATTR_PERMISSIONS;
        raw.permissions = c_ulong::from(mode);
    }
    if let Some(mtime) = mtime {
        raw.flags |= ffi::LIBSSH2_SFTP_ATTR_ACMODTIME;
        raw.mtime = mtime;
        raw.atime = mtime;
    }
    raw
}

impl Link {
    /// Opens the SFTP service, once.
    pub(in crate::ssh) fn open_sftp(&mut self) -> Step<()> {
        if self.sftp.is_some() {
            return Ok(Some(()));
        }
        let lent = self.lend();
        // SAFETY: the session is live.
        let sftp = unsafe { ffi::libssh2_sftp_init(self.raw) };
        drop(lent);
        let Some(sftp) = self.pointer(sftp)? else { return Ok(None) };
        self.sftp = Some(sftp);
        Ok(Some(()))
    }

    /// Closes the SFTP service with all its files, whatever is on its way there.
    pub(in crate::ssh) fn close_sftp(&mut self) -> Step<()> {
        let Some(sftp) = self.sftp else { return Ok(Some(())) };
        let channel = self.sftp_channel()?;
        let _lent = self.lend();
        // Behind the end of the channel no request is sent any more: so the files are closed on this side alone.
        if !self.is_sftp_ending {
            // SAFETY: a live channel.
            if unsafe { ffi::libssh2_channel_send_eof(channel) } == ffi::LIBSSH2_ERROR_EAGAIN {
                return Ok(None);
            }
            self.is_sftp_ending = true;
        }
        while let Some(handle) = self.handles.pop() {
            let Some(live) = handle else { continue };
            // SAFETY: a live handle, forgotten unless it says "again".
            if unsafe { ffi::libssh2_sftp_close_handle(live.raw) } == ffi::LIBSSH2_ERROR_EAGAIN {
                self.handles.push(Some(live));
                return Ok(None);
            }
        }
        // SAFETY: a live SFTP session without handles, forgotten unless it says "again".
        if unsafe { ffi::libssh2_sftp_shutdown(sftp) } == ffi::LIBSSH2_ERROR_EAGAIN {
            return Ok(None);
        }
        self.sftp = None;
        self.is_sftp_ending = false;
        Ok(Some(()))
    }

    fn sftp(&self) -> Result<*mut ffi::LIBSSH2_SFTP, Failure> {
        self.sftp.ok_or_else(|| misuse("SFTP is not open"))
    }

    fn sftp_channel(&self) -> Result<*mut ffi::LIBSSH2_CHANNEL, Failure> {
        let sftp = self.sftp()?;
        // SAFETY: a live SFTP session, which has a channel for as long as it lives.
        let channel = unsafe { libssh2_sftp_get_channel(sftp) };
        if channel.is_null() { Err(misuse("SFTP has no channel")) } else { Ok(channel) }
    }

    /// Tells whether the SFTP server has ended its side.
    pub(in crate::ssh) fn is_sftp_over(&mut self) -> Result<bool, Failure> {
        let channel = self.sftp_channel()?;
        let _lent = self.lend();
        // SAFETY: a live channel.
        Ok(unsafe { ffi::libssh2_channel_eof(channel) } != 0)
    }

    /// Waits until the channel of an SFTP server that has ended is closed, and returns how it ended.
    pub(in crate::ssh) fn sftp_exit(&mut self) -> Step<Exit> {
        let channel = self.sftp_channel()?;
        let lent = self.lend();
        // SAFETY: a live channel.
        let rc = unsafe { ffi::libssh2_channel_wait_closed(channel) };
        drop(lent);
        self.step(rc, ())?.map(|()| Ok(self.exit_of(channel))).transpose()
    }

    fn handle(&self, id: HandleId) -> Result<*mut ffi::LIBSSH2_SFTP_HANDLE, Failure> {
        self.handles
            .get(id.0)
            .and_then(Option::as_ref)
            .map(|handle| handle.raw)
            .ok_or_else(|| misuse("the file is closed"))
    }

    fn open_handle(&mut self, id: HandleId) -> Result<&mut Handle, Failure> {
        self.handles.get_mut(id.0).and_then(Option::as_mut).ok_or_else(|| misuse("the file is closed"))
    }

    /// Opens a file or a directory.
    pub(in crate::ssh) fn sftp_open(&mut self, path: &[u8], what: Opened) -> Step<HandleId> {
        let sftp = self.sftp()?;
        let len = c_len(path)?;
        let write = ffi::LIBSSH2_FXF_WRITE | ffi::LIBSSH2_FXF_CREAT;
        let (flags, mode, kind) = match what {
            Opened::Read => (ffi::LIBSSH2_FXF_READ, 0, ffi::LIBSSH2_SFTP_OPENFILE),
            Opened::CreateNew(mode) => (write | ffi::LIBSSH2_FXF_EXCL, mode, ffi::LIBSSH2_SFTP_OPENFILE),
            Opened::Truncate(mode) => (write | ffi::LIBSSH2_FXF_TRUNC, mode, ffi::LIBSSH2_SFTP_OPENFILE),
            Opened::Directory => (0, 0, ffi::LIBSSH2_SFTP_OPENDIR),
        };
        let lent = self.lend();
        // SAFETY: a live SFTP session; the path is passed with its length.
        let handle =
            unsafe { ffi::libssh2_sftp_open_ex(sftp, path.as_ptr().cast(), len, flags, c_long::from(mode), kind) };
        drop(lent);
        let Some(handle) = self.pointer(handle)? else { return Ok(None) };
        let free = self.handles.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.handles.push(None);
            self.handles.len() - 1
        });
        if let Some(slot) = self.handles.get_mut(index) {
            *slot = Some(Handle { raw: handle, position: 0, is_stepwise: false });
        }
        Ok(Some(HandleId(index)))
    }

    /// Reads on; 0 bytes: the end.
    pub(in crate::ssh) fn sftp_read(&mut self, id: HandleId, buffer: &mut [u8]) -> Step<usize> {
        let &mut Handle { raw, is_stepwise, .. } = self.open_handle(id)?;
        let len = if is_stepwise { buffer.len().min(STEP) } else { buffer.len() };
        let lent = self.lend();
        // SAFETY: a live handle; the buffer is written within its length.
        let count = unsafe { ffi::libssh2_sftp_read(raw, buffer.as_mut_ptr().cast::<c_char>(), len) };
        drop(lent);
        let read = self.count(count);
        if let Ok(Some(count)) = read {
            self.open_handle(id)?.position += count as u64;
        }
        read
    }

    /// Goes back to where the last read ended, and from now on asks for one piece at a time. What was asked for beyond that is
    /// still answered, to nobody.
    ///
    /// Tells whether that is new.
    pub(in crate::ssh) fn sftp_read_stepwise(&mut self, id: HandleId) -> Result<bool, Failure> {
        let handle = self.open_handle(id)?;
        let is_new = !std::mem::replace(&mut handle.is_stepwise, true);
        let (raw, position) = (handle.raw, handle.position);
        let _lent = self.lend();
        // SAFETY: a live handle; nothing is sent.
        unsafe { ffi::libssh2_sftp_seek64(raw, position) };
        Ok(is_new)
    }

    /// Writes on, and returns how many bytes were acknowledged; the next call starts behind them.
    pub(in crate::ssh) fn sftp_write(&mut self, id: HandleId, bytes: &[u8]) -> Step<usize> {
        let handle = self.handle(id)?;
        let lent = self.lend();
        // SAFETY: a live handle; the bytes outlive the call.
        let count = unsafe { ffi::libssh2_sftp_write(handle, bytes.as_ptr().cast(), bytes.len()) };
        drop(lent);
        self.count(count)
    }

    /// Flushes a file to the server's disk.
    pub(in crate::ssh) fn sftp_sync(&mut self, id: HandleId) -> Step<()> {
        let handle = self.handle(id)?;
        let lent = self.lend();
        // SAFETY: a live handle.
        let rc = unsafe { ffi::libssh2_sftp_fsync(handle) };
        drop(lent);
        self.step(rc, ())
    }

    /// Sets an open file's permission bits and modification time.
    pub(in crate::ssh) fn sftp_set_attrs(&mut self, id: HandleId, mode: Option<u32>, mtime: Option<u64>) -> Step<()> {
        let handle = self.handle(id)?;
        let mut raw = attrs_to(mode, mtime);
        let lent = self.lend();
        // SAFETY: a live handle; the attributes outlive the call.
        let rc = unsafe { ffi::libssh2_sftp_fstat_ex(handle, &raw mut raw, 1) };
        drop(lent);
        self.step(rc, ())
    }

    /// Closes a file or directory; unless it says "again", it is forgotten, also after a failure.
    pub(in crate::ssh) fn sftp_close(&mut self, id: HandleId) -> Step<()> {
        let handle = self.handle(id)?;
        let lent = self.lend();
        // SAFETY: a live handle, forgotten below unless it says "again".
        let rc = unsafe { ffi::libssh2_sftp_close_handle(handle) };
        drop(lent);
        if rc != ffi::LIBSSH2_ERROR_EAGAIN
            && let Some(slot) = self.handles.get_mut(id.0)
        {
            *slot = None;
        }
        self.step(rc, ())
    }

    /// Reads the next entry of a directory; `None` inside means the end.
    pub(in crate::ssh) fn sftp_read_dir(&mut self, id: HandleId, name: &mut [u8]) -> Step<Option<(usize, Attrs)>> {
        let handle = self.handle(id)?;
        // Written for every entry, but not at the end: so an entry with an empty name is not taken for the end.
        let mut raw = ffi::LIBSSH2_SFTP_ATTRIBUTES { flags: NOT_WRITTEN, ..empty_attrs() };
        let lent = self.lend();
        // SAFETY: a live handle; the name is written within its length, and no long entry is asked for.
        let rc = unsafe {
            let name_ptr = name.as_mut_ptr().cast::<c_char>();
            ffi::libssh2_sftp_readdir_ex(handle, name_ptr, name.len(), std::ptr::null_mut(), 0, &raw mut raw)
        };
        drop(lent);
        match usize::try_from(rc) {
            Ok(0) if raw.flags == NOT_WRITTEN => Ok(Some(None)),
            Ok(len) => Ok(Some(Some((len.min(name.len()), attrs_from(&raw))))),
            Err(_) => self.step(rc, None),
        }
    }

    /// Asks what a path names.
    pub(in crate::ssh) fn sftp_stat(&mut self, path: &[u8], follow: bool) -> Step<Attrs> {
        let sftp = self.sftp()?;
        let len = c_len(path)?;
        let mut raw = empty_attrs();
        let kind = if follow { ffi::LIBSSH2_SFTP_STAT } else { ffi::LIBSSH2_SFTP_LSTAT };
        let lent = self.lend();
        // SAFETY: a live SFTP session; the path is passed with its length, the attributes are written.
        let rc = unsafe { ffi::libssh2_sftp_stat_ex(sftp, path.as_ptr().cast(), len, kind, &raw mut raw) };
        drop(lent);
        self.step(rc, attrs_from(&raw))
    }

    /// Sets a path's permission bits.
    pub(in crate::ssh) fn sftp_set_mode(&mut self, path: &[u8], mode: u32) -> Step<()> {
        let sftp = self.sftp()?;
        let len = c_len(path)?;
        let mut raw = attrs_to(Some(mode), None);
        let lent = self.lend();
        // SAFETY: a live SFTP session; the path is passed with its length, the attributes are read.
        let rc = unsafe {
            ffi::libssh2_sftp_stat_ex(sftp, path.as_ptr().cast(), len, ffi::LIBSSH2_SFTP_SETSTAT, &raw mut raw)
        };
        drop(lent);
        self.step(rc, ())
    }

    /// Makes a directory.
    pub(in crate::ssh) fn sftp_mkdir(&mut self, path: &[u8], mode: u32) -> Step<()> {
        let sftp = self.sftp()?;
        let len = c_len(path)?;
        let lent = self.lend();
        // SAFETY: a live SFTP session; the path is passed with its length.
        let rc = unsafe { ffi::libssh2_sftp_mkdir_ex(sftp, path.as_ptr().cast(), len, c_long::from(mode)) };
        drop(lent);
        self.step(rc, ())
    }

    /// Removes a file.
    pub(in crate::ssh) fn sftp_unlink(&mut self, path: &[u8]) -> Step<()> {
        let sftp = self.sftp()?;
        let len = c_len(path)?;
        let lent = self.lend();
        // SAFETY: a live SFTP session; the path is passed with its length.
        let rc = unsafe { ffi::libssh2_sftp_unlink_ex(sftp, path.as_ptr().cast(), len) };
        drop(lent);
        self.step(rc, ())
    }

    /// Renames a file over another (`posix-rename@openssh.com`).
    pub(in crate::ssh) fn sftp_posix_rename(&mut self, from: &[u8], to: &[u8]) -> Step<()> {
        let sftp = self.sftp()?;
        let lent = self.lend();
        // SAFETY: a live SFTP session; both paths are passed with their lengths.
        let rc = unsafe {
            libssh2_sftp_posix_rename_ex(sftp, from.as_ptr().cast(), from.len(), to.as_ptr().cast(), to.len())
        };
        drop(lent);
        self.step(rc, ())
    }

    /// Renames a file to a name that is free (SFTP version 3 `RENAME`).
    pub(in crate::ssh) fn sftp_rename(&mut self, from: &[u8], to: &[u8]) -> Step<()> {
        let sftp = self.sftp()?;
        let (from_len, to_len) = (c_len(from)?, c_len(to)?);
        let lent = self.lend();
        // SAFETY: a live SFTP session; both paths are passed with their lengths.
        let rc =
            unsafe { ffi::libssh2_sftp_rename_ex(sftp, from.as_ptr().cast(), from_len, to.as_ptr().cast(), to_len, 0) };
        drop(lent);
        self.step(rc, ())
    }

    /// Asks how many bytes the login may still write where a path is.
    pub(in crate::ssh) fn sftp_free_bytes(&mut self, path: &[u8]) -> Step<u64> {
        let sftp = self.sftp()?;
        // SAFETY: plain integers, filled below.
        let mut found: ffi::LIBSSH2_SFTP_STATVFS = unsafe { std::mem::zeroed() };
        let lent = self.lend();
        // SAFETY: a live SFTP session; the path is passed with its length, and what is found fits the place for it.
        let rc = unsafe { libssh2_sftp_statvfs(sftp, path.as_ptr().cast(), path.len(), &raw mut found) };
        drop(lent);
        self.step(rc, found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Asks for the absolute path that a name leads to, and returns its length in `target`.
    pub(in crate::ssh) fn sftp_realpath(&mut self, path: &[u8], target: &mut [u8]) -> Step<usize> {
        let sftp = self.sftp()?;
        let (len, target_len) = (c_len(path)?, c_len(target)?);
        let lent = self.lend();
        // SAFETY: a live SFTP session; the path is passed with its length, the target is written within its own.
        let rc = unsafe {
            let target = target.as_mut_ptr().cast::<c_char>();
            ffi::libssh2_sftp_symlink_ex(
                sftp,
                path.as_ptr().cast(),
                len,
                target,
                target_len,
                ffi::LIBSSH2_SFTP_REALPATH,
            )
        };
        drop(lent);
        let written = usize::try_from(rc).unwrap_or(0);
        self.step(rc as c_int, written)
    }
}
