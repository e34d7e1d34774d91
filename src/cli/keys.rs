//! Private keys before a run: passphrases are asked for, and what cannot be used is said, before anything is contacted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use fleet::{Host, Identity, Secret, SshTransport, ssh};

use super::exit::Refusal;
use super::prompt;
use super::screen::Screen;

/// Asks, once each, for the passphrases of encrypted keys that the inventory gives none for.
///
/// Without a terminal nobody is asked: [`load`] says what that means.
pub(crate) fn unlock(hosts: &mut [Arc<Host>]) -> Result<(), Refusal> {
    if !prompt::has_terminal() {
        return Ok(());
    }
    let locked: BTreeSet<PathBuf> =
        hosts.iter().filter(|host| host.auth.passphrase.is_none()).flat_map(|host| files(host)).cloned().collect();
    let mut passphrases: BTreeMap<PathBuf, Secret> = BTreeMap::new();
    for path in locked {
        if ssh::needs_passphrase(&path).unwrap_or(false)
            && let Some(passphrase) = prompt::passphrase(&path)?
        {
            passphrases.insert(path, passphrase);
        }
    }
    for host in hosts.iter_mut().filter(|host| host.auth.passphrase.is_none()) {
        let passphrase = files(host).find_map(|path| passphrases.get(path));
        if let Some(passphrase) = passphrase.cloned() {
            Arc::make_mut(host).auth.passphrase = Some(passphrase);
        }
    }
    Ok(())
}

/// Reads the keys of all hosts. One that cannot be used is warned about where another or a password may do, else refused.
pub(crate) fn load(
    transport: &SshTransport,
    hosts: &[Arc<Host>],
    screen: &Screen,
    is_quiet: bool,
) -> Result<(), Refusal> {
    let failures = transport.load_keys(hosts);
    if failures.is_empty() {
        return Ok(());
    }
    let is_bad = |identity: &Identity| failures.iter().any(|(bad, _)| bad == identity);
    for host in hosts {
        let auth = &host.auth;
        if auth.password.is_none()
            && let Some(first) = auth.identities.first()
            && auth.identities.iter().all(is_bad)
            && let Some((_, error)) = failures.iter().find(|(bad, _)| bad == first)
        {
            let is_locked = error.to_string().ends_with("no passphrase was given");
            let hint = if is_locked {
                "run fleet on a terminal to be asked, or give passphrase = \"env:NAME\" in the inventory".to_owned()
            } else {
                format!("{} has no other way to log in", host.name)
            };
            return Err(Refusal::from(error.clone()).hint(hint));
        }
    }
    for (_, error) in failures.iter().filter(|_| !is_quiet) {
        screen.warn(&error.chain());
    }
    Ok(())
}

fn files(host: &Host) -> impl Iterator<Item = &PathBuf> {
    host.auth.identities.iter().filter_map(|identity| match identity {
        Identity::File(path) => Some(path),
        _ => None,
    })
}
