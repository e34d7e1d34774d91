//! Bytes in memory up to a limit for the whole run, then in one unlinked file.
//!
//! Whatever thousands of hosts print, a run holds at most its memory budget of it: what comes after goes to a file that has
//! no name, mode 0600, in `$FLEET_TMPDIR`, else `$TMPDIR`, else `/var/tmp` (`/tmp` is memory on many systems). Equal outputs
//! are kept once.

mod input;
mod store;
#[cfg(test)]
mod tests;

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
pub use input::Input;
pub(crate) use input::Piece;
use store::{Body, Content, Store};

/// The memory that a run's spools share unless told otherwise: 32 MiB.
pub const DEFAULT_MEMORY: usize = 32 * 1024 * 1024;

/// The memory budget and the spill file of a run; every [`Spool`] of the run shares them. Cheap to clone.
///
/// # Examples
///
/// ```
/// use std::io::Read;
/// use fleet::spool::SpoolSet;
///
/// let spools = SpoolSet::with_memory(16);
/// let mut writer = spools.spool();
/// writer.append(b"more than fits ")?;
/// writer.append(b"into sixteen bytes")?;
/// let spool = writer.finish();
/// assert_eq!(spool.text()?, "more than fits into sixteen bytes");
///
/// let mut start = [0; 4];
/// spool.reader().read_exact(&mut start).unwrap();
/// assert_eq!(&start, b"more");
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Clone)]
pub struct SpoolSet(Arc<Store>);

impl SpoolSet {
    /// Makes a set with a memory budget in bytes. The spill file is made when it is first needed.
    pub fn with_memory(bytes: usize) -> Self {
        let dir = ["FLEET_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os).find(|dir| !dir.is_empty());
        Self::with_memory_in(bytes, dir.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from))
    }

    /// Makes a set whose spill file is in `dir`.
    pub fn with_memory_in(bytes: usize, dir: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Store::new(bytes, dir.into())))
    }

    #[cfg(test)]
    pub(crate) fn free_memory(&self) -> usize {
        self.0.free_memory()
    }

    /// Starts a spool.
    pub fn spool(&self) -> SpoolWriter {
        SpoolWriter { body: Body::new(Arc::clone(&self.0)), hasher: self.0.hashing.build_hasher() }
    }
}

impl Default for SpoolSet {
    fn default() -> Self {
        Self::with_memory(DEFAULT_MEMORY)
    }
}

impl fmt::Debug for SpoolSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolSet").field("free_memory", &self.0.free_memory()).finish_non_exhaustive()
    }
}

/// A spool that is being written. Dropping it gives back what it used.
pub struct SpoolWriter {
    body: Body,
    hasher: DefaultHasher,
}

impl SpoolWriter {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// `LocalFile` when the spill file cannot be made or written; the error names its directory.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.body.append(bytes)?;
        self.hasher.write(bytes);
        Ok(())
    }

    /// Returns how many bytes were added.
    pub fn len(&self) -> u64 {
        self.body.len()
    }

    /// Tells whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.body.len() == 0
    }

    /// Ends the writing. If another spool of the set has the same bytes, they are kept once.
    pub fn finish(self) -> Spool {
        if self.is_empty() {
            return Spool(None);
        }
        Spool(Some(Content::share(self.body, self.hasher.finish())))
    }
}

impl fmt::Debug for SpoolWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolWriter").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What was written, to be read any number of times. Cheap to clone; the last clone gives back what it used.
#[derive(Clone, Default)]
pub struct Spool(Option<Arc<Content>>);

impl Spool {
    /// Returns how many bytes there are.
    pub fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |content| content.body().len())
    }

    /// Tells whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Reads everything.
    ///
    /// # Errors
    /// `LocalFile` when the spill file cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let Some(content) = &self.0 else { return Ok(Vec::new()) };
        let body = content.body();
        let mut bytes = Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0));
        self.reader().read_to_end(&mut bytes).map_err(|error| body.cannot_read(error))?;
        Ok(bytes)
    }

    /// Reads everything as text; bytes that are not UTF-8 become `U+FFFD`.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn text(&self) -> Result<String> {
        let bytes = self.bytes()?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Starts reading from the first byte, without holding everything in memory.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { spool: self.clone(), position: 0 }
    }

    /// Returns what equal spools of one set have in common, and others by chance only.
    pub(crate) fn fingerprint(&self) -> (u64, u64) {
        self.0.as_ref().map_or((0, 0), |content| content.fingerprint())
    }

    /// Makes the error of a reader that failed.
    pub(crate) fn cannot_read(&self, error: io::Error) -> Error {
        match &self.0 {
            Some(content) => content.body().cannot_read(error),
            None => Error::new(ErrorKind::LocalFile, "cannot read an empty spool").caused_by(error),
        }
    }

    /// Tells whether both hold the same bytes; at once where they share one copy or differ in length.
    ///
    /// # Errors
    /// `LocalFile` when a spill file cannot be read.
    pub fn same_as(&self, other: &Self) -> Result<bool> {
        match (&self.0, &other.0) {
            (None, None) => Ok(true),
            (Some(a), Some(b)) => {
                Ok(Arc::ptr_eq(a, b) || a.body().equals(b.body()).map_err(|error| a.body().cannot_read(error))?)
            }
            _ => Ok(false),
        }
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Reads a [`Spool`] from its start to its end.
#[derive(Debug)]
pub struct SpoolReader {
    spool: Spool,
    position: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(content) = &self.spool.0 else { return Ok(0) };
        let count = content.body().read_at(self.position, buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}
