//! Reading and expanding hostsets.

use std::fmt::Write as _;

use super::MAX_NAMES;
use super::cursor::{Cursor, Syntax};
use crate::error::{Error, ErrorKind, Result};

/// More digits than this in one number are refused: they do not fit.
pub(super) const MAX_DIGITS: usize = 18;

/// A parsed hostset: small, whatever number of names it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSet {
    patterns: Vec<Pattern>,
    len: u64,
}

/// One comma-separated part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Numbers(Vec<Range>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
    step: u64,
    width: usize,
}

impl Range {
    fn len(self) -> u64 {
        (self.last - self.first) / self.step + 1
    }
}

impl HostSet {
    /// Parses a hostset.
    ///
    /// # Errors
    ///
    /// As [`expand`](super::expand()).
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_at(text).map_err(|error| {
            let Syntax { column, message } = error;
            Error::new(ErrorKind::Usage, format!("bad hostset {text:?}: {message} at column {column}"))
        })
    }

    pub(crate) fn parse_at(text: &str) -> Result<Self, Syntax> {
        let mut cursor = Cursor::new(text);
        let mut set = Self { patterns: Vec::new(), len: 0 };
        loop {
            cursor.skip_space();
            let column = cursor.column();
            let (pattern, len) = read_pattern(&mut cursor)?;
            set.patterns.push(pattern);
            set.len += len;
            if set.len > MAX_NAMES {
                return Err(too_many(column));
            }
            cursor.skip_space();
            match cursor.peek() {
                None => return Ok(set),
                Some(',') => cursor.bump(),
                Some(_) => return Err(Syntax::new(cursor.column(), "expected \",\"")),
            };
        }
    }

    /// Returns how many names the set stands for, duplicates counted.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Tells whether it stands for no name, which [`parse`](Self::parse) never gives.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the names, in the order written; of several brackets the last one turns fastest.
    pub fn iter(&self) -> Names<'_> {
        Names { patterns: self.patterns.iter(), current: None }
    }
}

impl<'s> IntoIterator for &'s HostSet {
    type Item = String;
    type IntoIter = Names<'s>;

    fn into_iter(self) -> Names<'s> {
        self.iter()
    }
}

/// The names of a [`HostSet`].
#[derive(Clone, Debug)]
pub struct Names<'s> {
    patterns: std::slice::Iter<'s, Pattern>,
    current: Option<Odometer<'s>>,
}

impl Iterator for Names<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if self.current.is_none() {
            self.current = Some(Odometer::new(self.patterns.next()?));
        }
        let odometer = self.current.as_mut()?;
        let name = odometer.name();
        if !odometer.advance() {
            self.current = None;
        }
        Some(name)
    }
}

/// Where each bracket of a pattern stands.
#[derive(Clone, Debug)]
struct Odometer<'s> {
    wheels: Vec<Wheel<'s>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Wheel<'s> {
    Text(&'s str),
    Number { ranges: &'s [Range], rest: &'s [Range], range: Range, value: u64 },
}

impl<'s> Odometer<'s> {
    fn new(pattern: &'s Pattern) -> Self {
        let wheels = pattern.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => Wheel::Text(text),
            Piece::Numbers(ranges) => {
                let Some((range, rest)) = ranges.split_first() else { unreachable!("a bracket holds a range") };
                Wheel::Number { ranges, rest, range: *range, value: range.first }
            }
        });
        Self { wheels: wheels.collect(), len: 0 }
    }

    fn name(&mut self) -> String {
        let mut name = String::with_capacity(self.len);
        for wheel in &self.wheels {
            match wheel {
                Wheel::Text(text) => name.push_str(text),
                Wheel::Number { range, value, .. } => {
                    let _ = write!(name, "{value:0width$}", width = range.width);
                }
            }
        }
        self.len = name.len();
        name
    }

    /// Moves to the next name; false when there is none.
    fn advance(&mut self) -> bool {
        for wheel in self.wheels.iter_mut().rev() {
            let Wheel::Number { ranges, rest, range, value } = wheel else { continue };
            if range.last - *value >= range.step {
                *value += range.step;
                return true;
            }
            if let Some((next, after)) = rest.split_first() {
                (*range, *rest, *value) = (*next, after, next.first);
                return true;
            }
            if let Some((first, after)) = ranges.split_first() {
                (*range, *rest, *value) = (*first, after, first.first);
            }
        }
        false
    }
}

