//! OpenSSH's own form of a private key: OpenSSH's PROTOCOL.key.
//!
//! Read here and not by the `ssh-key` crate (0.6.7), which refuses an ECDSA key whose number starts with a zero byte
//! (OpenSSH leaves it out: every second nistp521 key) and a comment that is not UTF-8. Its ciphers and its bcrypt are used.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::RsaPrivateKeyBuilder;
use ssh_key::{Cipher, Kdf};
use zeroize::Zeroizing;

use super::{Damage, Flaw};

const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Returns the key. `armored` begins after the `BEGIN` line's dashes.
pub(super) fn read(armored: &str, passphrase: Option<&str>) -> Result<PKey<Private>, Flaw> {
    let bytes = dearmor(armored)?;
    let mut envelope = Envelope::read(&bytes)?;
    // The public half says the type before anybody has to type a passphrase for a key that cannot be used.
    supported_type(Reader(envelope.public_blob).string()?)?;
    let private = envelope.decrypt(passphrase)?;
    let mut reader = Reader(&private);
    read_pair(&mut reader)
}

/// Tells whether the key is encrypted.
pub(super) fn is_encrypted(armored: &str) -> Result<bool, Flaw> {
    let bytes = dearmor(armored)?;
    Ok(Envelope::read(&bytes)?.cipher != Cipher::None.as_str().as_bytes())
}

/// Returns the public half, as SSH sends it.
pub(super) fn public_blob(armored: &str) -> Option<Vec<u8>> {
    let bytes = dearmor(armored).ok()?;
    Envelope::read(&bytes).ok().map(|envelope| envelope.public_blob.to_vec())
}

fn dearmor(armored: &str) -> Result<Zeroizing<Vec<u8>>, Flaw> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let (body, _) = armored.split_once("-----END").ok_or(damaged("its end is missing"))?;
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    ENGINE.decode(&*text).map(Zeroizing::new).map_err(|_| damaged("it is not base64"))
}

fn damaged(what: &'static str) -> Flaw {
    Flaw::Damaged(Damage::Found(what))
}

