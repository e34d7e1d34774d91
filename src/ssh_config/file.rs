//! Reading files into lines, what they include with them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use regex::Regex;

use super::keyword::Keyword;
use super::line;
use super::tokens::{self, tilde};
use super::{Local, Origin};
use crate::error::{Error, ErrorKind, Result};

/// How deep files may include files (readconf.c: READCONF_MAX_DEPTH).
const MAX_DEPTH: usize = 16;

/// A configuration that is longer is none.
const MAX_BYTES: u64 = 16 << 20;

/// A file's lines, comments left out.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    pub(super) lines: Vec<Line>,
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) origin: Origin,
    pub(super) directive: Directive,
}

#[derive(Clone, Debug)]
pub(super) enum Directive {
    /// Opens a block for the names that match.
    Host(Vec<HostPattern>),
    /// Opens a block for what meets every criterion.
    Match(Vec<Criterion>),
    Include(Vec<ConfigFile>),
    Set(Keyword, Vec<String>),
    /// A keyword that is not kept, as it is written.
    Other(String),
}

#[derive(Clone, Debug)]
pub(super) struct HostPattern {
    pub(super) is_negated: bool,
    pub(super) pattern: String,
}

#[derive(Clone, Debug)]
pub(super) struct Criterion {
    pub(super) is_negated: bool,
    pub(super) test: Test,
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    All,
    /// Asks for a second pass, and holds in it only.
    Final,
    /// Holds in the second pass only, without asking for it.
    Canonical,
    Host(String),
    OriginalHost(String),
    User(String),
    LocalUser(String),
    Tagged(String),
    Exec(String),
    /// One that is not known here.
    Other(String),
}

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) local: &'a Local,
    /// The user's file, or one that it includes: relative paths start at `~/.ssh` instead of `/etc/ssh`.
    pub(super) is_users: bool,
    /// Whether others may not write to it.
    pub(super) is_guarded: bool,
}

