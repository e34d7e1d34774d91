//! What `put` and `get` share: the result, the buffers, the pace of reports, and names that may be trusted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Job;
use crate::budget::Budget;
use crate::error::Result;
use crate::event::{Class, Facts, Outcome};

/// How often a host reports how far it is, at most.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// The memory that all transfers of the process share, in bytes.
const MEMORY: usize = 256 * 1024 * 1024;

/// The payload of one SFTP packet in libssh2, in bytes: buffers are multiples of it.
pub(super) const PACKET: usize = 30_000;

/// How many files and bytes a transfer moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transferred {
    /// Files that arrived.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Outcome for Transferred {
    fn facts(&self) -> Facts {
        let mut facts = Facts::new(Class::Ok);
        facts.files = self.files;
        facts.transferred_bytes = self.bytes;
        facts
    }
}

/// A transfer in progress: counts itself among those that share the memory.
pub(super) struct Share(());

static ACTIVE: AtomicUsize = AtomicUsize::new(0);

impl Share {
    pub(super) fn take() -> Self {
        ACTIVE.fetch_add(1, Ordering::Relaxed);
        Self(())
    }

    /// Returns a buffer size for one file: `most` where few transfers run, less where many do, never under four packets.
    pub(super) fn buffer_bytes(&self, most: usize) -> usize {
        let active = ACTIVE.load(Ordering::Relaxed).max(1);
        let bytes = (MEMORY / active).clamp(4 * PACKET, most);
        bytes - bytes % PACKET
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        ACTIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts what arrived and reports it, at most ten times a second.
pub(super) struct Meter<'a> {
    job: &'a Job<'a>,
    total: u64,
    done: Transferred,
    next_report: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn new(job: &'a Job<'a>, total: u64) -> Self {
        Self { job, total, done: Transferred::default(), next_report: Instant::now() + REPORT_EVERY }
    }

    /// Counts bytes of the file on its way.
    pub(super) fn bytes(&mut self, path: &str, count: usize) -> Result<()> {
        self.done.bytes += count as u64;
        let now = Instant::now();
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            self.job.transfer(path, self.done.bytes, self.total.max(self.done.bytes))?;
        }
        Ok(())
    }

    /// Adds to what is expected.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// Counts a file that has arrived whole.
    pub(super) fn file(&mut self) {
        self.done.files += 1;
    }

    /// Returns the counts, and reports them once more.
    pub(super) fn finish(self, path: &str) -> Result<Transferred> {
        self.job.transfer(path, self.done.bytes, self.done.bytes)?;
        Ok(self.done)
    }
}

/// Returns the budget of one request: the job's, or the idle limit if that ends sooner.
pub(super) fn request_budget(job: &Job<'_>) -> Budget {
    match job.limits.idle {
        Some(idle) => job.budget.narrowed(idle),
        None => job.budget.clone(),
    }
}

/// Tells whether a name is one component of a path and nothing else: not empty, `.` or `..`, without `/` and NUL.
pub(super) fn is_plain_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Returns what follows the last `/`, trailing ones ignored.
pub(super) fn base_name(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let path = path.get(..end).unwrap_or_default();
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Joins a remote directory and a name.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_components_are_plain_names() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"../x", b"x\0y"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        for name in [&b"a"[..], b"...", b".hidden", b"a b", b"\xff"] {
            assert!(is_plain_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_base_name_is_the_last_component() {
        assert_eq!(base_name(b"/var/log/"), b"log");
        assert_eq!(base_name(b"x"), b"x");
        assert_eq!(base_name(b"/"), b"");
        assert_eq!(base_name(b""), b"");
        assert_eq!(join(b"/a/", b"b"), b"/a/b");
        assert_eq!(join(b"", b"b"), b"b");
    }

    #[test]
    fn buffers_shrink_when_many_share() {
        let one = Share::take();
        assert_eq!(one.buffer_bytes(4_000_000), 3_990_000);
        let many: Vec<_> = (0..999).map(|_| Share::take()).collect();
        assert!(one.buffer_bytes(4_000_000) <= 300_000);
        assert!(one.buffer_bytes(4_000_000) >= 4 * PACKET);
        drop(many);
    }
}
