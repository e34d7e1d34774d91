//! PEM: PKCS#1, SEC1 and PKCS#8, encrypted or not, and the form that libssh2 gets.

use openssl::bn::{BigNumContext, BigNumRef};
use openssl::ec::{EcGroup, EcKey, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use zeroize::Zeroizing;

use super::{Damage, Flaw};

/// Tells whether a key is encrypted: PKCS#8 says so in its label, the older forms in a header.
pub(super) fn is_encrypted(text: &str) -> bool {
    text.starts_with("-----BEGIN ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED")
}

pub(super) fn read(text: &str, passphrase: Option<&str>) -> Result<PKey<Private>, Flaw> {
    if passphrase.is_none() && is_encrypted(text) {
        return Err(Flaw::NeedsPassphrase);
    }
    // Without a callback OpenSSL would ask at the terminal.
    let mut asked = false;
    let result = PKey::private_key_from_pem_callback(text.as_bytes(), |buffer| {
        asked = true;
        let passphrase = passphrase.unwrap_or_default().as_bytes();
        let Some(target) = buffer.get_mut(..passphrase.len()) else { return Err(ErrorStack::get()) };
        target.copy_from_slice(passphrase);
        Ok(passphrase.len())
    });
    result.map_err(|stack| match (asked, passphrase) {
        (true, None) => Flaw::NeedsPassphrase,
        (true, Some(_)) if !is_unknown_cipher(&stack) => Flaw::WrongPassphrase,
        (true, Some(_)) => Flaw::Unsupported("encrypted with a cipher OpenSSL does not have".to_owned()),
        (false, _) => Flaw::Damaged(Damage::OpenSsl(stack)),
    })
}

/// An OpenSSL that lacks the cipher of an old key fails as it does after a wrong passphrase, but for this reason.
fn is_unknown_cipher(stack: &ErrorStack) -> bool {
    stack.errors().iter().any(|error| {
        error.library() == Some("digital envelope routines")
            && matches!(error.reason(), Some("unsupported" | "unknown pbe algorithm" | "unsupported algorithm"))
    })
}

/// A key as libssh2 wants it, and its public half as SSH sends it.
pub(super) struct Normal {
    pub(super) private_pem: Zeroizing<String>,
    pub(super) public_blob: Vec<u8>,
    pub(super) key_type: &'static str,
}

pub(super) fn normalize(key: &PKey<Private>) -> Result<Normal, Flaw> {
    let mut blob = Blob::default();
    let (key_type, pem) = match key.id() {
        Id::RSA => {
            let rsa = key.rsa()?;
            blob.string(b"ssh-rsa").integer(rsa.e()).integer(rsa.n());
            ("ssh-rsa", rsa.private_key_to_pem()?)
        }
        Id::EC => {
            let ec = key.ec_key()?;
            let (key_type, curve) = curve_names(ec.group().curve_name())?;
            // Rebuilt on the named curve with its public point: some PEM files leave either out, and then each login would
            // compute it.
            let group = EcGroup::from_curve_name(ec.group().curve_name().unwrap_or(Nid::UNDEF))?;
            let mut context = BigNumContext::new()?;
            let point = ec.public_key().to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut context)?;
            let ec = EcKey::from_private_components(&group, ec.private_key(), ec.public_key())?;
            blob.string(key_type.as_bytes()).string(curve.as_bytes()).string(&point);
            (key_type, ec.private_key_to_pem()?)
        }
        Id::ED25519 => {
            blob.string(b"ssh-ed25519").string(&key.raw_public_key()?);
            ("ssh-ed25519", key.private_key_to_pem_pkcs8()?)
        }
        other => {
            let name = Nid::from_raw(other.as_raw()).short_name().unwrap_or("unknown").to_owned();
            return Err(Flaw::Unsupported(format!("of type {name}")));
        }
    };
    let private_pem = String::from_utf8(pem).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        Flaw::Damaged(Damage::Found("OpenSSL wrote no text"))
    })?;
    Ok(Normal { private_pem, public_blob: blob.0, key_type })
}

fn curve_names(curve: Option<Nid>) -> Result<(&'static str, &'static str), Flaw> {
    match curve {
        Some(Nid::X9_62_PRIME256V1) => Ok(("ecdsa-sha2-nistp256", "nistp256")),
        Some(Nid::SECP384R1) => Ok(("ecdsa-sha2-nistp384", "nistp384")),
        Some(Nid::SECP521R1) => Ok(("ecdsa-sha2-nistp521", "nistp521")),
        other => {
            let name = other.and_then(|nid| nid.short_name().ok()).unwrap_or("without a name");
            Err(Flaw::Unsupported(format!("on the curve {name}")))
        }
    }
}

/// Writes the data types of RFC 4251 section 5.
#[derive(Default)]
struct Blob(Vec<u8>);

impl Blob {
    fn string(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// An `mpint`: a leading zero keeps a positive number positive.
    fn integer(&mut self, number: &BigNumRef) -> &mut Self {
        let mut bytes = number.to_vec();
        if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
            bytes.insert(0, 0);
        }
        self.string(&bytes)
    }
}
