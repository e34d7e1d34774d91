//! Sending files and directories to hosts.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::transfer::{Meter, Share, Transferred, base_name, is_plain_name, join, request_budget};
use super::{Job, Operation};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::transport::{FileId, FileKind, OpenMode, RemoteFiles, Session, SftpStatus};

/// How much of a file is on its way at once, at most, in bytes: what a 50 ms round trip needs (LIBSSH2.md section 5).
const WINDOW: usize = 4_000_000;

/// How long cleaning up behind a failure may take. What is on its way comes first.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// A disk with fewer free bytes than one write has is full.
const FULL: u64 = 64 * 1024;

/// The deepest directory that is sent.
const MAX_DEPTH: usize = 256;

/// Sends files and directories. Each file arrives under a temporary name and is renamed: readers see the old file or the
/// new one, never a part. Permission bits are kept; local links are followed.
///
/// Where the files go is cp's rule: into the remote path if that is a directory, ends in `/`, or several are sent; else to
/// that very path. The local tree is read once, when the operation is made.
#[derive(Clone, Debug)]
pub struct Put {
    entries: Vec<Entry>,
    remote: Vec<u8>,
    sources: usize,
    total_bytes: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    local: PathBuf,
    /// The path below the destination, the source's own name first.
    name: Vec<u8>,
    /// The source's name alone: what is left out when the destination is the thing itself.
    top: usize,
    kind: EntryKind,
    mode: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    File,
    Directory,
}

impl Put {
    /// Makes the operation, after looking at every local file.
    ///
    /// # Errors
    /// `Usage` when a local file does not exist, cannot be read, or is neither a file nor a directory.
    pub fn new(locals: &[PathBuf], remote: impl Into<Vec<u8>>) -> Result<Self> {
        let mut put = Self { entries: Vec::new(), remote: remote.into(), sources: locals.len(), total_bytes: 0 };
        if put.remote.contains(&0) {
            return Err(Error::new(ErrorKind::Usage, "a remote path cannot contain a NUL byte"));
        }
        for local in locals {
            let path = fs::canonicalize(local).map_err(|cause| unreadable(local, cause))?;
            let name = local.file_name().or_else(|| path.file_name()).map(|name| name.as_bytes().to_vec());
            let name = name.ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("{} has no name to send it by", local.display()))
            })?;
            let top = name.len();
            put.add(local, name, top, &mut HashSet::new(), 0)?;
        }
        Ok(put)
    }

    /// Returns how many bytes one host is sent.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    fn add(
        &mut self,
        local: &Path,
        name: Vec<u8>,
        top: usize,
        above: &mut HashSet<(u64, u64)>,
        depth: usize,
    ) -> Result<()> {
        let meta = fs::metadata(local).map_err(|cause| unreadable(local, cause))?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_file() {
            File::open(local).map_err(|cause| unreadable(local, cause))?;
            self.total_bytes += meta.len();
            self.entries.push(Entry { local: local.to_owned(), name, top, kind: EntryKind::File, mode });
            return Ok(());
        }
        if !meta.is_dir() {
            let what = format!("{} is neither a file nor a directory", local.display());
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let id = (meta.dev(), meta.ino());
        if depth > MAX_DEPTH || !above.insert(id) {
            return Err(Error::new(ErrorKind::Usage, format!("{} leads back into itself", local.display())));
        }
        self.entries.push(Entry { local: local.to_owned(), name: name.clone(), top, kind: EntryKind::Directory, mode });
        let listed = fs::read_dir(local).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut children = listed.map_err(|cause| unreadable(local, cause))?;
        children.sort_by_key(fs::DirEntry::file_name);
        for child in children {
            self.add(&child.path(), join(&name, child.file_name().as_bytes()), top, above, depth + 1)?;
        }
        above.remove(&id);
        Ok(())
    }

    /// Decides where the files go on one host.
    fn target(&self, files: &mut dyn RemoteFiles, budget: &Budget) -> Result<Target> {
        let remote = if self.remote.is_empty() { b".".to_vec() } else { self.remote.clone() };
        let found = files.stat(&remote, true, budget)?;
        let is_directory = found.is_some_and(|attrs| attrs.kind == FileKind::Directory);
        let wants_directory = self.sources > 1 || remote.ends_with(b"/") || matches!(base_name(&remote), b"." | b"..");
        if is_directory {
            return Ok(Target::Into(remote));
        }
        match found {
            Some(_) if wants_directory => {
                let what = format!("{} is not a directory", String::from_utf8_lossy(&remote));
                Err(SftpStatus(19).error(what))
            }
            Some(_) => Ok(Target::Exactly(remote)),
            None if wants_directory => {
                Err(SftpStatus::NO_SUCH_FILE.error(format!("cannot write into {}", String::from_utf8_lossy(&remote))))
            }
            None => Ok(Target::Exactly(remote)),
        }
    }
}

