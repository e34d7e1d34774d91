//! Public halves of key files and certificates beside them, read without a passphrase.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_key::certificate::CertType;

use super::{Form, openssh, parse, read_file};
use crate::host::Identity;
use crate::known_hosts;

/// What stands beside a private key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Public {
    /// The public key as SSH sends it; unknown when neither a public file nor the private one shows it.
    pub(crate) key: Option<Vec<u8>>,
    /// The user certificate `PATH-cert.pub`.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// A user certificate (OpenSSH's PROTOCOL.certkeys), not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) path: PathBuf,
    /// The certificate as SSH sends it.
    pub(crate) blob: Vec<u8>,
    /// `TYPE BASE64`, as libssh2 wants it for a key of its own.
    pub(crate) line: String,
}

/// Reads what is public of an identity; what cannot be read is not there.
pub(super) fn read(identity: &Identity) -> Public {
    match identity {
        Identity::File(path) => {
            let base = private_path(path);
            let own = blob_in(&with_suffix(&base, ".pub"));
            let key = own.or_else(|| half(&read_file(&base, "").ok()?));
            Public { key, certificate: beside(&base) }
        }
        Identity::Memory(text) => Public { key: half(text.expose().as_bytes()), certificate: None },
    }
}

/// Returns the private key's path, where its public half or its certificate was named instead.
fn private_path(path: &Path) -> PathBuf {
    let name = path.as_os_str().to_str().unwrap_or_default();
    match name.strip_suffix("-cert.pub").or_else(|| name.strip_suffix(".pub")) {
        Some(base) => PathBuf::from(base),
        None => path.to_owned(),
    }
}

/// Returns the key that a certificate is for, and every other key as it is.
pub(crate) fn plain(blob: &[u8]) -> Vec<u8> {
    let certificate = ssh_key::Certificate::from_bytes(blob).ok();
    let key = certificate.and_then(|certificate| {
        let key = ssh_key::PublicKey::new(certificate.public_key().clone(), "");
        key.to_bytes().ok()
    });
    key.unwrap_or_else(|| blob.to_vec())
}

/// Tells whether a key as SSH sends it is a certificate.
pub(crate) fn is_certificate(blob: &[u8]) -> bool {
    known_hosts::key_type(blob).is_some_and(|kind| kind.ends_with("-cert-v01@openssh.com"))
}

fn beside(base: &Path) -> Option<Arc<Certificate>> {
    let path = with_suffix(base, "-cert.pub");
    let blob = blob_in(&path).filter(|blob| is_certificate(blob))?;
    // One that is read here is not offered when it cannot do; any other is the server's to judge.
    if let Ok(certificate) = ssh_key::Certificate::from_bytes(&blob) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if certificate.cert_type() != CertType::User || certificate.valid_before() <= now {
            return None;
        }
    }
    let line = format!("{} {}", known_hosts::key_type(&blob)?, STANDARD.encode(&blob));
    Some(Arc::new(Certificate { path, blob, line }))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Reads a line `TYPE BASE64 [COMMENT]`.
fn blob_in(path: &Path) -> Option<Vec<u8>> {
    let text = fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let kind = words.next()?;
    let blob = STANDARD.decode(words.next()?).ok()?;
    (known_hosts::key_type(&blob) == Some(kind)).then_some(blob)
}

/// Returns the public half of a private key: in OpenSSH form it is never encrypted, in PEM form it is with the rest.
fn half(text: &[u8]) -> Option<Vec<u8>> {
    match Form::of(text).ok()? {
        Form::OpenSsh(armored) => openssh::public_blob(armored),
        Form::Pem(_) => parse(text, None).ok().map(|key| key.public_blob),
    }
}
