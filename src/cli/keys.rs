//! Private keys before a run: passphrases are asked for, and what cannot be used is said, before anything is contacted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use fleet::{AgentUse, Host, Identity, Route, Secret, SshTransport, ssh};

use super::exit::Refusal;
use super::prompt;
use super::screen::Screen;

/// Asks, once each, for the passphrases of encrypted keys that the inventory gives none for.
///
/// What an agent has needs none. Without a terminal nobody is asked: [`load`] says what that means.
pub(crate) fn unlock(transport: &SshTransport, hosts: &mut [Arc<Host>]) -> Result<(), Refusal> {
    if !prompt::has_terminal() {
        return Ok(());
    }
    let all = || hosts.iter().flat_map(|host| std::iter::once(host).chain(host.bastions()));
    let open = all().filter(|host| host.auth.passphrase.is_none());
    let pairs: HashMap<(&PathBuf, &AgentUse), &Host> =
        open.flat_map(|host| files(host).map(move |path| ((path, &host.auth.agent), &**host))).collect();
    let locked: BTreeSet<PathBuf> = pairs
        .into_iter()
        .filter(|((path, _), host)| !transport.agent_has(host, &Identity::File((*path).clone())))
        .map(|((path, _), _)| path.clone())
        .collect();
    let mut passphrases: BTreeMap<PathBuf, Secret> = BTreeMap::new();
    for path in locked {
        if ssh::needs_passphrase(&path).unwrap_or(false)
            && let Some(passphrase) = prompt::passphrase(&path)?
        {
            passphrases.insert(path, passphrase);
        }
    }
    if !passphrases.is_empty() {
        let mut bastions = HashMap::new();
        for host in hosts {
            *host = unlocked(host, &passphrases, &mut bastions);
        }
    }
    Ok(())
}

/// Returns a host with the passphrases for it and its bastions, which hosts go on to share.
fn unlocked(
    host: &Arc<Host>,
    passphrases: &BTreeMap<PathBuf, Secret>,
    bastions: &mut HashMap<*const Host, Arc<Host>>,
) -> Arc<Host> {
    let mut host = Arc::clone(host);
    let passphrase = files(&host).find_map(|path| passphrases.get(path)).cloned();
    if host.auth.passphrase.is_none() && passphrase.is_some() {
        Arc::make_mut(&mut host).auth.passphrase = passphrase;
    }
    if let Some(bastion) = host.bastion().cloned() {
        let known = bastions.get(&Arc::as_ptr(&bastion)).cloned();
        let open = known.unwrap_or_else(|| {
            let open = unlocked(&bastion, passphrases, bastions);
            bastions.insert(Arc::as_ptr(&bastion), Arc::clone(&open));
            open
        });
        if !Arc::ptr_eq(&open, &bastion) {
            Arc::make_mut(&mut host).route = Route::Jump(open);
        }
    }
    host
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
    for host in hosts.iter().flat_map(|host| std::iter::once(host).chain(host.bastions())) {
        let auth = &host.auth;
        // An agent's other keys may do.
        if auth.password.is_none()
            && auth.answers.is_empty()
            && !matches!(auth.agent, AgentUse::On(_))
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
