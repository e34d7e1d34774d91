//! What hosts wrote, kept until each is done, for the forms that write a host's result in one piece.

use std::collections::HashMap;
use std::io::{self, Read};

use crate::event::{EventKind, Note, Stream};
use crate::spool::{Spool, SpoolReader, SpoolSet, SpoolWriter};

/// How much of an output is in memory at once while it is written: a multiple of 3, so that base64 can be cut there.
const PIECE_BYTES: usize = 48 * 1024;

/// The outputs of the hosts in flight, in bounded memory.
pub(super) struct Captures {
    spools: SpoolSet,
    running: HashMap<String, [Capture; 2]>,
}

impl Captures {
    pub(super) fn new(spools: SpoolSet) -> Self {
        Self { spools, running: HashMap::new() }
    }

    /// Hears of an event: keeps output, and forgets that of an attempt that is made again.
    pub(super) fn hear(&mut self, kind: &EventKind) -> io::Result<()> {
        match kind {
            EventKind::Output { host, stream, bytes } => {
                if !self.running.contains_key(&host.name) {
                    let pair = [Capture::new(&self.spools), Capture::new(&self.spools)];
                    self.running.insert(host.name.clone(), pair);
                }
                let Some([stdout, stderr]) = self.running.get_mut(&host.name) else { return Ok(()) };
                match stream {
                    Stream::Stdout => stdout.push(bytes),
                    Stream::Stderr => stderr.push(bytes),
                }
            }
            EventKind::Note { host, note: Note::Retrying { .. } } => {
                self.running.remove(&host.name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns standard output and standard error of a host that is done.
    pub(super) fn take(&mut self, host: &str) -> [Captured; 2] {
        self.running.remove(host).map_or_else(Default::default, |pair| pair.map(Capture::finish))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

/// One stream that is being written.
struct Capture {
    writer: SpoolWriter,
    check: TextCheck,
}

impl Capture {
    fn new(spools: &SpoolSet) -> Self {
        Self { writer: spools.spool(), check: TextCheck::default() }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check.push(bytes);
        self.writer.append(bytes).map_err(|error| io::Error::other(error.chain()))
    }

    fn finish(self) -> Captured {
        let (is_text, has_nul) = (self.check.is_text(), self.check.has_nul);
        Captured { spool: self.writer.finish(), is_text, has_nul }
    }
}

/// One stream, whole.
pub(super) struct Captured {
    spool: Spool,
    /// Whether it is UTF-8.
    pub(super) is_text: bool,
    pub(super) has_nul: bool,
}

impl Default for Captured {
    fn default() -> Self {
        Self { spool: Spool::default(), is_text: true, has_nul: false }
    }
}

impl Captured {
    pub(super) fn into_spool(self) -> Spool {
        self.spool
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spool.is_empty()
    }

    /// Hands out UTF-8 in pieces that end between characters.
    pub(super) fn each_text(&self, each: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        each_text(&self.spool, each)
    }

    /// Hands out pieces of a length that base64 can be cut at.
    pub(super) fn each_bytes(&self, each: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut reader = self.spool.reader();
        let mut buffer = Vec::with_capacity(PIECE_BYTES);
        while fill(&mut reader, &mut buffer)? {
            each(&buffer)?;
            buffer.clear();
        }
        Ok(())
    }
}

/// Hands out UTF-8 in pieces that end between characters.
pub(super) fn each_text(spool: &Spool, each: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut reader = spool.reader();
    let mut buffer = Vec::with_capacity(PIECE_BYTES);
    while fill(&mut reader, &mut buffer)? {
        let (text, rest) = valid(&buffer);
        if text.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a spooled text is not UTF-8"));
        }
        each(text)?;
        let cut = buffer.len() - rest.len();
        buffer.drain(..cut);
    }
    Ok(())
}

/// Fills a buffer up, and tells whether anything is in it.
fn fill(reader: &mut SpoolReader, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let room = PIECE_BYTES.saturating_sub(buffer.len());
    reader.take(room as u64).read_to_end(buffer)?;
    Ok(!buffer.is_empty())
}

/// Splits off what is UTF-8 at the start.
fn valid(bytes: &[u8]) -> (&str, &[u8]) {
    let until = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    let (text, rest) = bytes.split_at(until);
    (std::str::from_utf8(text).unwrap_or_default(), rest)
}

/// Tells of bytes that come in pieces whether all of them together are UTF-8.
#[derive(Default)]
struct TextCheck {
    /// The beginning of a character whose rest has not come.
    begun: Vec<u8>,
    is_broken: bool,
    has_nul: bool,
}

impl TextCheck {
    fn push(&mut self, bytes: &[u8]) {
        if self.is_broken {
            return;
        }
        self.has_nul |= bytes.contains(&0);
        let mut rest = bytes;
        while !self.begun.is_empty()
            && let Some((first, later)) = rest.split_first()
        {
            self.begun.push(*first);
            rest = later;
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.begun.clear(),
                Err(error) if error.error_len().is_none() => {}
                Err(_) => {
                    self.is_broken = true;
                    return;
                }
            }
        }
        if let Err(error) = std::str::from_utf8(rest) {
            match error.error_len() {
                None => self.begun.extend(rest.iter().skip(error.valid_up_to())),
                Some(_) => self.is_broken = true,
            }
        }
    }

    fn is_text(&self) -> bool {
        !self.is_broken && self.begun.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn captured(bytes: &[u8], size: usize) -> Captured {
        let mut capture = Capture::new(&SpoolSet::with_memory(1000));
        bytes.chunks(size).for_each(|chunk| capture.push(chunk).unwrap());
        capture.finish()
    }

    #[test]
    fn characters_that_are_cut_between_pieces_are_text() {
        let bytes = "a€😀\u{7ff}".repeat(20_000).into_bytes();
        for size in [1, 2, 3, 5, 4096, bytes.len()] {
            let captured = captured(&bytes, size);
            assert!(captured.is_text && !captured.has_nul, "chunks of {size}");
            let mut text = String::new();
            captured
                .each_text(&mut |piece| {
                    assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
                    text.push_str(piece);
                    Ok(())
                })
                .unwrap();
            assert!(text.as_bytes() == bytes);
        }
    }

    proptest! {
        #[test]
        fn text_is_told_from_bytes_however_they_arrive(
            bytes in proptest::collection::vec(prop_oneof![
                "\\PC{0,3}".prop_map(String::into_bytes),
                // A lone surrogate in WTF-8, an overlong NUL, halves of characters.
                prop_oneof![Just(vec![0xed, 0xa0, 0x80]), Just(vec![0xc0, 0x80]), Just(vec![0xe2, 0x82]), Just(vec![0])],
            ], 0..8),
            size in 1_usize..9,
        ) {
            let bytes = bytes.concat();
            let captured = captured(&bytes, size);
            prop_assert_eq!(captured.is_text, std::str::from_utf8(&bytes).is_ok());
            let mut all = Vec::new();
            captured.each_bytes(&mut |piece| { all.extend_from_slice(piece); Ok(()) }).unwrap();
            prop_assert_eq!(all, bytes);
        }
    }
}
