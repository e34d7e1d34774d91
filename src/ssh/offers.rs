//! Which keys are offered to a host, and in which order: as ssh does, but that identities keep theirs.

use std::sync::Arc;

use super::agent::AgentKey;
use super::algorithms::may_sign;
use super::keys::KeyStore;
use super::keys::public::{Certificate, Public};
use crate::host::{AgentUse, Host, Identity};
use crate::known_hosts;

/// One key, or one certificate of a key, and who signs for it.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    pub(super) signer: Signer<'a>,
    /// Offered instead of the key itself.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// What it is called in messages.
    pub(super) name: String,
}

impl Offer<'_> {
    /// Returns the type of what is offered, where that is known without a passphrase.
    fn key_type(&self, keys: &KeyStore) -> Option<String> {
        let blob = match (&self.certificate, &self.signer) {
            (Some(certificate), _) => certificate.blob.clone(),
            (None, Signer::Agent(key, _)) => key.blob.clone(),
            (None, Signer::Key(identity)) => keys.public(identity).key?,
        };
        known_hosts::key_type(&blob).map(str::to_owned)
    }
}

#[derive(Debug)]
pub(super) enum Signer<'a> {
    /// The agent, for a key that it has; where it does not sign, the identity may do.
    Agent(AgentKey, Option<&'a Identity>),
    /// Ourselves, with a private key.
    Key(&'a Identity),
}

/// Returns what to offer: identities whose key the agent has, the agent's other keys, the other identities. Of a key with
/// certificates, those first.
///
/// Certificates that are named take the place of those beside the identities; one whose key is no identity is offered
/// where the agent has the key. What may not sign by the host's settings is left out. Where only one key is wanted, it is
/// offered alone, and an identity that does not show what it is.
pub(super) fn offers<'a>(
    host: &'a Host,
    keys: &KeyStore,
    named: &[Arc<Certificate>],
    held: &[AgentKey],
) -> Vec<Offer<'a>> {
    let mut first = Vec::new();
    let mut last = Vec::new();
    let only = host.auth.only_key.as_ref();
    let named = if only.is_some() { &[] } else { named };
    let is_wanted = |key: &Vec<u8>| only.is_none_or(|only| only == key);
    let held: Vec<_> = held.iter().filter(|key| is_wanted(&key.blob)).collect();
    let mut is_used = vec![false; held.len()];
    for identity in &host.auth.identities {
        let mut public = keys.public(identity);
        if !public.key.as_ref().is_none_or(is_wanted) {
            continue;
        }
        if only.is_some() {
            public.certificate = None;
        }
        let name = name(identity, &public);
        let is_of = |key: &AgentKey| public.key.as_ref().is_some_and(|own| own == key.plain());
        for (key, used) in held.iter().zip(&mut is_used).filter(|(key, _)| is_of(key) && key.is_certificate()) {
            *used = true;
            let name = format!("the agent's certificate of {name}");
            first.push(Offer { signer: Signer::Agent((*key).clone(), None), certificate: None, name });
        }
        let certificates: Vec<&Arc<Certificate>> = match host.auth.certificates.is_empty() {
            true => public.certificate.iter().collect(),
            false => named.iter().filter(|named| public.key.as_ref() == Some(&named.plain)).collect(),
        };
        let certificates = certificates.into_iter().filter(|own| held.iter().all(|key| key.blob != own.blob));
        let plain = held.iter().zip(&mut is_used).find(|(key, _)| is_of(key) && !key.is_certificate());
        let signer = || match &plain {
            Some((key, _)) => Signer::Agent((**key).clone(), Some(identity)),
            None => Signer::Key(identity),
        };
        let list = if plain.is_some() { &mut first } else { &mut last };
        list.extend(certificates.map(|certificate| of_certificate(certificate, signer())));
        list.push(Offer { signer: signer(), certificate: None, name });
        if let Some((_, used)) = plain {
            *used = true;
        }
    }
    for certificate in named {
        let is_offered = |offer: &Offer<'_>| offer.certificate.as_ref() == Some(certificate);
        let key = held.iter().find(|key| !key.is_certificate() && *key.plain() == certificate.plain);
        if let Some(key) = key.filter(|_| !first.iter().chain(&last).any(is_offered)) {
            first.push(of_certificate(certificate, Signer::Agent((**key).clone(), None)));
        }
    }
    if let AgentUse::On(_) = host.auth.agent {
        let mut others: Vec<&AgentKey> =
            held.iter().zip(&is_used).filter(|(_, used)| !**used).map(|(key, _)| *key).collect();
        others.sort_by_key(|key| !key.is_certificate());
        first.extend(others.into_iter().map(|key| {
            let kind = if key.is_certificate() { "certificate" } else { "key" };
            let name = format!("the agent's {kind} {}", key.fingerprint());
            Offer { signer: Signer::Agent(key.clone(), None), certificate: None, name }
        }));
    }
    first.append(&mut last);
    first.retain(|offer| offer.key_type(keys).is_none_or(|kind| may_sign(&host.algorithms, &kind)));
    first
}

fn of_certificate<'a>(certificate: &Arc<Certificate>, signer: Signer<'a>) -> Offer<'a> {
    let name = format!("certificate {}", certificate.path.display());
    Offer { signer, certificate: Some(Arc::clone(certificate)), name }
}

/// Returns what an identity is called in messages.
fn name(identity: &Identity, public: &Public) -> String {
    match (identity, &public.key) {
        (Identity::File(path), _) => format!("key {}", path.display()),
        (Identity::Memory(_), Some(key)) => format!("key {}", known_hosts::fingerprint(key)),
        (Identity::Memory(_), None) => "the key given as text".to_owned(),
    }
}
