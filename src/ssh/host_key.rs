//! Judging a server's key: what known_hosts says, what the policy makes of it, what is recorded.

use std::path::PathBuf;

use super::wait::Driver;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::{HostKeyAction, Note};
use crate::host::{Host, HostKeyPolicy};
use crate::known_hosts::{KnownHosts, KnownKey, Place, Recorded, Store, Verdict, default_files, fingerprint, key_type};
use crate::transport::Watch;

/// The host key algorithms offered when nothing is known, best first. Certificates are not among them: libssh2 does not
/// verify them (LIBSSH2.md section 0).
const ALGORITHMS: [&str; 6] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
];

/// The known_hosts files of a run, each of them read once.
#[derive(Default)]
pub(super) struct HostKeys {
    store: Store,
}

impl HostKeys {
    /// Returns what is known of a host.
    pub(super) fn of<'a>(&'a self, host: &'a Host) -> Result<Known<'a>> {
        let files = if host.known_hosts.is_empty() { default_files() } else { host.known_hosts.clone() };
        let known = self.store.open(&files).map_err(|error| error.in_phase(Phase::HostKey))?;
        Ok(Known {
            host,
            store: &self.store,
            name: host.known_hosts_name(),
            record_in: files.into_iter().next(),
            known,
        })
    }
}

/// What known_hosts says of one host.
pub(super) struct Known<'a> {
    host: &'a Host,
    store: &'a Store,
    name: String,
    record_in: Option<PathBuf>,
    known: KnownHosts,
}

impl Known<'_> {
    /// Returns the algorithms to offer: the types known of the host first, then the rest, as ssh does.
    pub(super) fn algorithms(&self) -> String {
        let known = self.known.key_types(&self.name);
        let is_known = |algorithm: &&str| known.iter().any(|known| known == type_of(algorithm));
        let (first, rest): (Vec<&str>, Vec<&str>) = ALGORITHMS.iter().partition(|algorithm| is_known(algorithm));
        [first, rest].concat().join(",")
    }

    /// Judges the key the server has just proved to have.
    ///
    /// # Errors
    /// `HostKey` when it is refused.
    pub(super) fn check(&self, driver: &mut Driver, watch: &dyn Watch) -> Result<()> {
        let blob = driver
            .try_step(|link| link.session(|session| Ok(session.host_key().map(|(blob, _)| blob.to_vec()))))
            .map_err(|fault| fault.into_error(Phase::HostKey, "the server sent no host key"))?
            .flatten()
            .unwrap_or_default();
        let Some(key_type) = key_type(&blob) else {
            return Err(refuse("the server sent no host key that can be read".to_owned()));
        };
        let policy = self.host.host_key;
        match self.known.verdict(&self.name, &blob) {
            Verdict::Match => Ok(()),
            Verdict::Revoked(place) => Err(self.revoked(&place, &blob)),
            Verdict::Unknown if policy == HostKeyPolicy::Off => {
                watch.note(accepted(HostKeyAction::Accepted, key_type, &blob));
                Ok(())
            }
            Verdict::Changed(known) | Verdict::OtherTypeKnown(known) if policy == HostKeyPolicy::Off => {
                let Place { file, line } = &known.place;
                let what =
                    format!("the host key is not the one of {}:{line}, and is accepted all the same", file.display());
                watch.note(Note::Warning(what));
                Ok(())
            }
            Verdict::Changed(known) | Verdict::OtherTypeKnown(known) => Err(self.changed(&known, key_type, &blob)),
            Verdict::Unknown if self.is_known_without_port(&blob) => Ok(()),
            Verdict::Unknown if policy == HostKeyPolicy::Strict => {
                let fingerprint = fingerprint(&blob);
                Err(refuse(format!("the host key of {} is not in known_hosts: {key_type} {fingerprint}", self.name)))
            }
            Verdict::Unknown => self.accept(key_type, &blob, watch),
        }
    }

    /// Tells whether the key is known for the plain address; ssh takes that for any port of it (sshconnect.c).
    fn is_known_without_port(&self, blob: &[u8]) -> bool {
        self.host.host_key_alias.is_none()
            && self.host.port != 22
            && self.known.verdict(&self.host.address, blob) == Verdict::Match
    }

    fn revoked(&self, place: &Place, blob: &[u8]) -> Error {
        refuse(format!("the host key of {} is revoked ({place}): {}", self.name, fingerprint(blob)))
    }

    fn changed(&self, known: &KnownKey, key_type: &str, blob: &[u8]) -> Error {
        refuse(format!(
            "the host key of {} has CHANGED: {} has {} {}, the server has {key_type} {}; somebody may be listening in, or \
             the host was installed anew: then forget the old key with: ssh-keygen -R '{}' -f {}",
            self.name,
            known.place,
            known.key_type,
            known.fingerprint,
            fingerprint(blob),
            self.name,
            known.place.file.display(),
        ))
    }

    fn accept(&self, key_type: &str, blob: &[u8], watch: &dyn Watch) -> Result<()> {
        let action = match &self.record_in {
            None => HostKeyAction::Accepted,
            Some(path) => match self.store.record(&self.known, path, &self.name, blob) {
                Ok(Recorded::Added) => HostKeyAction::Recorded,
                Ok(Recorded::AlreadyThere) => return Ok(()),
                Ok(Recorded::Changed(known)) => return Err(self.changed(&known, key_type, blob)),
                Ok(Recorded::Revoked(place)) => return Err(self.revoked(&place, blob)),
                Err(error) => {
                    // The login is as safe as it was; the key just is not remembered.
                    watch.note(Note::Warning(format!("the host key is not recorded: {}", error.chain())));
                    HostKeyAction::Accepted
                }
            },
        };
        watch.note(accepted(action, key_type, blob));
        Ok(())
    }
}

fn accepted(action: HostKeyAction, key_type: &str, blob: &[u8]) -> Note {
    Note::HostKey { action, key_type: key_type.to_owned(), fingerprint: fingerprint(blob) }
}

fn refuse(what: String) -> Error {
    Error::new(ErrorKind::HostKey, what).in_phase(Phase::HostKey)
}

/// Returns the key type that an algorithm signs with.
fn type_of(algorithm: &str) -> &str {
    match algorithm {
        "rsa-sha2-512" | "rsa-sha2-256" => "ssh-rsa",
        other => other,
    }
}
