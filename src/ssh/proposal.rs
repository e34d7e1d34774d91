//! The server's proposal of algorithms, read beside libssh2, which keeps it to itself: where nothing is agreed on, it tells why.

use super::wire::{number, string};

/// The longest packet that is kept, in bytes: what RFC 4253 section 6.1 says every side must take.
const LONGEST: usize = 35_000;

/// `SSH_MSG_KEXINIT`.
const KEXINIT: u8 = 20;

/// How many random bytes a proposal begins with.
const COOKIE: usize = 16;

/// What stands among the methods of key exchange and is none: signs of what else a side can do.
const MARKS: [&str; 3] = ["ext-info-", "kex-strict-", "kexguess2@"];

/// Tells whether a name among the methods of key exchange is none of them.
pub(super) fn is_mark(name: &str) -> bool {
    MARKS.iter().any(|mark| name.starts_with(mark))
}

/// The first packet of a server, which nothing encrypts yet.
#[derive(Debug, Default)]
pub(super) struct FirstPacket {
    bytes: Vec<u8>,
    is_complete: bool,
}

impl FirstPacket {
    /// Takes the next byte behind the banner.
    pub(super) fn take(&mut self, byte: u8) {
        if self.is_complete {
            return;
        }
        self.bytes.push(byte);
        let mut rest = self.bytes.as_slice();
        let len = number(&mut rest).map(|len| usize::try_from(len).unwrap_or(usize::MAX));
        self.is_complete = len.is_some_and(|len| len > LONGEST || rest.len() >= len);
    }

    /// Tells whether it has come, or is none.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Forgets what came.
    pub(super) fn forget(&mut self) {
        *self = Self { bytes: Vec::new(), is_complete: true };
    }

    /// Returns what the server proposes, if this is a proposal.
    pub(super) fn proposal(&self) -> Option<Proposal> {
        let mut rest = self.bytes.as_slice();
        number(&mut rest)?;
        let (_padding, rest) = rest.split_first()?;
        let rest = rest.strip_prefix(&[KEXINIT])?;
        let mut rest = rest.get(COOKIE..)?;
        let mut lists = || names(string(&mut rest)?);
        let mut key_exchange = lists()?;
        key_exchange.retain(|name| !is_mark(name));
        Some(Proposal {
            key_exchange,
            host_keys: lists()?,
            ciphers: [lists()?, lists()?],
            macs: [lists()?, lists()?],
            compressions: [lists()?, lists()?],
        })
    }
}

/// What a server can do, best first; where it differs by direction, what it reads goes first (RFC 4253 section 7.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) key_exchange: Vec<String>,
    pub(super) host_keys: Vec<String>,
    pub(super) ciphers: [Vec<String>; 2],
    pub(super) macs: [Vec<String>; 2],
    pub(super) compressions: [Vec<String>; 2],
}

fn names(list: &[u8]) -> Option<Vec<String>> {
    let list = std::str::from_utf8(list).ok()?;
    Some(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::super::wire::put_string;
    use super::*;

    fn packet(kind: u8) -> Vec<u8> {
        let mut payload = vec![kind];
        payload.extend([7; COOKIE]);
        for list in ["curve25519-sha256,ext-info-s", "ssh-rsa", "a,b", "c", "d", "", "none", "zlib,none", "", ""] {
            put_string(&mut payload, list.as_bytes());
        }
        payload.extend([0; 5]);
        let mut packet = Vec::new();
        put_string(&mut packet, &[&[4], payload.as_slice(), &[0; 4]].concat());
        packet
    }

    fn first(bytes: &[u8]) -> FirstPacket {
        let mut first = FirstPacket::default();
        bytes.iter().for_each(|byte| first.take(*byte));
        first
    }

    #[test]
    fn a_proposal_is_read_and_what_follows_it_is_not() {
        let mut bytes = packet(KEXINIT);
        let len = bytes.len();
        bytes.extend(b"more");
        let first = first(&bytes);
        assert_eq!(first.bytes.len(), len);
        let proposal = first.proposal().unwrap();
        assert_eq!(proposal.key_exchange, ["curve25519-sha256"]);
        assert_eq!(proposal.host_keys, ["ssh-rsa"]);
        assert_eq!(proposal.ciphers, [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
        assert_eq!(proposal.macs, [vec!["d".to_owned()], vec![]]);
        assert_eq!(proposal.compressions[1], ["zlib", "none"]);
    }

    #[test]
    fn what_is_cut_short_too_long_or_something_else_is_none() {
        let whole = packet(KEXINIT);
        for len in 0..whole.len() - 20 {
            let first = first(&whole[..len]);
            assert!(!first.is_complete());
            assert_eq!(first.proposal(), None, "{len}");
        }
        assert_eq!(first(&packet(2)).proposal(), None, "SSH_MSG_IGNORE");
        let long = first(&[0xff; 100]);
        assert!(long.is_complete());
        assert_eq!((long.bytes.len(), long.proposal()), (4, None));
    }
}
