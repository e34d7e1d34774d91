//! Which algorithms a key exchange offers, and what is said when the server takes none of them.

use ssh2::MethodType;

use super::error::Fault;
use super::host_key::Known;
use super::io::printable;
use super::proposal::{Proposal, is_mark};
use super::wait::Driver;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::Algorithms;

/// What is offered instead of all that libssh2 has.
pub(super) struct Offered {
    lists: Vec<List>,
    is_restricted: bool,
}

struct List {
    kind: fn() -> MethodType,
    name: &'static str,
    names: String,
}

impl Offered {
    /// Takes over what a host's settings and known_hosts say.
    pub(super) fn new(wanted: &Algorithms, known: &Known<'_>) -> Self {
        let pairs: [(fn() -> MethodType, _, _); 5] = [
            (|| MethodType::Kex, "key exchange", &wanted.key_exchange),
            (|| MethodType::CryptCs, "ciphers", &wanted.ciphers),
            (|| MethodType::CryptSc, "ciphers", &wanted.ciphers),
            (|| MethodType::MacCs, MACS, &wanted.macs),
            (|| MethodType::MacSc, MACS, &wanted.macs),
        ];
        // libssh2 would end the key exchange over a MAC that nobody uses.
        let needs_no_mac = !wanted.ciphers.is_empty() && wanted.ciphers.iter().all(|name| has_own_mac(name));
        let counts = |name| name != MACS || !needs_no_mac;
        let set = pairs.into_iter().filter(|(_, name, names)| !names.is_empty() && counts(*name));
        let mut lists: Vec<_> = set.map(|(kind, name, names)| List { kind, name, names: names.join(",") }).collect();
        let is_restricted = !lists.is_empty() || !wanted.host_key.is_empty();
        // libssh2 lets this list alone choose which RSA signature a login uses.
        let rsa: Vec<&str> = wanted
            .signatures
            .iter()
            .map(|name| name.trim_end_matches(CERTIFICATE))
            .filter(|name| is_rsa(name))
            .collect();
        if !rsa.is_empty() {
            lists.push(List { kind: || MethodType::SignAlgo, name: SIGNATURES, names: rsa.join(",") });
        }
        lists.push(List { kind: || MethodType::HostKey, name: "host keys", names: known.algorithms().join(",") });
        Self { lists, is_restricted }
    }

    /// Tells libssh2, before the key exchange.
    ///
    /// # Errors
    /// `Usage` when it has nothing of a list.
    pub(super) fn set(&self, driver: &mut Driver) -> Result<()> {
        for List { kind, name, names } in &self.lists {
            let set = driver.try_step(|link| link.session(|session| session.method_pref(kind(), names)));
            set.map_err(|fault| match fault {
                Fault::Error(error) => error,
                Fault::Refused(failure) => {
                    let what = format!("none of the {name} asked for is supported: {names}");
                    Error::new(ErrorKind::Usage, what).caused_by(failure).in_phase(Phase::Banner)
                }
            })?;
        }
        Ok(())
    }

