//! Bytes in memory up to a limit for the whole run, then in one unlinked file.

use std::sync::Arc;

use crate::error::Result;

/// The memory budget and the spill file of a run; every [`Spool`] of the run shares them.
#[derive(Clone, Debug, Default)]
pub struct SpoolSet(());

impl SpoolSet {
    /// Starts a spool.
    pub fn spool(&self) -> SpoolWriter {
        SpoolWriter { bytes: Vec::new() }
    }
}

/// A spool that is being written.
#[derive(Debug)]
pub struct SpoolWriter {
    bytes: Vec<u8>,
}

impl SpoolWriter {
    /// Adds bytes at the end.
    ///
    /// # Errors
    /// `LocalFile` when the spill file cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the writing.
    pub fn finish(self) -> Spool {
        Spool(self.bytes.into())
    }
}

/// What was written, to be read any number of times.
#[derive(Clone, Debug)]
pub struct Spool(Arc<[u8]>);

impl Spool {
    /// Returns how many bytes there are.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Tells whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads everything.
    ///
    /// # Errors
    /// `LocalFile` when the spill file cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        Ok(self.0.to_vec())
    }

    /// Reads everything as text; bytes that are not UTF-8 become `U+FFFD`.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn text(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.0).into_owned())
    }
}
