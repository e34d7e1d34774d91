//! Bytes to lines, with a bound.

use std::io;

/// The most that is held of a line that has no end yet.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;

/// Cuts a stream of bytes into lines; what has no newline yet is held, at most [`MAX_LINE_BYTES`].
///
/// A longer line comes in pieces, cut at a character boundary; where they are cut depends on the bytes alone, never on how
/// they arrived. The pieces joined, with a newline after each that is an end of line, are the bytes exactly.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
}

impl Lines {
    /// Takes bytes and hands out each line, or piece of one, and whether a newline followed it.
    pub(super) fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&[u8], bool) -> io::Result<()>) -> io::Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(line) if self.held.is_empty() && line.len() <= MAX_LINE_BYTES => emit(line, true)?,
                Some(line) => {
                    self.hold(line, emit)?;
                    emit(&self.held, true)?;
                    self.held.clear();
                }
                None => self.hold(part, emit)?,
            }
        }
        Ok(())
    }

    /// Hands out what is held: a line without a newline at the stream's end.
    pub(super) fn finish(&mut self, emit: &mut dyn FnMut(&[u8], bool) -> io::Result<()>) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { Ok(()) } else { emit(&held, false) }
    }

    fn hold(&mut self, line: &[u8], emit: &mut dyn FnMut(&[u8], bool) -> io::Result<()>) -> io::Result<()> {
        let mut rest = line;
        while self.held.len() + rest.len() > MAX_LINE_BYTES {
            let (now, later) = rest.split_at(MAX_LINE_BYTES - self.held.len());
            self.append(now);
            rest = later;
            let cut = character_boundary(&self.held);
            let (piece, _) = self.held.split_at(cut);
            emit(piece, false)?;
            self.held.drain(..cut);
        }
        self.append(rest);
        Ok(())
    }

    /// Appends without ever reserving more than the bound.
    fn append(&mut self, bytes: &[u8]) {
        let len = self.held.len() + bytes.len();
        if len > self.held.capacity() {
            let capacity = len.next_power_of_two().min(MAX_LINE_BYTES.max(len));
            self.held.reserve_exact(capacity - self.held.len());
        }
        self.held.extend_from_slice(bytes);
    }
}

/// Returns where `bytes` can be cut nearest to their end without splitting a character.
fn character_boundary(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        let needed = match bytes.get(at) {
            Some(0xf0..=0xf7) => 4,
            Some(0xe0..=0xef) => 3,
            Some(0xc2..=0xdf) => 2,
            Some(0x80..=0xbf) => continue,
            _ => return bytes.len(),
        };
        return if needed > back && at > 0 { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Lines::default();
        let mut pieces = Vec::new();
        let mut emit = |line: &[u8], eol| {
            pieces.push((line.to_vec(), eol));
            Ok(())
        };
        for chunk in chunks {
            lines.push(chunk, &mut emit).unwrap();
            assert!(lines.held.capacity() <= MAX_LINE_BYTES);
        }
        lines.finish(&mut emit).unwrap();
        pieces
    }

    fn join(pieces: &[(Vec<u8>, bool)]) -> Vec<u8> {
        pieces.iter().flat_map(|(line, eol)| line.iter().copied().chain(eol.then_some(b'\n'))).collect()
    }

    #[test]
    fn a_line_is_held_until_its_end() {
        assert_eq!(
            cut(&[b"one\ntw", b"o\n\nthree"]),
            [(b"one".to_vec(), true), (b"two".to_vec(), true), (b"".to_vec(), true), (b"three".to_vec(), false)]
        );
    }

    #[test]
    fn a_line_of_exactly_the_bound_stays_whole() {
        let mut line = vec![b'x'; MAX_LINE_BYTES];
        line.push(b'\n');
        assert_eq!(cut(&[&line]).len(), 1);
        assert_eq!(cut(&line.chunks(1000).collect::<Vec<_>>()).len(), 1);
    }

    #[test]
    fn a_longer_line_is_cut_between_characters_however_it_arrives() {
        let line = "€".repeat(MAX_LINE_BYTES).into_bytes();
        let whole = cut(&[&line]);
        assert!(whole.iter().all(|(piece, _)| std::str::from_utf8(piece).is_ok() && piece.len() <= MAX_LINE_BYTES));
        assert_eq!(join(&whole), line);
        for size in [1, 7, 4096, 32 * 1024] {
            assert_eq!(cut(&line.chunks(size).collect::<Vec<_>>()), whole);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_cut_at_the_bound() {
        let line = vec![0x80; MAX_LINE_BYTES + 1];
        let pieces = cut(&[&line]);
        assert_eq!(pieces.iter().map(|(piece, _)| piece.len()).collect::<Vec<_>>(), [MAX_LINE_BYTES, 1]);
    }

    #[test]
    fn random_bytes_come_out_as_they_went_in() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let len = random.usize(0..200_000);
            let bytes: Vec<u8> =
                (0..len).map(|_| if random.u8(..) == 0 { b'\n' } else { random.u8(..) | 0x40 }).collect();
            let size = random.usize(1..40_000);
            assert_eq!(join(&cut(&bytes.chunks(size).collect::<Vec<_>>())), bytes);
        }
    }
}
