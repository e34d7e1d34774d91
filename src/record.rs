//! Output to records: a regular expression whose named groups are fields.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Error, ErrorKind, Result};

/// The column beside the fields, which no group may be named.
const HOST: &str = "host";

/// A regular expression with named groups: each of its matches is a [`Record`], each group a field.
///
/// The syntax is that of the `regex` crate; it matches in time that is linear in the text. `^` and `$` stand for the start and
/// end of each line (`(?-m)` makes them those of the text), a line may end in LF or CR LF, and `.` matches neither of these
/// (`(?s)` lets it). A match may span lines. Text is UTF-8; `(?-u)` matches bytes.
///
/// # Examples
///
/// ```
/// let pattern = fleet::Pattern::new(r"^(?<fs>/dev/\S+) .* (?<use>\d+)%")?;
/// assert_eq!(pattern.fields(), ["fs", "use"]);
///
/// let df = b"Filesystem  Size Use%\n/dev/sda1    20G 63%\n/dev/sdb1   100G 99%\n";
/// let records: Vec<_> = pattern.records(df).collect();
/// assert_eq!(records.len(), 2);
/// assert_eq!(records[1].get("use").unwrap(), b"99");
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Clone)]
pub struct Pattern {
    regex: Regex,
    fields: Arc<[String]>,
    /// The number of the group of each field.
    groups: Arc<[usize]>,
}

impl Pattern {
    /// Reads a regular expression.
    ///
    /// # Errors
    /// `Usage` when it is none, names no group, or names one `host`; the message shows where, with a caret.
    pub fn new(pattern: &str) -> Result<Self> {
        let regex =
            RegexBuilder::new(pattern).multi_line(true).crlf(true).build().map_err(|error| unreadable(&error))?;
        let named = || regex.capture_names().enumerate().filter_map(|(group, name)| Some((group, name?)));
        if named().next().is_none() {
            // A group without a name is where it is missing.
            let column = pattern.chars().position(|c| c == '(').unwrap_or(0);
            return Err(bad("no group has a name", pattern, column));
        }
        if named().any(|(_, name)| name == HOST) {
            let at = pattern.find("<host>").unwrap_or(0);
            let column = pattern.get(..at).unwrap_or_default().chars().count() + 1;
            return Err(bad("the host is a field already, so no group can be named host", pattern, column));
        }
        let fields = named().map(|(_, name)| name.to_owned()).collect();
        let groups = named().map(|(group, _)| group).collect();
        Ok(Self { regex, fields, groups })
    }

    /// Returns the names of the groups, in the order in which they begin.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Returns the records of a text, in order. A match of nothing is none.
    pub fn records<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = Record> + 't {
        self.regex.captures_iter(text).filter(|found| found.get(0).is_some_and(|all| !all.is_empty())).map(|found| {
            let value = |group: &usize| found.get(*group).map(|value| value.as_bytes().to_vec());
            Record { fields: Arc::clone(&self.fields), values: self.groups.iter().map(value).collect() }
        })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.regex.as_str()).finish()
    }
}

/// What one match of a [`Pattern`] found: a value for each field, or none where its group took no part.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    fields: Arc<[String]>,
    values: Vec<Option<Vec<u8>>>,
}

impl Record {
    /// Returns a field's value.
    pub fn get(&self, field: &str) -> Option<&[u8]> {
        self.iter().find(|(name, _)| *name == field).and_then(|(_, value)| value)
    }

    /// Returns a field's value as text, empty where there is none; bytes that are not UTF-8 become `U+FFFD`.
    pub fn text(&self, field: &str) -> Cow<'_, str> {
        String::from_utf8_lossy(self.get(field).unwrap_or_default())
    }

    /// Returns each field and its value, in the order of [`Pattern::fields`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.fields.iter().map(String::as_str).zip(self.values.iter().map(Option::as_deref))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, value.map(String::from_utf8_lossy)))).finish()
    }
}

fn bad(why: &str, pattern: &str, column: usize) -> Error {
    let shown: String = pattern.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let what = format!("bad regular expression: {why}\n  {shown}\n  {:column$}^", "");
    Error::new(ErrorKind::Usage, what)
}

/// Says why as this crate's other messages with a caret do.
fn unreadable(error: &regex::Error) -> Error {
    let text = error.to_string();
    let (shown, why) = match text.rsplit_once("\nerror: ") {
        Some((shown, why)) => (shown.split_once('\n').map(|(_, shown)| shown).unwrap_or_default(), why),
        None => ("", text.trim_end_matches('.')),
    };
    let mut what = format!("bad regular expression: {why}");
    for line in shown.lines() {
        what.push_str("\n  ");
        what.push_str(line.strip_prefix("    ").unwrap_or(line));
    }
    Error::new(ErrorKind::Usage, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pattern: &str, text: &[u8]) -> Vec<String> {
        Pattern::new(pattern).unwrap().records(text).map(|record| format!("{record:?}")).collect()
    }

    fn refused(pattern: &str) -> String {
        Pattern::new(pattern).unwrap_err().to_string()
    }

    #[test]
    fn every_match_is_a_record() {
        let text = b"a=1 b=22\nc=3\r\n";
        assert_eq!(
            records(r"(?P<k>\w)=(?<v>\d+)", text),
            [
                r#"{"k": Some("a"), "v": Some("1")}"#,
                r#"{"k": Some("b"), "v": Some("22")}"#,
                r#"{"k": Some("c"), "v": Some("3")}"#
            ]
        );
        assert_eq!(records(r"^(?<line>.*)$", text), [r#"{"line": Some("a=1 b=22")}"#, r#"{"line": Some("c=3")}"#]);
        assert_eq!(records(r"(?s)b=(?<rest>.*\d)", text), [r#"{"rest": Some("22\nc=3")}"#]);
        assert_eq!(
            records(r"(?<a>a)|(?<c>c)", text),
            [r#"{"a": Some("a"), "c": None}"#, r#"{"a": None, "c": Some("c")}"#]
        );
        assert_eq!(records(r"(?<all>x*)", text), [""; 0]);
    }

    #[test]
    fn letters_of_any_script_and_bytes_can_be_matched() {
        assert_eq!(records(r"(?i)(?<word>ÄRGER)", "ärger".as_bytes()), [r#"{"word": Some("ärger")}"#]);
        let found: Vec<_> = Pattern::new(r"a(?-u:(?<b>.))").unwrap().records(b"a\xff").collect();
        assert_eq!(found[0].get("b").unwrap(), b"\xff");
        assert_eq!(found[0].text("b"), "\u{fffd}");
        assert_eq!(found[0].get("c"), None);
    }

    #[test]
    fn what_is_wrong_is_shown() {
        assert_eq!(refused(r"(?<a>\d+"), "bad regular expression: unclosed group\n  (?<a>\\d+\n  ^");
        assert_eq!(refused(r"x (\d+)%"), "bad regular expression: no group has a name\n  x (\\d+)%\n    ^");
        assert_eq!(refused("df"), "bad regular expression: no group has a name\n  df\n  ^");
        assert_eq!(
            refused("(?<host>a)"),
            "bad regular expression: the host is a field already, so no group can be named host\n  (?<host>a)\n     ^"
        );
        assert!(refused(r"(?<a>\pL{1000000})").starts_with("bad regular expression: "));
    }
}
