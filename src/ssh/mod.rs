//! SSH through libssh2: the only code that names `ssh2`, `libssh2-sys` and `openssl`.
//!
//! [`SshTransport`] connects: it resolves and dials, exchanges keys, judges the host key, logs in, and hands out a
//! session. libssh2 is never blocking and never near the socket: it reads and writes through callbacks (`io`), one
//! driver waits for it (`wait`), and everything unsafe is in `raw`.

mod agent;
mod answers;
mod auth;
mod breaker;
mod dial;
mod error;
mod files;
mod host_key;
mod io;
pub(crate) mod keys;
mod offers;
mod raw;
mod resolve;
mod session;
mod wait;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::Note;
use crate::host::{Host, Identity};
use crate::transport::{Session, Transport, Watch};
use auth::Keyring;
use host_key::HostKeys;
use raw::Link;
use session::SshSession;
use wait::Driver;

/// Reaches hosts by SSH. One serves a whole run: keys are read and decrypted once, agents list theirs once, known_hosts is
/// parsed once.
#[derive(Default)]
pub struct SshTransport {
    keyring: Keyring,
    host_keys: HostKeys,
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
            .flat_map(|host| host.auth.identities.iter().map(move |identity| (host, identity)))
            .filter(|(host, identity)| {
                let auth = &host.auth;
                seen.insert((*identity, auth.passphrase.as_ref(), &auth.agent)) && !self.agent_has(host, identity)
            })
            .collect();
        distinct
            .into_par_iter()
            .filter_map(|(host, identity)| {
                let passphrase = host.auth.passphrase.as_ref();
                let error = self.keyring.keys.load(identity, passphrase).err()?;
                Some((identity.clone(), error))
            })
            .collect()
    }

    /// Tells whether the agent that a host uses has an identity's key: then its passphrase is not needed.
    ///
    /// An agent that cannot be asked has none; that shows at the logins, where nothing else lets in.
    ///
    /// # Blocking
    /// Until the agent has listed its keys, once a run and for as long as the host's connect timeout.
    pub fn agent_has(&self, host: &Host, identity: &Identity) -> bool {
        self.keyring.agent_has(host, identity, &Budget::grace(host.timeouts.connect))
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
        let known = self.host_keys.of(host)?;
        watch.phase(Phase::Resolve);
        let addresses = resolve::resolve(&host.address, host.port, budget)?;
        let first = addresses.first().copied();
        let first = first.ok_or_else(|| Error::new(ErrorKind::Resolve, "no address").in_phase(Phase::Resolve))?;
        let turn = watch.turn(first, budget)?;
        watch.phase(Phase::Connect);
        let socket = dial::dial(&addresses, budget)?;
        watch.phase(Phase::Banner);
        let link = Link::new(socket).map_err(|failure| {
            Error::new(ErrorKind::LocalLimit, "cannot make an SSH session").caused_by(failure).in_phase(Phase::Banner)
        })?;
        let mut driver = Driver::new(link);
        handshake(&mut driver, &known.algorithms(), watch, budget)?;
        driver.set_phase(Phase::HostKey);
        watch.phase(Phase::HostKey);
        known.check(&mut driver, watch)?;
        driver.set_phase(Phase::Login);
        watch.phase(Phase::Login);
        auth::login(&mut driver, host, &self.keyring, budget)?;
        drop(turn);
        if let Some(banner) = driver.link().userauth_banner() {
            watch.note(Note::Banner(banner));
        }
        driver.keep_alive(&host.timeouts);
        driver.set_phase(Phase::Channel);
        Ok(Box::new(SshSession::new(driver, Arc::clone(host))))
    }
}

/// Exchanges banners and keys; the phase changes when the server's banner has come.
fn handshake(driver: &mut Driver, algorithms: &str, watch: &dyn Watch, budget: &Budget) -> Result<()> {
    let fail = |fault: error::Fault, phase| fault.into_error(phase, "the SSH handshake failed");
    driver
        .drive(budget, |link| link.session(|session| session.method_pref(ssh2::MethodType::HostKey, algorithms)))
        .map_err(|fault| fail(fault, Phase::Banner))?;
    loop {
        let done = driver.try_step(|link| link.session(ssh2::Session::handshake));
        if driver.phase() == Phase::Banner && driver.link().io(|io| io.is_banner_over()) {
            driver.set_phase(Phase::KeyExchange);
            watch.phase(Phase::KeyExchange);
        }
        if done.map_err(|fault| fail(fault, driver.phase()))?.is_some() {
            return Ok(());
        }
        driver.wait(budget)?;
    }
}
