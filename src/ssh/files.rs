//! Files over SFTP: one service per session, every request waited for.

use std::time::Duration;

use super::error::Fault;
use super::io::printable;
use super::raw::{Attrs, Exit, HandleId, Link, Opened, Step};
use super::session::SshSession;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::transport::{DirEntry, FileAttrs, FileId, FileKind, OpenMode, RemoteFiles, Session as _, SftpStatus};

/// The longest name or path taken from a server, in bytes.
const MAX_PATH: usize = 64 * 1024;

/// How long the SFTP server may take to say how it ended, once it has.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How many bytes may come that no request is known to ask for: what answers cost beside the data in them, signs of life, new
/// keys. libssh2 keeps every answer that nobody waits for, and looks through all of them at each new one.
const UNASKED: u64 = 256 * 1024;

/// How many bytes an answer may have beside names and data.
const ANSWER: u64 = 1024;

/// How many bytes an answer with names may have: libssh2 takes no longer one (`SFTP_READDIR_MAXLEN`).
const NAMES: u64 = 1024 * 1024;

/// How many buffers ahead libssh2 asks for what is read, the one it fills included.
const READ_AHEAD: u64 = 5;

/// To so many bytes that are asked for behind a file's end comes one byte of answers: some 100 to 30,000 (LIBSSH2.md section 5).
const BEHIND_END: u64 = 100;