impl Reading<'_> {
    /// Reads a file; none if it does not exist.
    pub(super) fn read(self, path: &Path) -> Result<Option<ConfigFile>> {
        self.read_at(path, 0)
    }

    fn read_at(self, path: &Path, depth: usize) -> Result<Option<ConfigFile>> {
        let cannot_read = |error| usage(format!("cannot read ssh_config {}", path.display())).caused_by(error);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot_read(error)),
        };
        let meta = file.metadata().map_err(cannot_read)?;
        let mode = meta.permissions().mode() & 0o7777;
        let is_foreign = meta.uid() != 0 && meta.uid() != self.local.uid;
        if self.is_guarded && (is_foreign || mode & 0o022 != 0) {
            let what = format!("bad owner or permissions on {} (mode {mode:04o})", path.display());
            return Err(usage(format!("{what}: run chmod go-w {}", path.display())));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(usage(format!("cannot read ssh_config {}: it is longer than 16 MiB", path.display())));
        }
        self.parse(&String::from_utf8_lossy(&bytes), path, depth).map(Some)
    }

    pub(super) fn parse(self, text: &str, path: &Path, depth: usize) -> Result<ConfigFile> {
        let path: Arc<Path> = path.into();
        let mut lines = Vec::new();
        for (number, text) in (1..).zip(text.split('\n')) {
            let origin = Origin { file: Arc::clone(&path), line: number };
            let Some((keyword, rest)) = line::keyword(text) else { continue };
            let directive = self.directive(&keyword, rest, &origin, depth)?;
            lines.push(Line { origin, directive });
        }
        Ok(ConfigFile { lines })
    }

    fn directive(self, keyword: &str, rest: &str, origin: &Origin, depth: usize) -> Result<Directive> {
        let bad = |what: String| usage(format!("{origin}: {what}"));
        if rest.is_empty() {
            return Err(bad(format!("{keyword} needs an argument")));
        }
        let words = line::words(rest).ok_or_else(|| bad("a quote is not closed".to_owned()))?;
        match keyword {
            "host" => {
                if words.iter().any(String::is_empty) {
                    return Err(bad("Host has an empty pattern".to_owned()));
                }
                Ok(Directive::Host(words.into_iter().map(HostPattern::new).collect()))
            }
            "match" => criteria(rest).map(Directive::Match).map_err(bad),
            "include" => {
                let mut files = Vec::new();
                for word in &words {
                    self.include(word, origin, depth, &mut files)?;
                }
                Ok(Directive::Include(files))
            }
            _ => match Keyword::from_name(keyword) {
                Some(known) => known.read(rest, words).map(|values| Directive::Set(known, values)).map_err(bad),
                None => Ok(Directive::Other(keyword.to_owned())),
            },
        }
    }

    fn include(self, word: &str, origin: &Origin, depth: usize, files: &mut Vec<ConfigFile>) -> Result<()> {
        if word.is_empty() {
            return Err(usage(format!("{origin}: Include has an empty argument")));
        }
        if depth >= MAX_DEPTH {
            return Err(usage(format!("{origin}: files include each other more than {MAX_DEPTH} deep")));
        }
        let bad = |what: String| usage(format!("{origin}: Include {word}: {what}"));
        let pattern = if word.starts_with('~') {
            if !self.is_users {
                return Err(usage(format!("{origin}: Include of a home directory in a system file: {word}")));
            }
            PathBuf::from(tilde(word, self.local).map_err(|what| usage(format!("{origin}: {what}")))?)
        } else if self.is_users {
            self.local.home.join(".ssh").join(tokens::of_machine(word, self.local).map_err(bad)?)
        } else {
            Path::new("/etc/ssh").join(tokens::of_machine(word, self.local).map_err(bad)?)
        };
        let inner = Self { is_guarded: true, ..self };
        for path in glob(&pattern) {
            match inner.read_at(&path, depth + 1) {
                Ok(file) => files.extend(file),
                Err(error) if error.to_string().starts_with("cannot read") => {
                    return Err(usage(format!("{origin}: cannot include {}", path.display())).caused_by(error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl HostPattern {
    fn new(word: String) -> Self {
        match word.strip_prefix('!') {
            Some(pattern) => Self { is_negated: true, pattern: pattern.to_owned() },
            None => Self { is_negated: false, pattern: word },
        }
    }
}

/// Reads what stands behind `Match` (readconf.c: match_cfg_line).
fn criteria(rest: &str) -> Result<Vec<Criterion>, String> {
    let mut criteria: Vec<Criterion> = Vec::new();
    let mut rest = Some(rest);
    let is_end = |word: &Option<String>| word.as_ref().is_none_or(|word| word.is_empty() || word.starts_with('#'));
    loop {
        let word = line::next_word(&mut rest);
        if is_end(&word) {
            break;
        }
        let word = word.unwrap_or_default();
        let (is_negated, name) = match word.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, &*word),
        };
        let name = name.to_lowercase();
        let test = match &*name {
            "all" => {
                if criteria.len() > 1 || !is_end(&line::next_word(&mut rest)) {
                    return Err("Match all stands alone".to_owned());
                }
                criteria.push(Criterion { is_negated, test: Test::All });
                break;
            }
            "final" => Test::Final,
            "canonical" => Test::Canonical,
            _ => {
                let argument = line::next_word(&mut rest);
                match argument {
                    Some(argument) if !argument.is_empty() && !argument.starts_with('#') => match &*name {
                        "host" => Test::Host(argument),
                        "originalhost" => Test::OriginalHost(argument),
                        "user" => Test::User(argument),
                        "localuser" => Test::LocalUser(argument),
                        "exec" => Test::Exec(argument),
                        "tagged" => Test::Tagged(argument),
                        _ => Test::Other(name.clone()),
                    },
                    _ => return Err(format!("Match {name} needs an argument")),
                }
            }
        };
        criteria.push(Criterion { is_negated, test });
    }
    if criteria.is_empty() { Err("Match needs a criterion".to_owned()) } else { Ok(criteria) }
}

/// Returns the paths that match, sorted as glob(3) does; a path without a pattern stands for itself.
fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = match component {
            Component::Normal(name) => name.to_string_lossy(),
            other => {
                found.iter_mut().for_each(|path| path.push(other));
                continue;
            }
        };
        if !name.contains(['*', '?', '[']) {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let Ok(regex) = Regex::new(&regex_of(&name)) else { return Vec::new() };
        let is_hidden = name.starts_with('.');
        let matching = |path: PathBuf| {
            let names = std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.file_name());
            let names = names.filter(|name| {
                let name = name.to_string_lossy();
                regex.is_match(&name) && (is_hidden || !name.starts_with('.'))
            });
            names.map(move |name| path.join(name)).collect::<Vec<_>>()
        };
        found = found.into_iter().flat_map(matching).collect();
    }
    if pattern.to_string_lossy().contains(['*', '?', '[']) {
        found.retain(|path| path.symlink_metadata().is_ok());
    }
    found.sort();
    found
}

/// Turns one component of a glob into a regular expression.
fn regex_of(glob: &str) -> String {
    let mut regex = String::from("(?s)^");
    let mut rest = glob.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => match rest.as_str().split_once(']') {
                Some((class, after)) if !class.is_empty() => {
                    let (not, class) = match class.strip_prefix(['!', '^']) {
                        Some(class) => ("^", class),
                        None => ("", class),
                    };
                    let class: String = class.chars().map(|c| if c == '-' { "-".into() } else { escaped(c) }).collect();
                    regex.push_str(&format!("[{not}{class}]"));
                    rest = after.chars();
                }
                _ => regex.push_str("\\["),
            },
            c => regex.push_str(&escaped(c)),
        }
    }
    regex.push('$');
    regex
}

fn escaped(c: char) -> String {
    regex::escape(c.encode_utf8(&mut [0; 4]))
}

pub(super) fn usage(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, what)
}
