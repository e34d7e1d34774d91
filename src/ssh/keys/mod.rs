//! Private keys: read and decrypted once per run, and turned into the form that libssh2 signs with quickest.
//!
//! libssh2 parses the text of a private key again for every login. What it accepts from memory is whatever OpenSSL's
//! `PEM_read_bio_PrivateKey` reads and, should that fail, OpenSSH's own form. An OpenSSH-form RSA key costs it 9 ms a
//! host because it drops the CRT parameters; an encrypted one is decrypted again each time, 118 to 229 ms. So every key
//! becomes unencrypted PEM here: RSA as PKCS#1 (23 µs to parse), ECDSA as SEC1 (14 µs), Ed25519 as PKCS#8 (41 µs).

mod openssh;
mod pem;
pub(crate) mod public;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::pkey::{PKey, Private};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::host::{Identity, Secret};
use public::{Certificate, Public};

/// The longest file that is taken for a private key: a 16,384-bit RSA key has 13 KB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A private key that can log in, unencrypted, in the form that libssh2 reads quickest.
pub(crate) struct PrivateKey {
    private_pem: Zeroizing<String>,
    public_blob: Vec<u8>,
    public_line: String,
}

impl PrivateKey {
    /// Returns the unencrypted key in PEM form, for `libssh2_userauth_publickey_frommemory`.
    pub(crate) fn private_pem(&self) -> &str {
        &self.private_pem
    }

    /// Returns `TYPE BASE64` without a comment, as the same call wants its public half.
    pub(crate) fn public_line(&self) -> &str {
        &self.public_line
    }

    /// Returns the public key as SSH sends it (RFC 4253 section 6.6).
    pub(crate) fn public_blob(&self) -> &[u8] {
        &self.public_blob
    }

    /// Returns the type, such as `ssh-ed25519`; `ssh-rsa` for every RSA key, whatever signature is used with it.
    #[cfg(test)]
    pub(crate) fn key_type(&self) -> &str {
        self.public_line.split(' ').next().unwrap_or_default()
    }

    fn new(key: &PKey<Private>) -> Result<Self, Flaw> {
        let normal = pem::normalize(key)?;
        let public_line = format!("{} {}", normal.key_type, STANDARD.encode(&normal.public_blob));
        Ok(Self { private_pem: normal.private_pem, public_blob: normal.public_blob, public_line })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public_line", &self.public_line).finish_non_exhaustive()
    }
}

/// Why a text is of no use as a private key.
#[derive(Debug)]
enum Flaw {
    NotAKey(&'static str),
    NeedsPassphrase,
    WrongPassphrase,
    /// What is not supported: "of type ssh-dss", "encrypted with 3des-cbc".
    Unsupported(String),
    Damaged(Damage),
}

/// The cause of a damaged key: of OpenSSL's, or our own finding.
#[derive(Debug)]
enum Damage {
    Found(&'static str),
    OpenSsl(openssl::error::ErrorStack),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(what) => f.write_str(what),
            Self::OpenSsl(stack) => match stack.errors().iter().rev().find_map(|error| error.reason()) {
                Some(reason) => f.write_str(reason),
                None => f.write_str("OpenSSL cannot read it"),
            },
        }
    }
}

impl std::error::Error for Damage {}

impl From<openssl::error::ErrorStack> for Flaw {
    fn from(stack: openssl::error::ErrorStack) -> Self {
        Self::Damaged(Damage::OpenSsl(stack))
    }
}

impl Flaw {
    fn into_error(self, name: &str) -> Error {
        let usage = |what: String| Error::new(ErrorKind::Usage, what);
        match self {
            Self::NotAKey(what) => usage(format!("key {name} {what}")),
            Self::NeedsPassphrase => usage(format!("key {name} is encrypted and no passphrase was given")),
            Self::WrongPassphrase => usage(format!("wrong passphrase for key {name}")),
            Self::Unsupported(what) => usage(format!("key {name} is {what}, which is not supported")),
            Self::Damaged(damage) => usage(format!("key {name} is damaged")).caused_by(damage),
        }
    }
}

type Slot = Arc<OnceLock<Result<Arc<PrivateKey>>>>;
type CertificateSlot = Arc<OnceLock<Result<Arc<Certificate>>>>;

/// The private keys of a run: each is read and decrypted once, whoever asks.
#[derive(Default)]
pub(crate) struct KeyStore {
    slots: Mutex<HashMap<(Identity, Option<Secret>), Slot>>,
    publics: Mutex<HashMap<Identity, Arc<OnceLock<Public>>>>,
    certificates: Mutex<HashMap<PathBuf, CertificateSlot>>,
}

