//! Requests and their answers.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::evil::{self, Ghost};
use super::files::{self, Entry, Root};
use super::wire::{self, Attrs, Code, Fields, Packet};
use crate::config::SftpEvil;
use crate::faults::Fault;
use crate::sim::Host;

const MAX_READ_BYTES: u32 = 256 << 10;
const NAMES_PER_READDIR: usize = 100;
const MAX_HANDLES: usize = 1000;

const EXTENSIONS: [(&str, &str); 8] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// An open file or directory.
#[derive(Debug)]
enum Open {
    File(File),
    Ghost,
    Directory { path: PathBuf, invented: VecDeque<Entry>, names: VecDeque<Vec<u8>>, sent: u64 },
}

/// One SFTP session.
#[derive(Debug)]
pub(super) struct Server {
    root: Root,
    evil: Option<SftpEvil>,
    /// How much the disk holds, and what of it is taken.
    disk_bytes: Option<u64>,
    written_bytes: Arc<AtomicU64>,
    /// Whether files never end.
    is_endless: bool,
    open: HashMap<u32, Open>,
    next_handle: u32,
}

type Answer = Result<Packet, Code>;

impl Server {
    pub(super) fn new(host: &Host, fault: Option<&Fault>) -> io::Result<Self> {
        Ok(Self {
            root: Root::new(host.home()?, host.plan.sftp_chroot)?,
            evil: host.plan.sftp_evil.clone(),
            disk_bytes: match fault {
                Some(Fault::DiskFull { after_bytes }) => Some(*after_bytes),
                _ => None,
            },
            written_bytes: Arc::clone(&host.written_bytes),
            is_endless: fault == Some(&Fault::EndlessOutput),
            open: HashMap::new(),
            next_handle: 0,
        })
    }

    /// The answer to one request, ready to be sent.
    pub(super) fn answer(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut fields = Fields(packet);
        let Ok(kind) = fields.byte() else {
            return Packet::status(0, Code::BadMessage).finish();
        };
        if kind == wire::INIT {
            let version = Packet::new(wire::VERSION).u32(3);
            let add =
                |packet: Packet, (name, data): (&str, &str)| packet.string(name.as_bytes()).string(data.as_bytes());
            let known = if self.evil == Some(SftpEvil::NoExtensions) { &[][..] } else { &EXTENSIONS[..] };
            return known.iter().copied().fold(version, add).finish();
        }
        let Ok(id) = fields.u32() else {
            return Packet::status(0, Code::BadMessage).finish();
        };
        self.dispatch(kind, id, fields).unwrap_or_else(|code| Packet::status(id, code)).finish()
    }

    fn dispatch(&mut self, kind: u8, id: u32, mut fields: Fields<'_>) -> Answer {
        match kind {
            wire::OPEN => self.open(id, fields),
            wire::CLOSE => {
                let handle = fields.string()?;
                self.open.remove(&number(handle)?).ok_or(Code::NoSuchFile)?;
                Err(Code::Ok)
            }
            wire::READ => self.read(id, fields),
            wire::WRITE => self.write(fields),
            wire::LSTAT => self.stat(id, fields.string()?, false),
            wire::STAT => self.stat(id, fields.string()?, true),
            wire::FSTAT => {
                let attrs = match self.handle(fields.string()?)? {
                    Open::File(file) => Attrs::from(&file.metadata()?),
                    Open::Ghost => Ghost::File.attrs(),
                    Open::Directory { path, .. } => Attrs::from(&path.metadata()?),
                };
                Ok(self.attrs(id, attrs))
            }
            wire::SETSTAT | wire::FSETSTAT if self.evil == Some(SftpEvil::NoModes) => Err(Code::Unsupported),
            wire::FSETSTAT if self.evil == Some(SftpEvil::NoOpenModes) => Err(Code::NoSuchFile),
            wire::SETSTAT => {
                let path = self.local(fields.string()?);
                done(files::set(&path, &fields.attrs()?, true))
            }
            wire::FSETSTAT => {
                let handle = fields.string()?;
                let attrs = fields.attrs()?;
                match self.handle(handle)? {
                    Open::File(file) => done(files::set_open(file, &attrs)),
                    Open::Directory { path, .. } => done(files::set(path, &attrs, true)),
                    Open::Ghost => Err(Code::PermissionDenied),
                }
            }
            wire::OPENDIR => self.opendir(id, fields.string()?),
            wire::READDIR => self.readdir(id, fields.string()?),
            wire::REMOVE => done(std::fs::remove_file(self.local(fields.string()?))),
            wire::MKDIR => {
                let path = self.local(fields.string()?);
                let attrs = fields.attrs()?;
                let mode = attrs.mode.unwrap_or(0o777) & 0o7777;
                let mut builder = std::fs::DirBuilder::new();
                std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
                done(builder.create(path))
            }
            wire::RMDIR => done(std::fs::remove_dir(self.local(fields.string()?))),
            wire::REALPATH => {
                let path = self.meant(fields.string()?);
                let real = self.root.real(&path)?;
                Ok(one_name(id, real.as_os_str().as_bytes()))
            }
            wire::RENAME => {
                let (from, to) = self.two_paths(&mut fields)?;
                done(files::rename_new(&from, &to))
            }
            wire::READLINK => self.readlink(id, fields.string()?),
            wire::SYMLINK => {
                // OpenSSH's order, the reverse of the draft's: first what the link holds, then where it is made.
                let target = std::ffi::OsStr::from_bytes(fields.string()?);
                done(std::os::unix::fs::symlink(target, self.local(fields.string()?)))
            }
            wire::EXTENDED if self.evil != Some(SftpEvil::NoExtensions) => self.extended(id, fields),
            _ => Err(Code::Unsupported),
        }
    }