fn read_pattern(cursor: &mut Cursor<'_>) -> Result<(Pattern, u64), Syntax> {
    let start = cursor.column();
    let mut pattern = Pattern::default();
    let mut text = String::new();
    let mut len = 1_u64;
    let mut in_ipv6 = false;
    loop {
        let column = cursor.column();
        match cursor.peek() {
            None | Some(',') => break,
            Some(c) if c.is_whitespace() => break,
            Some('[') if (text.is_empty() && column == start || text.ends_with('@')) && cursor.at_ipv6() => {
                in_ipv6 = true;
                text.push('[');
                cursor.bump();
            }
            Some(']') if in_ipv6 => {
                in_ipv6 = false;
                text.push(']');
                cursor.bump();
            }
            Some('[') => {
                cursor.bump();
                let ranges = read_bracket(cursor)?;
                let count = ranges.iter().try_fold(0_u64, |sum, range| sum.checked_add(range.len()));
                len = count.and_then(|count| len.checked_mul(count)).unwrap_or(u64::MAX);
                if len > MAX_NAMES {
                    return Err(too_many(column));
                }
                if !text.is_empty() {
                    pattern.pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pattern.pieces.push(Piece::Numbers(ranges));
            }
            Some(']') => return Err(Syntax::new(column, "\"]\" without \"[\"")),
            Some(_) => {
                text.push_str(cursor.take_while(|c| !matches!(c, ',' | '[' | ']') && !c.is_whitespace()));
            }
        }
    }
    if in_ipv6 {
        return Err(Syntax::new(cursor.column(), "expected \"]\""));
    }
    if !text.is_empty() {
        pattern.pieces.push(Piece::Text(text));
    }
    if pattern.pieces.is_empty() {
        return Err(Syntax::new(start, "expected a name"));
    }
    Ok((pattern, len))
}

/// Reads what stands between the brackets, and the closing one.
fn read_bracket(cursor: &mut Cursor<'_>) -> Result<Vec<Range>, Syntax> {
    let mut ranges = Vec::new();
    loop {
        cursor.skip_space();
        let range = read_range(cursor)?;
        ranges.push(range);
        cursor.skip_space();
        let column = cursor.column();
        match cursor.bump() {
            Some(',') => {}
            Some(']') => return Ok(ranges),
            Some(':') => {
                return Err(Syntax::new(column, "ranges are written with \"-\": expected \"-\", \",\" or \"]\""));
            }
            _ if range.first == range.last => return Err(Syntax::new(column, "expected \"-\", \",\" or \"]\"")),
            _ => return Err(Syntax::new(column, "expected \",\" or \"]\"")),
        }
    }
}

fn read_range(cursor: &mut Cursor<'_>) -> Result<Range, Syntax> {
    let (digits, first) = read_number(cursor)?;
    let width = digits.len();
    cursor.skip_space();
    if !cursor.take('-') {
        return Ok(Range { first, last: first, step: 1, width });
    }
    cursor.skip_space();
    let column = cursor.column();
    let (end, last) = read_number(cursor)?;
    if last < first {
        return Err(Syntax::new(column, format!("the range runs backwards: {digits}-{end}")));
    }
    if end.len() < width || (end.len() > width && end.starts_with('0')) {
        return Err(Syntax::new(column, format!("the ends are padded differently: {digits}-{end}")));
    }
    let mut step = 1;
    if cursor.take('/') {
        let column = cursor.column();
        step = read_number(cursor)?.1;
        if step == 0 {
            return Err(Syntax::new(column, "expected a step of at least 1"));
        }
    }
    Ok(Range { first, last, step, width })
}

fn read_number<'t>(cursor: &mut Cursor<'t>) -> Result<(&'t str, u64), Syntax> {
    let column = cursor.column();
    let digits = cursor.take_while(|c| c.is_ascii_digit());
    if digits.len() > MAX_DIGITS {
        return Err(Syntax::new(column, format!("expected a number of at most {MAX_DIGITS} digits")));
    }
    let value = digits.parse().map_err(|_| Syntax::new(column, "expected a number"))?;
    Ok((digits, value))
}

