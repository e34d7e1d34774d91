//! Where a stream goes, and how a line of it is written there.

use std::io::{self, Write};

use super::buffer::Buffer;
use super::escape::append_visible;

/// What is known of where a stream goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// A terminal reads it: names are padded alike, control characters are written out, and a carriage return starts a new
    /// line. Otherwise bytes pass through untouched.
    pub terminal: bool,
    /// Names are coloured.
    pub color: bool,
}

impl Target {
    /// A file, a pipe, a program: bytes pass through untouched.
    pub const PLAIN: Self = Self { terminal: false, color: false };

    /// Describes a terminal.
    pub fn terminal(color: bool) -> Self {
        Self { terminal: true, color }
    }
}

/// Writes lines as their target wants them.
pub(super) struct Out<W> {
    pub(super) buffer: Buffer<W>,
    pub(super) target: Target,
}

impl<W: Write> Out<W> {
    pub(super) fn new(writer: W, target: Target) -> Self {
        Self { buffer: Buffer::new(writer), target }
    }

    /// Writes a line of a host behind `prefix`, which is fleet's own.
    pub(super) fn line(&mut self, prefix: &[u8], line: &[u8], newline: bool) -> io::Result<()> {
        let out = &mut self.buffer.gathered;
        if self.target.terminal {
            append_line_visibly(out, prefix, line);
        } else {
            out.extend_from_slice(prefix);
            out.extend_from_slice(line);
        }
        if newline {
            out.push(b'\n');
        }
        self.buffer.end_line()
    }

    /// Writes a line of fleet's own, in a colour (SGR parameters) where colours are wanted.
    pub(super) fn own_line(&mut self, color: &str, line: &str) -> io::Result<()> {
        let colored = if self.target.color { format!("\x1b[{color}m{line}\x1b[0m\n") } else { format!("{line}\n") };
        self.buffer.gathered.extend_from_slice(colored.as_bytes());
        self.buffer.end_line()
    }
}

/// A carriage return rewrites a line on a terminal, which would hide what stood there: each part gets its own line.
fn append_line_visibly(out: &mut Vec<u8>, prefix: &[u8], line: &[u8]) {
    let mut parts = line.split(|byte| *byte == b'\r').filter(|part| !part.is_empty());
    out.extend_from_slice(prefix);
    append_visible(out, parts.next().unwrap_or_default());
    for part in parts {
        out.push(b'\n');
        out.extend_from_slice(prefix);
        append_visible(out, part);
    }
}
