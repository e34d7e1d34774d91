//! Files over SFTP: one service per session, every request waited for.

use super::error::Fault;
use super::io::printable;
use super::raw::{Attrs, HandleId, Link, Opened, Step};
use super::session::SshSession;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::transport::{DirEntry, FileAttrs, FileId, FileKind, OpenMode, RemoteFiles, SftpStatus};

/// The longest name or path taken from a server, in bytes.
const MAX_PATH: usize = 64 * 1024;

/// `SSH_FX_OP_UNSUPPORTED`.
const UNSUPPORTED: u32 = 8;

/// The file type bits of a mode (`S_IFMT`), and the types told apart.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_LINK: u32 = 0o120_000;

fn attrs(raw: Attrs) -> FileAttrs {
    let permissions = raw.permissions.unwrap_or(0);
    let kind = match permissions & TYPE_MASK {
        TYPE_DIRECTORY => FileKind::Directory,
        TYPE_LINK => FileKind::Symlink,
        // A server that sends no type is taken to mean a file: opening it will tell.
        TYPE_FILE | 0 => FileKind::File,
        _ => FileKind::Other,
    };
    FileAttrs::new(kind, raw.size.unwrap_or(0), permissions & 0o7777, raw.mtime)
}

/// Writes a remote path as a message shows it.
fn shown(path: &[u8]) -> String {
    printable(&String::from_utf8_lossy(path))
}

impl SshSession {
    fn request<T>(
        &mut self,
        budget: &Budget,
        what: impl FnOnce() -> String,
        step: impl FnMut(&mut Link) -> Step<T>,
    ) -> Result<T> {
        self.driver().set_phase(Phase::Transfer);
        self.driver().drive(budget, step).map_err(|fault| match fault {
            Fault::Error(error) => error,
            Fault::Refused(failure) => match failure.sftp_status {
                Some(status) => SftpStatus(status).error(what()),
                None => Error::new(ErrorKind::Protocol, what()).caused_by(failure).in_phase(Phase::Transfer),
            },
        })
    }

    fn replace(&mut self, from: &[u8], to: &[u8], budget: &Budget) -> Result<()> {
        // The name may be free already.
        match self.remove(to, budget) {
            Err(error) if SftpStatus::of(&error) != Some(SftpStatus::NO_SUCH_FILE) => return Err(error),
            _ => {}
        }
        self.request(budget, || rename_failed(from, to), |link| link.sftp_rename(from, to))
    }
}

fn rename_failed(from: &[u8], to: &[u8]) -> String {
    format!("cannot rename {} to {}", shown(from), shown(to))
}

fn handle(file: FileId) -> HandleId {
    HandleId(file.0 as usize)
}

impl RemoteFiles for SshSession {
    fn stat(&mut self, path: &[u8], follow: bool, budget: &Budget) -> Result<Option<FileAttrs>> {
        let asked =
            self.request(budget, || format!("cannot look at {}", shown(path)), |link| link.sftp_stat(path, follow));
        match asked {
            Ok(raw) => Ok(Some(attrs(raw))),
            Err(error) if SftpStatus::of(&error) == Some(SftpStatus::NO_SUCH_FILE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&mut self, path: &[u8], mode: OpenMode, budget: &Budget) -> Result<FileId> {
        let (what, opened) = match mode {
            OpenMode::Read => ("open", Opened::Read),
            OpenMode::CreateNew(mode) => ("create", Opened::CreateNew(mode)),
            OpenMode::Truncate(mode) => ("write", Opened::Truncate(mode)),
        };
        let id =
            self.request(budget, || format!("cannot {what} {}", shown(path)), |link| link.sftp_open(path, opened))?;
        let id = u32::try_from(id.0).map_err(|_| Error::new(ErrorKind::Internal, "too many open files"))?;
        Ok(FileId(id))
    }

    fn read(&mut self, file: FileId, buffer: &mut [u8], budget: &Budget) -> Result<usize> {
        self.request(budget, || "cannot read a remote file".to_owned(), |link| link.sftp_read(handle(file), buffer))
    }

    fn write(&mut self, file: FileId, bytes: &[u8], budget: &Budget) -> Result<usize> {
        self.request(budget, || "cannot write a remote file".to_owned(), |link| link.sftp_write(handle(file), bytes))
    }

    fn sync(&mut self, file: FileId, budget: &Budget) -> Result<()> {
        let what = || "cannot flush a remote file to disk".to_owned();
        match self.request(budget, what, |link| link.sftp_sync(handle(file))) {
            Err(error) if SftpStatus::of(&error) == Some(SftpStatus(UNSUPPORTED)) => Ok(()),
            done => done,
        }
    }

    fn set_attrs(&mut self, file: FileId, mode: Option<u32>, mtime: Option<u64>, budget: &Budget) -> Result<()> {
        let what = || "cannot set a remote file's mode and time".to_owned();
        self.request(budget, what, |link| link.sftp_set_attrs(handle(file), mode, mtime))
    }

    fn close(&mut self, file: FileId, budget: &Budget) -> Result<()> {
        self.request(budget, || "cannot close a remote file".to_owned(), |link| link.sftp_close(handle(file)))
    }

    fn read_dir(&mut self, path: &[u8], limit: usize, budget: &Budget) -> Result<Vec<DirEntry>> {
        let what = || format!("cannot list {}", shown(path));
        let id = self.request(budget, what, |link| link.sftp_open(path, Opened::Directory))?;
        let mut name = vec![0; MAX_PATH];
        let mut entries = Vec::new();
        while let Some((len, raw)) = self.request(budget, what, |link| link.sftp_read_dir(id, &mut name))? {
            let name = name.get(..len).unwrap_or_default();
            if name == b"." || name == b".." {
                continue;
            }
            if entries.len() >= limit {
                let what = format!("{} has more than {limit} entries", shown(path));
                return Err(Error::new(ErrorKind::RemoteFile, what).in_phase(Phase::Transfer));
            }
            entries.push(DirEntry::new(name, attrs(raw)));
        }
        self.request(budget, what, |link| link.sftp_close(id))?;
        Ok(entries)
    }

    fn create_dir(&mut self, path: &[u8], mode: u32, budget: &Budget) -> Result<()> {
        self.request(budget, || format!("cannot make directory {}", shown(path)), |link| link.sftp_mkdir(path, mode))
    }

    fn remove(&mut self, path: &[u8], budget: &Budget) -> Result<()> {
        self.request(budget, || format!("cannot remove {}", shown(path)), |link| link.sftp_unlink(path))
    }

    fn rename(&mut self, from: &[u8], to: &[u8], budget: &Budget) -> Result<()> {
        let renamed = self.request(budget, || rename_failed(from, to), |link| link.sftp_posix_rename(from, to));
        match renamed {
            Err(error) if SftpStatus::of(&error) == Some(SftpStatus(UNSUPPORTED)) => self.replace(from, to, budget),
            done => done,
        }
    }

    fn set_mode(&mut self, path: &[u8], mode: u32, budget: &Budget) -> Result<()> {
        self.request(
            budget,
            || format!("cannot set the mode of {}", shown(path)),
            |link| link.sftp_set_mode(path, mode),
        )
    }

    fn canonicalize(&mut self, path: &[u8], budget: &Budget) -> Result<Vec<u8>> {
        let mut target = vec![0; MAX_PATH];
        let what = || format!("cannot find the path of {}", shown(path));
        let len = self.request(budget, what, |link| link.sftp_realpath(path, &mut target))?;
        target.truncate(len);
        Ok(target)
    }
}
