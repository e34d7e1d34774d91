//! SSH through libssh2: the only code that names `ssh2`, `libssh2-sys` and `openssl`.
//!
//! [`SshTransport`] connects: it resolves and dials, exchanges keys, judges the host key, logs in, and hands out a
//! session. libssh2 is never blocking and never near the socket: it reads and writes through callbacks (`io`), one
//! driver waits for it (`wait`), and everything unsafe is in `raw`.

mod agent;
mod algorithms;
mod answers;
mod auth;
mod bastion;
mod certificate;
mod dial;
mod error;
mod files;
mod guard;
mod host_key;
mod io;
pub(crate) mod keys;
mod offers;
mod proposal;
mod proxy;
mod raw;
mod resolve;
mod scan;
mod session;
mod wait;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::budget::Budget;
use crate::cores;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Note;
use crate::host::{Host, Identity, Route};
use crate::public_key::PublicKey;
use crate::transport::{Session, Transport, Turn, Watch};
use algorithms::Offered;
use auth::Keyring;
use bastion::Bastions;
use host_key::{HostKeys, Known};
use io::{Io, Reached};
use raw::Link;
pub use raw::share_heap;
pub use scan::KeyScan;
use session::SshSession;
use wait::Driver;

/// Reaches hosts by SSH. One serves a whole run: keys are read and decrypted once, agents list theirs once, known_hosts is
/// parsed once.
#[derive(Default)]
pub struct SshTransport {
    reach: Arc<Reach>,
}

impl Drop for SshTransport {
    fn drop(&mut self) {
        self.reach.bastions.stop();
    }
}

/// What the connections of a run share, those to bastions too.
#[derive(Default)]
struct Reach {
    keyring: Keyring,
    host_keys: HostKeys,
    bastions: Bastions,
}

impl SshTransport {
    /// Makes a transport that has read nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads and decrypts the private keys of these hosts, each once and side by side, and returns those that failed.
    ///
    /// Without it they are read at the first login that needs them; with it a wrong passphrase shows before any host is
    /// contacted. Keys that the host's agent has are left to it.
    ///
    /// # Blocking
    /// While keys are decrypted: about 0.1 s of CPU for each encrypted one in OpenSSH form. Before that until agents have
    /// listed their keys, for as long as a host's connect timeout.
    pub fn load_keys(&self, hosts: &[Arc<Host>]) -> Vec<(Identity, Error)> {
        let mut seen = HashSet::new();
        let distinct: Vec<_> = hosts
            .iter()
            .flat_map(|host| std::iter::once(host).chain(host.bastions()))
            .flat_map(|host| host.auth.identities.iter().map(move |identity| (host, identity)))
            .filter(|(host, identity)| {
                let auth = &host.auth;
                seen.insert((*identity, auth.passphrase.as_ref(), &auth.agent)) && !self.agent_has(host, identity)
            })
            .collect();
        let load = |(host, identity): (&Arc<Host>, &Identity)| {
            let passphrase = host.auth.passphrase.as_ref();
            let error = self.reach.keyring.keys.load(identity, passphrase).err()?;
            Some((identity.clone(), error))
        };
        cores::map(distinct, load).into_iter().flatten().collect()
    }

    /// Tells whether the agent that a host uses has an identity's key: then its passphrase is not needed.
    ///
    /// An agent that cannot be asked has none; that shows at the logins, where nothing else lets in.
    ///
    /// # Blocking
    /// Until the agent has listed its keys, once a run and for as long as the host's connect timeout.
    pub fn agent_has(&self, host: &Host, identity: &Identity) -> bool {
        self.reach.keyring.agent_has(host, identity, &Budget::grace(host.timeouts.connect))
    }

    /// Returns the public keys that the agent of a host has, in its order: without comments, certificates left out.
    ///
    /// An agent that cannot be asked has none.
    ///
    /// # Blocking
    /// As [`agent_has`](Self::agent_has).
    pub fn agent_keys(&self, host: &Host) -> Vec<PublicKey> {
        let held = self.reach.keyring.agent_keys(host, &Budget::grace(host.timeouts.connect));
        held.iter().filter_map(|key| PublicKey::from_blob(&key.blob, "")).collect()
    }
}

impl fmt::Debug for SshTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshTransport").finish_non_exhaustive()
    }
}

/// The versions of what does the SSH: libssh2 and OpenSSL, such as `libssh2 1.11.2_DEV, OpenSSL 3.6.3`.
pub fn versions() -> String {
    let openssl = openssl::version::version();
    let openssl = openssl.split(' ').take(2).collect::<Vec<_>>().join(" ");
    format!("libssh2 {}, {openssl}", raw::version())
}

/// Tells whether a private key file is encrypted, so that its passphrase can be asked for before a run.
///
/// # Errors
/// `Usage` when the file cannot be read or is no private key.
pub fn needs_passphrase(path: &std::path::Path) -> Result<bool> {
    keys::needs_passphrase(path)
}

impl Transport for SshTransport {
    fn connect(&self, host: &Arc<Host>, watch: &dyn Watch, budget: &Budget) -> Result<Box<dyn Session>> {
        let (driver, turn) = self.reach.login(host, watch, budget)?;
        Ok(Box::new(SshSession::new(driver, Arc::clone(host), turn)))
    }
}

