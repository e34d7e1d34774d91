//! The bytes of SFTP version 3 (draft-ietf-secsh-filexfer-02). Names are bytes here, as they are on a file system: the
//! `russh-sftp` crate makes them `String`s, which loses every name that is not UTF-8.

use std::os::unix::fs::MetadataExt as _;

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const LSTAT: u8 = 7;
pub(super) const FSTAT: u8 = 8;
pub(super) const SETSTAT: u8 = 9;
pub(super) const FSETSTAT: u8 = 10;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const RMDIR: u8 = 15;
pub(super) const REALPATH: u8 = 16;
pub(super) const STAT: u8 = 17;
pub(super) const RENAME: u8 = 18;
pub(super) const READLINK: u8 = 19;
pub(super) const SYMLINK: u8 = 20;
pub(super) const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
pub(super) const EXTENDED: u8 = 200;
pub(super) const EXTENDED_REPLY: u8 = 201;

/// `SSH_FX_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Code {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::Unsupported => "Operation unsupported",
        }
    }
}

/// Reads fields; a field that is not there is a bad message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Code> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Code::BadMessage)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Code> {
        self.take(N)?.try_into().map_err(|_| Code::BadMessage)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Code> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Code> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Code> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Code> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(super) fn attrs(&mut self) -> Result<Attrs, Code> {
        let flags = self.u32()?;
        let mut attrs = Attrs::default();
        if flags & Attrs::SIZE != 0 {
            attrs.size = Some(self.u64()?);
        }
        if flags & Attrs::OWNER != 0 {
            attrs.owner = Some((self.u32()?, self.u32()?));
        }
        if flags & Attrs::MODE != 0 {
            attrs.mode = Some(self.u32()?);
        }
        if flags & Attrs::TIMES != 0 {
            attrs.times = Some((self.u32()?, self.u32()?));
        }
        if flags & Attrs::EXTENDED != 0 {
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(attrs)
    }
}

/// Builds one packet; the length comes last.
#[derive(Debug)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    /// A reply to request `id`.
    pub(super) fn reply(kind: u8, id: u32) -> Self {
        Self::new(kind).u32(id)
    }

    pub(super) fn status(id: u32, code: Code) -> Self {
        Self::reply(STATUS, id).u32(code as u32).string(code.text().as_bytes()).string(b"")
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn string(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u32).to_be_bytes());
        self.0.extend(bytes);
        self
    }

    pub(super) fn attrs(mut self, attrs: &Attrs) -> Self {
        let flag = |present: bool, flag| if present { flag } else { 0 };
        self = self.u32(
            flag(attrs.size.is_some(), Attrs::SIZE)
                | flag(attrs.owner.is_some(), Attrs::OWNER)
                | flag(attrs.mode.is_some(), Attrs::MODE)
                | flag(attrs.times.is_some(), Attrs::TIMES),
        );
        if let Some(size) = attrs.size {
            self = self.u64(size);
        }
        let words = attrs
            .owner
            .into_iter()
            .flat_map(|(user, group)| [user, group])
            .chain(attrs.mode)
            .chain(attrs.times.into_iter().flat_map(|(access, change)| [access, change]));
        words.fold(self, Self::u32)
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = (self.0.len() as u32).saturating_sub(4).to_be_bytes();
        for (to, from) in self.0.iter_mut().zip(len) {
            *to = from;
        }
        self.0
    }
}

/// File attributes (section 5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Attrs {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    pub(super) times: Option<(u32, u32)>,
}

pub(super) const S_IFMT: u32 = 0o170_000;
pub(super) const S_IFDIR: u32 = 0o040_000;
pub(super) const S_IFREG: u32 = 0o100_000;
pub(super) const S_IFLNK: u32 = 0o120_000;

impl Attrs {
    const SIZE: u32 = 1;
    const OWNER: u32 = 2;
    const MODE: u32 = 4;
    const TIMES: u32 = 8;
    const EXTENDED: u32 = 0x8000_0000;

    /// What sshd would say about something that does not exist.
    pub(super) fn invented(mode: u32, size: u64) -> Self {
        Self { size: Some(size), owner: Some((0, 0)), mode: Some(mode), times: Some((1_700_000_000, 1_700_000_000)) }
    }

    pub(super) fn is_regular(&self) -> bool {
        self.mode.is_some_and(|mode| mode & S_IFMT == S_IFREG)
    }
}

impl From<&std::fs::Metadata> for Attrs {
    fn from(meta: &std::fs::Metadata) -> Self {
        Self {
            size: Some(meta.len()),
            owner: Some((meta.uid(), meta.gid())),
            mode: Some(meta.mode()),
            times: Some((meta.atime() as u32, meta.mtime() as u32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_survive_the_wire() {
        let attrs = Attrs { size: Some(1 << 40), owner: None, mode: Some(0o100_644), times: Some((1, 2)) };
        let packet = Packet::new(ATTRS).attrs(&attrs).finish();
        assert_eq!(Fields(&packet[5..]).attrs(), Ok(attrs));
        assert_eq!(packet[..4], (packet.len() as u32 - 4).to_be_bytes());
    }

    #[test]
    fn a_short_message_is_a_bad_message() {
        assert_eq!(Fields(&[0, 0, 0, 9, b'x']).string(), Err(Code::BadMessage));
    }
}
