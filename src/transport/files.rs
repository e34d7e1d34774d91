//! A host's files, over SFTP.

use std::fmt;

use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};

/// What a server tells of a file (SFTP version 3, `ATTRS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileAttrs {
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits, such as `0o644`.
    pub mode: u32,
    /// When it was last changed, in seconds since 1970.
    pub mtime: Option<u64>,
}

impl FileAttrs {
    /// Makes the attributes of a file.
    pub fn new(kind: FileKind, size: u64, mode: u32, mtime: Option<u64>) -> Self {
        Self { kind, size, mode, mtime }
    }
}

/// What a remote path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, not followed.
    Symlink,
    /// A device, a socket, a pipe.
    Other,
}

/// An open remote file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// One entry of a remote directory, as the server named it: the name is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirEntry {
    /// The name; a hostile server may send an empty one, `..`, or one with `/` or NUL.
    pub name: Vec<u8>,
    /// What the server tells of it; a link is not followed.
    pub attrs: FileAttrs,
}

impl DirEntry {
    /// Makes an entry.
    pub fn new(name: impl Into<Vec<u8>>, attrs: FileAttrs) -> Self {
        Self { name: name.into(), attrs }
    }
}

/// How a remote file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// For reading.
    Read,
    /// Made new with these permission bits, for writing; an existing file is an error.
    CreateNew(u32),
    /// Made, or emptied, with these permission bits, for writing.
    Truncate(u32),
}

/// A host's files over SFTP. Paths are bytes; relative ones start at the login's directory.
///
/// # Errors
/// Every method fails as `RemoteFile` when the server refuses, with the server's word as the message's end and the path in
/// it; [`SftpStatus::of`] tells which. Otherwise as [`Session::pump`](super::Session::pump).
pub trait RemoteFiles {
    /// Tells what a path names. With `follow`, of a link's target. `None` when there is nothing.
    fn stat(&mut self, path: &[u8], follow: bool, budget: &Budget) -> Result<Option<FileAttrs>>;

    /// Opens a file.
    fn open(&mut self, path: &[u8], mode: OpenMode, budget: &Budget) -> Result<FileId>;

    /// Reads the next bytes into `buffer` and returns how many; 0 at the end. Larger buffers read further ahead.
    fn read(&mut self, file: FileId, buffer: &mut [u8], budget: &Budget) -> Result<usize>;

    /// Goes on behind an end that [`read`](Self::read) has told and that the file's size does not: a server that gives less than it
    /// is asked for tells the end for what was asked for beyond that. Does nothing where an end is one.
    fn doubt_end(&mut self, _file: FileId) -> Result<()> {
        Ok(())
    }

    /// Sends `bytes` and returns how many the server acknowledged, at least 1.
    ///
    /// The next call must start with the bytes that were not acknowledged yet: they are on their way already. Appending to
    /// them keeps the link full. After an error, close the file before anything else is asked.
    fn write(&mut self, file: FileId, bytes: &[u8], budget: &Budget) -> Result<usize>;

    /// Returns how many bytes the login may still write where a path is (`statvfs@openssh.com`); `None` where the server cannot tell.
    fn free_bytes(&mut self, path: &[u8], budget: &Budget) -> Result<Option<u64>> {
        let _ = (path, budget);
        Ok(None)
    }

    /// Flushes a file to the server's disk (`fsync@openssh.com`); does nothing where the server cannot.
    fn sync(&mut self, file: FileId, budget: &Budget) -> Result<()>;

    /// Sets an open file's permission bits and modification time (seconds since 1970).
    fn set_attrs(&mut self, file: FileId, mode: Option<u32>, mtime: Option<u64>, budget: &Budget) -> Result<()>;

    /// Closes a file; the file is gone from this side even after an error.
    ///
    /// With bytes that were not acknowledged, how much of them arrives is not known, and all other open files are closed too: what is on
    /// its way cannot be taken back, so the service is begun anew.
    fn close(&mut self, file: FileId, budget: &Budget) -> Result<()>;

    /// Lists a directory, `.` and `..` left out, in the server's order. `limit` bounds the entries: more is an error.
    fn read_dir(&mut self, path: &[u8], limit: usize, budget: &Budget) -> Result<Vec<DirEntry>>;

    /// Makes a directory.
    fn create_dir(&mut self, path: &[u8], mode: u32, budget: &Budget) -> Result<()>;

    /// Removes a file or a link.
    fn remove(&mut self, path: &[u8], budget: &Budget) -> Result<()>;

    /// Renames a file over whatever has the name (`posix-rename@openssh.com`, else a plain rename, after removing what is in its way).
    fn rename(&mut self, from: &[u8], to: &[u8], budget: &Budget) -> Result<()>;

    /// Sets a path's permission bits.
    fn set_mode(&mut self, path: &[u8], mode: u32, budget: &Budget) -> Result<()>;

    /// Returns the absolute path a name leads to.
    fn canonicalize(&mut self, path: &[u8], budget: &Budget) -> Result<Vec<u8>>;
}

/// A server's refusal of a file operation (draft-ietf-secsh-filexfer-02 section 7), the source of a `RemoteFile` error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SftpStatus(pub u32);

impl SftpStatus {
    /// `SSH_FX_NO_SUCH_FILE`.
    pub const NO_SUCH_FILE: Self = Self(2);
    /// `SSH_FX_PERMISSION_DENIED`.
    pub const PERMISSION_DENIED: Self = Self(3);
    /// `SSH_FX_FAILURE`: OpenSSH's answer to most of what goes wrong.
    pub const FAILURE: Self = Self(4);
    /// `SSH_FX_NO_SPACE_ON_FILESYSTEM`: no status of version 3, which says [`FAILURE`](Self::FAILURE) of a full disk.
    pub const NO_SPACE: Self = Self(14);
    /// `SSH_FX_OP_UNSUPPORTED`.
    pub const UNSUPPORTED: Self = Self(8);
    /// `SSH_FX_FILE_ALREADY_EXISTS`.
    pub const ALREADY_EXISTS: Self = Self(11);
}

impl fmt::Display for SftpStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            1 => "end of file",
            2 => "no such file or directory",
            3 => "permission denied",
            4 => "the server refused without a reason",
            5 => "bad message",
            6 | 7 => "no connection",
            8 => "not supported by the server",
            9 => "invalid handle",
            10 => "no such path",
            11 => "already exists",
            12 => "write-protected",
            13 => "no medium",
            14 => "no space left on the host",
            15 => "quota exceeded",
            18 => "directory not empty",
            19 => "not a directory",
            20 => "invalid name",
            21 => "too many links",
            code => return write!(f, "SFTP status {code}"),
        };
        f.write_str(words)
    }
}

impl std::error::Error for SftpStatus {}

impl SftpStatus {
    /// Makes the error of a refused operation, such as `cannot open /etc/shadow`.
    pub fn error(self, what: impl Into<String>) -> Error {
        Error::new(ErrorKind::RemoteFile, what).caused_by(self).in_phase(Phase::Transfer)
    }

    /// Returns the status behind an error, if it is a refused file operation.
    pub fn of(error: &Error) -> Option<Self> {
        std::error::Error::source(error)?.downcast_ref::<Self>().copied()
    }
}
