//! The file system as OpenSSH's sftp-server shows it: paths, errors, attributes, directory entries.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, utimensat};
use rustix::io::Errno;

use super::wire::{Attrs, Code, S_IFDIR, S_IFLNK, S_IFMT};

/// Where relative paths start, and what `/` is.
#[derive(Debug)]
pub(super) struct Root {
    home: PathBuf,
    confined: bool,
}

impl Root {
    pub(super) fn new(home: &Path, confined: bool) -> io::Result<Self> {
        Ok(Self { home: home.canonicalize()?, confined })
    }

    /// The local path of a client's path. Confinement is by words: links inside the home are followed.
    pub(super) fn local(&self, path: &[u8]) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(path));
        if !self.confined {
            return self.home.join(path);
        }
        let mut local = self.home.clone();
        let mut depth = 0_usize;
        for part in path.components() {
            match part {
                Component::Normal(name) => {
                    local.push(name);
                    depth += 1;
                }
                Component::ParentDir if depth > 0 => {
                    local.pop();
                    depth -= 1;
                }
                _ => {}
            }
        }
        local
    }

    /// The absolute path without links, as the client sees it. The last name need not exist.
    pub(super) fn real(&self, path: &[u8]) -> io::Result<PathBuf> {
        let local = self.local(path);
        let real = match (local.canonicalize(), local.parent(), local.file_name()) {
            (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
                parent.canonicalize()?.join(name)
            }
            (result, _, _) => result?,
        };
        if !self.confined {
            return Ok(real);
        }
        let inside = real.strip_prefix(&self.home).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Path::new("/").join(inside))
    }
}

/// sftp-server's `errno_to_portable`.
impl From<io::Error> for Code {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP) => Self::NoSuchFile,
            Some(Errno::PERM | Errno::ACCESS | Errno::FAULT) => Self::PermissionDenied,
            Some(Errno::NAMETOOLONG | Errno::INVAL) => Self::BadMessage,
            Some(Errno::NOSYS) => Self::Unsupported,
            None if error.kind() == io::ErrorKind::InvalidInput => Self::BadMessage,
            None if error.kind() == io::ErrorKind::NotFound => Self::NoSuchFile,
            _ => Self::Failure,
        }
    }
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
const EXCLUSIVE: u32 = 32;

/// Whether `SSH_FXP_OPEN` flags ask for reading only.
pub(super) fn only_reads(flags: u32) -> bool {
    flags & (WRITE | APPEND | CREATE | TRUNCATE) == 0
}

/// Opens as `SSH_FXP_OPEN` asks. A FIFO without another end does not block.
pub(super) fn open(path: &Path, flags: u32, attrs: &Attrs) -> io::Result<File> {
    let asks = |flag| flags & flag != 0;
    let mut options = OpenOptions::new();
    options
        .read(asks(READ))
        .write(asks(WRITE))
        .append(asks(APPEND))
        .mode(attrs.mode.unwrap_or(0o666) & 0o7777)
        .custom_flags(OFlags::NONBLOCK.bits() as i32);
    if asks(WRITE | APPEND) {
        options.create(asks(CREATE)).truncate(asks(TRUNCATE)).create_new(asks(CREATE) && asks(EXCLUSIVE));
    }
    options.open(path)
}

/// Applies `SSH_FXP_SETSTAT`; goes on after an error and reports the last, as sftp-server does.
pub(super) fn set(path: &Path, attrs: &Attrs, follow: bool) -> io::Result<()> {
    let mut result = Ok(());
    let mut note = |step: io::Result<()>| {
        if step.is_err() {
            result = step;
        }
    };
    if let (Some(size), true) = (attrs.size, follow) {
        note(OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(size)));
    }
    if let (Some(mode), true) = (attrs.mode, follow) {
        note(std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)));
    }
    if let Some(times) = attrs.times {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        note(utimensat(CWD, path, &timestamps(times), flags).map_err(io::Error::from));
    }
    if let Some((user, group)) = attrs.owner {
        let change = if follow { std::os::unix::fs::chown } else { std::os::unix::fs::lchown };
        note(change(path, Some(user), Some(group)));
    }
    result
}

/// Applies `SSH_FXP_FSETSTAT`.
pub(super) fn set_open(file: &File, attrs: &Attrs) -> io::Result<()> {
    if let Some(size) = attrs.size {
        file.set_len(size)?;
    }
    if let Some(mode) = attrs.mode {
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = attrs.times {
        rustix::fs::futimens(file, &timestamps(times))?;
    }
    if let Some((user, group)) = attrs.owner {
        std::os::unix::fs::fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

fn timestamps((access, modification): (u32, u32)) -> Timestamps {
    let at = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
    Timestamps { last_access: at(access), last_modification: at(modification) }
}

/// One entry of a listing.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) attrs: Attrs,
}

/// The names in a directory, with `.` and `..`; attributes are looked up when they are sent.
pub(super) fn names(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![b".".to_vec(), b"..".to_vec()];
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().into_encoded_bytes());
    }
    Ok(names)
}

/// The entry of a name, without following links. A file that vanished has no attributes.
pub(super) fn entry(directory: &Path, name: Vec<u8>) -> Entry {
    let meta = directory.join(OsStr::from_bytes(&name)).symlink_metadata();
    Entry { attrs: meta.as_ref().map_or_else(|_| Attrs::default(), Attrs::from), name }
}

/// The line of `ls -l`, with the time left out.
pub(super) fn long_name(entry: &Entry) -> Vec<u8> {
    let mode = entry.attrs.mode.unwrap_or(0);
    let kind = match mode & S_IFMT {
        S_IFDIR => 'd',
        S_IFLNK => 'l',
        _ => '-',
    };
    let mut line = String::from(kind);
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        line.push(if mode >> (8 - index) & 1 == 1 { letter } else { '-' });
    }
    let (user, group) = entry.attrs.owner.unwrap_or_default();
    let size = entry.attrs.size.unwrap_or(0);
    let mut line = format!("{line}    1 {user:<8} {group:<8} {size:>8} Jan  1 00:00 ").into_bytes();
    line.extend(&entry.name);
    line
}

/// `SSH_FXP_RENAME`: unlike rename(2), it never replaces.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let _: Metadata = from.symlink_metadata()?;
    if to.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}
