//! Recording keys: under a lock, after reading what others added, as whole lines at the end.

use std::collections::HashSet;
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
use super::remove::{Replaced, without};
use super::{KnownHosts, NewKey, Recorded, Verdict, parse};
use crate::error::{Error, ErrorKind, Result};

/// How long another process may hold the file: it needs microseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn record(file: &KnownFile, known: &KnownHosts, keys: &[NewKey]) -> Result<Vec<Recorded>> {
    let Some(first) = keys.first() else { return Ok(Vec::new()) };
    let keys: Vec<(String, &NewKey)> = keys.iter().map(|key| (key.name.to_ascii_lowercase(), key)).collect();
    for (name, key) in &keys {
        check_name(name)?;
        let is_good = |kind: &str| kind.bytes().all(|byte| byte.is_ascii_graphic());
        if !parse::key_type(&key.blob).is_some_and(is_good) {
            return Err(Error::new(ErrorKind::Protocol, "the server's key is malformed"));
        }
    }
    let _turn = file.writing.lock().unwrap_or_else(PoisonError::into_inner);
    let attempt = || {
        let locked = open_locked(file.path())?;
        refresh(file, &locked)?;
        let plan = Plan::make(file, known, &keys);
        match plan.replaced.is_empty() {
            true if plan.added.is_empty() => {}
            true => append(file, &locked, &plan.added)?,
            false => replace(file, &locked, &plan)?,
        }
        Ok(plan.outcomes(file, known, &keys))
    };
    attempt().map_err(|error: io::Error| {
        let what = match keys.len() {
            1 => format!("cannot record the key of {} in {}", first.name.to_ascii_lowercase(), file.path().display()),
            count => format!("cannot record {count} keys in {}", file.path().display()),
        };
        Error::new(ErrorKind::LocalFile, what).caused_by(error)
    })
}

/// What is to be written.
struct Plan<'a> {
    /// The lines to add.
    added: String,
    replaced: Replaced<'a>,
    /// What becomes of each key; of one whose host and type an earlier key of the same batch has, that is seen afterwards.
    outcomes: Vec<Option<Recorded>>,
}

impl<'a> Plan<'a> {
    fn make(file: &KnownFile, known: &KnownHosts, keys: &'a [(String, &NewKey)]) -> Self {
        let mut plan = Self { added: String::new(), replaced: Replaced::new(), outcomes: Vec::new() };
        let mut seen = HashSet::new();
        for (name, key) in keys {
            let key_type = parse::key_type(&key.blob).unwrap_or_default();
            let outcome = match judge(file, known, name, &key.blob) {
                _ if plan.replaced.contains_key(name) => None,
                Err(Recorded::Changed(_)) | Ok(Verdict::OtherTypeKnown(_)) if key.replaces => {
                    plan.replaced.insert(name.clone(), &key.blob);
                    plan.add(name, key_type, &key.blob);
                    Some(Recorded::Replaced(None))
                }
                Err(outcome) => Some(outcome),
                Ok(_) if seen.insert((name, key_type)) => {
                    plan.add(name, key_type, &key.blob);
                    Some(Recorded::Added)
                }
                Ok(_) => None,
            };
            plan.outcomes.push(outcome);
        }
        plan
    }

    fn add(&mut self, name: &str, key_type: &str, blob: &[u8]) {
        self.added.push_str(&format!("{name} {key_type} {}\n", STANDARD.encode(blob)));
    }

    /// Returns what became of each key, once everything is written.
    fn outcomes(self, file: &KnownFile, known: &KnownHosts, keys: &[(String, &NewKey)]) -> Vec<Recorded> {
        let outcome = |(outcome, (name, key)): (Option<Recorded>, &(String, &NewKey))| match outcome {
            Some(Recorded::Replaced(_)) => {
                let files = known.files.iter().map(|file| &**file);
                Recorded::Replaced([file].into_iter().chain(files).find_map(|file| file.other(name, &key.blob)))
            }
            Some(outcome) => outcome,
            None => judge(file, known, name, &key.blob).err().unwrap_or(Recorded::AlreadyThere),
        };
        self.outcomes.into_iter().zip(keys).map(outcome).collect()
    }
}

/// Asks the file that is written, then all of them; an error is why nothing is to be written.
fn judge(file: &KnownFile, known: &KnownHosts, name: &str, blob: &[u8]) -> std::result::Result<Verdict, Recorded> {
    let mut last = Verdict::Unknown;
    for verdict in [file.verdict(name, blob), known.verdict(name, blob)] {
        match verdict {
            Verdict::Match => return Err(Recorded::AlreadyThere),
            Verdict::Changed(key) => return Err(Recorded::Changed(key)),
            Verdict::Revoked(place) => return Err(Recorded::Revoked(place)),
            Verdict::Unknown => {}
            Verdict::OtherTypeKnown(_) => last = verdict,
        }
    }
    Ok(last)
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

fn append(file: &KnownFile, locked: &Held, lines: &str) -> io::Result<()> {
    let metadata = locked.metadata()?;
    let extent = file.data().extent();
    let is_cut = metadata.is_file() && metadata.len() > extent.bytes;
    let text = if is_cut { format!("\n{lines}") } else { lines.to_owned() };
    let written = (&**locked).write(text.as_bytes())?;
    if written < text.len() {
        let now = locked.metadata()?;
        if now.is_file() && now.len() == metadata.len() + written as u64 {
            // All or nothing. What cannot be taken back is a line that is cut, and skipped by who reads it.
            locked.set_len(metadata.len())?;
        }
        return Err(io::Error::new(io::ErrorKind::StorageFull, "not all of it could be written"));
    }
    if is_cut {
        // The cut line is whole now: read both.
        return refresh(file, locked);
    }
    let metadata = locked.metadata()?;
    file.data_mut().extend(text.as_bytes(), &metadata);
    Ok(())
}

/// Puts a new file in the place of the locked one, without the hosts that are replaced and with the lines that are added.
///
/// Who waits for the lock of the old file finds the new one then ([`open_locked`]).
fn replace(file: &KnownFile, locked: &Held, plan: &Plan<'_>) -> io::Result<()> {
    let metadata = locked.metadata()?;
    if !metadata.is_file() {
        return append(file, locked, &plan.added);
    }
    // A symbolic link stays one.
    let path = std::fs::canonicalize(file.path())?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut old: &File = locked;
    let mut before = Vec::new();
    old.seek(SeekFrom::Start(0))?;
    old.read_to_end(&mut before)?;
    let mut text = without(&before, &plan.replaced);
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend(plan.added.as_bytes());
    let mut new = tempfile::Builder::new().prefix(".known_hosts.").tempfile_in(dir)?;
    new.write_all(&text)?;
    let made = new.as_file().metadata()?;
    if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid()) {
        std::os::unix::fs::fchown(new.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
    }
    new.as_file().set_permissions(metadata.permissions())?;
    new.as_file().sync_all()?;
    if locked.metadata()?.len() != before.len() as u64 {
        // ssh, which takes no lock, has added a line since.
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program wrote to it meanwhile"));
    }
    let new = new.persist(&path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()?;
    let mut data = Data::default();
    data.extend(&text, &new.metadata()?);
    *file.data_mut() = data;
    Ok(())
}
