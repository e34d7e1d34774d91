//! Judging a server's key: what known_hosts says, what the policy makes of it, what is recorded.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::certificate::{HostCertificate, SUFFIX};
use super::wait::Driver;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::event::{HostKeyAction, Note};
use crate::host::{Host, HostKeyPolicy};
use crate::known_hosts::{
    KnownHosts, KnownKey, Place, Presented, Recorded, Store, Verdict, default_files, fingerprint, key_type,
};
use crate::ssh_config::algorithms::HOST_KEYS;
use crate::transport::Watch;

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
    ///
    /// Certificates come before all of them where an authority is known for the host, and are not asked for elsewhere:
    /// libssh2 does not verify them, and without an authority there is nothing to verify them by.
    pub(super) fn algorithms(&self) -> Vec<String> {
        let known = self.known.key_types(&self.name);
        let is_known = |algorithm: &&str| known.iter().any(|known| known == type_of(algorithm));
        let wanted = &self.host.algorithms.host_key;
        let offered: Vec<&str> = match wanted.is_empty() {
            true => HOST_KEYS.to_vec(),
            false => wanted.iter().map(String::as_str).filter(|name| HOST_KEYS.contains(name)).collect(),
        };
        let (first, rest): (Vec<&str>, Vec<&str>) = offered.into_iter().partition(is_known);
        let plain = [first, rest].concat();
        let has_authority = self.names().any(|name| self.known.has_authority(name));
        let certificates = plain.iter().filter(|_| has_authority).map(|algorithm| format!("{algorithm}{SUFFIX}"));
        certificates.chain(plain.iter().map(|&algorithm| algorithm.to_owned())).collect()
    }

    /// Judges the key the server has just proved to have, and records it where the policy says so.
    ///
    /// # Errors
    /// `HostKey` when it is refused.
    pub(super) fn check(&self, driver: &mut Driver, watch: &dyn Watch) -> Result<()> {
        let presented = self.presented(driver, watch)?;
        let policy = self.host.host_key;
        match &presented.verdict {
            Verdict::Match => Ok(()),
            Verdict::Revoked(place) => Err(self.revoked(place, &presented.blob)),
            Verdict::Unknown if policy == HostKeyPolicy::Off => {
                watch.note(note(HostKeyAction::Accepted, &presented));
                Ok(())
            }
            Verdict::Changed(known) | Verdict::OtherTypeKnown(known) if policy == HostKeyPolicy::Off => {
                let what = format!("the host key is not the one of {}, and is accepted all the same", known.place);
                watch.note(Note::Warning(what));
                Ok(())
            }
            Verdict::Changed(known) | Verdict::OtherTypeKnown(known) => Err(self.changed(known, &presented, watch)),
            Verdict::Unknown if policy == HostKeyPolicy::Strict => Err(self.unknown(&presented)),
            Verdict::Unknown => self.accept(&presented, watch),
        }
    }

    /// Judges the key the server has just proved to have, and records nothing. A changed one is refused, unless it
    /// `may_change`.
    ///
    /// # Errors
    /// `HostKey` when it is refused.
    pub(super) fn look(&self, driver: &mut Driver, may_change: bool, watch: &dyn Watch) -> Result<Presented> {
        let presented = self.presented(driver, watch)?;
        let action = match &presented.verdict {
            Verdict::Match => HostKeyAction::Known,
            Verdict::Unknown => HostKeyAction::Unknown,
            Verdict::Revoked(place) => return Err(self.revoked(place, &presented.blob)),
            Verdict::Changed(_) | Verdict::OtherTypeKnown(_) if may_change => HostKeyAction::Unknown,
            Verdict::Changed(known) | Verdict::OtherTypeKnown(known) => {
                return Err(self.changed(known, &presented, watch));
            }
        };
        watch.note(note(action, &presented));
        Ok(presented)
    }

    /// Reads the key and asks the files; a certificate is verified.
    fn presented(&self, driver: &mut Driver, watch: &dyn Watch) -> Result<Presented> {
        let blob = driver
            .try_step(|link| link.session(|session| Ok(session.host_key().map(|(blob, _)| blob.to_vec()))))
            .map_err(|fault| fault.into_error(Phase::HostKey, "the server sent no host key"))?
            .flatten()
            .unwrap_or_default();
        match key_type(&blob) {
            None => Err(refuse("the server sent no host key that can be read".to_owned())),
            Some(kind) if kind.ends_with(SUFFIX) => self.certified(&blob, watch),
            Some(_) => {
                let verdict = self.verdict(&blob);
                Ok(Presented::new(blob, verdict))
            }
        }
    }

    /// Judges a certificate as ssh does (sshconnect.c, `check_host_key`): one of an unknown authority is taken for the
    /// key inside, and so is one that is not valid if that key is known. Otherwise it is refused: its authority would
    /// have said yes to what is valid.
    fn certified(&self, blob: &[u8], watch: &dyn Watch) -> Result<Presented> {
        let Some(certificate) = HostCertificate::parse(blob) else {
            return Err(refuse("the server sent a host certificate that cannot be read".to_owned()));
        };
        let key = certificate.key.as_slice();
        if let Some(place) = self.names().find_map(|name| self.known.revoked(name, certificate.authority)) {
            let fingerprint = fingerprint(certificate.authority);
            let name = &self.name;
            return Err(refuse(format!("the authority of the host key of {name} is revoked ({place}): {fingerprint}")));
        }
        let verdict = self.verdict(key);
        let authority = self.names().find_map(|name| self.known.authority(name, certificate.authority));
        let (Some(place), false) = (authority, matches!(verdict, Verdict::Revoked(_))) else {
            return Ok(Presented::new(key.to_vec(), verdict));
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // As ssh: the name alone, without the port that known_hosts has.
        let name = self.host.host_key_alias.as_ref().unwrap_or(&self.host.address);
        let Err(why) = certificate.check(name, now) else {
            return Ok(Presented::new(key.to_vec(), Verdict::Match));
        };
        let what = format!("the host certificate of {}, by the authority of {place}, {why}", self.name);
        if verdict != Verdict::Match && self.host.host_key != HostKeyPolicy::Off {
            return Err(refuse(what));
        }
        watch.note(Note::Warning(what));
        Ok(Presented::new(key.to_vec(), verdict))
    }

    /// The names that the host's lines may have: ssh takes what the plain address has for any port of it (sshconnect.c).
    fn names(&self) -> impl Iterator<Item = &str> {
        let has_port = self.host.host_key_alias.is_none() && self.host.port != 22;
        [&*self.name].into_iter().chain(has_port.then_some(&*self.host.address))
    }

    /// Asks the files; a plain address is only asked where nothing else is known.
    fn verdict(&self, blob: &[u8]) -> Verdict {
        let mut verdict = Verdict::Unknown;
        for name in self.names() {
            match self.known.verdict(name, blob) {
                said @ (Verdict::Match | Verdict::Revoked(_)) => return said,
                // What another port of the address has says nothing against this one.
                said if name == self.name && said != Verdict::Unknown => {
                    verdict = said;
                    break;
                }
                _ => {}
            }
        }
        verdict
    }

    /// Returns the error of a key that had to be known.
    pub(super) fn unknown(&self, presented: &Presented) -> Error {
        let (kind, fingerprint) = (presented.key_type(), presented.fingerprint());
        refuse(format!("the host key of {} is not in known_hosts: {kind} {fingerprint}", self.name))
    }

    fn revoked(&self, place: &Place, blob: &[u8]) -> Error {
        refuse(format!("the host key of {} is revoked ({place}): {}", self.name, fingerprint(blob)))
    }

    fn changed(&self, known: &KnownKey, presented: &Presented, watch: &dyn Watch) -> Error {
        watch.note(note(HostKeyAction::Changed, presented));
        refuse(format!(
            "the host key of {} has CHANGED: {} has {} {}, the server has {} {}; somebody may be listening in, or the \
             host was installed anew",
            self.name,
            known.place,
            known.key_type,
            known.fingerprint,
            presented.key_type(),
            presented.fingerprint(),
        ))
    }

    fn accept(&self, presented: &Presented, watch: &dyn Watch) -> Result<()> {
        let blob = &presented.blob;
        let action = match &self.record_in {
            None => HostKeyAction::Accepted,
            Some(path) => match self.store.record(&self.known, path, &self.name, blob) {
                Ok(Recorded::Added | Recorded::Replaced(_)) => HostKeyAction::Recorded,
                Ok(Recorded::AlreadyThere) => return Ok(()),
                Ok(Recorded::Changed(known)) => return Err(self.changed(&known, presented, watch)),
                Ok(Recorded::Revoked(place)) => return Err(self.revoked(&place, blob)),
                Err(error) => {
                    // The login is as safe as it was; the key just is not remembered.
                    watch.note(Note::Warning(format!("the host key is not recorded: {}", error.chain())));
                    HostKeyAction::Accepted
                }
            },
        };
        watch.note(note(action, presented));
        Ok(())
    }
}

fn note(action: HostKeyAction, presented: &Presented) -> Note {
    Note::HostKey { action, key_type: presented.key_type().to_owned(), fingerprint: presented.fingerprint() }
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
