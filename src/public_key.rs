//! Public keys of users, as `.pub` files and `authorized_keys` hold them (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, ErrorKind, Result};
use crate::known_hosts;

/// The longest file that is read for a public key, in bytes: one of a 16,384-bit RSA key has 3 KB.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What a key of each type consists of after its name, in SSH strings (RFC 4253 section 6.6, RFC 5656 section 3.1, RFC
/// 8709 section 4, OpenSSH's PROTOCOL.u2f).
const TYPES: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];

/// A public key that a user can log in with: never a private key, a certificate or a line with options.
///
/// It is shown as its line, `TYPE BASE64 COMMENT`. Two are equal when they are the same key, whatever their comments.
///
/// # Examples
///
/// ```
/// use fleet::PublicKey;
///
/// let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHGqM1Fg4Wk0Jj5Tj3vPjTgJq7G6S1nB5WqkUT3c0bnQ ops@desk";
/// let key = PublicKey::parse(line)?;
/// assert_eq!((key.key_type(), key.comment()), ("ssh-ed25519", "ops@desk"));
/// assert_eq!(key.to_string(), line);
/// # Ok::<(), fleet::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PublicKey {
    key_type: &'static str,
    blob: Vec<u8>,
    comment: String,
}

impl PublicKey {
    /// Reads a line `TYPE BASE64 COMMENT`; empty lines and those that begin with `#` are skipped.
    ///
    /// # Errors
    /// `Usage` for everything else, which is never repeated: it may be a private key.
    pub fn parse(text: &str) -> Result<Self> {
        Self::of(text).map_err(|flaw| flawed(&format!("what was given {flaw}")))
    }

    /// Reads a file that holds such a line, of which at most 64 KiB are read.
    ///
    /// # Errors
    /// `LocalFile` when it cannot be read, `Usage` when it is no public key.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)).map_err(|error| {
            Error::new(ErrorKind::LocalFile, format!("cannot read public key {shown}")).caused_by(error)
        })?;
        let text = String::from_utf8_lossy(&bytes);
        Self::of(&text).map_err(|flaw| flawed(&format!("{shown} {flaw}")))
    }

    /// Takes a key as SSH sends it; none of a type that nobody can log in with, and no certificate.
    pub fn from_blob(blob: &[u8], comment: impl Into<String>) -> Option<Self> {
        let name = known_hosts::key_type(blob)?;
        let (key_type, fields) = *TYPES.iter().find(|(known, _)| *known == name)?;
        let comment = comment.into();
        (count_strings(blob)? == fields + 1 && !comment.contains(char::is_control)).then(|| Self {
            key_type,
            blob: blob.to_vec(),
            comment,
        })
    }

    fn of(text: &str) -> Result<Self, &'static str> {
        if text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File") {
            return Err("is a private key, not a public one");
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or("holds no public key")?;
        let (name, rest) = line.split_once([' ', '\t']).ok_or("is not a public key")?;
        let (base64, comment) = rest.trim_start().split_once([' ', '\t']).unwrap_or((rest.trim_start(), ""));
        if name.ends_with("-cert-v01@openssh.com") {
            return Err("is a certificate, not a public key");
        }
        let blob = STANDARD.decode(base64).ok().filter(|blob| known_hosts::key_type(blob) == Some(name));
        let key = blob.and_then(|blob| Self::from_blob(&blob, comment.trim())).ok_or("is not a public key")?;
        if lines.next().is_some() { Err("holds more than one public key") } else { Ok(key) }
    }

    /// Returns the type, such as `ssh-ed25519`.
    pub fn key_type(&self) -> &'static str {
        self.key_type
    }

    /// Returns the key as SSH sends it (RFC 4253 section 6.6).
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Returns what `authorized_keys` holds between type and comment.
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.blob)
    }

    /// Returns the comment; empty where there is none.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// Returns the fingerprint as OpenSSH shows it, `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        known_hosts::fingerprint(&self.blob)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key_type, self.base64())?;
        if self.comment.is_empty() { Ok(()) } else { write!(f, " {}", self.comment) }
    }
}

fn flawed(what: &str) -> Error {
    Error::new(ErrorKind::Usage, what)
}

/// Counts the SSH strings that bytes consist of; none where something else is left.
fn count_strings(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        bytes = rest.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)?;
        count += 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHGqM1Fg4Wk0Jj5Tj3vPjTgJq7G6S1nB5WqkUT3c0bnQ";

    #[test]
    fn a_line_keeps_its_comment_and_equal_keys_are_equal() {
        let key = PublicKey::parse(&format!("# mine\n\n{KEY}  it's \"me\"  \r\n")).unwrap();
        assert_eq!(key.to_string(), format!("{KEY} it's \"me\""));
        assert_eq!(key, PublicKey::parse(KEY).unwrap());
        assert_eq!(PublicKey::from_blob(key.blob(), "").unwrap().to_string(), KEY);
    }

    #[test]
    fn what_is_no_public_key_is_refused_and_never_repeated() {
        let (name, base64) = KEY.split_once(' ').unwrap();
        let cut = base64.get(..64).unwrap();
        for (text, flaw) in [
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n".to_owned(), "is a private key, not a public one"),
            ("PuTTY-User-Key-File-3: x\n".to_owned(), "is a private key, not a public one"),
            (format!("ssh-ed25519-cert-v01@openssh.com {base64}"), "is a certificate, not a public key"),
            (format!("command=\"x\" {KEY}"), "is not a public key"),
            (format!("ssh-rsa {base64}"), "is not a public key"),
            (format!("{name} {cut}"), "is not a public key"),
            (format!("{KEY} a\u{1b}[2J"), "is not a public key"),
            (format!("{KEY}\n{KEY}"), "holds more than one public key"),
            ("secret".to_owned(), "is not a public key"),
            ("# secret\n".to_owned(), "holds no public key"),
        ] {
            let error = PublicKey::parse(&text).unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string()),
                (ErrorKind::Usage, format!("what was given {flaw}")),
                "{text}"
            );
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