fn too_many(column: usize) -> Syntax {
    Syntax::new(column, format!("more than {MAX_NAMES} names"))
}

#[cfg(test)]
mod tests {
    use crate::hostset::expand;

    #[test]
    fn hostsets_expand_as_in_clustershell() {
        for (text, names) in [
            ("web1", "web1"),
            ("web[1-3]", "web1 web2 web3"),
            ("web[08-11]", "web08 web09 web10 web11"),
            ("web[98-101]", "web98 web99 web100 web101"),
            ("web[098-101]", "web098 web099 web100 web101"),
            ("web[1,01,001-002]", "web1 web01 web001 web002"),
            ("n[0-10/5,7]", "n0 n5 n10 n7"),
            ("n[0-9/4]", "n0 n4 n8"),
            ("n[ 1 - 2, 4 ]", "n1 n2 n4"),
            ("r[1-2]n[1,3]x", "r1n1x r1n3x r2n1x r2n3x"),
            ("[1-2]a, b ,c[3]", "1a 2a b c3"),
            ("10.0.[0-1].[1-2]", "10.0.0.1 10.0.0.2 10.0.1.1 10.0.1.2"),
            ("[::1]:22", "[::1]:22"),
            ("[fe80::1]", "[fe80::1]"),
            ("root@[fe80::1%eth0]:22,a", "root@[fe80::1%eth0]:22 a"),
            ("[fe80::[1-2]]:22", "[fe80::1]:22 [fe80::2]:22"),
            ("fe80::[1-2]", "fe80::1 fe80::2"),
            ("root@[1-2]", "root@1 root@2"),
            ("ünï[1-2]", "ünï1 ünï2"),
        ] {
            assert_eq!(expand(text).unwrap().join(" "), names, "{text}");
        }
    }

    #[test]
    fn a_bad_hostset_says_where_and_what_was_expected() {
        for (text, message) in [
            ("", "expected a name at column 1"),
            ("a,", "expected a name at column 3"),
            ("a,,b", "expected a name at column 3"),
            ("a b", "expected \",\" at column 3"),
            ("web[", "expected a number at column 5"),
            ("web[]", "expected a number at column 5"),
            ("web[1-]", "expected a number at column 7"),
            ("web[1", "expected \"-\", \",\" or \"]\" at column 6"),
            ("web[1-3", "expected \",\" or \"]\" at column 8"),
            ("web[1-3/0]", "expected a step of at least 1 at column 9"),
            ("web[3-1]", "the range runs backwards: 3-1 at column 7"),
            ("web[001-10]", "the ends are padded differently: 001-10 at column 9"),
            ("web[1-010]", "the ends are padded differently: 1-010 at column 7"),
            ("web[01:20]", "ranges are written with \"-\": expected \"-\", \",\" or \"]\" at column 7"),
            ("wéb1]", "\"]\" without \"[\" at column 5"),
            ("[::1", "expected \"]\" at column 5"),
            ("a[1-9999999999999999999]", "expected a number of at most 18 digits at column 5"),
            ("a[1-10000001]", "more than 10000000 names at column 2"),
            ("a[0-99999999999999999]b[0-99999999999999999]", "more than 10000000 names at column 2"),
            ("a[1-9999999],b[1-2]", "more than 10000000 names at column 14"),
        ] {
            let error = expand(text).unwrap_err();
            assert_eq!(error.to_string(), format!("bad hostset \"{text}\": {message}"));
        }
    }
}