/// Where files go.
enum Target {
    Into(Vec<u8>),
    Exactly(Vec<u8>),
}

impl Target {
    fn path(&self, entry: &Entry) -> Vec<u8> {
        match self {
            Self::Into(directory) => join(directory, &entry.name),
            Self::Exactly(path) => {
                let mut path = path.clone();
                path.extend_from_slice(entry.name.get(entry.top..).unwrap_or_default());
                path
            }
        }
    }
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Usage, format!("cannot read {}", path.display())).caused_by(cause)
}

fn local_failed(path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::LocalFile, format!("cannot read {}", path.display()))
        .caused_by(cause)
        .in_phase(Phase::Transfer)
}

impl Operation for Put {
    type Output = Transferred;

    fn name(&self) -> &str {
        "put"
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn run(&self, session: &mut dyn Session, job: &Job<'_>) -> Result<Transferred> {
        let files = session.files(job.budget)?;
        job.phase(Phase::Transfer)?;
        let meter = Meter::new(job, self.total_bytes);
        let mut send = Send { files, share: Share::take(), meter, job, has_open_modes: true, has_modes: true };
        let target = self.target(send.files, &request_budget(job))?;
        let mut modes = Vec::new();
        for entry in &self.entries {
            let path = target.path(entry);
            match entry.kind {
                EntryKind::Directory => {
                    if make_directory(send.files, &path, &request_budget(job))? {
                        modes.push((path, entry.mode));
                    }
                }
                EntryKind::File => send.file(entry, &path)?,
            }
        }
        // Last, and innermost first: a directory may be read-only.
        for (path, mode) in modes.iter().rev() {
            send.mode(path, *mode)?;
        }
        send.meter.finish(&String::from_utf8_lossy(&self.remote))
    }
}

/// Makes a directory, and tells whether it was not there before.
fn make_directory(files: &mut dyn RemoteFiles, path: &[u8], budget: &Budget) -> Result<bool> {
    // Writable for as long as files go into it.
    let Err(error) = files.create_dir(path, 0o700, budget) else { return Ok(true) };
    match files.stat(path, true, budget)? {
        Some(attrs) if attrs.kind == FileKind::Directory => Ok(false),
        Some(_) => Err(SftpStatus(19).error(format!("cannot write into {}", String::from_utf8_lossy(path)))),
        None => Err(error),
    }
}

/// One host's sending.
struct Send<'a> {
    files: &'a mut dyn RemoteFiles,
    share: Share,
    meter: Meter<'a>,
    job: &'a Job<'a>,
    /// Whether the server sets the mode of an open file, as far as is known.
    has_open_modes: bool,
    /// Whether it sets any.
    has_modes: bool,
}

