//! Logging in and nothing else.

use super::{Job, Operation};
use crate::error::Result;
use crate::transport::Session;

/// Succeeds where a login does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ping;

impl Operation for Ping {
    type Output = ();

    fn name(&self) -> &str {
        "ping"
    }

    fn run(&self, _session: &mut dyn Session, _job: &Job<'_>) -> Result<()> {
        Ok(())
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}