/// `SSH_FX_OK`: it is libssh2 that cannot go on.
const OK: u32 = 0;

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
        self.request_with(0, budget, what, step)
    }

    /// Makes a request whose answer may bring so many bytes beside what every answer may have.
    fn request_with<T>(
        &mut self,
        more_bytes: u64,
        budget: &Budget,
        what: impl FnOnce() -> String,
        step: impl FnMut(&mut Link) -> Step<T>,
    ) -> Result<T> {
        self.driver().set_phase(Phase::Transfer);
        // Where every answer is there at once, nothing is ever waited for.
        budget.check(Phase::Transfer)?;
        let answered = self.answered(more_bytes, budget, step);
        answered.map_err(|fault| match fault {
            Fault::Error(error) => self.early_end(&error, budget).unwrap_or(error),
            Fault::Refused(failure) => match failure.sftp_status {
                Some(status) if status != OK => SftpStatus(status).error(what()),
                _ => Error::new(ErrorKind::Protocol, what()).caused_by(failure).in_phase(Phase::Transfer),
            },
        })
    }

    /// Waits for an answer, for as long as the server sends no more than was asked for.
    fn answered<T>(
        &mut self,
        more_bytes: u64,
        budget: &Budget,
        mut step: impl FnMut(&mut Link) -> Step<T>,
    ) -> Result<T, Fault> {
        loop {
            if let Some(value) = self.driver().try_step(&mut step)? {
                self.expect_bytes(ANSWER);
                return Ok(value);
            }
            if self.unexpected_bytes() > ANSWER + more_bytes + UNASKED {
                let what = "the server sends answers that nobody asked for";
                return Err(Error::new(ErrorKind::Protocol, what).in_phase(Phase::Transfer).into());
            }
            self.driver().wait(budget)?;
        }
    }

    /// Makes the error of an SFTP server that ended although the connection did not: the host is there, its server is to blame.
    fn early_end(&mut self, error: &Error, budget: &Budget) -> Option<Error> {
        let driver = self.driver();
        if error.kind() != ErrorKind::Disconnected || driver.connection_error().is_some() {
            return None;
        }
        if !driver.link().is_sftp_over().unwrap_or(false) {
            return None;
        }
        let exit = match driver.drive(&budget.narrowed(LAST_WORDS), Link::sftp_exit) {
            // It was the connection after all.
            Err(Fault::Error(error)) if error.kind() == ErrorKind::Disconnected => return Some(error),
            exit => exit.unwrap_or(Exit::NotSent),
        };
        let how = match exit {
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal(name) => format!("signal {}", printable(&name)),
            Exit::NotSent => "no exit status".to_owned(),
        };
        let what = format!("the SFTP server ended amid the transfer: {how}");
        Some(Error::new(ErrorKind::RemoteFile, what).in_phase(Phase::Transfer))
    }

    /// Ends the SFTP service and opens another, for what is asked next: part of a request may be on its way, and what follows
    /// it there would be taken for the rest.
    fn begin_sftp_anew(&mut self, budget: &Budget) -> Result<()> {
        self.request(budget, || "cannot close SFTP".to_owned(), Link::close_sftp)?;
        self.forget_sftp();
        self.files(budget).map(|_| ())
    }

    fn replace(&mut self, from: &[u8], to: &[u8], budget: &Budget) -> Result<()> {
        let rename =
            |session: &mut Self| session.request(budget, || rename_failed(from, to), |link| link.sftp_rename(from, to));
        match rename(self) {
            // Servers do not agree on how they say that the name is taken.
            Err(error) if SftpStatus::of(&error).is_some() && self.stat(to, false, budget)?.is_some() => {
                self.remove(to, budget)?;
                rename(self)
            }
            done => done,
        }
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
        let ahead = (buffer.len() as u64).saturating_mul(READ_AHEAD);
        let what = || "cannot read a remote file".to_owned();
        let mut stray = 0;
        let count = self.request_with(ahead, budget, what, |link| match link.sftp_read(handle(file), buffer) {
            Err(failure) if failure.is_of_short_read() && link.sftp_read_stepwise(handle(file))? => {
                stray = ahead;
                link.sftp_read(handle(file), buffer)
            }
            step => step,
        })?;
        self.expect_bytes(stray);
        // Data comes in packets, with some bytes around it; what is asked for behind the end is answered, too.
        self.expect_bytes(count as u64 + count as u64 / 8 + ahead / BEHIND_END);
        Ok(count)
    }

    fn doubt_end(&mut self, file: FileId) -> Result<()> {
        let gone_on = self.driver().try_step(|link| link.sftp_read_stepwise(handle(file)).map(Some));
        gone_on.map(|_| ()).map_err(|fault| fault.into_error(Phase::Transfer, "cannot read a remote file"))
    }

    fn write(&mut self, file: FileId, bytes: &[u8], budget: &Budget) -> Result<usize> {
        let what = || "cannot write a remote file".to_owned();
        let written = self.request(budget, what, |link| link.sftp_write(handle(file), bytes));
        let is_amid_request = !matches!(written, Ok(count) if count == bytes.len());
        self.half_written(file, is_amid_request);
        written
    }

    fn sync(&mut self, file: FileId, budget: &Budget) -> Result<()> {
        let what = || "cannot flush a remote file to disk".to_owned();
        match self.request(budget, what, |link| link.sftp_sync(handle(file))) {
            Err(error) if SftpStatus::of(&error) == Some(SftpStatus::UNSUPPORTED) => Ok(()),
            done => done,
        }
    }

    fn set_attrs(&mut self, file: FileId, mode: Option<u32>, mtime: Option<u64>, budget: &Budget) -> Result<()> {
        let what = || "cannot set a remote file's mode and time".to_owned();
        self.request(budget, what, |link| link.sftp_set_attrs(handle(file), mode, mtime))
    }

    fn close(&mut self, file: FileId, budget: &Budget) -> Result<()> {
        if self.half_written(file, false) {
            return self.begin_sftp_anew(budget);
        }
        self.request(budget, || "cannot close a remote file".to_owned(), |link| link.sftp_close(handle(file)))
    }

    fn read_dir(&mut self, path: &[u8], limit: usize, budget: &Budget) -> Result<Vec<DirEntry>> {
        let what = || format!("cannot list {}", shown(path));
        let id = self.request(budget, what, |link| link.sftp_open(path, Opened::Directory))?;
        let mut name = vec![0; MAX_PATH];
        let mut entries = Vec::new();
        while let Some((len, raw)) = self.request_with(NAMES, budget, what, |link| link.sftp_read_dir(id, &mut name))? {
            // It comes twice, the second time in a line as of `ls -l`.
            self.expect_bytes(2 * len as u64);
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
            Err(error) if SftpStatus::of(&error) == Some(SftpStatus::UNSUPPORTED) => self.replace(from, to, budget),
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

    fn free_bytes(&mut self, path: &[u8], budget: &Budget) -> Result<Option<u64>> {
        let what = || format!("cannot look for room at {}", shown(path));
        match self.request(budget, what, |link| link.sftp_free_bytes(path)) {
            Err(error) if SftpStatus::of(&error).is_some() => Ok(None),
            asked => asked.map(Some),
        }
    }

    fn canonicalize(&mut self, path: &[u8], budget: &Budget) -> Result<Vec<u8>> {
        let mut target = vec![0; MAX_PATH];
        let what = || format!("cannot find the path of {}", shown(path));
        let len = self.request(budget, what, |link| link.sftp_realpath(path, &mut target))?;
        target.truncate(len);
        Ok(target)
    }
}
