//! Gathers what one batch of events writes.

use std::io::{self, Write};

/// How much is gathered at most before it is written, a line's length aside.
const MAX_GATHERED_BYTES: usize = 64 * 1024;

/// A writer that is given whole lines, many at a time.
pub(super) struct Buffer<W> {
    pub(super) writer: W,
    pub(super) gathered: Vec<u8>,
}

impl<W: Write> Buffer<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer, gathered: Vec::new() }
    }

    /// Ends a line: writes what was gathered if that is much by now.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        if self.gathered.len() >= MAX_GATHERED_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes what was gathered.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let written = self.writer.write_all(&self.gathered).and_then(|()| self.writer.flush());
        self.gathered.clear();
        written
    }
}
