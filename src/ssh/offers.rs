//! Which keys are offered to a host, and in which order: as ssh does, but that identities keep theirs.

use std::sync::Arc;

use super::agent::AgentKey;
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

#[derive(Debug)]
pub(super) enum Signer<'a> {
    /// The agent, for a key that it has; where it does not sign, the identity may do.
    Agent(AgentKey, Option<&'a Identity>),
    /// Ourselves, with a private key.
    Key(&'a Identity),
}

/// Returns what to offer: identities whose key the agent has, the agent's other keys, the other identities. Of a key with
/// certificates, those first.
pub(super) fn offers<'a>(host: &'a Host, keys: &KeyStore, held: &[AgentKey]) -> Vec<Offer<'a>> {
    let mut first = Vec::new();
    let mut last = Vec::new();
    let mut is_used = vec![false; held.len()];
    for identity in &host.auth.identities {
        let public = keys.public(identity);
        let name = name(identity, &public);
        let is_of = |key: &AgentKey| public.key.as_ref().is_some_and(|own| own == key.plain());
        for (key, used) in held.iter().zip(&mut is_used).filter(|(key, _)| is_of(key) && key.is_certificate()) {
            *used = true;
            let name = format!("the agent's certificate of {name}");
            first.push(Offer { signer: Signer::Agent(key.clone(), None), certificate: None, name });
        }
        let certificate = public.certificate.clone().filter(|own| held.iter().all(|key| key.blob != own.blob));
        let plain = held.iter().zip(&mut is_used).find(|(key, _)| is_of(key) && !key.is_certificate());
        let signer = || match &plain {
            Some((key, _)) => Signer::Agent((*key).clone(), Some(identity)),
            None => Signer::Key(identity),
        };
        let list = if plain.is_some() { &mut first } else { &mut last };
        if let Some(certificate) = certificate {
            let name = format!("certificate {}", certificate.path.display());
            list.push(Offer { signer: signer(), certificate: Some(certificate), name });
        }
        list.push(Offer { signer: signer(), certificate: None, name });
        if let Some((_, used)) = plain {
            *used = true;
        }
    }
    if let AgentUse::On(_) = host.auth.agent {
        let mut others: Vec<&AgentKey> =
            held.iter().zip(&is_used).filter(|(_, used)| !**used).map(|(key, _)| key).collect();
        others.sort_by_key(|key| !key.is_certificate());
        first.extend(others.into_iter().map(|key| {
            let kind = if key.is_certificate() { "certificate" } else { "key" };
            let name = format!("the agent's {kind} {}", key.fingerprint());
            Offer { signer: Signer::Agent(key.clone(), None), certificate: None, name }
        }));
    }
    first.append(&mut last);
    first
}

/// Returns what an identity is called in messages.
fn name(identity: &Identity, public: &Public) -> String {
    match (identity, &public.key) {
        (Identity::File(path), _) => format!("key {}", path.display()),
        (Identity::Memory(_), Some(key)) => format!("key {}", known_hosts::fingerprint(key)),
        (Identity::Memory(_), None) => "the key given as text".to_owned(),
    }
}
