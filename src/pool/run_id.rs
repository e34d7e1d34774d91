//! The identity of a run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::event::RunId;

/// Makes the next identity: `20261121T081500.123-PID-xxxx`, in UTC.
///
/// The last part counts up from a random start: runs of one process differ within a millisecond, and so do runs of
/// processes with one PID, such as containers that share a journal.
pub(super) fn next() -> RunId {
    static COUNTER: OnceLock<AtomicU16> = OnceLock::new();
    let number = COUNTER.get_or_init(|| AtomicU16::new(fastrand::u16(..))).fetch_add(1, Ordering::Relaxed);
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3f");
    RunId::new(format!("{time}-{}-{number:04x}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_unique_and_sort_by_time() {
        let ids: Vec<_> = (0..1000).map(|_| next()).collect();
        let time = |id: &RunId| id.as_str().split('-').next().unwrap().to_owned();
        for pair in ids.windows(2) {
            assert_ne!(pair[0], pair[1]);
            assert!(time(&pair[0]) <= time(&pair[1]), "{} {}", pair[0], pair[1]);
        }
        let first = time(&ids[0]);
        assert_eq!((first.len(), first.find('T'), first.find('.')), (19, Some(8), Some(15)), "{first}");
    }
}
