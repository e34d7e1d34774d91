//! Recording a key: under a lock, after reading what others added, as one whole line at the end.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::file::{Data, KnownFile};
use super::{KnownHosts, Recorded, Verdict, parse};
use crate::error::{Error, ErrorKind, Result};

/// How long another process may hold the file: it needs microseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn record(file: &KnownFile, known: &KnownHosts, name: &str, blob: &[u8]) -> Result<Recorded> {
    let name = name.to_ascii_lowercase();
    check_name(&name)?;
    let Some(key_type) = parse::key_type(blob).filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic())) else {
        return Err(Error::new(ErrorKind::Protocol, "the server's key is malformed"));
    };
    let _turn = file.writing.lock().unwrap_or_else(PoisonError::into_inner);
    let attempt = || -> io::Result<Recorded> {
        let locked = open_locked(file.path())?;
        refresh(file, &locked)?;
        let own = file.verdict(&name, blob);
        for verdict in [own, known.verdict(&name, blob)] {
            match verdict {
                Verdict::Match => return Ok(Recorded::AlreadyThere),
                Verdict::Changed(key) => return Ok(Recorded::Changed(key)),
                Verdict::Revoked(place) => return Ok(Recorded::Revoked(place)),
                Verdict::Unknown | Verdict::OtherTypeKnown(_) => {}
            }
        }
        append(file, &locked, &format!("{name} {key_type} {}\n", STANDARD.encode(blob)))?;
        Ok(Recorded::Added)
    };
    attempt().map_err(|error| {
        let what = format!("cannot record the key of {name} in {}", file.path().display());
        Error::new(ErrorKind::LocalFile, what).caused_by(error)
    })
}

/// A name must stand for itself: a host alias such as `*` would vouch for every host.
fn check_name(name: &str) -> Result<()> {
    let is_bad = |character: char| character.is_whitespace() || character.is_control() || "*?!,".contains(character);
    if name.is_empty() || name.contains(is_bad) || name.starts_with(['#', '@', '|']) {
        return Err(Error::new(ErrorKind::Usage, format!("{name:?} cannot name a host in a known_hosts file")));
    }
    Ok(())
}

/// The open file, locked where its file system knows locks (some network file systems do not).
enum Held {
    Locked(Flock<File>),
    Plain(File),
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Self::Locked(file) => file,
            Self::Plain(file) => file,
        }
    }
}

/// Opens the file for appending, made with its last directory if missing, and locks it.
fn open_locked(path: &Path) -> io::Result<Held> {
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        let locked = lock(open(path)?, deadline)?;
        // `ssh-keygen -R` puts a new file in the place of the old one, perhaps while the lock was waited for.
        match std::fs::metadata(path) {
            Ok(now) if is_same(&now, &locked.metadata()?) => return Ok(locked),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the file is replaced again and again"));
        }
    }
}

fn is_same(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) else { return Err(error) };
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => options.open(path),
            }
        }
        result => result,
    }
}

fn lock(mut file: File, deadline: Instant) -> io::Result<Held> {
    let mut pause = Duration::from_micros(100);
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(Held::Locked(locked)),
            Err((file, Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS)) => return Ok(Held::Plain(file)),
            Err((_, error)) if error != Errno::EWOULDBLOCK && error != Errno::EINTR => return Err(error.into()),
            Err(_) if Instant::now() >= deadline => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps it locked"));
            }
            Err((unlocked, _)) => file = unlocked,
        }
        // flock(2) has no time limit of its own.
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Reads what was added since, or everything if the file is another one now.
fn refresh(file: &KnownFile, locked: &Held) -> io::Result<()> {
    let metadata = locked.metadata()?;
    if !metadata.is_file() {
        // `/dev/null`, as many configurations have it: nothing to read, and this run still remembers.
        return Ok(());
    }
    let mut locked: &File = locked;
    let extent = file.data().extent();
    if extent.is_of(&metadata) {
        if metadata.len() == extent.bytes {
            return Ok(());
        }
        let mut bytes = Vec::new();
        locked.seek(SeekFrom::Start(extent.bytes.saturating_sub(1)))?;
        locked.read_to_end(&mut bytes)?;
        // Written in place by an editor, the file may no longer have a line end there.
        let tail = if extent.bytes == 0 { Some(&*bytes) } else { bytes.strip_prefix(b"\n") };
        if let Some(tail) = tail {
            file.data_mut().extend(tail, &metadata);
            return Ok(());
        }
    }
    let mut bytes = Vec::new();
    locked.seek(SeekFrom::Start(0))?;
    locked.read_to_end(&mut bytes)?;
    let mut data = Data::default();
    data.extend(&bytes, &metadata);
    *file.data_mut() = data;
    Ok(())
}

fn append(file: &KnownFile, locked: &Held, line: &str) -> io::Result<()> {
    let metadata = locked.metadata()?;
    let extent = file.data().extent();
    let is_cut = metadata.is_file() && metadata.len() > extent.bytes;
    let text = if is_cut { format!("\n{line}") } else { line.to_owned() };
    let written = (&**locked).write(text.as_bytes())?;
    if written < text.len() {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "only a part of the line was written"));
    }
    if is_cut {
        // The cut line is whole now: read both.
        return refresh(file, locked);
    }
    let metadata = locked.metadata()?;
    file.data_mut().extend(text.as_bytes(), &metadata);
    Ok(())
}