impl Send<'_> {
    /// Sends one file: a temporary name beside the target, the bytes, the mode, then the name.
    fn file(&mut self, entry: &Entry, path: &[u8]) -> Result<()> {
        let path = &behind_link(self.files, path, &request_budget(self.job))?;
        let local = File::open(&entry.local).map_err(|cause| local_failed(&entry.local, cause))?;
        let (temporary, file) = create_beside(self.files, path, &request_budget(self.job))?;
        let mut open = Some(file);
        if let Err(error) = self
            .fill(file, &mut open, local, entry, path)
            .and_then(|has_mode| if has_mode { Ok(()) } else { self.mode(&temporary, entry.mode) })
            .and_then(|()| self.files.rename(&temporary, path, &request_budget(self.job)))
        {
            let error = clean_up(self.files, open, &temporary, error);
            return Err(named(error, path));
        }
        self.meter.file();
        Ok(())
    }

    /// Sends a file's bytes and mode, and closes it; tells whether it has the mode. The link is kept full: as much is always under
    /// way as the window holds.
    fn fill(
        &mut self,
        file: FileId,
        open: &mut Option<FileId>,
        mut local: File,
        entry: &Entry,
        path: &[u8],
    ) -> Result<bool> {
        let shown = String::from_utf8_lossy(path);
        let mut window = Window::new(self.share.buffer_bytes(WINDOW));
        loop {
            window.fill(&mut local).map_err(|cause| local_failed(&entry.local, cause))?;
            if window.bytes().is_empty() {
                break;
            }
            let sent = self.files.write(file, window.bytes(), &request_budget(self.job))?;
            window.advance(sent);
            self.meter.bytes(&shown, sent)?;
        }
        let has_mode = self.open_mode(file, entry.mode)?;
        *open = None;
        self.files.close(file, &request_budget(self.job))?;
        Ok(has_mode)
    }

    /// Sets the mode of an open file, and tells whether the server did.
    fn open_mode(&mut self, file: FileId, mode: u32) -> Result<bool> {
        if !self.has_open_modes || !self.has_modes {
            return Ok(false);
        }
        match self.files.set_attrs(file, Some(mode), None, &request_budget(self.job)) {
            // Erlang's server says of open files that there are none.
            Err(error) if SftpStatus::of(&error).is_some() => self.has_open_modes = false,
            done => return done.map(|()| true),
        }
        Ok(false)
    }

    /// Sets the mode of a path. A server that has no modes is told of once.
    fn mode(&mut self, path: &[u8], mode: u32) -> Result<()> {
        if !self.has_modes {
            return Ok(());
        }
        match self.files.set_mode(path, mode, &request_budget(self.job)) {
            Err(error) if SftpStatus::of(&error) == Some(SftpStatus::UNSUPPORTED) => {
                self.has_modes = false;
                self.job.warn("the server sets no modes: what was sent has those that it gives".to_owned())
            }
            done => done,
        }
    }
}

/// Says which file a refusal is about; the temporary name is another one on each host.
fn named(error: Error, path: &[u8]) -> Error {
    match SftpStatus::of(&error) {
        Some(status) => status.error(format!("cannot write {}", String::from_utf8_lossy(path))),
        None => error,
    }
}

/// A link at the target stays a link: what it points to is replaced. A directory is not replaced by a file.
fn behind_link(files: &mut dyn RemoteFiles, path: &[u8], budget: &Budget) -> Result<Vec<u8>> {
    let found = files.stat(path, false, budget)?;
    let is_link = found.is_some_and(|attrs| attrs.kind == FileKind::Symlink);
    let target = if is_link { files.stat(path, true, budget)? } else { found };
    match target {
        Some(attrs) if attrs.kind == FileKind::Directory => {
            let what = format!("{} is a directory", String::from_utf8_lossy(path));
            Err(Error::new(ErrorKind::RemoteFile, what).in_phase(Phase::Transfer))
        }
        Some(_) if is_link => files.canonicalize(path, budget),
        _ => Ok(path.to_vec()),
    }
}

fn create_beside(files: &mut dyn RemoteFiles, path: &[u8], budget: &Budget) -> Result<(Vec<u8>, FileId)> {
    let name = base_name(path);
    if !is_plain_name(name) {
        let what = format!("{} names no file", String::from_utf8_lossy(path));
        return Err(SftpStatus(20).error(what));
    }
    let directory = path.get(..path.len() - name.len()).unwrap_or_default();
    // The name stays within NAME_MAX, whatever the target's length.
    let kept = name.get(..name.len().min(200)).unwrap_or_default();
    let mut temporary = directory.to_vec();
    temporary.push(b'.');
    temporary.extend_from_slice(kept);
    temporary.extend_from_slice(format!(".fleet-{:016x}", fastrand::u64(..)).as_bytes());
    // Readable by nobody else until its mode is set.
    let opened = files.open(&temporary, OpenMode::CreateNew(0o600), budget);
    let file = opened.map_err(|error| {
        let error = match SftpStatus::of(&error) {
            Some(_) => told_of_full_disk(files, directory, error, budget),
            // Nobody waited for the answer: it may have been made.
            None => clean_up(files, None, &temporary, error),
        };
        named(error, path)
    })?;
    Ok((temporary, file))
}

