//! Fetching files and directories from hosts.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::transfer::{Meter, PACKET, Share, Transferred, base_name, is_plain_name, join, request_budget};
use super::{Job, Operation};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::transport::{DirEntry, FileAttrs, FileId, FileKind, OpenMode, RemoteFiles, Session, SftpStatus};

/// How much is read at once, at most, in bytes; libssh2 reads [`AHEAD`] times as far ahead (LIBSSH2.md section 5).
const BUFFER: usize = 2_000_000;

/// How many buffers libssh2 asks for at once.
const AHEAD: u64 = 4;

/// The most entries of one directory, and the deepest one: what a hostile server may not exceed.
const MAX_ENTRIES: usize = 1_000_000;
const MAX_DEPTH: usize = 256;

/// Fetches a file or a directory from each host into `DIR/HOST/`, under its own name.
///
/// Each file arrives under a temporary name and is renamed. Permission bits are kept, set-user-ID and its like are not.
/// Remote links are followed. Whatever a server answers, nothing is written outside `DIR/HOST`: a name that is empty,
/// `..`, or contains `/` or NUL fails the host.
#[derive(Clone, Debug)]
pub struct Get {
    remote: Vec<u8>,
    dir: PathBuf,
}

impl Get {
    /// Makes the operation and the local directory.
    ///
    /// # Errors
    /// `Usage` when the directory cannot be made or is not writable.
    pub fn new(remote: impl Into<Vec<u8>>, dir: impl Into<PathBuf>) -> Result<Self> {
        let (remote, dir) = (remote.into(), dir.into());
        if remote.contains(&0) {
            return Err(Error::new(ErrorKind::Usage, "a remote path cannot contain a NUL byte"));
        }
        let unwritable =
            |cause| Error::new(ErrorKind::Usage, format!("cannot write to {}", dir.display())).caused_by(cause);
        fs::create_dir_all(&dir).map_err(unwritable)?;
        tempfile::tempfile_in(&dir).map_err(unwritable)?;
        Ok(Self { remote, dir })
    }

    /// Decides under which name the remote path is kept.
    fn name(&self, files: &mut dyn RemoteFiles, job: &Job<'_>) -> Result<Vec<u8>> {
        let name = base_name(&self.remote);
        if is_plain_name(name) {
            return Ok(name.to_vec());
        }
        // `.`, `..` and `/` have no name of their own, but the directory they lead to may.
        let path = if self.remote.is_empty() { &b"."[..] } else { &self.remote };
        let path = files.canonicalize(path, &request_budget(job))?;
        let name = base_name(&path);
        Ok(if is_plain_name(name) { name.to_vec() } else { b"root".to_vec() })
    }
}

impl Operation for Get {
    type Output = Transferred;

    fn name(&self) -> &str {
        "get"
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<Transferred> {
        let share = Share::take();
        let files = session.files(job.budget)?;
        job.phase(Phase::Transfer)?;
        let shown = String::from_utf8_lossy(&self.remote).into_owned();
        let Some(attrs) = files.stat(&self.remote, true, &request_budget(job))? else {
            return Err(SftpStatus::NO_SUCH_FILE.error(format!("cannot get {shown}")));
        };
        let name = self.name(files, job)?;
        let target = host_directory(&self.dir, &job.host.name)?;
        let mut fetch =
            Fetch { files, share, meter: Meter::new(job, 0), job, above: HashSet::new(), modes: Vec::new() };
        fetch.entry(&self.remote, &target.join(OsStr::from_bytes(&name)), attrs, 0)?;
        for (path, mode) in fetch.modes.iter().rev() {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).map_err(|cause| local_failed(path, cause))?;
        }
        fetch.meter.finish(&shown)
    }
}

/// Makes `DIR/HOST`; a host whose name is no single path component has none.
fn host_directory(dir: &Path, host: &str) -> Result<PathBuf> {
    if !is_plain_name(host.as_bytes()) {
        let what = format!("the host name {host} cannot name a directory");
        return Err(Error::new(ErrorKind::LocalFile, what).in_phase(Phase::Transfer));
    }
    let path = dir.join(host);
    make_directory(&path)?;
    Ok(path)
}

/// Makes a directory, and tells whether it was not there before.
fn make_directory(path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => match fs::symlink_metadata(path) {
            // A link here would lead what a server sends to somewhere else.
            Ok(meta) if meta.is_dir() => Ok(false),
            _ => Err(local_failed(path, cause)),
        },
        Err(cause) => Err(local_failed(path, cause)),
    }
}

fn local_failed(path: &Path, cause: io::Error) -> Error {
    let what = format!("cannot write {}", path.display());
    Error::new(ErrorKind::LocalFile, what).caused_by(cause).in_phase(Phase::Transfer)
}

fn bad_name(directory: &[u8], name: &[u8]) -> Error {
    let name = String::from_utf8_lossy(name);
    let what = format!("the server names a file {name:?} in {}: refused", String::from_utf8_lossy(directory));
    SftpStatus(20).error(what)
}