/// The outer layer: what is readable without a passphrase.
struct Envelope<'a> {
    cipher: &'a [u8],
    kdf: &'a [u8],
    kdf_options: &'a [u8],
    public_blob: &'a [u8],
    private: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Flaw> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or(damaged("it does not start as an OpenSSH key"))?);
        let (cipher, kdf, kdf_options) = (reader.string()?, reader.string()?, reader.string()?);
        if reader.number()? != 1 {
            return Err(Flaw::Unsupported("one of several in a file".to_owned()));
        }
        let (public_blob, private) = (reader.string()?, reader.string()?);
        Ok(Self { cipher, kdf, kdf_options, public_blob, private, tag: reader.0 })
    }

    fn decrypt(&mut self, passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, Flaw> {
        let name = String::from_utf8_lossy(self.cipher);
        let unsupported = || Flaw::Unsupported(format!("encrypted with {name}"));
        let cipher = Cipher::new(&name).map_err(|_| unsupported())?;
        let mut private = Zeroizing::new(self.private.to_vec());
        if cipher != Cipher::None {
            if cipher == Cipher::TDesCbc || self.kdf != b"bcrypt" {
                return Err(unsupported());
            }
            let passphrase = passphrase.ok_or(Flaw::NeedsPassphrase)?;
            let mut options = Reader(self.kdf_options);
            let kdf = Kdf::Bcrypt { salt: options.string()?.to_vec(), rounds: options.number()? };
            let tag = match cipher.has_tag() {
                true => Some(self.tag.try_into().map_err(|_| damaged("its end is missing"))?),
                false => None,
            };
            let (key, iv) = kdf.derive_key_and_iv(cipher, passphrase).map_err(|_| match passphrase.is_empty() {
                true => Flaw::WrongPassphrase,
                false => damaged("it cannot be decrypted"),
            })?;
            cipher.decrypt(&key, &iv, &mut private, tag).map_err(|_| Flaw::WrongPassphrase)?;
        }
        let mut reader = Reader(&private);
        let same = reader.number()? == reader.number()?;
        match (same, cipher == Cipher::None) {
            (true, _) => Ok(Zeroizing::new(reader.0.to_vec())),
            (false, true) => Err(damaged("its check numbers differ")),
            (false, false) => Err(Flaw::WrongPassphrase),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Rsa,
    Ecdsa(Nid),
    Ed25519,
}

fn supported_type(name: &[u8]) -> Result<KeyType, Flaw> {
    match name {
        b"ssh-rsa" => Ok(KeyType::Rsa),
        b"ssh-ed25519" => Ok(KeyType::Ed25519),
        b"ecdsa-sha2-nistp256" => Ok(KeyType::Ecdsa(Nid::X9_62_PRIME256V1)),
        b"ecdsa-sha2-nistp384" => Ok(KeyType::Ecdsa(Nid::SECP384R1)),
        b"ecdsa-sha2-nistp521" => Ok(KeyType::Ecdsa(Nid::SECP521R1)),
        other => Err(Flaw::Unsupported(format!("of type {}", String::from_utf8_lossy(other).escape_debug()))),
    }
}

fn read_pair(reader: &mut Reader<'_>) -> Result<PKey<Private>, Flaw> {
    match supported_type(reader.string()?)? {
        KeyType::Rsa => read_rsa(reader),
        KeyType::Ecdsa(curve) => read_ecdsa(reader, curve),
        KeyType::Ed25519 => read_ed25519(reader),
    }
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<PKey<Private>, Flaw> {
    let (n, e, d) = (reader.integer()?, reader.integer()?, reader.integer()?);
    let (iqmp, p, q) = (reader.integer()?, reader.integer()?, reader.integer()?);
    let mut context = BigNumContext::new_secure()?;
    let mut product = BigNum::new()?;
    product.checked_mul(&p, &q, &mut context)?;
    if product != n {
        return Err(damaged("its primes do not belong to its modulus"));
    }
    // OpenSSH leaves these two out; without them a signature takes four times as long.
    let dmp1 = remainder_below(&d, &p, &mut context)?;
    let dmq1 = remainder_below(&d, &q, &mut context)?;
    let rsa = RsaPrivateKeyBuilder::new(n, e, d)?.set_factors(p, q)?.set_crt_params(dmp1, dmq1, iqmp)?.build();
    Ok(PKey::from_rsa(rsa)?)
}

/// Returns `d mod (prime - 1)`.
fn remainder_below(
    d: &openssl::bn::BigNumRef,
    prime: &openssl::bn::BigNumRef,
    context: &mut BigNumContext,
) -> Result<BigNum, Flaw> {
    let mut below = prime.to_owned()?;
    below.sub_word(1)?;
    let mut remainder = BigNum::new_secure()?;
    let result = remainder.checked_rem(d, &below, context);
    below.clear();
    result?;
    Ok(remainder)
}

fn read_ecdsa(reader: &mut Reader<'_>, curve: Nid) -> Result<PKey<Private>, Flaw> {
    reader.string()?;
    let group = EcGroup::from_curve_name(curve)?;
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, reader.string()?, &mut context)?;
    let number = reader.integer()?;
    let key = EcKey::from_private_components(&group, &number, &point)?;
    key.check_key()?;
    Ok(PKey::from_ec_key(key)?)
}

fn read_ed25519(reader: &mut Reader<'_>) -> Result<PKey<Private>, Flaw> {
    let public = reader.string()?;
    let (seed, _) = reader.string()?.split_at_checked(32).ok_or(damaged("it is too short"))?;
    let key = PKey::private_key_from_raw_bytes(seed, Id::ED25519)?;
    if key.raw_public_key()? != public {
        return Err(damaged("its halves do not belong together"));
    }
    Ok(key)
}

/// Reads the data types of RFC 4251 section 5.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<u32, Flaw> {
        let (number, rest) = self.0.split_first_chunk().ok_or(damaged("it is too short"))?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Result<&'a [u8], Flaw> {
        let len = usize::try_from(self.number()?).map_err(|_| damaged("it is too short"))?;
        let (string, rest) = self.0.split_at_checked(len).ok_or(damaged("it is too short"))?;
        self.0 = rest;
        Ok(string)
    }

    fn integer(&mut self) -> Result<BigNum, Flaw> {
        let mut integer = BigNum::new_secure()?;
        integer.copy_from_slice(self.string()?)?;
        Ok(integer)
    }
}