impl Reach {
    /// Reaches a host and logs in. The server may count the connection among those before the login for a moment yet: until
    /// it has answered a request.
    fn login(self: &Arc<Self>, host: &Host, watch: &dyn Watch, budget: &Budget) -> Result<(Driver, Turn)> {
        self.log_in(host, watch, budget).map_err(|error| behind(host, error))
    }

    fn log_in(self: &Arc<Self>, host: &Host, watch: &dyn Watch, budget: &Budget) -> Result<(Driver, Turn)> {
        let known = self.host_keys.of(host)?;
        let (mut driver, turn) = self.reach(host, &known, watch, budget)?;
        known.check(&mut driver, watch)?;
        driver.set_phase(Phase::Login);
        watch.phase(Phase::Login);
        auth::login(&mut driver, host, &self.keyring, budget)?;
        if let Some(banner) = driver.link().userauth_banner() {
            watch.note(Note::Banner(banner));
        }
        driver.keep_alive(&host.timeouts, u32::try_from(host.bastions().count()).unwrap_or(u32::MAX));
        driver.set_phase(Phase::Channel);
        Ok((driver, turn))
    }

    /// Reaches a host and exchanges keys: all that comes before its key is judged. Nobody is logged in on it.
    fn reach(
        self: &Arc<Self>,
        host: &Host,
        known: &Known<'_>,
        watch: &dyn Watch,
        budget: &Budget,
    ) -> Result<(Driver, Turn)> {
        let (reached, turn) = self.open(host, watch, budget)?;
        watch.phase(Phase::Banner);
        let link = Link::new(reached).map_err(|failure| {
            Error::new(ErrorKind::LocalLimit, "cannot make an SSH session").caused_by(failure).in_phase(Phase::Banner)
        })?;
        let mut driver = Driver::new(link);
        handshake(&mut driver, &Offered::new(&host.algorithms, known), watch, budget)?;
        driver.set_phase(Phase::HostKey);
        watch.phase(Phase::HostKey);
        Ok((driver, turn))
    }

    /// Connects to a host's port on its route.
    fn open(self: &Arc<Self>, host: &Host, watch: &dyn Watch, budget: &Budget) -> Result<(Reached, Turn)> {
        match &host.route {
            Route::Direct => {
                watch.phase(Phase::Resolve);
                let addresses = resolve::addresses_of(host, budget)?;
                let from = resolve::sources_of(host, budget)?;
                let first = addresses.first().copied();
                let nowhere = || Error::new(ErrorKind::Resolve, "no address").in_phase(Phase::Resolve);
                let turn = watch.turn(&first.ok_or_else(nowhere)?.to_string(), budget)?;
                watch.phase(Phase::Connect);
                let socket = dial::dial_again(&addresses, &from, host.connection_attempts, watch, budget)?;
                Ok((socket.into(), turn))
            }
            Route::Jump(bastion) => {
                watch.phase(Phase::Connect);
                // Several names may lead to one server, which counts its logins.
                let endpoint = format!("{}:{} via {}", host.address, host.port, bastion.name);
                let turn = watch.turn(&endpoint, budget)?;
                Ok((self.bastions.tunnel(self, bastion, host, watch, budget)?, turn))
            }
            Route::Command(command) => {
                watch.phase(Phase::Connect);
                Ok((proxy::start(command)?, Turn::default()))
            }
        }
    }
}

/// Names the bastion in the error of a host that did not answer: it may be the one that did not.
fn behind(host: &Host, error: Error) -> Error {
    let Some(bastion) = host.bastion() else { return error };
    let is_silence = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Disconnected);
    if !is_silence || error.to_string().contains(&bastion.name) {
        return error;
    }
    let named = Error::new(error.kind(), format!("{}, behind the bastion {}", error.chain(), bastion.name));
    error.phase().map_or(named.clone(), |phase| named.in_phase(phase))
}

/// Exchanges banners and keys; the phase changes when the server's banner has come.
fn handshake(driver: &mut Driver, offered: &Offered, watch: &dyn Watch, budget: &Budget) -> Result<()> {
    offered.set(driver)?;
    loop {
        let done = agree(driver);
        if driver.phase() == Phase::Banner && driver.link().io(|io| io.is_banner_over()) {
            driver.set_phase(Phase::KeyExchange);
            watch.phase(Phase::KeyExchange);
        }
        match done {
            Ok(Some(())) => {
                driver.link().io(Io::forget_proposal);
                return Ok(());
            }
            Ok(None) => {}
            Err(fault) => {
                let error = fault.into_error(driver.phase(), "the SSH handshake failed");
                return Err(offered.blame(driver, error));
            }
        }
        if let Err(error) = driver.wait(budget) {
            // What the server said before it hung up may tell more than that it did.
            let why = agree(driver).err().map(|fault| fault.into_error(driver.phase(), "the SSH handshake failed"));
            let error = why.filter(|why| why.kind() == ErrorKind::Protocol).unwrap_or(error);
            return Err(offered.blame(driver, error));
        }
    }
}

/// Takes a step of the handshake. Where libssh2 finds nothing to agree on, that is the reason, though the server may have
/// hung up over it meanwhile.
fn agree(driver: &mut Driver) -> Result<Option<()>, error::Fault> {
    let mut disagreement = None;
    let done = driver.try_step(|link| {
        let step = link.session(ssh2::Session::handshake);
        disagreement = step.as_ref().err().filter(|failure| failure.is_of_key_exchange()).cloned();
        step
    });
    match disagreement {
        Some(failure) => Err(error::sort(failure, Phase::KeyExchange)),
        None => done,
    }
}