impl KeyStore {
    /// Returns the key, read and decrypted at the first call; a failure is remembered as well.
    ///
    /// A passphrase that an unencrypted key does not need is ignored.
    ///
    /// # Errors
    /// `LocalFile` when the file cannot be read; `Usage` when it holds no private key, one of an unsupported type, or an
    /// encrypted one whose passphrase is wrong or missing.
    ///
    /// # Blocking
    /// While the file is read and decrypted (about 0.1 s for an encrypted OpenSSH key), also for callers that ask for
    /// the same key meanwhile.
    pub(crate) fn load(&self, identity: &Identity, passphrase: Option<&Secret>) -> Result<Arc<PrivateKey>> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry((identity.clone(), passphrase.cloned())).or_default())
        };
        slot.get_or_init(|| read_key(identity, passphrase).map(Arc::new)).clone()
    }

    /// Returns what is public of an identity, read at the first call.
    pub(crate) fn public(&self, identity: &Identity) -> Public {
        let slot = {
            let mut publics = self.publics.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(publics.entry(identity.clone()).or_default())
        };
        slot.get_or_init(|| public::read(identity)).clone()
    }

    /// Returns a user certificate, read at the first call.
    ///
    /// # Errors
    /// `LocalFile` when it cannot be offered: unreadable, expired, not a user's.
    pub(crate) fn certificate(&self, path: &Path) -> Result<Arc<Certificate>> {
        let slot = {
            let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(certificates.entry(path.to_owned()).or_default())
        };
        let read = || {
            public::certificate(path)
                .map(Arc::new)
                .map_err(|why| Error::new(ErrorKind::LocalFile, format!("certificate {} {why}", path.display())))
        };
        slot.get_or_init(read).clone()
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStore").finish_non_exhaustive()
    }
}

/// Tells whether a key file is encrypted, without decrypting it: so that a passphrase can be asked once, before a run.
///
/// # Errors
/// `LocalFile` when the file cannot be read, `Usage` when it holds no private key.
pub(crate) fn needs_passphrase(path: &Path) -> Result<bool> {
    let name = path.display().to_string();
    let text = read_file(path, &name)?;
    Form::of(&text).and_then(|form| form.is_encrypted()).map_err(|flaw| flaw.into_error(&name))
}

fn read_key(identity: &Identity, passphrase: Option<&Secret>) -> Result<PrivateKey> {
    match identity {
        Identity::File(path) => {
            let name = path.display().to_string();
            let text = read_file(path, &name)?;
            parse(&text, passphrase).map_err(|flaw| flaw.into_error(&name))
        }
        Identity::Memory(text) => {
            parse(text.expose().as_bytes(), passphrase).map_err(|flaw| flaw.into_error("given as text"))
        }
    }
}

fn read_file(path: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>> {
    // One buffer that never grows: growing would leave copies of the key behind in memory.
    let mut text = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| {
        let len = file.metadata()?.len().clamp(16 * 1024, MAX_FILE_BYTES);
        text.reserve_exact(usize::try_from(len).unwrap_or(0) + 64);
        file.take(MAX_FILE_BYTES).read_to_end(&mut text)
    });
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(cannot_read(name, error)),
    }
}

fn cannot_read(name: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::LocalFile, format!("cannot read key {name}")).caused_by(error)
}

fn parse(text: &[u8], passphrase: Option<&Secret>) -> Result<PrivateKey, Flaw> {
    let passphrase = passphrase.map(Secret::expose);
    match Form::of(text)? {
        Form::OpenSsh(armored) => PrivateKey::new(&openssh::read(armored, passphrase)?),
        Form::Pem(text) => PrivateKey::new(&pem::read(text, passphrase)?),
    }
}

/// A private key's text, from its first line of dashes on.
enum Form<'a> {
    OpenSsh(&'a str),
    Pem(&'a str),
}

impl<'a> Form<'a> {
    fn of(text: &'a [u8]) -> Result<Self, Flaw> {
        let text = str::from_utf8(text).map_err(|_| Flaw::NotAKey("is not a private key"))?;
        let mut rest = text;
        while let Some((_, block)) = rest.split_once("-----BEGIN ") {
            let Some((label, body)) = block.split_once("-----") else { break };
            if label == "OPENSSH PRIVATE KEY" {
                return Ok(Self::OpenSsh(body));
            }
            if label.ends_with("PRIVATE KEY") {
                let start = text.len() - block.len() - "-----BEGIN ".len();
                return text.get(start..).map(Self::Pem).ok_or(Flaw::NotAKey("is not a private key"));
            }
            rest = body;
        }
        let first = text.trim_start();
        let what = if first.starts_with("PuTTY-User-Key-File") {
            "is in PuTTY's form, which is not supported"
        } else if first.contains("-cert-v01@openssh.com ") {
            "is a certificate, not a private key"
        } else if ["ssh-", "ecdsa-", "sk-", "-----BEGIN PUBLIC KEY", "---- BEGIN SSH2 PUBLIC KEY"]
            .iter()
            .any(|prefix| first.starts_with(prefix))
        {
            "is a public key, not a private one"
        } else {
            "is not a private key"
        };
        Err(Flaw::NotAKey(what))
    }

    fn is_encrypted(&self) -> Result<bool, Flaw> {
        match self {
            Self::OpenSsh(armored) => openssh::is_encrypted(armored),
            Self::Pem(text) => Ok(pem::is_encrypted(text)),
        }
    }
}