/// Returns how much of a file is read at once at first: so much that all of it is asked for, and little beyond, because a server
/// answers to each packet of that.
fn first_buffer(size: u64, most: usize) -> usize {
    let wanted = usize::try_from(size.div_ceil(AHEAD)).unwrap_or(usize::MAX);
    wanted.checked_next_multiple_of(PACKET).unwrap_or(most).clamp(PACKET, most)
}

/// One host's fetching.
struct Fetch<'a> {
    files: &'a mut dyn RemoteFiles,
    share: Share,
    meter: Meter<'a>,
    job: &'a Job<'a>,
    /// The real paths of the directories above, to end where a link leads back.
    above: HashSet<Vec<u8>>,
    modes: Vec<(PathBuf, u32)>,
}

impl Fetch<'_> {
    fn entry(&mut self, remote: &[u8], local: &Path, attrs: FileAttrs, depth: usize) -> Result<()> {
        match attrs.kind {
            FileKind::File => self.file(remote, local, attrs),
            FileKind::Directory => self.directory(remote, local, attrs, depth),
            FileKind::Symlink => match self.files.stat(remote, true, &request_budget(self.job))? {
                // A link to a link is followed by the server; one that still is a link leads nowhere.
                Some(target) if target.kind != FileKind::Symlink => self.entry(remote, local, target, depth),
                _ => self.skip(remote, "a link that leads nowhere"),
            },
            FileKind::Other => self.skip(remote, "neither a file nor a directory"),
        }
    }

    fn skip(&self, remote: &[u8], why: &str) -> Result<()> {
        self.job.warn(format!("{} is {why}: left out", String::from_utf8_lossy(remote)))
    }

    fn directory(&mut self, remote: &[u8], local: &Path, attrs: FileAttrs, depth: usize) -> Result<()> {
        let real = self.files.canonicalize(remote, &request_budget(self.job))?;
        if self.above.contains(&real) {
            return self.skip(remote, "a link to a directory above it");
        }
        if depth > MAX_DEPTH {
            let what = format!("{} is nested too deep", String::from_utf8_lossy(remote));
            return Err(Error::new(ErrorKind::RemoteFile, what).in_phase(Phase::Transfer));
        }
        if make_directory(local)? {
            self.modes.push((local.to_owned(), attrs.mode & 0o777));
        }
        let entries = self.files.read_dir(remote, MAX_ENTRIES, &request_budget(self.job))?;
        for DirEntry { name, attrs, .. } in &entries {
            if !is_plain_name(name) {
                return Err(bad_name(remote, name));
            }
            if attrs.kind == FileKind::File {
                self.meter.expect(attrs.size);
            }
        }
        self.above.insert(real.clone());
        for DirEntry { name, attrs, .. } in entries {
            self.entry(&join(remote, &name), &local.join(OsStr::from_bytes(&name)), attrs, depth + 1)?;
        }
        self.above.remove(&real);
        Ok(())
    }

    fn file(&mut self, remote: &[u8], local: &Path, attrs: FileAttrs) -> Result<()> {
        let failed = |cause| local_failed(local, cause);
        let directory = local.parent().unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new().prefix(".fleet-").tempfile_in(directory).map_err(failed)?;
        let file = self.files.open(remote, OpenMode::Read, &request_budget(self.job))?;
        let copied = self.copy(file, remote, local, temporary.as_file_mut(), attrs.size);
        let closed = self.files.close(file, &request_budget(self.job));
        let bytes = copied?;
        closed?;
        if bytes < attrs.size {
            let what = format!("{} ended after {bytes} of {} bytes", String::from_utf8_lossy(remote), attrs.size);
            return Err(Error::new(ErrorKind::RemoteFile, what).in_phase(Phase::Transfer));
        }
        let mode = fs::Permissions::from_mode(attrs.mode & 0o777);
        temporary.as_file().set_permissions(mode).map_err(failed)?;
        temporary.persist(local).map_err(|error| failed(error.error))?;
        self.meter.file();
        Ok(())
    }

    fn copy(&mut self, file: FileId, remote: &[u8], local: &Path, to: &mut fs::File, size: u64) -> Result<u64> {
        let most = self.share.buffer_bytes(BUFFER);
        let mut buffer = vec![0; first_buffer(size, most)];
        let shown = String::from_utf8_lossy(remote).into_owned();
        let mut total = 0;
        let mut is_doubted = false;
        loop {
            let count = self.files.read(file, &mut buffer, &request_budget(self.job))?;
            if count == 0 {
                if total == size || is_doubted {
                    return Ok(total);
                }
                is_doubted = true;
                self.files.doubt_end(file)?;
                continue;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            to.write_all(bytes).map_err(|cause| local_failed(local, cause))?;
            total += count as u64;
            self.meter.bytes(&shown, count)?;
            // It has more than was told; files of `/proc` are told to be empty.
            if total > size && count == buffer.len() {
                buffer.resize((2 * count).min(most), 0);
            }
        }
    }
}
