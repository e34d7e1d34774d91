//! The format: one line, one host list, one key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use wildmatch::WildMatch;

use crate::cores;

/// Files longer than this are read by several threads.
const PARALLEL_BYTES: usize = 1024 * 1024;

/// The keys that fleet can ask a server for. OpenSSH skips lines of types that it does not know, and so does fleet.
const KEY_TYPES: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// The key of the named hosts.
    Plain,
    /// `@cert-authority`: kept, and matched to no plain key.
    Authority,
    /// `@revoked`.
    Revoked,
}

/// The hosts of a line.
#[derive(Debug)]
pub(super) enum Names {
    /// Names without wildcards, in lower case.
    Plain(Vec<String>),
    /// At least one pattern has a wildcard or is negated.
    Patterns(Vec<Pattern>),
    /// One name, hashed with a salt.
    Hashed(Hashed),
}

#[derive(Debug)]
pub(super) struct Pattern {
    negated: bool,
    glob: WildMatch,
}

/// `|1|SALT|HASH`: HMAC-SHA1 of the name under the salt, which is taken in already: that more than halves a comparison.
#[derive(Clone, Debug)]
pub(super) struct Hashed {
    salted: Hmac<Sha1>,
    hash: [u8; 20],
}

impl Hashed {
    pub(super) fn matches(&self, name: &str) -> bool {
        let mut mac = self.salted.clone();
        mac.update(name.as_bytes());
        mac.verify_slice(&self.hash).is_ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let (salt, hash) = text.strip_prefix("|1|")?.split_once('|')?;
        let decode = |text: &str| -> Option<[u8; 20]> { STANDARD.decode(text).ok()?.try_into().ok() };
        Some(Self { salted: Hmac::new_from_slice(&decode(salt)?).ok()?, hash: decode(hash)? })
    }
}

/// Tells whether a list of patterns accepts a name: one that matches a negated pattern is refused whatever else matches.
pub(super) fn matches(patterns: &[Pattern], name: &str) -> bool {
    let hits = |negated: bool| patterns.iter().any(|pattern| pattern.negated == negated && pattern.glob.matches(name));
    hits(false) && !hits(true)
}

/// A line that says something about a key.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1 within what was parsed.
    pub(super) number: u64,
    pub(super) marker: Marker,
    pub(super) names: Names,
    pub(super) key_type: &'static str,
    pub(super) blob: Box<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) lines: Vec<Line>,
    pub(super) warnings: Vec<(u64, &'static str)>,
    /// How many line ends there were.
    pub(super) ends: u64,
}

/// Parses a whole file, or a part of one that starts at a line's start. Never fails: bad lines become warnings.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    if bytes.len() < PARALLEL_BYTES {
        return parse_part(bytes);
    }
    let parts = cores::map(split(bytes, PARALLEL_BYTES / 4), parse_part);
    let mut whole = Parsed::default();
    for mut part in parts {
        part.lines.iter_mut().for_each(|line| line.number += whole.ends);
        part.warnings.iter_mut().for_each(|(number, _)| *number += whole.ends);
        whole.lines.append(&mut part.lines);
        whole.warnings.append(&mut part.warnings);
        whole.ends += part.ends;
    }
    whole
}

/// Cuts at line ends, into parts of about `len` bytes.
fn split(mut bytes: &[u8], len: usize) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(tail) = bytes.get(len..) {
        let Some(end) = tail.iter().position(|&byte| byte == b'\n') else { break };
        let (part, rest) = bytes.split_at(len + end + 1);
        parts.push(part);
        bytes = rest;
    }
    parts.push(bytes);
    parts
}

fn parse_part(bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        parsed.ends = number - 1;
        match parse_line(number, line) {
            Ok(Some(line)) => parsed.lines.push(line),
            Ok(None) => {}
            Err(what) => parsed.warnings.push((number, what)),
        }
    }
    parsed
}

/// Reads one line without its end; `None` when it says nothing.
pub(super) fn parse_line(number: u64, line: &[u8]) -> Result<Option<Line>, &'static str> {
    // A carriage return belongs to the line end of another system's editor.
    let mut fields = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).filter(|field| !field.is_empty());
    let mut next = || match fields.next() {
        Some(field) => str::from_utf8(field).map(Some).map_err(|_| "it is not text"),
        None => Ok(None),
    };
    let Some(mut names) = line_start(&mut next)? else { return Ok(None) };
    let marker = match names.strip_prefix('@') {
        None => Marker::Plain,
        Some("cert-authority") => Marker::Authority,
        Some("revoked") => Marker::Revoked,
        Some(_) => return Err("its marker is unknown"),
    };
    if marker != Marker::Plain {
        names = next()?.ok_or("its end is missing")?;
        if names.starts_with('@') {
            return Err("it has two markers");
        }
    }
    let key_type_name = next()?.ok_or("its end is missing")?;
    let encoded = next()?.ok_or("its end is missing")?;
    let names = parse_names(names)?;
    let Some(&key_type_name) = KEY_TYPES.iter().find(|&&known| known == key_type_name) else {
        return if looks_like_type(key_type_name) { Ok(None) } else { Err("its key type is malformed") };
    };
    let blob = STANDARD.decode(encoded).map_err(|_| "its key is not base64")?;
    if key_type(&blob) != Some(key_type_name) {
        return Err("its key is not of the type it says");
    }
    Ok(Some(Line { number, marker, names, key_type: key_type_name, blob: blob.into() }))
}

/// Returns the first field, unless the line is empty or a comment.
fn line_start<'a>(
    next: &mut impl FnMut() -> Result<Option<&'a str>, &'static str>,
) -> Result<Option<&'a str>, &'static str> {
    Ok(next()?.filter(|field| !field.starts_with('#')))
}

/// Tells a type that fleet does not know (`ssh-dss`, a certificate) from garbage and from the numbers of SSH 1.
fn looks_like_type(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && name.contains('-')
}

fn parse_names(text: &str) -> Result<Names, &'static str> {
    if text.starts_with('|') {
        return Hashed::parse(text).map(Names::Hashed).ok_or("its hashed name is malformed");
    }
    let text = text.to_ascii_lowercase();
    let names = text.split(',').filter(|name| !name.is_empty());
    if !text.contains(['*', '?', '!']) {
        return Ok(Names::Plain(names.map(str::to_owned).collect()));
    }
    let pattern = |name: &str| match name.strip_prefix('!') {
        Some(rest) => Pattern { negated: true, glob: WildMatch::new(rest) },
        None => Pattern { negated: false, glob: WildMatch::new(name) },
    };
    Ok(Names::Patterns(names.map(pattern).collect()))
}

pub(super) fn key_type(blob: &[u8]) -> Option<&str> {
    let (len, rest) = blob.split_first_chunk()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    rest.get(..len).and_then(|name| str::from_utf8(name).ok()).filter(|name| !name.is_empty())
}
