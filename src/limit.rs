//! The limits of this machine that a run may raise.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Error, ErrorKind, Result};

/// Raises the number of descriptors this process may open (`RLIMIT_NOFILE`) to its hard limit, and returns it.
///
/// Each host in flight takes one; the usual soft limit of 1,024 is less than a fanout of 1,000 needs. For the whole process,
/// so a library never does it unasked: programs that use `select(2)` may not want it.
///
/// # Errors
/// `LocalLimit` when the system refuses.
pub fn raise_descriptor_limit() -> Result<u64> {
    let failed = |errno| Error::new(ErrorKind::LocalLimit, "cannot raise the number of open files").caused_by(errno);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_ends_up_at_its_hardest() {
        let raised = raise_descriptor_limit().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
    }
}