    fn extended(&mut self, id: u32, mut fields: Fields<'_>) -> Answer {
        match fields.string()? {
            b"posix-rename@openssh.com" => {
                let (from, to) = self.two_paths(&mut fields)?;
                done(std::fs::rename(from, to))
            }
            b"hardlink@openssh.com" => {
                let (from, to) = self.two_paths(&mut fields)?;
                done(std::fs::hard_link(from, to))
            }
            b"fsync@openssh.com" => match self.handle(fields.string()?)? {
                Open::File(file) => done(file.sync_all()),
                _ => Err(Code::NoSuchFile),
            },
            b"lsetstat@openssh.com" => {
                let path = self.local(fields.string()?);
                done(files::set(&path, &fields.attrs()?, false))
            }
            b"statvfs@openssh.com" => statvfs(id, &self.local(fields.string()?), self.room()),
            b"fstatvfs@openssh.com" => {
                let room = self.room();
                match self.handle(fields.string()?)? {
                    Open::Directory { path, .. } => statvfs(id, path, room),
                    _ => statvfs(id, &self.local(b"."), room),
                }
            }
            b"limits@openssh.com" => Ok(Packet::reply(wire::EXTENDED_REPLY, id)
                .u64(super::MAX_PACKET_BYTES as u64)
                .u64(u64::from(MAX_READ_BYTES))
                .u64(u64::from(MAX_READ_BYTES))
                .u64(MAX_HANDLES as u64)),
            b"expand-path@openssh.com" => {
                let path = fields.string()?;
                let path = path.strip_prefix(b"~").unwrap_or(path);
                let path = path.strip_prefix(b"/").unwrap_or(path);
                let real = self.root.real(path)?;
                Ok(one_name(id, real.as_os_str().as_bytes()))
            }
            _ => Err(Code::Unsupported),
        }
    }

    fn meant(&self, path: &[u8]) -> Vec<u8> {
        match &self.evil {
            Some(evil) => evil.meant(path),
            None => path.to_vec(),
        }
    }

    fn local(&self, path: &[u8]) -> PathBuf {
        self.root.local(&self.meant(path))
    }

    fn ghost(&self, path: &[u8], follow: bool) -> Option<Ghost> {
        self.evil.as_ref()?.lookup(path, follow)
    }

    fn two_paths(&self, fields: &mut Fields<'_>) -> Result<(PathBuf, PathBuf), Code> {
        let first = self.local(fields.string()?);
        Ok((first, self.local(fields.string()?)))
    }

    fn handle(&mut self, handle: &[u8]) -> Result<&mut Open, Code> {
        self.open.get_mut(&number(handle)?).ok_or(Code::NoSuchFile)
    }

    fn keep(&mut self, id: u32, open: Open) -> Answer {
        if self.open.len() >= MAX_HANDLES {
            return Err(Code::Failure);
        }
        let handle = self.next_handle;
        self.next_handle = self.next_handle.wrapping_add(1);
        self.open.insert(handle, open);
        Ok(Packet::reply(wire::HANDLE, id).string(&handle.to_be_bytes()))
    }

    fn attrs(&self, id: u32, attrs: Attrs) -> Packet {
        Packet::reply(wire::ATTRS, id).attrs(&self.told(attrs))
    }

    fn told(&self, attrs: Attrs) -> Attrs {
        match &self.evil {
            Some(evil) => evil.told(attrs),
            None => attrs,
        }
    }

    fn stat(&self, id: u32, path: &[u8], follow: bool) -> Answer {
        if let Some(ghost) = self.ghost(path, follow) {
            return Ok(self.attrs(id, ghost.attrs()));
        }
        let local = self.local(path);
        let meta = if follow { local.metadata() } else { local.symlink_metadata() };
        Ok(self.attrs(id, Attrs::from(&meta?)))
    }

    fn open(&mut self, id: u32, mut fields: Fields<'_>) -> Answer {
        let path = fields.string()?;
        let flags = fields.u32()?;
        let attrs = fields.attrs()?;
        if files::only_reads(flags) && self.ghost(path, true) == Some(Ghost::File) {
            return self.keep(id, Open::Ghost);
        }
        let file = files::open(&self.local(path), flags, &attrs)?;
        self.keep(id, Open::File(file))
    }

