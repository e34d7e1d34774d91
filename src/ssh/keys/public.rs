//! Public halves of key files and certificates beside them, read without a passphrase.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Form, openssh, parse, read_file};
use crate::host::Identity;
use crate::known_hosts;
use crate::ssh::wire;

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
    /// The key that it is for.
    pub(crate) plain: Vec<u8>,
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
    Contents::read(blob).map_or_else(|| blob.to_vec(), |contents| contents.plain)
}

/// What a certificate says, as far as it matters here (PROTOCOL.certkeys).
///
/// Read here and not by the `ssh-key` crate (0.6.7), which refuses a certificate without an end: its last second is beyond
/// what that takes for a time.
struct Contents {
    plain: Vec<u8>,
    is_users: bool,
    /// The first second at which it is not valid any more.
    valid_before: u64,
}

impl Contents {
    fn read(blob: &[u8]) -> Option<Self> {
        let mut rest = blob;
        let kind = str::from_utf8(wire::string(&mut rest)?).ok()?;
        let base = kind.strip_suffix("-cert-v01@openssh.com")?;
        let is_hardware = base.starts_with("sk-");
        let fields = match base {
            "ssh-ed25519" => 1,
            "ssh-rsa" | "sk-ssh-ed25519" => 2,
            "sk-ecdsa-sha2-nistp256" => 3,
            _ if base.starts_with("ecdsa-sha2-") => 2,
            _ => return None,
        };
        let mut plain = Vec::new();
        wire::put_string(
            &mut plain,
            if is_hardware { format!("{base}@openssh.com") } else { base.to_owned() }.as_bytes(),
        );
        let _nonce = wire::string(&mut rest)?;
        for _ in 0..fields {
            wire::put_string(&mut plain, wire::string(&mut rest)?);
        }
        let _serial = long(&mut rest)?;
        let is_users = wire::number(&mut rest)? == USER;
        let (_id, _principals) = (wire::string(&mut rest)?, wire::string(&mut rest)?);
        let _valid_after = long(&mut rest)?;
        Some(Self { plain, is_users, valid_before: long(&mut rest)? })
    }
}

/// `SSH_CERT_TYPE_USER`
const USER: u32 = 1;

/// Takes a 64-bit number off the front.
fn long(rest: &mut &[u8]) -> Option<u64> {
    let (high, low) = (wire::number(rest)?, wire::number(rest)?);
    Some(u64::from(high) << 32 | u64::from(low))
}

/// Tells whether a key as SSH sends it is a certificate.
pub(crate) fn is_certificate(blob: &[u8]) -> bool {
    known_hosts::key_type(blob).is_some_and(|kind| kind.ends_with("-cert-v01@openssh.com"))
}

fn beside(base: &Path) -> Option<Arc<Certificate>> {
    certificate(&with_suffix(base, "-cert.pub")).ok().map(Arc::new)
}

/// Reads a user certificate.
///
/// # Errors
/// Why it cannot be offered, as a fragment.
pub(super) fn certificate(path: &Path) -> Result<Certificate, &'static str> {
    let blob = blob_in(path).filter(|blob| is_certificate(blob)).ok_or("is no certificate that can be read")?;
    let contents = Contents::read(&blob);
    // One that is read here is not offered when it cannot do; any other is the server's to judge.
    if let Some(contents) = &contents {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !contents.is_users {
            return Err("is the certificate of a host");
        }
        if contents.valid_before <= now {
            return Err("has expired");
        }
    }
    let plain = contents.map(|contents| contents.plain).unwrap_or_default();
    let line = format!("{} {}", known_hosts::key_type(&blob).unwrap_or_default(), STANDARD.encode(&blob));
    Ok(Certificate { path: path.to_owned(), plain, blob, line })
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
