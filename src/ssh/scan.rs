//! Looking at host keys: as far as the key exchange, and no further.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::SshTransport;
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::Host;
use crate::known_hosts::{Presented, Verdict};
use crate::transport::{ExecRequest, ProcId, RemoteFiles, Session, SessionEvent, Signal, Transport, Watch};

/// Looks at the keys of hosts without logging in: no name and no secret is sent, and nothing is recorded. Only the bastions
/// before them are logged in to.
///
/// Each host shows one key, the one that a login would see: of a type that known_hosts has for it, else of the best that
/// both know. Its [`Session`] only has that ([`Session::presented`]); everything else of it is refused. A key that changed
/// is an error as in a login, except of hosts that [`replacing`](Self::replacing) names; so is a revoked one.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
/// use fleet::{Host, Pool, op::Scan, ssh::KeyScan};
///
/// let hosts = ["web1", "web2"].map(|name| Arc::new(Host::new(name, name)));
/// for result in Pool::builder(KeyScan::new()).build().map(&hosts, Scan) {
///     if let Some(key) = result.value() {
///         println!("{} {} {}: {:?}", result.host().name, key.key_type(), key.fingerprint(), key.verdict);
///     }
/// }
/// ```
#[derive(Default)]
pub struct KeyScan {
    transport: SshTransport,
    replaced: HashSet<String>,
    is_strict: bool,
}

impl KeyScan {
    /// Makes a transport that has read nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one that reaches hosts behind bastions as `transport` does, which has read the bastions' keys.
    pub fn over(transport: SshTransport) -> Self {
        Self { transport, ..Self::default() }
    }

    /// Takes the keys of these hosts, by their inventory names, also where they changed.
    #[must_use]
    pub fn replacing<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.replaced.extend(names.into_iter().map(Into::into));
        self
    }

    /// Makes an unknown key an error, as [`HostKeyPolicy::Strict`](crate::HostKeyPolicy::Strict) does at a login.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }
}

impl fmt::Debug for KeyScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyScan").field("replaced", &self.replaced).finish_non_exhaustive()
    }
}

impl Transport for KeyScan {
    fn connect(&self, host: &Arc<Host>, watch: &dyn Watch, budget: &Budget) -> Result<Box<dyn Session>> {
        let reach = &self.transport.reach;
        let known = reach.host_keys.of(host)?;
        let (mut driver, _turn) = reach.reach(host, &known, watch, budget)?;
        let may_change = self.replaced.contains(&host.name);
        let presented = known.look(&mut driver, may_change, watch)?;
        if self.is_strict && presented.verdict != Verdict::Match {
            return Err(known.unknown(&presented));
        }
        Ok(Box::new(Scanned(presented)))
    }
}

/// What is left of a connection: it has ended already.
struct Scanned(Presented);

fn refused<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Refused, "nobody is logged in: this connection was for the host key only")
        .in_phase(Phase::Channel))
}

impl Session for Scanned {
    fn start(&mut self, _request: &ExecRequest, _budget: &Budget) -> Result<ProcId> {
        refused()
    }

    fn write(&mut self, _id: ProcId, _bytes: &[u8]) -> Result<usize> {
        refused()
    }

    fn close_stdin(&mut self, _id: ProcId) -> Result<()> {
        refused()
    }

    fn signal(&mut self, _id: ProcId, _signal: Signal) -> Result<()> {
        refused()
    }

    fn pump(&mut self, _budget: &Budget) -> Result<SessionEvent> {
        refused()
    }

    fn files(&mut self, _budget: &Budget) -> Result<&mut dyn RemoteFiles> {
        refused()
    }

    fn is_alive(&self) -> bool {
        false
    }

    fn close(self: Box<Self>) {}

    fn presented(&self) -> Option<&Presented> {
        Some(&self.0)
    }
}