    fn read(&mut self, id: u32, mut fields: Fields<'_>) -> Answer {
        let handle = fields.string()?;
        let offset = fields.u64()?;
        let most = match self.evil {
            Some(SftpEvil::ShortReads(most)) => most,
            _ => MAX_READ_BYTES,
        };
        let len = fields.u32()?.min(most) as usize;
        let long = self.evil == Some(SftpEvil::LongReads);
        let is_endless = self.is_endless;
        let mut data = match self.handle(handle)? {
            Open::File(file) => {
                let mut data = vec![0; len];
                let n = file.read_at(&mut data, offset)?;
                data.truncate(n);
                data
            }
            Open::Ghost => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = evil::CONTENT.get(start..).unwrap_or_default();
                rest.get(..len).unwrap_or(rest).to_vec()
            }
            Open::Directory { .. } => return Err(Code::NoSuchFile),
        };
        if is_endless {
            data.resize(len, b'.');
        }
        if data.is_empty() && len > 0 {
            return Err(Code::Eof);
        }
        if long {
            data.resize(len + 1000, b'!');
        }
        Ok(Packet::reply(wire::DATA, id).string(&data))
    }

    /// How many bytes the disk still takes, if there is a limit.
    fn room(&self) -> Option<u64> {
        Some(self.disk_bytes?.saturating_sub(self.written_bytes.load(Ordering::Relaxed)))
    }

    fn write(&mut self, mut fields: Fields<'_>) -> Answer {
        let handle = number(fields.string()?)?;
        let offset = fields.u64()?;
        let data = fields.string()?;
        if self.room().is_some_and(|room| room < data.len() as u64) {
            return Err(Code::Failure);
        }
        self.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        match self.open.get(&handle) {
            Some(Open::File(file)) => done(file.write_all_at(data, offset)),
            _ => Err(Code::NoSuchFile),
        }
    }

    fn opendir(&mut self, id: u32, path: &[u8]) -> Answer {
        let local = self.local(path);
        let mut invented = Vec::new();
        let mut names = Vec::new();
        if self.ghost(path, true) == Some(Ghost::Directory) {
            invented = SftpEvil::inside();
        } else {
            names = files::names(&local)?;
            if let Some(evil) = &self.evil {
                invented = evil.additions();
            }
        }
        let directory = Open::Directory { path: local, invented: invented.into(), names: names.into(), sent: 0 };
        self.keep(id, directory)
    }

    fn readdir(&mut self, id: u32, handle: &[u8]) -> Answer {
        let endless = self.evil.clone();
        let Open::Directory { path, invented, names, sent } = self.handle(handle)? else {
            return Err(Code::NoSuchFile);
        };
        let entries: Vec<Entry> = match endless.and_then(|evil| evil.endless(*sent)) {
            Some(entries) => entries,
            None => {
                let real = names.drain(..names.len().min(NAMES_PER_READDIR));
                invented.drain(..).chain(real.map(|name| files::entry(path, name))).collect()
            }
        };
        if entries.is_empty() {
            return Err(Code::Eof);
        }
        *sent += entries.len() as u64;
        let head = Packet::reply(wire::NAME, id).u32(entries.len() as u32);
        Ok(entries.into_iter().fold(head, |packet, mut entry| {
            entry.attrs = self.told(entry.attrs);
            packet.string(&entry.name).string(&files::long_name(&entry)).attrs(&entry.attrs)
        }))
    }

    fn readlink(&self, id: u32, path: &[u8]) -> Answer {
        if let Some(Ghost::Link(target)) = self.ghost(path, false) {
            return Ok(one_name(id, &target));
        }
        let target = std::fs::read_link(self.local(path))?;
        Ok(one_name(id, target.as_os_str().as_bytes()))
    }
}

fn number(handle: &[u8]) -> Result<u32, Code> {
    handle.try_into().map(u32::from_be_bytes).map_err(|_| Code::NoSuchFile)
}

/// A status is the answer to what returns nothing; success is one.
fn done(result: io::Result<()>) -> Answer {
    Err(match result {
        Ok(()) => Code::Ok,
        Err(error) => error.into(),
    })
}

fn one_name(id: u32, name: &[u8]) -> Packet {
    Packet::reply(wire::NAME, id).u32(1).string(name).string(name).attrs(&Attrs::default())
}

fn statvfs(id: u32, path: &Path, room_bytes: Option<u64>) -> Answer {
    let mut stat = rustix::fs::statvfs(path).map_err(io::Error::from)?;
    if let Some(room) = room_bytes {
        stat.f_bavail = room / stat.f_frsize.max(1);
    }
    let numbers = [
        stat.f_bsize,
        stat.f_frsize,
        stat.f_blocks,
        stat.f_bfree,
        stat.f_bavail,
        stat.f_files,
        stat.f_ffree,
        stat.f_favail,
        stat.f_fsid,
        stat.f_flag.bits(),
        stat.f_namemax,
    ];
    let reply = Packet::reply(wire::EXTENDED_REPLY, id);
    Ok(numbers.into_iter().fold(reply, Packet::u64))
}
