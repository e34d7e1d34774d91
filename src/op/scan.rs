//! Looking at host keys and nothing else.

use super::{Job, Operation};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Outcome;
use crate::known_hosts::Presented;
use crate::transport::Session;

/// Returns the key that each server has, and what known_hosts says of it, over [`KeyScan`](crate::ssh::KeyScan).
///
/// Over a transport that logs in it fails with `Refused`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan;

impl Outcome for Presented {}

impl Operation for Scan {
    type Output = Presented;

    fn name(&self) -> &str {
        "trust"
    }

    fn run(&self, session: &mut dyn Session, _job: &Job<'_>) -> Result<Presented> {
        session
            .presented()
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Refused, "this transport tells no host keys").in_phase(Phase::HostKey))
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}
