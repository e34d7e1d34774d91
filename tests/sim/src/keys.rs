//! Host keys derived from the seed, and client keys for tests.

use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use russh::keys::ssh_key::private::{Ed25519Keypair, RsaKeypair};
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, LineEnding};
use russh::keys::{PrivateKey, PublicKey};

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// `ssh-ed25519`.
    Ed25519,
    /// `ecdsa-sha2-nistp256`.
    EcdsaP256,
    /// `ssh-rsa`, 2048 bits.
    Rsa2048,
    /// `ssh-rsa`, 3072 bits.
    Rsa3072,
}

/// A client key on disk.
#[derive(Clone, Debug)]
pub struct FixtureKey {
    /// The private key, in OpenSSH form, mode 0600.
    pub path: PathBuf,
    /// The public key line.
    pub public: String,
}

impl FixtureKey {
    /// Makes a new random key and writes it to `path`, with mode 0600, and its public line to `path` + `.pub`.
    ///
    /// RSA keys may take a second: an existing key comes with [`FixtureKey::existing`].
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn generate(kind: KeyKind, path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let key = derive(kind, rand::random())?;
        let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
        write_private(&path, text.as_bytes())?;
        let public = public_line(key.public_key())?;
        std::fs::write(with_pub(&path), format!("{public}\n"))?;
        Ok(Self { path, public })
    }

    /// A key that exists at `path`, with its public line in `path` + `.pub`.
    ///
    /// # Errors
    /// When the public line cannot be read.
    pub fn existing(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let public = std::fs::read_to_string(with_pub(&path))?.trim().to_owned();
        Ok(Self { path, public })
    }
}

fn with_pub(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// The key that a seed stands for.
pub(crate) fn derive(kind: KeyKind, seed: [u8; 32]) -> io::Result<PrivateKey> {
    let mut rng = StdRng::from_seed(seed);
    let key = match kind {
        KeyKind::Ed25519 => PrivateKey::from(Ed25519Keypair::from_seed(&seed)),
        KeyKind::EcdsaP256 => {
            PrivateKey::random(&mut rng, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }).map_err(io::Error::other)?
        }
        KeyKind::Rsa2048 => PrivateKey::from(rsa(&mut rng, 2048)?),
        KeyKind::Rsa3072 => PrivateKey::from(rsa(&mut rng, 3072)?),
    };
    Ok(key)
}

fn rsa(rng: &mut StdRng, bits: usize) -> io::Result<RsaKeypair> {
    RsaKeypair::random(rng, bits).map_err(io::Error::other)
}

/// The seed of one host's key: the simulator's seed, the position and what the key is for.
pub(crate) fn seed_of(seed: u64, index: u64, purpose: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    let words = [seed, index, purpose, 0x666c_6565_742d_7369];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The public key as one line, without a comment.
pub(crate) fn public_line(key: &PublicKey) -> io::Result<String> {
    let line = key.to_openssh().map_err(io::Error::other)?;
    Ok(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_key() {
        for kind in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
            let line = |index| public_line(derive(kind, seed_of(7, index, 0)).unwrap().public_key()).unwrap();
            assert_eq!(line(1), line(1));
            assert_ne!(line(1), line(2));
        }
    }

    #[test]
    fn a_fixture_key_is_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = FixtureKey::generate(KeyKind::Ed25519, dir.path().join("id")).unwrap();
        let mode = std::fs::metadata(&key.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(key.public.starts_with("ssh-ed25519 AAAA"));
        assert_eq!(FixtureKey::existing(&key.path).unwrap().public, key.public);
    }
}
