//! Groups as people read them: who, and what they wrote.

use std::io::{self, Read, Write};

use super::diff::{Sign, unified};
use super::{Fold, Group};
use crate::sink::escape::escape;
use crate::sink::lines::Lines;
use crate::sink::names::fold_names;
use crate::sink::out::Out;
use crate::spool::Spool;

const RULE: &str = "---------------";

/// Above how many bytes outputs are not compared line by line.
const MAX_DIFF_BYTES: u64 = 1024 * 1024;

const CYAN: &str = "36";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

impl<O: Write + Send, E: Write + Send> Fold<O, E> {
    /// Writes a block for each group that something was heard of.
    pub(super) fn write_blocks(&mut self, groups: &[Group]) -> io::Result<()> {
        let majority = groups.iter().filter(|_| self.diff).find(|group| group.is_whole());
        for group in groups.iter().filter(|group| group.is_whole() || !group.is_silent()) {
            // Where there is nothing of it, there is nothing to compare.
            let against = majority.filter(|majority| !std::ptr::eq(*majority, group) && !group.is_silent());
            self.write_block(group, against)?;
        }
        Ok(())
    }

    fn write_block(&mut self, group: &Group, against: Option<&Group>) -> io::Result<()> {
        let same = |spool: fn(&Group) -> &Spool| match against {
            Some(other) => spool(group).same_as(spool(other)).map_err(|error| io::Error::other(error.chain())),
            None => Ok(false),
        };
        let is_same = [same(Group::stdout)?, same(Group::stderr)?];
        let title = title(group, is_same);
        // The two streams may end in one file or terminal: neither overtakes the other.
        self.stderr.buffer.write()?;
        write_title(&mut self.stdout, &title)?;
        let [is_same_stdout, is_same_stderr] = is_same;
        if !is_same_stdout {
            write_body(&mut self.stdout, group, against, Group::stdout)?;
        }
        let is_silent = group.stderr().is_empty() && against.is_none_or(|other| other.stderr().is_empty());
        if is_silent || is_same_stderr {
            return Ok(());
        }
        self.stdout.buffer.write()?;
        if self.stdout.target.terminal && self.stderr.target.terminal {
            self.stderr.own_line(YELLOW, "--- stderr")?;
        } else {
            write_title(&mut self.stderr, &title)?;
        }
        write_body(&mut self.stderr, group, against, Group::stderr)
    }
}

/// The line between the rules: who, how many, and what else is to be said.
struct Title {
    names: String,
    rest: String,
    is_well: bool,
}

fn title(group: &Group, is_same: [bool; 2]) -> Title {
    let names = escape(&group.names()).into_owned();
    let notes = match is_same {
        _ if group.is_silent() => Some("no output"),
        [true, true] => Some("the same output"),
        [true, false] => Some("the same standard output"),
        _ => None,
    };
    let ending = group.ending();
    let is_well = ending.is_none();
    let said: Vec<String> =
        ending.iter().map(|ending| escape(ending).into_owned()).chain(notes.map(str::to_owned)).collect();
    let said = if said.is_empty() { String::new() } else { format!(": {}", said.join(", ")) };
    Title { names, rest: format!(" ({}){said}", group.size()), is_well }
}

fn write_title<W: Write>(out: &mut Out<W>, title: &Title) -> io::Result<()> {
    let color = if title.is_well { CYAN } else { RED };
    out.own_line(color, RULE)?;
    out.own_line(color, &format!("{}{}", title.names, title.rest))?;
    out.own_line(color, RULE)
}

fn write_body<W: Write>(
    out: &mut Out<W>,
    group: &Group,
    against: Option<&Group>,
    stream: fn(&Group) -> &Spool,
) -> io::Result<()> {
    match against {
        None => write_spool(out, stream(group)),
        Some(other) => write_difference(out, [other, group], stream),
    }
}

/// Writes an output; one that does not end with a newline gets it.
fn write_spool<W: Write>(out: &mut Out<W>, spool: &Spool) -> io::Result<()> {
    let mut reader = spool.reader();
    let mut lines = Lines::default();
    let mut buffer = vec![0; 32 * 1024];
    // Pieces of a line stay one line, but on a terminal's screen each is whole.
    let is_piece_a_line = out.target.terminal;
    loop {
        let count = reader.read(&mut buffer).map_err(|error| io::Error::other(spool.cannot_read(error).chain()))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        lines.push(bytes, &mut |line, eol| out.line(b"", line, eol || is_piece_a_line))?;
    }
    lines.finish(&mut |line, _| out.line(b"", line, true))
}

/// Writes what the second of two groups wrote other than the first.
fn write_difference<W: Write>(out: &mut Out<W>, groups: [&Group; 2], stream: fn(&Group) -> &Spool) -> io::Result<()> {
    let names = groups.map(|group| escape(&fold_names(group.hosts().map(|host| host.name.as_str()))).into_owned());
    let [other_name, name] = &names;
    let lens = groups.map(|group| stream(group).len());
    let [other_len, len] = lens;
    if lens.iter().any(|len| *len > MAX_DIFF_BYTES) {
        let what =
            format!("differs from {other_name}: {len} bytes instead of {other_len}, too many to compare by line");
        return out.own_line(YELLOW, &what);
    }
    let bytes = |group: &Group| stream(group).bytes().map_err(|error| io::Error::other(error.chain()));
    let [other, group] = groups;
    let (before, after) = (bytes(other)?, bytes(group)?);
    if [&before, &after].iter().any(|bytes| bytes.contains(&0)) {
        let what = format!("differs from {other_name}: {len} bytes instead of {other_len}, not text");
        return out.own_line(YELLOW, &what);
    }
    out.own_line(RED, &format!("--- {other_name}"))?;
    out.own_line(GREEN, &format!("+++ {name}"))?;
    unified(&before, &after, &mut |sign, line| match sign {
        Sign::Place => out.own_line(CYAN, &String::from_utf8_lossy(line)),
        Sign::NoEnd => out.line(b"", line, true),
        Sign::Same => out.line(b" ", line, true),
        Sign::Removed => signed(out, "-", RED, line),
        Sign::Added => signed(out, "+", GREEN, line),
    })
}

fn signed<W: Write>(out: &mut Out<W>, sign: &str, color: &str, line: &[u8]) -> io::Result<()> {
    let sign = if out.target.color { format!("\x1b[{color}m{sign}\x1b[0m") } else { sign.to_owned() };
    out.line(sign.as_bytes(), line, true)
}