/// The part of a file that is on its way: it slides through a buffer twice its size, so that bytes rarely move.
struct Window {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    most: usize,
    is_at_end: bool,
}

impl Window {
    fn new(most: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, most, is_at_end: false }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Reads on, once a quarter of the window is free.
    fn fill(&mut self, source: &mut impl Read) -> io::Result<()> {
        let held = self.end - self.start;
        if self.is_at_end || held > self.most - self.most / 4 {
            return Ok(());
        }
        let wanted = self.most - held;
        if self.end + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = held;
            // Small files never pay for the whole window.
            let needed = if self.buffer.is_empty() { wanted.min(64 * 1024) } else { 2 * self.most };
            if self.buffer.len() < needed {
                self.buffer.resize(needed, 0);
            }
        }
        let until = (self.end + wanted).min(self.buffer.len());
        while let Some(space) = self.buffer.get_mut(self.end..until).filter(|space| !space.is_empty()) {
            match source.read(space) {
                Ok(0) => {
                    self.is_at_end = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Removes what a failed transfer left, if the connection still can, and returns its error.
fn clean_up(files: &mut dyn RemoteFiles, open: Option<FileId>, temporary: &[u8], error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Protocol) {
        return error;
    }
    let budget = Budget::grace(CLEAN_UP);
    // The failure is what is reported; a leftover that cannot be removed carries fleet's name.
    if let Some(file) = open {
        let _ = files.close(file, &budget);
    }
    let error = told_of_full_disk(files, temporary, error, &budget);
    let _ = files.remove(temporary, &budget);
    error
}

/// Version 3 of SFTP has one word for a full disk and all else that fails: so the disk is looked at.
fn told_of_full_disk(files: &mut dyn RemoteFiles, path: &[u8], error: Error, budget: &Budget) -> Error {
    if SftpStatus::of(&error) != Some(SftpStatus::FAILURE) {
        return error;
    }
    let path = if path.is_empty() { b"." } else { path };
    match files.free_bytes(path, budget) {
        Ok(Some(bytes)) if bytes < FULL => SftpStatus::NO_SPACE.error(error.to_string()),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_gives_every_byte_once_and_in_order() {
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut source = &data[..];
        let mut window = Window::new(120_000);
        let mut got = Vec::new();
        let mut step = 1;
        loop {
            window.fill(&mut source).unwrap();
            if window.bytes().is_empty() {
                break;
            }
            let count = step.min(window.bytes().len());
            got.extend_from_slice(&window.bytes()[..count]);
            window.advance(count);
            step = step * 7 % 50_021 + 1;
        }
        assert!(got == data);
    }

    #[test]
    fn a_missing_local_file_is_a_usage_error() {
        let error = Put::new(&[PathBuf::from("/no/such/file")], "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert_eq!(error.to_string(), "cannot read /no/such/file");
    }

    #[test]
    fn a_tree_is_listed_with_directories_before_their_files() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/b"), "22").unwrap();
        fs::write(root.path().join("a"), "1").unwrap();
        let put = Put::new(&[root.path().to_owned()], "/dst").unwrap();
        let top = root.path().file_name().unwrap().as_bytes().to_vec();
        let names: Vec<_> = put.entries.iter().map(|entry| entry.name[top.len()..].to_vec()).collect();
        assert_eq!(names, [&b""[..], b"/a", b"/d", b"/d/b"]);
        assert_eq!(put.total_bytes(), 3);
        assert_eq!(Target::Exactly(b"/dst".to_vec()).path(&put.entries[3]), b"/dst/d/b");
    }

    #[test]
    fn a_directory_that_leads_into_itself_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        let error = Put::new(&[root.path().to_owned()], "/dst").unwrap_err();
        assert!(error.to_string().ends_with("leads back into itself"), "{error}");
    }
}