    /// Says what cannot be agreed on, or what was offered, where a key exchange failed and it was less than everything.
    pub(super) fn blame(&self, driver: &mut Driver, error: Error) -> Error {
        let is_theirs = matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Disconnected);
        if !is_theirs || error.phase() != Some(Phase::KeyExchange) {
            return error;
        }
        if let Some(what) = self.disagreement(driver) {
            return Error::new(ErrorKind::Protocol, what).in_phase(Phase::KeyExchange);
        }
        if !self.is_restricted {
            return error;
        }
        let mut shown: Vec<String> =
            self.lists.iter().map(|List { name, names, .. }| format!("{name} {names}")).collect();
        shown.dedup();
        let what = format!("cannot agree on algorithms, offered were {}", shown.join("; "));
        Error::new(error.kind(), what).caused_by(error).in_phase(Phase::KeyExchange)
    }

    /// Names the first list in which the server has nothing of what it was offered, with both.
    fn disagreement(&self, driver: &mut Driver) -> Option<String> {
        let Proposal { key_exchange, host_keys, ciphers, macs, compressions } = driver.link().io(|io| io.proposal())?;
        let [ciphers_cs, ciphers_sc] = ciphers;
        let [macs_cs, macs_sc] = macs;
        let [compressions_cs, compressions_sc] = compressions;
        let lists = [
            (MethodType::Kex, "key exchange", key_exchange),
            (MethodType::HostKey, "host key", host_keys),
            (MethodType::CryptCs, "cipher", ciphers_cs),
            (MethodType::MacCs, "MAC", macs_cs),
            (MethodType::CryptSc, "cipher", ciphers_sc),
            (MethodType::MacSc, "MAC", macs_sc),
            (MethodType::CompCs, "compression", compressions_cs),
            (MethodType::CompSc, "compression", compressions_sc),
        ];
        let mut needs_mac = true;
        for (kind, name, theirs) in lists {
            let ours = self.names(driver, kind);
            let agreed = ours.iter().find(|name| theirs.contains(name));
            match agreed {
                // Of these alone libssh2 knows that they need none (`ssh2_mac_override`).
                Some(agreed) => needs_mac = !agreed.contains("-gcm@"),
                None if name == "MAC" && !needs_mac => {}
                None => {
                    let (theirs, ours) = (offer(&theirs), ours.join(", "));
                    return Some(format!("no {name} in common: the server offers {theirs}; fleet offers {ours}"));
                }
            }
        }
        None
    }

    /// Returns what is offered of a kind: what was asked for, else all that libssh2 has.
    fn names(&self, driver: &mut Driver, kind: MethodType) -> Vec<String> {
        let asked_for = self.lists.iter().find(|list| (list.kind)() as i32 == kind as i32);
        match (asked_for, kind) {
            (Some(list), _) => list.names.split(',').map(str::to_owned).collect(),
            (None, MethodType::CompCs | MethodType::CompSc) => vec!["none".to_owned()],
            (None, kind) => {
                let asked = driver.try_step(|link| link.session(|session| session.supported_algs(kind)));
                let supported = asked.ok().flatten().unwrap_or_default();
                supported.into_iter().filter(|name| !is_mark(name)).map(str::to_owned).collect()
            }
        }
    }
}

/// Writes what a server offers, as far as it is worth reading.
fn offer(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(MAX_OFFERED).map(|name| printable(name)).collect();
    match shown.as_slice() {
        [] => "nothing".to_owned(),
        shown if names.len() > MAX_OFFERED => format!("{}, …", shown.join(", ")),
        shown => shown.join(", "),
    }
}

/// How many names of a server's list are shown.
const MAX_OFFERED: usize = 24;

/// Of the login, not of the key exchange.
const SIGNATURES: &str = "signatures";

const MACS: &str = "MACs";

/// Tells whether a cipher authenticates by itself.
fn has_own_mac(cipher: &str) -> bool {
    cipher.contains("-poly1305@") || cipher.contains("-gcm@")
}

const CERTIFICATE: &str = "-cert-v01@openssh.com";

fn is_rsa(name: &str) -> bool {
    name.starts_with("rsa-sha2-")
}

/// Tells whether a key or certificate may be offered: one of its signatures has to be among those wanted.
pub(super) fn may_sign(wanted: &Algorithms, key_type: &str) -> bool {
    let fits = |name: &str| match key_type {
        "ssh-rsa" => is_rsa(name) && !name.ends_with(CERTIFICATE),
        "ssh-rsa-cert-v01@openssh.com" => is_rsa(name) && name.ends_with(CERTIFICATE),
        other => name == other,
    };
    wanted.signatures.is_empty() || wanted.signatures.iter().any(|name| fits(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh_config::algorithms::{self, CIPHERS, HOST_KEYS, KEX};

    #[test]
    fn the_lists_of_what_is_supported_are_libssh2_s() {
        let session = ssh2::Session::new().unwrap();
        let supported = |kind| session.supported_algs(kind).unwrap();
        let has_ml_kem = supported(MethodType::Kex).iter().any(|name| name.starts_with("mlkem"));
        let kex: Vec<_> = KEX.into_iter().filter(|name| has_ml_kem || !name.starts_with("mlkem")).collect();
        assert_eq!(supported(MethodType::Kex).into_iter().filter(|name| !is_mark(name)).collect::<Vec<_>>(), kex);
        let is_plain = |name: &&str| !name.ends_with(CERTIFICATE);
        assert_eq!(supported(MethodType::HostKey).into_iter().filter(is_plain).collect::<Vec<_>>(), HOST_KEYS);
        assert_eq!(supported(MethodType::CryptCs), CIPHERS);
        assert_eq!(supported(MethodType::MacCs), algorithms::MACS);
    }
}
