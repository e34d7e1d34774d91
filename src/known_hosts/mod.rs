//! The keys of servers: reading, matching and recording `known_hosts` files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").
//!
//! A [`Store`] reads each file once per run; [`KnownHosts`] is a view of the files that one host uses. A key that is
//! recorded through one view is seen by all at once. Matching is OpenSSH's, checked against `ssh-keygen -F`; where it
//! decides between keys it follows OpenSSH's `check_hostkeys_by_key_or_type`.

mod file;
mod parse;
mod record;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, ErrorKind, Result};
use file::KnownFile;

/// Returns a public key's fingerprint as OpenSSH shows it: `SHA256:` and the hash in base64 without padding.
pub fn fingerprint(key_blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key_blob)))
}

/// Returns the type that a public key names itself, such as `ssh-ed25519` (RFC 4253 section 6.6).
pub fn key_type(key_blob: &[u8]) -> Option<&str> {
    parse::key_type(key_blob)
}

/// Returns the files that are used where a host names none: the user's and the system's.
pub fn default_files() -> Vec<PathBuf> {
    let user = dirs::home_dir().map(|home| home.join(".ssh/known_hosts"));
    user.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect()
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// A key that a file has for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Where it stands.
    pub place: Place,
    /// Its type, such as `ssh-ed25519`.
    pub key_type: String,
    /// Its fingerprint, `SHA256:…`.
    pub fingerprint: String,
}

/// What the files say about a key that a server presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A line for this host has this key.
    Match,
    /// No line names the host.
    Unknown,
    /// The host is known by keys of other types only; this is one of them.
    ///
    /// OpenSSH treats that as a changed key, whatever `StrictHostKeyChecking` says short of `no`: otherwise whoever sits
    /// in between need only offer another type. A client that asks for [`KnownHosts::key_types`] first seldom sees it.
    OtherTypeKnown(KnownKey),
    /// The host is known by another key of this type.
    Changed(KnownKey),
    /// The key is marked `@revoked` for this host: refused under every policy.
    Revoked(Place),
}

/// A key that a server proved to have, and what the files say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presented {
    /// The key as SSH sends it; of a certificate the key that it is for.
    pub blob: Vec<u8>,
    /// What the files say; a valid certificate of a known authority is a match.
    pub verdict: Verdict,
}

impl Presented {
    /// Joins a key with what is said of it.
    pub fn new(blob: Vec<u8>, verdict: Verdict) -> Self {
        Self { blob, verdict }
    }

    /// Returns the key's type, such as `ssh-ed25519`; empty when it is malformed.
    pub fn key_type(&self) -> &str {
        key_type(&self.blob).unwrap_or_default()
    }

    /// Returns the key's fingerprint, `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }
}

/// What became of a key that was to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// One line was added.
    Added,
    /// The host had the key already: another thread or process was quicker.
    AlreadyThere,
    /// The host has another key of this type by now; nothing was written.
    Changed(KnownKey),
    /// The key is revoked; nothing was written.
    Revoked(Place),
    /// One line was added, and the host's others were removed. What still names the host with another key of the type
    /// stands in a pattern or in another file.
    Replaced(Option<Place>),
}

/// A key that is to be recorded with others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewKey {
    /// [`Host::known_hosts_name`](crate::Host::known_hosts_name).
    pub name: String,
    /// The key as SSH sends it.
    pub blob: Vec<u8>,
    /// Whether it may take the place of the host's other keys. Default: no.
    pub replaces: bool,
}

impl NewKey {
    /// Takes a key that replaces nothing.
    pub fn new(name: impl Into<String>, blob: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), blob: blob.into(), replaces: false }
    }

    /// Lets it take the place of the host's other keys.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.replaces = true;
        self
    }
}

/// A line that could not be read, and was skipped as OpenSSH does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The line.
    pub place: Place,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

type Slot = Arc<OnceLock<Result<Arc<KnownFile>>>>;

/// The `known_hosts` files of a run, each read once, whoever asks.
#[derive(Debug, Default)]
pub struct Store {
    files: Mutex<HashMap<PathBuf, Slot>>,
}

impl Store {
    /// Returns a view of these files. A missing file is empty.
    ///
    /// # Errors
    /// `LocalFile` when a file exists and cannot be read.
    ///
    /// # Blocking
    /// While a file is read for the first time.
    pub fn open(&self, paths: &[PathBuf]) -> Result<KnownHosts> {
        paths.iter().map(|path| self.file(path)).collect::<Result<_>>().map(|files| KnownHosts { files })
    }

    fn file(&self, path: &Path) -> Result<Arc<KnownFile>> {
        let slot = {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(files.entry(path.to_owned()).or_default())
        };
        slot.get_or_init(|| KnownFile::read(path).map(Arc::new)).clone()
    }

