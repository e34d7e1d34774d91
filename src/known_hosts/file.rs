//! One file in memory: an index by name, and what cannot be indexed.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::parse::{self, Hashed, Marker, Names, Parsed, Pattern};
use super::{KnownKey, Place, Verdict, Warning, fingerprint};
use crate::error::{Error, ErrorKind, Result};

/// A file, as it was when it was last read or written.
#[derive(Debug)]
pub(super) struct KnownFile {
    path: PathBuf,
    data: RwLock<Data>,
    /// Held while the file is written: threads queue here, processes at the file's own lock.
    pub(super) writing: Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct Data {
    keys: Vec<Key>,
    /// Which keys a name has; most lines have plain names.
    by_name: HashMap<String, Vec<usize>>,
    patterns: Vec<(Vec<Pattern>, usize)>,
    hashed: Vec<(Hashed, usize)>,
    /// What a name was found to have among the hashed lines: each line costs an HMAC.
    unhashed: RwLock<HashMap<String, Vec<usize>>>,
    warnings: Vec<(u64, &'static str)>,
    /// What was read.
    extent: Extent,
}

/// How much of which file was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    identity: Option<(u64, u64)>,
    /// To the end of the last whole line.
    pub(super) bytes: u64,
    lines: u64,
}

#[derive(Debug)]
struct Key {
    line: u64,
    marker: Marker,
    key_type: &'static str,
    blob: Box<[u8]>,
}

impl Extent {
    pub(super) fn is_of(&self, metadata: &Metadata) -> bool {
        self.identity == Some(identity(metadata)) && metadata.len() >= self.bytes
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Data {
    /// Adds bytes that follow what was read before.
    pub(super) fn extend(&mut self, bytes: &[u8], metadata: &Metadata) {
        let parsed = parse::parse(bytes);
        let whole_lines = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last as u64 + 1);
        let before = self.extent;
        self.extent = Extent {
            identity: Some(identity(metadata)),
            bytes: before.bytes + whole_lines,
            lines: before.lines + parsed.ends,
        };
        self.add(parsed, before.lines);
    }

    fn add(&mut self, parsed: Parsed, lines_before: u64) {
        for line in parsed.lines {
            let index = self.keys.len();
            self.keys.push(Key {
                line: line.number + lines_before,
                marker: line.marker,
                key_type: line.key_type,
                blob: line.blob,
            });
            match line.names {
                Names::Plain(names) => {
                    names.into_iter().for_each(|name| self.by_name.entry(name).or_default().push(index));
                }
                Names::Patterns(patterns) => self.patterns.push((patterns, index)),
                Names::Hashed(hashed) => {
                    self.unhashed.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
                    self.hashed.push((hashed, index));
                }
            }
        }
        self.warnings.extend(parsed.warnings.into_iter().map(|(number, what)| (number + lines_before, what)));
    }

    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// Returns the keys whose lines name `name`, in the order of the file.
    fn keys_of(&self, name: &str) -> Vec<&Key> {
        let mut found = self.by_name.get(name).cloned().unwrap_or_default();
        let patterns = self.patterns.iter().filter(|(patterns, _)| parse::matches(patterns, name));
        found.extend(patterns.map(|&(_, index)| index));
        if !self.hashed.is_empty() {
            found.extend(self.hashed_of(name));
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|index| self.keys.get(index)).collect()
    }

    fn hashed_of(&self, name: &str) -> Vec<usize> {
        if let Some(found) = self.unhashed.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return found.clone();
        }
        let hits = self.hashed.iter().filter(|(hashed, _)| hashed.matches(name));
        let found: Vec<usize> = hits.map(|&(_, index)| index).collect();
        self.unhashed.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), found.clone());
        found
    }
}

impl KnownFile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let data = match read_all(path) {
            Ok((bytes, metadata)) => {
                let mut data = Data::default();
                data.extend(&bytes, &metadata);
                data
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Data::default(),
            Err(error) => {
                return Err(cannot_read(path, error));
            }
        };
        Ok(Self { path: path.to_owned(), data: RwLock::new(data), writing: Mutex::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data(&self) -> RwLockReadGuard<'_, Data> {
        self.data.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn data_mut(&self) -> RwLockWriteGuard<'_, Data> {
        self.data.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, key: &Key) -> Place {
        Place { file: self.path.clone(), line: key.line }
    }

    /// Judges a key for a name in lower case.
    pub(super) fn verdict(&self, name: &str, blob: &[u8]) -> Verdict {
        let data = self.data();
        let keys = data.keys_of(name);
        if let Some(key) = keys.iter().find(|key| key.marker == Marker::Revoked && *key.blob == *blob) {
            return Verdict::Revoked(self.place(key));
        }
        let plain = || keys.iter().filter(|key| key.marker == Marker::Plain);
        if plain().any(|key| *key.blob == *blob) {
            return Verdict::Match;
        }
        let known = |key: &Key| KnownKey {
            place: self.place(key),
            key_type: key.key_type.to_owned(),
            fingerprint: fingerprint(&key.blob),
        };
        let key_type = parse::key_type(blob);
        if let Some(key) = plain().find(|key| Some(key.key_type) == key_type) {
            return Verdict::Changed(known(key));
        }
        plain().next().map_or(Verdict::Unknown, |key| Verdict::OtherTypeKnown(known(key)))
    }

    pub(super) fn key_types(&self, name: &str, types: &mut Vec<String>) {
        for key in self.data().keys_of(name) {
            if key.marker == Marker::Plain && !types.iter().any(|known| known == key.key_type) {
                types.push(key.key_type.to_owned());
            }
        }
    }

    /// Returns where another key of this one's type stands for `name`.
    pub(super) fn other(&self, name: &str, blob: &[u8]) -> Option<Place> {
        let key_type = parse::key_type(blob);
        let data = self.data();
        let is_other = |key: &&Key| key.marker == Marker::Plain && Some(key.key_type) == key_type && *key.blob != *blob;
        let found = data.keys_of(name).into_iter().find(is_other);
        found.map(|key| self.place(key))
    }

    /// Returns where `blob` is an authority for the hosts of a line that names `name`, or with `None` the first of any.
    pub(super) fn authority(&self, name: &str, blob: Option<&[u8]>) -> Option<Place> {
        let data = self.data();
        let keys = data.keys_of(name);
        let found =
            keys.into_iter().find(|key| key.marker == Marker::Authority && blob.is_none_or(|blob| *key.blob == *blob));
        found.map(|key| self.place(key))
    }

    pub(super) fn warnings(&self) -> Vec<Warning> {
        let place = |line| Place { file: self.path.clone(), line };
        self.data().warnings.iter().map(|&(line, what)| Warning { place: place(line), what }).collect()
    }

    /// Returns the numbers of the lines that name `name`, for the comparison with `ssh-keygen -F`.
    #[cfg(test)]
    pub(super) fn lines_of(&self, name: &str) -> Vec<u64> {
        self.data().keys_of(name).iter().map(|key| key.line).collect()
    }
}

fn read_all(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let mut file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    if metadata.file_type().is_char_device() {
        // `/dev/null`; others of its kind never end.
        return Ok((bytes, metadata));
    }
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok((bytes, metadata))
}

pub(super) fn cannot_read(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::LocalFile, format!("cannot read known_hosts file {}", path.display())).caused_by(error)
}