    /// Adds a key for `name` to the end of `path`, unless the files of `known` have it by now.
    ///
    /// The file is locked against other processes, what they appended is read first, and one whole line is added by one
    /// write: nothing is lost or doubled, and the file is never truncated. A new file gets mode 0600, a missing last
    /// directory is made with mode 0700. Keys of other types for the host do not stand in the way: ask
    /// [`KnownHosts::verdict`] first. `name` is [`Host::known_hosts_name`](crate::Host::known_hosts_name).
    ///
    /// # Errors
    /// `LocalFile` when the file cannot be opened, locked, read or written; `Usage` when `name` cannot stand in a file (a
    /// space, a comma, a wildcard, a leading `#`, `@`, `|` or `!`); `Protocol` when the key is malformed.
    ///
    /// # Blocking
    /// For other threads and processes that record in the same file, at most 10 s.
    pub fn record(&self, known: &KnownHosts, path: &Path, name: &str, key_blob: &[u8]) -> Result<Recorded> {
        let recorded = self.record_all(known, path, &[NewKey::new(name, key_blob)])?;
        recorded.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Internal, "nothing became of a key"))
    }

    /// Records keys at once, and says what became of each: all of what is to be written is, or nothing.
    ///
    /// As [`record`](Self::record), with one write for all lines. Where keys are replaced, a new file takes the place of
    /// the old one with its mode and owner, and is on disk by then; a symbolic link stays one. A host that is replaced is
    /// taken out of every line that names it plainly or hashed, and those that named nobody else are removed. Patterns,
    /// `@cert-authority`, `@revoked`, comments and what cannot be read stay byte for byte.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Blocking
    /// As [`record`](Self::record).
    pub fn record_all(&self, known: &KnownHosts, path: &Path, keys: &[NewKey]) -> Result<Vec<Recorded>> {
        record::record(&*self.file(path)?, known, keys)
    }
}

/// The `known_hosts` files that a host uses; cheap to clone and to ask, from any number of threads.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    files: Vec<Arc<KnownFile>>,
}

impl KnownHosts {
    /// Reads files outside of any [`Store`].
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn load(paths: &[PathBuf]) -> Result<Self> {
        Store::default().open(paths)
    }

    /// Judges a key that the server `name` presents.
    ///
    /// `name` is [`Host::known_hosts_name`](crate::Host::known_hosts_name). For `[address]:port` without a
    /// `HostKeyAlias`, OpenSSH also accepts a key that matches the plain address when the verdict is `Unknown`.
    pub fn verdict(&self, name: &str, key_blob: &[u8]) -> Verdict {
        let name = name.to_ascii_lowercase();
        let mut answer = Verdict::Unknown;
        for file in &self.files {
            let next = file.verdict(&name, key_blob);
            if rank(&next) > rank(&answer) {
                answer = next;
            }
        }
        answer
    }

    /// Returns where the key is marked `@revoked` for the server `name`, if it is.
    pub fn revoked(&self, name: &str, key_blob: &[u8]) -> Option<Place> {
        match self.verdict(name, key_blob) {
            Verdict::Revoked(place) => Some(place),
            _ => None,
        }
    }

    /// Returns where `key_blob` is marked `@cert-authority` for the server `name`, if it is.
    ///
    /// It does not vouch for anything by itself, and may be revoked besides: ask [`revoked`](Self::revoked).
    pub fn authority(&self, name: &str, key_blob: &[u8]) -> Option<Place> {
        let name = name.to_ascii_lowercase();
        self.files.iter().find_map(|file| file.authority(&name, Some(key_blob)))
    }

    /// Tells whether any `@cert-authority` may vouch for the server `name`: only then is it worth asking for certificates.
    pub fn has_authority(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.files.iter().any(|file| file.authority(&name, None).is_some())
    }

    /// Returns the types of the keys known for `name`, in the order of the files and lines, each once.
    ///
    /// They go first into the host-key algorithms that are offered, so that the server presents a key that can be
    /// compared (`ssh-rsa` stands for `rsa-sha2-512` and `rsa-sha2-256`).
    pub fn key_types(&self, name: &str) -> Vec<String> {
        let name = name.to_ascii_lowercase();
        let mut types = Vec::new();
        for file in &self.files {
            file.key_types(&name, &mut types);
        }
        types
    }

    /// Returns the lines that were skipped because they could not be read.
    pub fn warnings(&self) -> Vec<Warning> {
        self.files.iter().flat_map(|file| file.warnings()).collect()
    }
}

/// Orders what several files say: a revocation over everything, then a match over a mismatch.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Unknown => 0,
        Verdict::OtherTypeKnown(_) => 1,
        Verdict::Changed(_) => 2,
        Verdict::Match => 3,
        Verdict::Revoked(_) => 4,
    }
}
